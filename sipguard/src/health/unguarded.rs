//! Programs that everybody reaches, on ports where gateways have something to lose.

use std::collections::BTreeSet;

use crate::policy::{Policy, protocol_name};
use sipguard_ebpf::abi::Protocol::{self, Tcp, Udp};

use super::{Evidence, Finding, Kind, evidence::quoted, sockets::Sockets};
use crate::prose::joined;

pub(super) const FINDS: &[Kind] = &[Kind::ReachedByEverybody];

/// What gateways offer beside the ports that are guarded by default, and what a service for it may be called.
const OFFERS: &[(&str, &str, Protocol, &[u16])] = &[
    // Asterisk's second driver, FreeSWITCH's profiles, and what others move SIP to.
    ("SIP", "sip2", Udp, SIP),
    ("SIP", "sip2", Tcp, SIP),
    (
        "SIP over WebSocket, or Asterisk's web server",
        "ws",
        Tcp,
        &[8088, 8089],
    ),
    ("IAX2", "iax", Udp, &[4569]),
    ("Asterisk's manager interface", "ami", Tcp, &[5038]),
    ("FreeSWITCH's event socket", "esl", Tcp, &[8021]),
    ("a web page", "https", Tcp, &[443, 8080, 8443]),
];

const SIP: &[u16] = &[
    5060, 5061, 5062, 5063, 5064, 5065, 5070, 5080, 5081, 5160, 5161, 50600,
];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Ok(policy) = &evidence.policy else {
        return Vec::new();
    };
    // Each service once, with the ports of all its protocols.
    let mut names = BTreeSet::new();
    OFFERS
        .iter()
        .filter(|(_, name, ..)| names.insert(*name))
        .filter_map(|&(what, name, ..)| {
            let open = open(policy, &evidence.sockets, name);
            if open.is_empty() {
                return None;
            }
            let listed = open.iter().flat_map(|(protocol, ports)| {
                ports
                    .iter()
                    .map(|port| format!("{} {port}", protocol_name(*protocol)))
            });
            Some(Kind::ReachedByEverybody.advice(
                format!(
                    "reached by everybody, not guarded: {what} on {}",
                    joined(listed)
                ),
                guard(evidence, policy, name, &open),
            ))
        })
        .collect()
}

/// The ports that programs wait on for others and no service guards.
fn open(policy: &Policy, sockets: &Sockets, name: &str) -> Vec<(Protocol, Vec<u16>)> {
    let mut open = Vec::new();
    for &(_, of, protocol, ports) in OFFERS {
        if of != name {
            continue;
        }
        let ports: Vec<_> = ports
            .iter()
            .copied()
            .filter(|&port| {
                sockets.is_waited_on(protocol, port) && !is_guarded(policy, protocol, port)
            })
            .collect();
        if !ports.is_empty() {
            open.push((protocol, ports));
        }
    }
    open
}

fn is_guarded(policy: &Policy, protocol: Protocol, port: u16) -> bool {
    policy.services.iter().any(|service| {
        let ports = service.ports.get(&protocol);
        ports.is_some_and(|ports| ports.contains(&port))
    })
}

/// Adds a service that lets in whom the first service lets in.
fn guard(
    evidence: &Evidence,
    policy: &Policy,
    name: &str,
    open: &[(Protocol, Vec<u16>)],
) -> String {
    let taken = |name: &str| policy.services.iter().any(|service| service.name == name);
    let name = if taken(name) {
        format!("{name}-more")
    } else {
        name.to_owned()
    };
    let ports: Vec<_> = open
        .iter()
        .map(|(protocol, ports)| {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            format!("{} = [{}]", protocol_name(*protocol), ports.join(", "))
        })
        .collect();
    let sources: BTreeSet<_> = policy
        .entries
        .iter()
        .filter(|entry| entry.service == 0)
        .filter_map(|entry| policy.origins.get(usize::from(entry.origin)))
        .map(|origin| format!("\"{}\"", origin.source))
        .collect();
    let sources: Vec<_> = sources.into_iter().collect();
    let file = quoted(&evidence.config);
    format!(
        "printf '\\n[services.{name}]\\n{}\\nallow = [{}]\\n' >> {file} && sipguard apply --config {file}",
        ports.join("\\n"),
        sources.join(", ")
    )
}
