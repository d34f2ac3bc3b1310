//! `sipguard status`.
//!
//! JSON, one object:
//! ```json
//! {"version":"0.1.0","in_force":true,"enforced":true,"generation":3,"applied":"2026-03-01T12:00:00Z","config":"/etc/sipguard/sipguard.toml",
//!  "mode":"enforce",
//!  "interfaces":[{"name":"eth0","state":"attached","mode":"tc","cause":"its driver has no native XDP","program":42,"generation":3,
//!                 "foreign":null,"before":[]}],
//!  "services":[{"name":"sip","ports":{"udp":[5060],"tcp":[5060]},"default":"deny","mode":"enforce"}],
//!  "entries":{"config":12,"command_line":1},
//!  "pending":{"generation":3,"previous":2,"until":"2026-03-01T12:01:00Z","seconds_left":42,"lapsed":false}}
//! ```
//! An interface's `state` is `attached`, `absent` (does not exist now) or `detached` (not filtered); `foreign` is
//! `{"id":7,"name":"xdp_other"}` where somebody else's XDP program is there, and `before` has those of other people's TC programs that run
//! before sipguard's. `enforced` is false where nothing is dropped. Where nothing is in
//! force, `generation`, `applied`, `config` and `mode` are null and the lists empty.
//! `pending` is null where no apply waits to be confirmed; `previous` is null where nothing was in force before; where it has `lapsed`, what
//! was in force before is again, and the next command that changes something clears up.

use std::{io::Write, path::Path};

use anstyle::Style;
use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use sipguard::{
    lifecycle::{self, Live},
    policy::{Action, Mode, Ports, Service, protocol_name},
    state::State,
};

use super::{
    Context,
    interface::{self, Interface},
    needs_root,
    pending::Pending,
    write_json,
};
use crate::output::{Grouped, Palette, Rows, count, local, rough};

#[derive(Debug, Serialize)]
struct Status<'a> {
    version: &'static str,
    in_force: bool,
    enforced: bool,
    generation: Option<u64>,
    applied: Option<Timestamp>,
    config: Option<&'a Path>,
    mode: Option<Mode>,
    interfaces: Vec<Interface>,
    services: Vec<&'a Service>,
    entries: Entries,
    pending: Option<Pending>,
    /// Of the sipguard that applied it.
    #[serde(skip)]
    made_by: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Entries {
    config: usize,
    command_line: usize,
}

pub(super) fn run(context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let host = &context.host;
    let state = lifecycle::state(host);
    let (live, interfaces) = interface::look(host, &state.fallbacks)?.unzip();
    // Also where nothing is in force any more.
    let pending = lifecycle::pending(host)?;
    let now = host.now();
    let pending = pending.map(|pending| Pending::new(pending, now));
    let now = now.wall;
    let status = Status {
        pending,
        ..status(live.as_ref(), interfaces.unwrap_or_default(), &state, now)
    };
    if context.json {
        return write_json(out, &status);
    }
    status.write(out, now, context)
}

fn status<'a>(
    live: Option<&'a Live>,
    interfaces: Vec<Interface>,
    state: &State,
    now: Timestamp,
) -> Status<'a> {
    let description = live.map(|live| &live.generation.description);
    let services: Vec<_> = description
        .iter()
        .flat_map(|description| &description.services)
        .map(|found| &found.service)
        .collect();
    let attached = interfaces
        .iter()
        .any(|interface| interface.state == interface::State::Attached);
    let enforcing = services.iter().any(|service| service.mode == Mode::Enforce);
    Status {
        version: env!("CARGO_PKG_VERSION"),
        in_force: live.is_some(),
        enforced: attached && enforcing,
        generation: live.map(|live| live.number),
        applied: description.map(|description| description.applied),
        config: description.map(|description| description.config.as_path()),
        mode: description.map(|description| description.mode),
        entries: Entries {
            config: description.map_or(0, |description| description.entries),
            command_line: state
                .entries
                .iter()
                .filter(|entry| !entry.ended(now))
                .count(),
        },
        interfaces,
        services,
        pending: None,
        made_by: description.map(|description| description.version.as_str()),
    }
}

