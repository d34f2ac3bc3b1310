//! Entries as other programs take them: `ipset restore`, `nft -f`, and our own config file.

use std::{collections::BTreeMap, io::Write};

use anyhow::Result;
use ipnet::IpNet;
use sipguard::{
    datapath::Description,
    policy::{Action, Mode, Service, protocol_name},
    prefix,
};

use sipguard::report::EntryReport;

/// What sets can't say, in comments that `sipguard import` reads.
fn write_services(services: &[Service], out: &mut dyn Write) -> Result<()> {
    for service in services {
        write!(out, "# sipguard service {}", service.name)?;
        for (protocol, ports) in &service.ports {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            write!(out, " {} {}", protocol_name(*protocol), ports.join(","))?;
        }
        writeln!(out, " default {} mode {}", service.default, service.mode)?;
    }
    Ok(())
}

/// Prefixes that lie in no other one, and those that do.
fn widest(prefixes: impl Iterator<Item = IpNet>) -> (Vec<IpNet>, Vec<IpNet>) {
    let mut all: Vec<IpNet> = prefixes.collect();
    // Wider ones come before what is in them.
    all.sort_unstable();
    all.dedup();
    let (mut wide, mut inside): (Vec<IpNet>, Vec<IpNet>) = (Vec::new(), Vec::new());
    for prefix in all {
        match wide.last() {
            Some(last) if last.contains(&prefix) => inside.push(prefix),
            _ => wide.push(prefix),
        }
    }
    (wide, inside)
}

/// A prefix, and how many seconds it has left if it ends by itself.
type Element = (IpNet, Option<i64>);

/// What is in force, by service and action.
#[derive(Default)]
pub(super) struct Feed(BTreeMap<(String, Action), Vec<Element>>);

impl Feed {
    pub(super) fn add(&mut self, entry: &EntryReport<'_>) {
        if entry.in_force && !entry.overruled {
            let key = (entry.service.to_owned(), entry.action);
            let list = self.0.entry(key).or_default();
            list.push((entry.prefix, entry.seconds_left));
        }
    }

    /// Sets with their names, families apart.
    fn sets(&self) -> impl Iterator<Item = (String, bool, Vec<Element>)> {
        self.0.iter().flat_map(|((service, action), list)| {
            [false, true].into_iter().filter_map(move |v6| {
                let is_v6 = |prefix: &IpNet| matches!(prefix, IpNet::V6(_));
                let own: Vec<_> = list
                    .iter()
                    .filter(|(prefix, _)| is_v6(prefix) == v6)
                    .copied()
                    .collect();
                let suffix = if v6 { "6" } else { "" };
                (!own.is_empty()).then(|| (format!("{service}-{action}{suffix}"), v6, own))
            })
        })
    }

    pub(super) fn ipset(&self, services: &[Service], out: &mut dyn Write) -> Result<()> {
        write_services(services, out)?;
        for (name, v6, elements) in self.sets() {
            let family = if v6 { "inet6" } else { "inet" };
            // Two for a prefix of everything.
            let room = (elements.len() * 2).max(65_536);
            let timed = elements.iter().any(|(_, left)| left.is_some());
            let timeout = if timed { " timeout 0" } else { "" };
            writeln!(
                out,
                "create sipguard-{name} hash:net family {family} maxelem {room}{timeout}"
            )?;
            for (prefix, left) in elements {
                let left = left
                    .map(|left| format!(" timeout {}", left.max(1)))
                    .unwrap_or_default();
                // ipset has no prefix of length 0.
                let halves = (prefix.prefix_len() == 0)
                    .then(|| prefix.subnets(1))
                    .and_then(Result::ok);
                match halves {
                    Some(halves) => {
                        for half in halves {
                            writeln!(out, "add sipguard-{name} {half}{left}")?;
                        }
                    }
                    None => writeln!(out, "add sipguard-{name} {}{left}", prefix::format(prefix))?,
                }
            }
        }
        Ok(())
    }

    /// One table with a set for each list. Where one prefix is inside another, the set has the wider one.
    pub(super) fn nft(&self, services: &[Service], out: &mut dyn Write) -> Result<()> {
        write_services(services, out)?;
        writeln!(out, "table inet sipguard {{")?;
        for (name, v6, elements) in self.sets() {
            let kind = if v6 { "ipv6_addr" } else { "ipv4_addr" };
            let (timed, permanent): (Vec<Element>, Vec<Element>) =
                elements.into_iter().partition(|(_, left)| left.is_some());
            writeln!(out, "\tset {name} {{\n\t\ttype {kind}\n\t\tflags interval")?;
            // Elements of a set of intervals can't overlap, and those that end can't be joined with those that don't.
            for (prefix, left) in timed {
                let left = left.unwrap_or_default();
                writeln!(
                    out,
                    "\t\t# left out, it ends in {left} s: {}",
                    prefix::format(prefix)
                )?;
            }
            let (prefixes, inside) = widest(permanent.into_iter().map(|(prefix, _)| prefix));
            for prefix in inside {
                writeln!(out, "\t\t# inside a wider one: {}", prefix::format(prefix))?;
            }
            let prefixes: Vec<_> = prefixes.into_iter().map(prefix::format).collect();
            if !prefixes.is_empty() {
                writeln!(
                    out,
                    "\t\telements = {{\n\t\t\t{}\n\t\t}}",
                    prefixes.join(",\n\t\t\t")
                )?;
            }
            writeln!(out, "\t}}")?;
        }
        writeln!(out, "}}")?;
        Ok(())
    }

    /// A config file with the services that are in force and all entries that don't end.
    pub(super) fn toml(&self, description: &Description, out: &mut dyn Write) -> Result<()> {
        if description.mode == Mode::Monitor {
            writeln!(out, "mode = \"monitor\"")?;
        }
        for interface in &description.interfaces {
            writeln!(
                out,
                "[[interface]]\nname = \"{}\"\nmode = \"{}\"\n",
                interface.name, interface.mode
            )?;
        }
        writeln!(out, "[sources]")?;
        for ((service, action), list) in &self.0 {
            writeln!(out, "{service}-{action} = [")?;
            for (prefix, left) in list {
                let prefix = prefix::format(*prefix);
                match left {
                    None => writeln!(out, "    \"{prefix}\",")?,
                    Some(left) => writeln!(out, "    # left out, it ends in {left} s: {prefix}")?,
                }
            }
            writeln!(out, "]")?;
        }
        for found in &description.services {
            let service = &found.service;
            writeln!(out, "\n[services.{}]", service.name)?;
            for (protocol, ports) in &service.ports {
                let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
                writeln!(out, "{} = [{}]", protocol_name(*protocol), ports.join(", "))?;
            }
            writeln!(
                out,
                "default = \"{}\"\nmode = \"{}\"",
                service.default, service.mode
            )?;
            for action in [Action::Allow, Action::Deny] {
                if self.0.contains_key(&(service.name.clone(), action)) {
                    writeln!(out, "{action} = [\"{}-{action}\"]", service.name)?;
                }
            }
        }
        Ok(())
    }
}
