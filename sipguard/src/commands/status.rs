//! `sipguard status`.
//!
//! JSON, one object:
//! ```json
//! {"version":"0.1.0","in_force":true,"enforced":true,"generation":3,"applied":"2026-03-01T12:00:00Z","config":"/etc/sipguard/sipguard.toml",
//!  "mode":"enforce",
//!  "interfaces":[{"name":"eth0","state":"attached","mode":"tc","cause":"its driver has no native XDP","program":42,"generation":3,
//!                 "foreign":null,"before":[]}],
//!  "services":[{"name":"sip","ports":{"udp":[5060],"tcp":[5060]},"default":"deny","mode":"enforce"}],
//!  "entries":{"config":12,"command_line":1,"bans":2,"overruled_bans":1},
//!  "sources":[{"source":"trunk","kind":"names","entries":3,"in_kernel":3,"overruled":1,"asked":"2026-03-01T12:00:00Z",
//!              "answered":"2026-03-01T12:00:00Z","changed":"2026-02-01T12:00:00Z","next":"2026-03-01T12:05:00Z","said":null,"error":null,"refused":null,"stale":false}],
//!  "receivers":[{"receiver":"webhook","sent":12,"waiting":0,"lost":0,"tried":"2026-03-01T12:00:00Z","failing":null,"error":null}],
//!  "moved":[{"source":"trunk","service":"sip","since":"2026-03-01T11:58:00Z",
//!            "addresses":[{"address":"198.51.100.9","entry":"198.51.100.7/32","allowed_until":null,"denied":false,"method":"INVITE",
//!                          "since":"2026-03-01T11:58:00Z","last":"2026-03-01T11:59:00Z","packets":7}],
//!            "more":0,"about":"…","mend":"sipguard allow 198.51.100.9 --service sip"}],
//!  "pending":{"generation":3,"previous":2,"until":"2026-03-01T12:01:00Z","seconds_left":42,"lapsed":false},
//!  "guarded":true,"summary":"guarded: as /etc/sipguard/sipguard.toml says","findings":[]}
//! ```
//! An interface's `state` is `attached`, `absent` (does not exist now) or `detached` (not filtered); `foreign` is
//! `{"id":7,"name":"xdp_other"}` where somebody else's XDP program is there, and `before` has those of other people's TC programs that run
//! before sipguard's. Only where it is so: `alt_names`, other names that it has; `renamed`, what it is called now, where it has got another
//! name since, and then there may be another one of its name in the list, too; `unfit`, why what comes in is not judged, because the device
//! was changed since it was attached to. `enforced` is false where nothing is dropped. Where nothing is in
//! force, `generation`, `applied`, `config` and `mode` are null and the lists empty.
//! `bans` are those of other programs, `overruled_bans` those of them that an entry by hand covers, so that they decide nothing.
//! `pending` is null where no apply waits to be confirmed; `previous` is null where nothing was in force before; where it has `lapsed`, what
//! was in force before is again, and the next command that changes something clears up.
//! `sources` are the live ones: `entries` is how many the last good copy has (without those of which the kernel has none because they ended), or
//! null where there never was one, and `in_kernel` how many the kernel has of it, whoever else says them, in the service that has the fewest of those that name it; `overruled` is how many decide nothing in some service, because an
//! entry by hand says the opposite there; `error` is why the last try failed, `refused` why what was
//! found last is not in force, and `stale` whether it has been the same for longer than its `stale_after`.
//! `receivers` are those who get notices, as `notify` tells it.
//! `moved` is who is dropped and was allowed in the last thirty days, or whose neighbours are or were, as far as the agent has seen: `source` is the
//! source of the config whose addresses those were (or the comment of the command line's entry, or `command line`), `entry` the entry that allowed
//! the address itself, until `allowed_until`, or where that is null its neighbour; `denied` is whether a list or a program denies it now; `packets` is how many the agent looked at, `more` how many
//! addresses there are at least for which it has no room, and `mend` the command that lets the first address in.
//! `guarded` is whether everything is closed that the config wants closed, `summary` that in one line; `findings` are those of `doctor`, in
//! the form that it documents.
//!
//! With `--check` the exit code is 0 where this host is guarded as its config says, 1 where it is not, and 3 where it is and there are
//! findings (with the severity `wrong`); and with `-q` nothing is printed.

use std::io::Write;

use anstyle::Style;
use anyhow::Result;
use jiff::Timestamp;
use sipguard::{
    datapath::{Trust, is_untyped},
    health::{Place, Verdict},
    policy::{Action, Mode, Ports, protocol_name},
    report::{EntryCounts, StatusReport},
};

