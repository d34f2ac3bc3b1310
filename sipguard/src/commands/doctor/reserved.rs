//! Guarded ports that an outgoing connection may get as its own, whose answers would then be dropped.

use std::{collections::BTreeSet, ops::RangeInclusive};

use super::{Finding, Host, setting, wrong};
use crate::output::joined;

const FILE: &str = "/etc/sysctl.d/50-sipguard.conf";

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let (Ok(policy), Some(range), Some(reserved)) = (
        &host.policy,
        setting("net.ipv4.ip_local_port_range").and_then(|text| range(&text)),
        setting("net.ipv4.ip_local_reserved_ports"),
    ) else {
        return Vec::new();
    };
    if policy.interfaces.is_empty() {
        return Vec::new();
    }
    let mut reserved = ports(&reserved);
    let guarded = policy
        .services
        .iter()
        .flat_map(|service| service.ports.values());
    let missing: BTreeSet<u16> = guarded
        .flatten()
        .copied()
        .filter(|port| range.contains(port) && !reserved.contains(port))
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let named = joined(&missing);
    reserved.extend(missing);
    let all: Vec<_> = reserved.iter().map(u16::to_string).collect();
    vec![wrong(
        format!(
            "an outgoing connection may get a guarded port as its own, and then its answers are dropped: {named} is not reserved"
        ),
        format!(
            "echo 'net.ipv4.ip_local_reserved_ports = {}' > {FILE} && sysctl -p {FILE}",
            all.join(",")
        ),
    )]
}

/// Two numbers with a tab between them.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ends = text.split_whitespace().map(str::parse);
    Some(ends.next()?.ok()?..=ends.next()?.ok()?)
}

/// `80,5060-5061`
fn ports(text: &str) -> BTreeSet<u16> {
    text.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_as_the_kernel_writes_them() {
        assert_eq!(ports(""), BTreeSet::new());
        assert_eq!(
            ports("80,5060-5062"),
            BTreeSet::from([80, 5060, 5061, 5062])
        );
        assert_eq!(range("32768\t60999"), Some(32768..=60999));
    }
}
