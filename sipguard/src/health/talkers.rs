//! Programs of this host that talk from a guarded port to addresses that are not let in: the answers are dropped. A trunk that registers from
//! port 5060, for one.

use std::{collections::BTreeSet, fs, net::IpAddr};

use crate::{
    kernel,
    lifecycle::{self, Live},
    policy::Action,
    prefix,
    tables::Now,
};
use ipnet::IpNet;
use sipguard_ebpf::abi::Protocol;

use super::{Evidence, Finding, Kind, sockets::Talk};
use crate::prose::joined;

pub(super) const FINDS: &[Kind] = &[Kind::AnswersDropped];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    /// So many are named.
    const NAMED: usize = 5;
    let Some(live) = evidence.in_force() else {
        return Vec::new();
    };
    let own = &evidence.addresses;
    let mut talks = evidence.sockets.talks.clone();
    talks.extend(connections(own));
    let mut findings = Vec::new();
    for found in &live.generation.description.services {
        let service = &found.service;
        let dropped: BTreeSet<IpAddr> = talks
            .iter()
            .filter(|talk| {
                let ports = service.ports.get(&talk.protocol);
                ports.is_some_and(|ports| ports.contains(&talk.from))
            })
            .map(|talk| talk.with)
            .filter(|with| !own.contains(with) && !with.is_loopback())
            .filter(|&with| is_dropped(live, with, &service.name, evidence.now))
            .collect();
        if dropped.is_empty() {
            continue;
        }
        let named: Vec<_> = dropped
            .iter()
            .take(NAMED)
            .map(|&address| prefix::format(address.into()))
            .collect();
        let more = if dropped.len() > NAMED {
            format!(" ({} in all)", dropped.len())
        } else {
            String::new()
        };
        let name = &service.name;
        let about = format!(
            "this host talks from a port of {name} to {}{more}, which the filter does not let in: the answers are dropped",
            joined(&named)
        );
        let mend = format!("sipguard allow {} --service {name}", named.join(" "));
        findings.push(Kind::AnswersDropped.wrong(about, mend).of(name));
    }
    findings
}

fn is_dropped(live: &Live, with: IpAddr, service: &str, now: Now) -> bool {
    let effects = lifecycle::effects(live, &[IpNet::from(with)], &[service.to_owned()], now);
    effects.is_ok_and(|effects| {
        effects
            .iter()
            .any(|effect| effect.action == Action::Deny && effect.enforced)
    })
}

/// What connection tracking saw this host begin, where it is on; sockets that talk to anybody are seen nowhere else.
fn connections(own: &BTreeSet<IpAddr>) -> BTreeSet<Talk> {
    // To look for none takes as long as for some: the kernel goes through its whole table.
    if kernel::setting("net/netfilter/nf_conntrack_count").as_deref() == Some("0") {
        return BTreeSet::new();
    }
    let text = fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap_or_default();
    text.lines()
        .filter_map(|line| connection(line, own))
        .collect()
}

/// One tracked connection: the first four fields with these names are of the packet that began it (net/netfilter/nf_conntrack_standalone.c).
fn connection(line: &str, own: &BTreeSet<IpAddr>) -> Option<Talk> {
    let field = |name: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let protocol = match line.split_whitespace().nth(2)? {
        "udp" => Protocol::Udp,
        "tcp" => Protocol::Tcp,
        "sctp" => Protocol::Sctp,
        _ => return None,
    };
    let source: IpAddr = field("src")?.parse().ok()?;
    own.contains(&source).then_some(Talk {
        with: field("dst")?.parse().ok()?,
        protocol,
        from: field("sport")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_this_host_began() {
        let own = BTreeSet::from([IpAddr::from([10, 0, 0, 1])]);
        let line = "ipv4     2 udp      17 29 src=10.0.0.1 dst=203.0.113.5 sport=5060 dport=5080 [UNREPLIED] src=203.0.113.5 dst=10.0.0.1 \
                    sport=5080 dport=5060 mark=0 zone=0 use=2";
        let talk = connection(line, &own).unwrap();
        assert_eq!(talk.with, IpAddr::from([203, 0, 113, 5]));
        assert_eq!((talk.protocol, talk.from), (Protocol::Udp, 5060));
        assert_eq!(connection(&line.replace("src=10", "src=11"), &own), None);
        assert_eq!(connection("ipv4 2 icmp 1 29 src=10.0.0.1", &own), None);
    }
}
