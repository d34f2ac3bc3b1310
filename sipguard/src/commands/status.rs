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
//! before sipguard's. Only where it is so: `alt_names`, other names that it has; `renamed`, what it is called now, where it has got another
//! name since, and then there may be another one of its name in the list, too; `unfit`, why what comes in is not judged, because the device
//! was changed since it was attached to. `enforced` is false where nothing is dropped. Where nothing is in
//! force, `generation`, `applied`, `config` and `mode` are null and the lists empty.
//! `pending` is null where no apply waits to be confirmed; `previous` is null where nothing was in force before; where it has `lapsed`, what
//! was in force before is again, and the next command that changes something clears up.

use std::io::Write;

use anstyle::Style;
use anyhow::Result;
use jiff::Timestamp;
use sipguard::{
    policy::{Action, Mode, Ports, Service, protocol_name},
    report::{EntryCounts, StatusReport},
};

use super::{Context, confirmation, needs_root, write_json};
use crate::output::{Grouped, Palette, Rows, count, local, rough};

pub(super) fn run(context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let report = StatusReport::take(&context.host)?;
    if context.json {
        return write_json(out, &report);
    }
    let now = context.host.now().wall;
    Status { report: &report }.write(out, now, context)
}

/// For people.
struct Status<'a> {
    report: &'a StatusReport,
}

impl Status<'_> {
    fn write(&self, out: &mut dyn Write, now: Timestamp, context: &Context) -> Result<()> {
        let Palette {
            title,
            bad,
            warning,
            ..
        } = context.palette;
        let (Some(generation), Some(applied), Some(config)) = (
            self.report.generation,
            self.report.applied,
            &self.report.config,
        ) else {
            writeln!(
                out,
                "{bad}nothing is in force:{bad:#} no packet is dropped; `sipguard apply` puts the config file in force"
            )?;
            self.write_pending(out, context.palette)?;
            return match self.report.entries.command_line {
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
        if let Some(made_by) = self
            .report
            .made_by
            .as_ref()
            .filter(|made_by| *made_by != self.report.version)
        {
            writeln!(
                out,
                "{warning}made by sipguard {made_by}:{warning:#} `sipguard apply` replaces it with that of {}",
                self.report.version
            )?;
        }
        if let Some(why) = self.nothing_is_dropped() {
            writeln!(out, "{bad}nothing is dropped: {why}{bad:#}")?;
        }
        writeln!(out)?;
        self.write_interfaces(out, context)?;
        writeln!(out)?;
        self.write_services(out, context.palette)?;
        let EntryCounts {
            config,
            command_line,
        } = self.report.entries;
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
        if let Some(pending) = &self.report.pending {
            let sentence = confirmation::sentence(pending);
            writeln!(out, "{warning}{sentence}{warning:#}")?;
        }
        Ok(())
    }

    /// Why, if it is so.
    fn nothing_is_dropped(&self) -> Option<&'static str> {
        let enforcing = |service: &Service| service.mode == Mode::Enforce;
        match self.report.enforced {
            true => None,
            false if self.report.services.iter().any(enforcing) => Some("no interface is filtered"),
            false if self.report.services.is_empty() => Some("no service is configured"),
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
        for interface in &self.report.interfaces {
            let well = interface.is_well();
            let mut cells = vec![interface.names(), interface.to_string()];
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
        for service in &self.report.services {
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