use super::{Context, Outcome, confirmation, needs_root, write_json};
use crate::{
    cli,
    output::{Grouped, Palette, Rows, count, joined, local, rough},
};

pub(super) fn run(status: &cli::Status, context: &Context, out: &mut dyn Write) -> Result<Outcome> {
    needs_root()?;
    // Who decides something by it wants to know it now.
    let trust = if status.check {
        Trust::Nothing
    } else {
        Trust::Seen
    };
    let report = StatusReport::take(&context.host, &context.config, trust)?;
    if status.check && context.is_quiet() {
        // The exit code says all.
    } else if context.json {
        write_json(out, &report)?;
    } else {
        let now = context.host.now().wall;
        Status { report: &report }.write(out, now, context)?;
    }
    if !status.check {
        return Ok(Outcome::Done);
    }
    Ok(match report.health.verdict() {
        Verdict::Guarded => Outcome::Done,
        Verdict::GuardedWithFindings => Outcome::Findings,
        Verdict::NotGuarded => Outcome::Wrong,
    })
}

/// For people.
struct Status<'a> {
    report: &'a StatusReport,
}

impl Status<'_> {
    fn write(&self, out: &mut dyn Write, now: Timestamp, context: &Context) -> Result<()> {
        let Palette { title, .. } = context.palette;
        self.write_summary(out, context.palette)?;
        let (Some(generation), Some(applied), Some(config)) = (
            self.report.generation,
            self.report.applied,
            &self.report.config,
        ) else {
            self.write_pending(out, context.palette)?;
            return self.write_waiting(out);
        };
        self.write_moved(out, context.palette)?;
        let ago = rough(now.duration_since(applied).as_secs().max(0));
        writeln!(
            out,
            "{title}generation {generation}{title:#} of {}, applied {ago} ago ({})",
            config.display(),
            local(applied)
        )?;
        self.write_pending(out, context.palette)?;
        writeln!(out)?;
        self.write_interfaces(out, context)?;
        writeln!(out)?;
        self.write_services(out, context.palette)?;
        if !self.report.sources.is_empty() {
            writeln!(out)?;
            self.write_sources(out, now, context.palette)?;
        }
        self.write_receivers(out, now, context.palette)?;
        let EntryCounts {
            config,
            command_line,
            bans,
            overruled_bans,
        } = self.report.entries;
        writeln!(
            out,
            "\n{} of the config, {} of the command line{}",
            count(config, "entry", "entries"),
            Grouped(command_line as u64),
            match (bans, overruled_bans) {
                (0, _) => String::new(),
                (_, 0) => format!(", {}", count(bans, "ban", "bans")),
                (_, many) => format!(
                    ", {}; {} under an entry by hand, which decides",
                    count(bans, "ban", "bans"),
                    Grouped(many as u64)
                ),
            }
        )?;
        Ok(())
    }

    /// What there is while nothing is in force.
    fn write_waiting(&self, out: &mut dyn Write) -> Result<()> {
        let EntryCounts {
            command_line, bans, ..
        } = self.report.entries;
        for (number, one, many) in [
            (
                command_line,
                "entry of the command line",
                "entries of the command line",
            ),
            (bans, "ban", "bans"),
        ] {
            let verb = if number == 1 { "waits" } else { "wait" };
            if number > 0 {
                writeln!(out, "{} {verb} for an apply", count(number, one, many))?;
            }
        }
        Ok(())
    }

    /// The answer to what is asked first.
    fn write_summary(&self, out: &mut dyn Write, palette: Palette) -> Result<()> {
        let health = &self.report.health;
        let style = match health.verdict() {
            Verdict::Guarded => palette.good,
            Verdict::GuardedWithFindings => palette.warning,
            Verdict::NotGuarded => palette.bad,
        };
        Ok(writeln!(out, "{style}{}{style:#}", health.summary)?)
    }

    fn write_pending(&self, out: &mut dyn Write, palette: Palette) -> Result<()> {
        let Palette { warning, .. } = palette;
        if let Some(pending) = &self.report.pending {
            let sentence = confirmation::sentence(pending);
            writeln!(out, "{warning}{sentence}{warning:#}")?;
        }
        Ok(())
    }

    /// Who calls in vain.
    fn write_moved(&self, out: &mut dyn Write, palette: Palette) -> Result<()> {
        let Palette { bad, .. } = palette;
        for moved in &self.report.moved {
            writeln!(out, "{bad}{}{bad:#}", moved.about)?;
        }
        Ok(())
    }

    fn write_interfaces(&self, out: &mut dyn Write, context: &Context) -> Result<()> {
        let titles: &[_] = if context.is_verbose() {
            &["INTERFACE", "FILTERED", ">PROGRAM", ">GENERATION"]
        } else {
            &["INTERFACE", "FILTERED"]
        };
        let mut rows = Rows::new(titles, context.palette);
        for interface in &self.report.interfaces {
            let well = !self.is_wrong(&interface.name);
            let mut cells = vec![interface.names(), interface.to_string()];
            if context.is_verbose() {
                let none = || "-".to_owned();
                cells.push(interface.program.map_or_else(none, |number| {
                    // The kernel has refused them, and judges by the program alone.
                    let untyped = if is_untyped(number) { " (untyped)" } else { "" };
                    format!("{number}{untyped}")
                }));
                let generation = interface.generation;
                cells.push(generation.map_or_else(none, |number| number.to_string()));
            }
            let Palette { good, bad, .. } = context.palette;
            rows.add(if well { good } else { bad }, cells);
        }
        Ok(rows.write(out)?)
    }

    /// Whether something of an interface is worse than it could be.
    fn is_wrong(&self, interface: &str) -> bool {
        let mut findings = self.report.health.findings.iter();
        findings.any(|it| {
            it.is_wrong() && matches!(&it.place, Some(Place::Interface(name)) if name == interface)
        })
    }

    fn write_services(&self, out: &mut dyn Write, palette: Palette) -> Result<()> {
        let mut rows = Rows::new(&["SERVICE", "PORTS", "UNLISTED", "MODE"], palette);
        for service in &self.report.services {
            let (mut style, mode) = match service.mode {
                Mode::Enforce => (Style::new(), "enforce"),
                Mode::Monitor => (palette.warning, "monitor (nothing is dropped)"),
            };
            let mut unlisted = match service.default {
                Action::Deny => "drop".to_owned(),
                Action::Allow => "pass".to_owned(),
            };
            let open = self.report.open.iter();
            let open: Vec<_> = open.filter(|it| it.service == service.name).collect();
            if !open.is_empty() {
                style = palette.bad;
                unlisted = joined(open);
            }
            let (name, ports) = (service.name.clone(), ports(&service.ports));
            rows.add(style, [name, ports, unlisted, mode.to_owned()]);
        }
        Ok(rows.write(out)?)
    }
}

