//! Source NAT that may give a connection of the network behind this host a guarded port, whose answers would then be dropped.
//!
//! A connection keeps its source port where nobody else has it (`get_unique_tuple` in net/netfilter/nf_nat_core.c), and
//! `net.ipv4.ip_local_reserved_ports` is not asked. A range of ports in the rule is: what is outside of it gets another port. This host's own
//! connections go through the same rules and have to keep their ports, the SIP server's above all, so that the range is for what is
//! forwarded only.

mod iptables;
mod nft;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::RangeInclusive,
};

use crate::policy::{Action, Policy, protocol_name};

use super::{Evidence, Finding, Kind, printed::printed};
use crate::prose::joined;

pub(super) const FINDS: &[Kind] = &[Kind::PortForNat];

type Ports = RangeInclusive<u16>;
/// Writes the command that puts a rule in front of another one which keeps protocols in a range.
type KeepIn = Box<dyn Fn(&[&str], &Ports) -> String>;

/// One rule of a chain, as far as it matters here.
struct Rule {
    /// Which chain of which table.
    chain: String,
    out: Out,
    /// `None` is any protocol.
    protocols: Option<BTreeSet<String>>,
    /// What else is asked of a packet; compared, never understood. Nothing here says that the packet is forwarded.
    conditions: BTreeSet<String>,
    effect: Effect,
}

/// By which interfaces a packet leaves.
enum Out {
    Any,
    Among(Vec<String>),
    Except(Vec<String>),
}

enum Effect {
    /// The packet goes no further in this chain.
    Ends,
    /// It gets another source address, and a port of this range if there is one.
    Translates {
        ports: Option<Ports>,
        keep_in: KeepIn,
    },
}

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Ok(policy) = &evidence.policy else {
        return Vec::new();
    };
    let guarded = guarded(policy);
    if guarded.is_empty() || policy.interfaces.is_empty() || !forwards() {
        return Vec::new();
    }
    let mut rules = iptables::rules();
    rules.extend(nft::rules());
    let interfaces = policy.interfaces.iter().map(|it| it.name.as_str());
    found(&rules, &interfaces.collect::<Vec<_>>(), &guarded)
}

fn found(
    rules: &[Rule],
    interfaces: &[&str],
    guarded: &BTreeMap<&str, BTreeSet<u16>>,
) -> Vec<Finding> {
    let all: BTreeSet<u16> = guarded.values().flatten().copied().collect();
    let free = widest_gap(&all);
    let mut findings = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let Effect::Translates { ports, keep_in } = &rule.effect else {
            continue;
        };
        let earlier = &rules[..index];
        let mut by: BTreeSet<&str> = BTreeSet::new();
        let mut open = BTreeSet::new();
        for (&protocol, closed) in guarded {
            let may_get = |port: &u16| ports.as_ref().is_none_or(|ports| ports.contains(port));
            if !rule.is_about(protocol) || !closed.iter().any(may_get) {
                continue;
            }
            let leaves = interfaces.iter().filter(|name| rule.out.has(name));
            let leaves: Vec<_> = leaves
                .filter(|name| !earlier.iter().any(|it| it.takes(rule, protocol, name)))
                .collect();
            if !leaves.is_empty() {
                open.insert(protocol);
                by.extend(leaves);
            }
        }
        if open.is_empty() {
            continue;
        }
        let open: Vec<_> = open.into_iter().collect();
        findings.push(Kind::PortForNat.wrong(
            format!(
                "what {} translates may get a guarded port ({}) on {}, and then its answers are dropped there",
                rule.chain,
                joined(&all),
                joined(by),
            ),
            keep_in(&open, &free),
        ));
    }
    findings
}

impl Rule {
    fn is_about(&self, protocol: &str) -> bool {
        let protocols = self.protocols.as_ref();
        protocols.is_none_or(|protocols| protocols.contains(protocol))
    }

