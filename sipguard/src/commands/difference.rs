//! What a change comes to, as `apply` and `apply --dry-run` tell it.

use std::{collections::BTreeSet, io::Write};

use anyhow::Result;
use sipguard::{
    difference::{Change, Difference, EntrySummary, SourceLine},
    policy::{Action, Ports, Service},
    prefix,
};

use super::status;
use crate::output::{Grouped, Palette};

/// In one line: `+eth1; sip changed, +web; entries: +12, -3`. Nothing where there is no difference.
pub(super) fn summary(difference: &Difference) -> Option<String> {
    let mut parts = Vec::new();
    parts.extend(difference.mode.as_ref().map(|change| {
        let words = [change.from, change.to].map(|mode| mode.map(|mode| mode.name().to_owned()));
        turned("mode", words)
    }));
    parts.extend(names(&difference.interfaces));
    parts.extend(names(&difference.services));
    parts.extend(names(&difference.sources));
    let tables = difference.tables.iter();
    parts.extend(tables.map(|name| format!("[{name}] changed")));
    let [added, removed] = [&difference.entries.added, &difference.entries.removed];
    let entries: Vec<_> = [("+", added), ("-", removed)]
        .into_iter()
        .filter(|(_, said)| said.count > 0)
        .map(|(sign, said)| format!("{sign}{}", Grouped(said.count as u64)))
        .collect();
    if !entries.is_empty() {
        parts.push(format!("entries {}", entries.join(" ")));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn names<T>(changes: &[Change<T>]) -> Option<String> {
    let names: Vec<_> = changes
        .iter()
        .map(|change| match (&change.from, &change.to) {
            (None, _) => format!("+{}", change.name),
            (_, None) => format!("-{}", change.name),
            _ => format!("{} changed", change.name),
        })
        .collect();
    (!names.is_empty()).then(|| names.join(" "))
}

/// `mode enforce → monitor`, or `mode enforce` where there was none before.
fn turned(what: &str, [from, to]: [Option<String>; 2]) -> String {
    let words: Vec<_> = [from, to].into_iter().flatten().collect();
    format!("{what} {}", words.join(" → "))
}

/// Line by line.
pub(super) fn write(out: &mut dyn Write, difference: &Difference, palette: Palette) -> Result<()> {
    let Palette { good, bad, .. } = palette;
    if let Some(change) = &difference.mode {
        let words = [change.from, change.to].map(|mode| mode.map(|mode| mode.name().to_owned()));
        writeln!(out, "  {}", turned("mode", words))?;
    }
    for change in &difference.interfaces {
        let name = &change.name;
        match (change.from, change.to) {
            (None, _) => writeln!(out, "{good}+ interface {name}{good:#}")?,
            (_, None) => writeln!(out, "{bad}- interface {name}{bad:#}")?,
            (from, to) => {
                let words = [from, to].map(|mode| mode.map(|mode| mode.name().to_owned()));
                writeln!(out, "  {}", turned(&format!("interface {name}"), words))?;
            }
        }
    }
    for change in &difference.services {
        let name = &change.name;
        match (&change.from, &change.to) {
            (None, Some(service)) => writeln!(
                out,
                "{good}+ service {name}: {}, unlisted {}, mode {}{good:#}",
                status::ports(&service.ports),
                unlisted(service),
                service.mode
            )?,
            (Some(from), Some(to)) => {
                writeln!(out, "  service {name}: {}", of_service(from, to).join(", "))?;
            }
            (_, None) => writeln!(out, "{bad}- service {name}{bad:#}")?,
        }
    }
    for change in &difference.sources {
        let name = &change.name;
        match (&change.from, &change.to) {
            (None, Some(source)) => {
                writeln!(out, "{good}+ live source {name}: {}{good:#}", used(source))?;
            }
            (Some(_), Some(to)) => writeln!(out, "  live source {name}: now {}", used(to))?,
            (_, None) => writeln!(out, "{bad}- live source {name}{bad:#}")?,
        }
    }
    for name in &difference.tables {
        writeln!(out, "  [{name}] changed")?;
    }
    said(out, '+', &difference.entries.added, palette)?;
    said(out, '-', &difference.entries.removed, palette)
}

/// `names, allow for sip web`
fn used(source: &SourceLine) -> String {
    let mut parts = vec![source.kind.to_owned()];
    for (action, services) in [(Action::Allow, &source.allow), (Action::Deny, &source.deny)] {
        if !services.is_empty() {
            parts.push(format!("{action} for {}", services.join(" ")));
        }
    }
    parts.join(", ")
}

/// What a service does with sources that no entry covers, as `status` tells it.
fn unlisted(service: &Service) -> &'static str {
    match service.default {
        Action::Deny => "drop",
        Action::Allow => "pass",
    }
}

fn of_service(from: &Service, to: &Service) -> Vec<String> {
    let mut parts = Vec::new();
    for (sign, ports) in [
        ('+', without(&to.ports, &from.ports)),
        ('-', without(&from.ports, &to.ports)),
    ] {
        if !ports.is_empty() {
            parts.push(format!("{sign}{}", status::ports(&ports)));
        }
    }
    if from.default != to.default {
        let words = [from, to].map(|service| Some(unlisted(service).to_owned()));
        parts.push(turned("unlisted", words));
    }
    if from.mode != to.mode {
        let words = [from, to].map(|service| Some(service.mode.name().to_owned()));
        parts.push(turned("mode", words));
    }
    parts
}

fn without(ports: &Ports, others: &Ports) -> Ports {
    let none = BTreeSet::new();
    ports
        .iter()
        .map(|(protocol, ports)| {
            let others = others.get(protocol).unwrap_or(&none);
            (*protocol, ports.difference(others).copied().collect())
        })
        .filter(|(_, ports): &(_, BTreeSet<u16>)| !ports.is_empty())
        .collect()
}

fn said(out: &mut dyn Write, sign: char, said: &EntrySummary, palette: Palette) -> Result<()> {
    let style = if sign == '+' {
        palette.good
    } else {
        palette.bad
    };
    for entry in &said.first {
        let timed = if entry.timed { " (timed)" } else { "" };
        writeln!(
            out,
            "{style}{sign} {} {} for {}{timed}{style:#}",
            entry.action,
            prefix::format(entry.prefix),
            entry.service
        )?;
    }
    let more = said.count - said.first.len();
    if more > 0 {
        writeln!(
            out,
            "{style}{sign} … and {} more{style:#}",
            Grouped(more as u64)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sipguard::{
        difference::{EntryChanges, EntryLine},
        policy::{AttachMode, Mode, Policy},
    };

    use super::*;

    fn example() -> Difference {
        let [sip, web] = Policy::default().services.try_into().unwrap();
        let mut changed = sip.clone();
        changed.default = Action::Allow;
        changed.mode = Mode::Monitor;
        for ports in changed.ports.values_mut() {
            ports.remove(&5061);
        }
        let change = |name: &str, from, to| Change {
            name: name.to_owned(),
            from,
            to,
        };
        Difference {
            mode: Some(Change {
                name: "mode".to_owned(),
                from: Some(Mode::Enforce),
                to: Some(Mode::Monitor),
            }),
            interfaces: vec![Change {
                name: "eth1".to_owned(),
                from: None,
                to: Some(AttachMode::Auto),
            }],
            services: vec![
                change("sip", Some(sip), Some(changed)),
                change("web", None, Some(web)),
            ],
            sources: Vec::new(),
            tables: vec!["notify"],
            entries: EntryChanges {
                added: EntrySummary {
                    count: 1234,
                    first: vec![EntryLine {
                        prefix: "203.0.113.7/32".parse().unwrap(),
                        service: "sip".to_owned(),
                        action: Action::Deny,
                        timed: true,
                    }],
                },
                removed: EntrySummary::default(),
            },
        }
    }

    #[test]
    fn in_one_line() {
        assert_eq!(
            summary(&example()).unwrap(),
            "mode enforce → monitor; +eth1; sip changed +web; [notify] changed; entries +1,234"
        );
        assert_eq!(summary(&Difference::default()), None);
    }

    #[test]
    fn line_by_line() {
        let mut out = Vec::new();
        write(&mut out, &example(), Palette::default()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "  mode enforce → monitor\n\
             + interface eth1\n\
             \x20 service sip: -udp+tcp 5061, unlisted drop → pass, mode enforce → monitor\n\
             + service web: udp+tcp 80, unlisted drop, mode enforce\n\
             \x20 [notify] changed\n\
             + deny 203.0.113.7 for sip (timed)\n\
             + … and 1,233 more\n"
        );
    }
}
