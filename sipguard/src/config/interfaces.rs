//! `interfaces = [...]` and `[[interface]]`.

use super::document::{Document, Value};
use crate::{
    policy::{AttachMode, Interface},
    prefix::Excerpt,
};

pub(super) fn read(
    document: &mut Document<'_>,
    names: Option<&Value<'_>>,
    tables: Option<&Value<'_>>,
) -> Vec<Interface> {
    let mut interfaces = Vec::new();
    if let Some(names) = names {
        for name in document.array(names, "interfaces", "interfaces = [\"eth0\"]") {
            add(document, &mut interfaces, name, AttachMode::Auto);
        }
    }
    if let Some(tables) = tables {
        let example = "[[interface]] and below it name = \"eth0\"";
        for table in document.array(tables, "interface", example) {
            let Some(fields) = document.table(table, "interface", example) else {
                continue;
            };
            let [name, mode] = document.fields(fields, "[[interface]]", ["name", "mode"]);
            let modes = [AttachMode::Auto, AttachMode::Native, AttachMode::Tc];
            let mode = mode
                .and_then(|mode| match mode.get_ref().as_str() {
                    // Its name when it was generic XDP.
                    Some("generic") => Some(AttachMode::Tc),
                    _ => document.choice(mode, "mode", &modes.map(|mode| (mode.name(), mode))),
                })
                .unwrap_or_default();
            match name {
                Some(name) => add(document, &mut interfaces, name, mode),
                None => document.problem(
                    table.span(),
                    "this [[interface]] has no name; write name = \"eth0\" below it",
                ),
            }
        }
    }
    interfaces
}

fn add(
    document: &mut Document<'_>,
    interfaces: &mut Vec<Interface>,
    value: &Value<'_>,
    mode: AttachMode,
) {
    let Some(name) = document.string(value, "an interface's name", "\"eth0\"") else {
        return;
    };
    if let Some(wrong) = wrong_name(name) {
        let name = Excerpt::of(name);
        document.problem(
            value.span(),
            format!("{name} is no interface name: {wrong}; `ip link` shows the names"),
        );
    } else if interfaces.iter().any(|known| known.name == name) {
        document.problem(
            value.span(),
            format!("the interface {name} is there twice; leave one out"),
        );
    } else {
        interfaces.push(Interface {
            name: name.to_owned(),
            mode,
        });
    }
}

/// What keeps the kernel from calling an interface so (`dev_valid_name`).
fn wrong_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > 127 {
        // Other names that an interface has may be longer than its first (ALTIFNAMSIZ in include/uapi/linux/if.h).
        Some("it is longer than 127 bytes")
    } else if name == "." || name == ".." {
        Some("it is a folder's")
    } else if name.contains(['/', ':']) {
        Some("it has a / or : in it")
    } else if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Some("it has a space or control character in it")
    } else {
        None
    }
}