    /// Whether every forwarded packet of this protocol that would come to a later rule is dealt with by this one.
    fn takes(&self, later: &Self, protocol: &str, interface: &str) -> bool {
        self.chain == later.chain
            && self.out.has(interface)
            && self.is_about(protocol)
            && self.conditions.is_subset(&later.conditions)
    }
}

impl Out {
    fn has(&self, name: &str) -> bool {
        let among = |patterns: &[String]| {
            patterns.iter().any(|pattern| {
                // iptables writes a prefix with +, nft with *.
                let prefix = pattern.strip_suffix(['+', '*']);
                prefix.map_or(pattern == name, |prefix| name.starts_with(prefix))
            })
        };
        match self {
            Self::Any => true,
            Self::Among(patterns) => among(patterns),
            Self::Except(patterns) => !among(patterns),
        }
    }
}

/// The ports to which unlisted sources are not let through, of the protocols whose ports NAT can choose.
fn guarded(policy: &Policy) -> BTreeMap<&'static str, BTreeSet<u16>> {
    let mut guarded: BTreeMap<_, BTreeSet<u16>> = BTreeMap::new();
    let services = policy.services.iter();
    for service in services.filter(|service| service.default == Action::Deny) {
        for (&protocol, ports) in &service.ports {
            let name = protocol_name(protocol);
            if ["tcp", "udp", "sctp"].contains(&name) {
                guarded.entry(name).or_default().extend(ports);
            }
        }
    }
    guarded
}

/// Whether packets go through this host from one interface to another.
fn forwards() -> bool {
    ["ipv4", "ipv6"].iter().any(|family| {
        let folder = format!("/proc/sys/net/{family}/conf");
        let interfaces = fs::read_dir(folder).into_iter().flatten().flatten();
        interfaces
            .map(|interface| fs::read_to_string(interface.path().join("forwarding")))
            .any(|forwards| forwards.is_ok_and(|forwards| forwards.trim() != "0"))
    })
}

