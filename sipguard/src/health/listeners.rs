//! Services to which nobody is let in.

use std::{collections::BTreeSet, fs};

use sipguard_ebpf::abi::Protocol;

use super::{Evidence, Finding, Kind};
use crate::{policy::protocol_name, prose::joined, warnings::nobody_allowed};

pub(super) const FINDS: &[Kind] = &[Kind::NobodyLetIn];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let policy = evidence.policy.as_ref().ok();
    let Some(policy) = policy.filter(|policy| !policy.interfaces.is_empty()) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for service in nobody_allowed(policy, &evidence.state, evidence.now.wall) {
        let mut listening = Vec::new();
        for (&protocol, ports) in &service.ports {
            let name = protocol_name(protocol);
            let bound = bound(protocol);
            listening.extend(
                ports
                    .intersection(&bound)
                    .map(|port| format!("{name} {port}")),
            );
        }
        let name = &service.name;
        let nobody = format!("nobody is let in to {name}, by the config or by `sipguard allow`");
        let mend = format!("sipguard allow ADDRESS --service {name}");
        let found = if listening.is_empty() {
            Kind::NobodyLetIn.advice(nobody, mend)
        } else {
            let about = format!("a program waits on {}, and {nobody}", joined(listening));
            Kind::NobodyLetIn.wrong(about, mend)
        };
        findings.push(found.of(name));
    }
    findings
}

/// The ports that sockets of this network namespace wait on, for more than this host.
pub(super) fn bound(protocol: Protocol) -> BTreeSet<u16> {
    let name = protocol_name(protocol);
    let mut ports = BTreeSet::new();
    for table in [name.to_owned(), format!("{name}6")] {
        let table = format!("/proc/thread-self/net/{table}");
        // SCTP has no such table.
        for line in fs::read_to_string(table)
            .unwrap_or_default()
            .lines()
            .skip(1)
        {
            ports.extend(port(line, protocol));
        }
    }
    ports
}

/// One socket's line: number, local address, remote address, state (net/ipv4/udp.c, net/ipv4/tcp_ipv4.c).
fn port(line: &str, protocol: Protocol) -> Option<u16> {
    const LISTEN: &str = "0A";
    const LOOPBACK: [&str; 2] = ["0100007F", "00000000000000000000000001000000"];
    let mut columns = line.split_whitespace().skip(1);
    let (address, port) = columns.next()?.split_once(':')?;
    let (_, other) = columns.next()?.split_once(':')?;
    let state = columns.next()?;
    // A socket that talks to one peer waits for nobody.
    let waits = match protocol {
        Protocol::Tcp => state == LISTEN,
        _ => other == "0000",
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    (waits && !LOOPBACK.contains(&address)).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waits_for_others_counts() {
        let udp = |line| port(line, Protocol::Udp);
        let tcp = |line| port(line, Protocol::Tcp);
        assert_eq!(udp("  0: 00000000:13C4 00000000:0000 07 …"), Some(5060));
        assert_eq!(udp("  0: 0100007F:13C4 00000000:0000 07 …"), None);
        assert_eq!(udp("  0: 00000000:13C4 050071CB:13C4 01 …"), None);
        assert_eq!(tcp("  0: 00000000:0050 00000000:0000 0A …"), Some(80));
        assert_eq!(tcp("  0: 00000000:0050 050071CB:13C4 01 …"), None);
        assert_eq!(tcp("broken"), None);
    }
}
