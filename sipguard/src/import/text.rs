//! The config file, as a person would have written it.

use std::fmt::Write as _;

use super::{Imported, notes::Kind};
use crate::{
    policy::{Action, AttachMode, Interface, Mode, protocol_name},
    prefix,
};

/// How many addresses of one note stand in the config.
const SHOWN: usize = 200;

pub(super) fn write(imported: &Imported, keep: &[Interface]) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = writeln!(
        text,
        "# Made by `sipguard import` from {}. Read it, try it with `sipguard check --pcap`,",
        imported.from
    );
    let _ = writeln!(
        text,
        "# and put it in force with `sipguard apply --confirm 60s`."
    );
    for note in &imported.notes {
        let begin = match note.kind {
            Kind::Lost => "MAY LOSE ACCESS: ",
            Kind::NotKept => "not kept: ",
            Kind::Assumed => "taken for granted: ",
            Kind::Harmless => "not understood, without effect: ",
        };
        let _ = writeln!(text, "# {begin}{}", note.line_with(SHOWN));
    }
    let _ = writeln!(text);
    interfaces(&mut text, imported, keep);
    let _ = writeln!(text, "\n[sources]");
    for source in &imported.sources {
        let prefixes: Vec<String> = source
            .prefixes
            .iter()
            .map(|prefix| format!("\"{}\"", prefix::format(*prefix)))
            .collect();
        if prefixes.len() <= 4 {
            let _ = writeln!(text, "{} = [{}]", source.name, prefixes.join(", "));
            continue;
        }
        let _ = writeln!(text, "{} = [", source.name);
        for prefix in prefixes {
            let _ = writeln!(text, "    {prefix},");
        }
        let _ = writeln!(text, "]");
    }
    for service in &imported.services {
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
        if service.mode == Mode::Monitor {
            let _ = writeln!(text, "mode = \"monitor\"");
        }
        for (action, names) in [
            (Action::Allow, &service.allow),
            (Action::Deny, &service.deny),
        ] {
            if !names.is_empty() {
                let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
                let _ = writeln!(text, "{action} = [{}]", names.join(", "));
            }
        }
    }
    text
}

fn interfaces(text: &mut String, imported: &Imported, keep: &[Interface]) {
    let quoted = |names: &[String]| {
        let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        names.join(", ")
    };
    if keep.is_empty() {
        let names = if imported.interfaces.is_empty() {
            vec!["eth0".to_owned()]
        } else {
            imported.interfaces.clone()
        };
        let _ = writeln!(text, "# interfaces = [{}]", quoted(&names));
    } else if keep
        .iter()
        .all(|interface| interface.mode == AttachMode::Auto)
    {
        let names: Vec<String> = keep
            .iter()
            .map(|interface| interface.name.clone())
            .collect();
        let _ = writeln!(text, "interfaces = [{}]", quoted(&names));
    } else {
        for interface in keep {
            let _ = writeln!(
                text,
                "[[interface]]\nname = {}\nmode = \"{}\"",
                quoted(std::slice::from_ref(&interface.name)),
                interface.mode
            );
        }
    }
}

/// As TOML has it.
fn quoted(name: &str) -> String {
    let mut text = String::from("\"");
    for letter in name.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(letter));
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
    text
}