/// The longest run of ports without one of these, and without those that need privileges.
fn widest_gap(ports: &BTreeSet<u16>) -> Ports {
    const UNPRIVILEGED: u16 = 1024;
    let guarded = ports.iter().copied().filter(|&port| port >= UNPRIVILEGED);
    // The last port of all ends the last run, and is no loss.
    let ends = guarded.clone().chain([u16::MAX]);
    let begins = [UNPRIVILEGED]
        .into_iter()
        .chain(guarded.map(|port| port.saturating_add(1)));
    let runs = begins.zip(ends).filter(|(first, end)| first < end);
    let widest = runs.max_by_key(|(first, end)| end - first);
    // At most 64 ports are guarded.
    widest.map_or(UNPRIVILEGED..=u16::MAX, |(first, end)| first..=end - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_has_no_guarded_port() {
        let gap = |ports: &[u16]| widest_gap(&ports.iter().copied().collect());
        assert_eq!(gap(&[80, 5060, 5061, 50600]), 5062..=50599);
        assert_eq!(gap(&[80]), 1024..=65534);
        assert_eq!(gap(&[5060]), 5061..=65534);
        assert_eq!(gap(&[1024, 60000]), 1025..=59999);
    }

    const SAVED: &str = "\
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -s 10.8.0.0/24 -d 10.9.0.0/24 -o eth0 -j ACCEPT
-A POSTROUTING -s 10.8.0.0/24 -o eth0 -j MASQUERADE
-A POSTROUTING -s 10.7.0.0/24 -o lan0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -m comment --comment \"it's \\\"ours\\\"\" -j SNAT --to-source 192.0.2.1
-A POSTROUTING -o eth+ -p udp -m udp --dport 53 -j MASQUERADE --to-ports 1024-5000
COMMIT
";

    fn mends(rules: &[Rule]) -> Vec<String> {
        let ports = BTreeSet::from([80, 5060]);
        let guarded = BTreeMap::from([("tcp", ports.clone()), ("udp", ports)]);
        let found = found(rules, &["eth0"], &guarded);
        found.into_iter().map(|finding| finding.mend).collect()
    }

    #[test]
    fn rules_of_iptables() {
        let mut rules = iptables::read("iptables", SAVED);
        let mended = mends(&rules);
        assert_eq!(
            mended,
            [
                "iptables -t nat -I POSTROUTING 2 -s 10.8.0.0/24 -o eth0 -p tcp -m addrtype ! --src-type LOCAL -j MASQUERADE --to-ports \
                 5061-65534 && iptables -t nat -I POSTROUTING 2 -s 10.8.0.0/24 -o eth0 -p udp -m addrtype ! --src-type LOCAL -j MASQUERADE \
                 --to-ports 5061-65534",
                "iptables -t nat -I POSTROUTING 4 -s 172.17.0.0/16 ! -o docker0 -m comment --comment 'it'\\''s \"ours\"' -p tcp -m addrtype \
                 ! --src-type LOCAL -j SNAT --to-source 192.0.2.1:5061-65534 && iptables -t nat -I POSTROUTING 4 -s 172.17.0.0/16 ! -o docker0 \
                 -m comment --comment 'it'\\''s \"ours\"' -p udp -m addrtype ! --src-type LOCAL -j SNAT --to-source 192.0.2.1:5061-65534",
            ]
        );
        // What it says to run is enough, and is not said again.
        let kept = "*nat\n-A POSTROUTING -o eth0 -p udp -m addrtype ! --src-type LOCAL -j MASQUERADE --to-ports 5061-65534\n\
                    -A POSTROUTING -o eth0 -p tcp -j RETURN\n-A POSTROUTING -o eth0 -j MASQUERADE\n";
        assert_eq!(mends(&iptables::read("iptables", kept)), [""; 0]);
        // But not in another chain, not behind it, and not with one more condition.
        rules = iptables::read(
            "iptables",
            &kept.replace("-A POSTROUTING -o eth0 -p", "-A ELSE -p"),
        );
        assert_eq!(mends(&rules).len(), 1);
        rules = iptables::read("iptables", &kept.replace("-p udp", "-s 10.0.0.0/8 -p udp"));
        assert_eq!(mends(&rules).len(), 1);
    }

    const LISTED: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "ip", "name": "nat"}},
{"rule": {"family": "ip", "table": "nat", "chain": "post", "handle": 3, "comment": "no masquerade to eth0 here", "expr": [
    {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 53}},
    {"snat": {"addr": "192.0.2.1", "port": {"range": [1024, 6000]}}}]}},
{"rule": {"family": "ip", "table": "nat", "chain": "post", "handle": 2, "expr": [
    {"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": {"set": ["eth0", "wlan*"]}}},
    {"counter": {"packets": 3, "bytes": 107}}, {"masquerade": null}]}},
{"rule": {"family": "ip", "table": "nat", "chain": "POSTROUTING", "handle": 2, "expr": [
    {"xt": {"type": "target", "name": "MASQUERADE"}}]}}]}"#;

    const WITH_HANDLES: &str = r#"table ip nat {
	chain post { # handle 1
		type nat hook postrouting priority srcnat; policy accept;
		udp dport 53 snat to 192.0.2.1:1024-6000 comment "no masquerade to eth0 here" # handle 3
		oifname { "eth0", "wlan*" } counter packets 3 bytes 107 masquerade # handle 2
	}
}"#;

    #[test]
    fn rules_of_nft() {
        let rules = nft::read(LISTED, |chain| {
            assert_eq!(chain, ["ip", "nat", "post"]);
            Some(WITH_HANDLES.to_owned())
        });
        assert_eq!(
            mends(&rules),
            [
                "nft 'insert rule ip nat post handle 3 udp dport 53 fib saddr type != local snat to 192.0.2.1:5061-65534 comment \"no \
                 masquerade to eth0 here\"'",
                "nft 'insert rule ip nat post handle 2 oifname { \"eth0\", \"wlan*\" } counter packets 3 bytes 107 meta l4proto { tcp, udp } fib \
                 saddr type != local masquerade to :5061-65534'",
            ]
        );
    }
}