impl Status<'_> {
    fn write(&self, out: &mut dyn Write, now: Timestamp, context: &Context) -> Result<()> {
        let Palette {
            title,
            bad,
            warning,
            ..
        } = context.palette;
        let (Some(generation), Some(applied), Some(config)) =
            (self.generation, self.applied, self.config)
        else {
            writeln!(
                out,
                "{bad}nothing is in force:{bad:#} no packet is dropped; `sipguard apply` puts the config file in force"
            )?;
            self.write_pending(out, context.palette)?;
            return match self.entries.command_line {
                0 => Ok(()),
                1 => Ok(writeln!(out, "1 entry of the command line waits for it")?),
                many => Ok(writeln!(
                    out,
                    "{} entries of the command line wait for it",
                    Grouped(many as u64)
                )?),
            };
        };
        let ago = rough(now.duration_since(applied).as_secs().max(0));
        writeln!(
            out,
            "{title}generation {generation}{title:#} of {}, applied {ago} ago ({})",
            config.display(),
            local(applied)
        )?;
        self.write_pending(out, context.palette)?;
        if let Some(made_by) = self.made_by.filter(|made_by| *made_by != self.version) {
            writeln!(
                out,
                "{warning}made by sipguard {made_by}:{warning:#} `sipguard apply` replaces it with that of {}",
                self.version
            )?;
        }
        if let Some(why) = self.nothing_is_dropped() {
            writeln!(out, "{bad}nothing is dropped: {why}{bad:#}")?;
        }
        writeln!(out)?;
        self.write_interfaces(out, context)?;
        writeln!(out)?;
        self.write_services(out, context.palette)?;
        let Entries {
            config,
            command_line,
        } = self.entries;
        writeln!(
            out,
            "\n{} of the config, {} of the command line",
            count(config, "entry", "entries"),
            Grouped(command_line as u64)
        )?;
        Ok(())
    }

    fn write_pending(&self, out: &mut dyn Write, palette: Palette) -> Result<()> {
        let Palette { warning, .. } = palette;
        if let Some(pending) = &self.pending {
            writeln!(out, "{warning}{pending}{warning:#}")?;
        }
        Ok(())
    }

    /// Why, if it is so.
    fn nothing_is_dropped(&self) -> Option<&'static str> {
        let enforcing = |service: &&Service| service.mode == Mode::Enforce;
        match self.enforced {
            true => None,
            false if self.services.iter().any(enforcing) => Some("no interface is filtered"),
            false if self.services.is_empty() => Some("no service is configured"),
            false => Some("monitor mode"),
        }
    }

    fn write_interfaces(&self, out: &mut dyn Write, context: &Context) -> Result<()> {
        let titles: &[_] = if context.is_verbose() {
            &["INTERFACE", "FILTERED", ">PROGRAM", ">GENERATION"]
        } else {
            &["INTERFACE", "FILTERED"]
        };
        let mut rows = Rows::new(titles, context.palette);
        for interface in &self.interfaces {
            let well = interface.state == interface::State::Attached
                && interface.foreign.is_none()
                && interface.before.is_empty();
            let mut cells = vec![interface.name.clone(), interface.to_string()];
            if context.is_verbose() {
                let numbers = [interface.program.map(u64::from), interface.generation];
                cells.extend(numbers.map(|number| {
                    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
                }));
            }
            let Palette { good, bad, .. } = context.palette;
            rows.add(if well { good } else { bad }, cells);
        }
        Ok(rows.write(out)?)
    }

    fn write_services(&self, out: &mut dyn Write, palette: Palette) -> Result<()> {
        let mut rows = Rows::new(&["SERVICE", "PORTS", "UNLISTED", "MODE"], palette);
        for service in &self.services {
            let (style, mode) = match service.mode {
                Mode::Enforce => (Style::new(), "enforce"),
                Mode::Monitor => (palette.warning, "monitor (nothing is dropped)"),
            };
            let unlisted = match service.default {
                Action::Deny => "drop",
                Action::Allow => "pass",
            };
            rows.add(
                style,
                [&service.name, &ports(&service.ports), unlisted, mode].map(str::to_owned),
            );
        }
        Ok(rows.write(out)?)
    }
}

/// `udp+tcp 5060 5061, sctp 5060`: protocols that have the same ports stand together.
pub(super) fn ports(ports: &Ports) -> String {
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    for (&protocol, numbers) in ports {
        let numbers: Vec<_> = numbers.iter().map(u16::to_string).collect();
        let numbers = numbers.join(" ");
        let name = protocol_name(protocol);
        match groups.iter_mut().find(|(_, known)| *known == numbers) {
            Some((names, _)) => names.push(name),
            None => groups.push((vec![name], numbers)),
        }
    }
    let groups: Vec<_> = groups
        .into_iter()
        .map(|(names, numbers)| format!("{} {numbers}", names.join("+")))
        .collect();
    groups.join(", ")
}