impl Status<'_> {
    /// A line for each of those who get notices and don't get them now.
    fn write_receivers(&self, out: &mut dyn Write, now: Timestamp, palette: Palette) -> Result<()> {
        for receiver in &self.report.receivers {
            if let Some(since) = receiver.failing {
                let bad = palette.bad;
                writeln!(
                    out,
                    "\n{bad}notices are not sent ({}), for {}: {}{bad:#}",
                    receiver.receiver,
                    rough(now.duration_since(since).as_secs().max(0)),
                    receiver.error.as_deref().unwrap_or_default()
                )?;
            }
        }
        Ok(())
    }

    /// A line a live source.
    fn write_sources(&self, out: &mut dyn Write, now: Timestamp, palette: Palette) -> Result<()> {
        let titles = [
            "SOURCE",
            ">ENTRIES",
            ">IN FORCE",
            "ASKED",
            "CHANGED",
            "NEXT",
            "",
        ];
        let mut rows = Rows::new(&titles, palette);
        for source in &self.report.sources {
            let number = |number: usize| Grouped(number as u64).to_string();
            let ago = |time: Option<Timestamp>| {
                time.map_or_else(
                    || "never".to_owned(),
                    |time| format!("{} ago", rough(now.duration_since(time).as_secs().max(0))),
                )
            };
            let next = source.next.map_or_else(
                || "-".to_owned(),
                |next| match now.duration_since(next).as_secs() {
                    late if late >= 0 => "now".to_owned(),
                    early => format!("in {}", rough(-early)),
                },
            );
            let problem = source.refused.as_ref().or(source.error.as_ref());
            let (style, note) = match problem {
                Some(problem) => (palette.bad, problem.clone()),
                None if source.stale => (palette.warning, "stale".to_owned()),
                None if source.overruled > 0 => {
                    let many = number(source.overruled);
                    let note = format!("{many} said otherwise by hand, which decides");
                    (palette.warning, note)
                }
                None => (Style::new(), source.said.clone().unwrap_or_default()),
            };
            rows.add(
                style,
                [
                    source.source.clone(),
                    source.entries.map_or_else(|| "-".to_owned(), number),
                    number(source.in_kernel),
                    ago(source.asked),
                    ago(source.changed),
                    next,
                    note,
                ],
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
