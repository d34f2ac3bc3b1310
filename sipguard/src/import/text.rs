//! The config file, as a person would have written it.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::{Note, ruleset::Service};
use crate::{
    policy::{Action, protocol_name},
    prefix,
};

pub(super) fn write(from: &str, services: &[Service], notes: &[Note]) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = writeln!(
        text,
        "# Made by `sipguard import` from {from}. Read it, name your interfaces, try it with"
    );
    let _ = writeln!(
        text,
        "# `sipguard check --pcap`, and put it in force with `sipguard apply`."
    );
    for note in notes {
        let _ = writeln!(text, "# not translated: {note}");
    }
    let _ = writeln!(text, "\n# interfaces = [\"eth0\"]\n\n[sources]");
    for (place, service) in services.iter().enumerate() {
        for (action, list) in lists(service) {
            if named(services, place, action) == (place, action) && !list.is_empty() {
                source(&mut text, &service.name, action, list);
            }
        }
    }
    for (place, service) in services.iter().enumerate() {
        let _ = writeln!(text, "\n[services.{}]", service.name);
        for (protocol, ports) in &service.ports {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            let _ = writeln!(
                text,
                "{} = [{}]",
                protocol_name(*protocol),
                ports.join(", ")
            );
        }
        if service.default == Action::Allow {
            let _ = writeln!(
                text,
                "# Everybody else gets in. Without this line nobody else does."
            );
            let _ = writeln!(text, "default = \"allow\"");
        }
        for (action, list) in lists(service) {
            if !list.is_empty() {
                let (at, _) = named(services, place, action);
                let _ = writeln!(text, "{action} = [\"{}-{action}\"]", services[at].name);
            }
        }
    }
    text
}

fn lists(service: &Service) -> [(Action, &Vec<(IpNet, usize)>); 2] {
    [
        (Action::Allow, &service.allow),
        (Action::Deny, &service.deny),
    ]
}

/// Services with the same list share it: the first one that has it gives it its name.
fn named(services: &[Service], place: usize, action: Action) -> (usize, Action) {
    let list = |service: &Service| match action {
        Action::Allow => service.allow.clone(),
        Action::Deny => service.deny.clone(),
    };
    let own = list(&services[place]);
    let at = services[..place]
        .iter()
        .position(|other| list(other) == own);
    (at.unwrap_or(place), action)
}

fn source(text: &mut String, service: &str, action: Action, list: &[(IpNet, usize)]) {
    let _ = writeln!(text, "{service}-{action} = [");
    for (entry, line) in list {
        let entry = prefix::format(*entry);
        let _ = match line {
            0 => writeln!(text, "    \"{entry}\","),
            line => writeln!(text, "    \"{entry}\", # line {line}"),
        };
    }
    let _ = writeln!(text, "]");
}
