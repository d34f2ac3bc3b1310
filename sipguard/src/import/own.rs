//! What `sipguard list --format ipset` and `--format nft` print: sets whose names say what they are for, and comments that say of services
//! what sets can't.

use std::collections::BTreeSet;

use ipnet::IpNet;
use sipguard_ebpf::abi::Protocol;

use super::{
    notes::{Kind, Note},
    services::{Made, Service, Source},
};
use crate::{
    policy::{Action, MAX_PORTS, MAX_SERVICES, Mode, Ports, is_service_name, protocol_named},
    prefix,
};

/// What stands in front of a service, in a comment.
const SERVICE: &str = "# sipguard service ";

/// Nothing where it is something else.
pub(super) fn read(text: &str) -> Option<Made> {
    let mut services: Vec<Service> = Vec::new();
    for line in text.lines() {
        if let Some(words) = line.trim().strip_prefix(SERVICE)
            && let Some(service) = service(words)
        {
            services.push(service);
        }
    }
    if services.is_empty() || !could_be_configured(&services) {
        return None;
    }
    let mut made = Made {
        services,
        ..Made::default()
    };
    let mut set: Option<String> = None;
    let mut timed = 0;
    for line in text.lines() {
        let line = line.trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["add", _, _, "timeout", seconds, ..] if *seconds != "0" => timed += 1,
            ["#", "left", "out,", "it", "ends", ..] => timed += 1,
            ["add", name, prefix, ..] => add(&mut made, name, &[prefix]),
            // A set that closes ends here, and so does a table.
            ["}"] => set = None,
            ["set", name, "{"] => set = Some((*name).to_owned()),
            ["#", "inside", "a", "wider", "one:", prefix] => {
                if let Some(name) = &set {
                    add(&mut made, name, &[prefix]);
                }
            }
            [first, ..] if first.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':') => {
                if let Some(name) = &set {
                    let prefixes: Vec<&str> = words
                        .iter()
                        .map(|word| word.trim_end_matches(','))
                        .collect();
                    add(&mut made, name, &prefixes);
                }
            }
            _ => {}
        }
    }
    for source in &mut made.sources {
        // ipset has no prefix of length 0: it was printed as its halves.
        join_halves(&mut source.prefixes);
        source.prefixes.sort_unstable();
        source.prefixes.dedup();
    }
    if timed > 0 {
        made.notes.push(Note::new(
            Kind::NotKept,
            0,
            format!("{timed} entries that end by themselves are left out: a config has none"),
        ));
    }
    Some(made)
}

/// Whether a config could have these services: what `list` prints always could, and what was made to look like it may not.
fn could_be_configured(services: &[Service]) -> bool {
    let mut names = BTreeSet::new();
    let mut guarded = BTreeSet::new();
    let well_formed = services.iter().all(|service| {
        let mut ports = service
            .ports
            .iter()
            .flat_map(|(protocol, ports)| ports.iter().map(move |port| (*protocol, *port)));
        is_service_name(&service.name)
            && names.insert(&service.name)
            && service.ports.values().any(|ports| !ports.is_empty())
            && ports.all(|(protocol, port)| port != 0 && guarded.insert((protocol, port)))
    });
    let different: BTreeSet<_> = guarded.iter().map(|(_, port)| port).collect();
    well_formed && services.len() <= MAX_SERVICES && different.len() <= MAX_PORTS
}

/// `sip udp 5060,5061 tcp 5060 default deny mode enforce`.
fn service(words: &str) -> Option<Service> {
    let mut words = words.split_whitespace();
    let mut service = Service {
        name: words.next()?.to_owned(),
        ports: Ports::new(),
        default: Action::Deny,
        mode: Mode::Enforce,
        allow: Vec::new(),
        deny: Vec::new(),
    };
    while let (Some(word), Some(value)) = (words.next(), words.next()) {
        match (word, value) {
            ("default", "allow") => service.default = Action::Allow,
            ("mode", "monitor") => service.mode = Mode::Monitor,
            ("default" | "mode", _) => {}
            (protocol, ports) => {
                let protocol: Protocol = protocol_named(protocol)?;
                let ports: Option<_> = ports.split(',').map(|port| port.parse().ok()).collect();
                service.ports.insert(protocol, ports?);
            }
        }
    }
    Some(service)
}

/// The service and the action that a set's name says: `sipguard-sip-allow6`.
fn add(made: &mut Made, set: &str, prefixes: &[&str]) {
    let name = set.strip_prefix("sipguard-").unwrap_or(set);
    let name = name.strip_suffix('6').unwrap_or(name);
    let Some((service, action)) = name.rsplit_once('-') else {
        return;
    };
    let Some(service) = made.services.iter_mut().find(|known| known.name == service) else {
        return;
    };
    let list = match action {
        "allow" => &mut service.allow,
        "deny" => &mut service.deny,
        _ => return,
    };
    let source = format!("{}-{action}", service.name);
    if !list.contains(&source) {
        list.push(source.clone());
    }
    let prefixes = prefixes
        .iter()
        .filter_map(|prefix| prefix::parse(prefix).ok());
    match made.sources.iter_mut().find(|known| known.name == source) {
        Some(known) => known.prefixes.extend(prefixes),
        None => made.sources.push(Source {
            name: source,
            prefixes: prefixes.collect(),
        }),
    }
}

fn join_halves(prefixes: &mut Vec<IpNet>) {
    for whole in prefix::ANY {
        // Everything can be halved.
        let halves: Vec<IpNet> = whole.subnets(1).map(Iterator::collect).unwrap_or_default();
        if halves.iter().all(|half| prefixes.contains(half)) {
            prefixes.retain(|prefix| !halves.contains(prefix));
            prefixes.push(whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: a comment that looks like one of `list`'s made a config that could not be read.
    #[test]
    fn services_that_no_config_could_have_are_nobody_s() {
        assert!(read("# sipguard service sip udp 5060 default deny mode enforce").is_some());
        for comment in [
            "# sipguard service sip",
            "# sipguard service all udp 5060",
            "# sipguard service SIP udp 5060",
            "# sipguard service sip udp 0",
            "# sipguard service sip udp 5060\n# sipguard service sip udp 5061",
            "# sipguard service sip udp 5060\n# sipguard service web udp 5060",
        ] {
            assert!(read(comment).is_none(), "{comment}");
        }
    }
}
