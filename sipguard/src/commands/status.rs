//! `sipguard status`.
//!
//! JSON, one object:
//! ```json
//! {"version":"0.1.0","in_force":true,"enforced":true,"generation":3,"applied":"2026-03-01T12:00:00Z","config":"/etc/sipguard/sipguard.toml",
//!  "mode":"enforce",
//!  "interfaces":[{"name":"eth0","state":"attached","mode":"generic","cause":"its driver has no native XDP","program":42,"generation":3,
//!                 "foreign":null}],
//!  "services":[{"name":"sip","ports":{"udp":[5060],"tcp":[5060]},"default":"deny","mode":"enforce"}],
//!  "entries":{"config":12,"command_line":1}}
//! ```
//! An interface's `state` is `attached`, `absent` (does not exist now) or `detached` (not filtered); `foreign` is
//! `{"id":7,"name":"xdp_other"}` where somebody else's program is there. `enforced` is false where nothing is dropped. Where nothing is in
//! force, `generation`, `applied`, `config` and `mode` are null and the lists empty.

use std::{io::Write, path::Path};

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use sipguard::{
    lifecycle::{self, Live},
    policy::{Action, Mode, Ports, Service, protocol_name},
    state::{State, Store},
};

use super::{
    Context,
    interface::{self, Interface},
    live, write_json,
};
use crate::output::{self, Palette, Rows, count, local, rough};

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
    let live = live()?;
    let state = Store::system().load()?;
    let status = status(live.as_ref(), &state)?;
    if context.json {
        return write_json(out, &status);
    }
    write(
        out,
        &status,
        lifecycle::now().wall,
        context.verbose,
        context.palette,
    )
}

fn status<'a>(live: Option<&'a Live>, state: &State) -> Result<Status<'a>> {
    let interfaces = match live {
        Some(live) => interface::all(live, &state.fallbacks)?,
        None => Vec::new(),
    };
    let now = lifecycle::now().wall;
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
    Ok(Status {
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
        made_by: description.map(|description| description.version.as_str()),
    })
}

fn write(
    out: &mut dyn Write,
    status: &Status<'_>,
    now: Timestamp,
    verbose: bool,
    palette: Palette,
) -> Result<()> {
    let Palette {
        title,
        bad,
        warning,
        ..
    } = palette;
    let (Some(generation), Some(applied), Some(config)) =
        (status.generation, status.applied, status.config)
    else {
        writeln!(
            out,
            "{bad}nothing is in force:{bad:#} no packet is dropped; `sipguard apply` puts the config file in force"
        )?;
        if status.entries.command_line > 0 {
            let waiting = count(status.entries.command_line, "entry", "entries");
            writeln!(out, "{waiting} of the command line wait for it")?;
        }
        return Ok(());
    };
    let ago = rough(now.duration_since(applied).as_secs().max(0));
    writeln!(
        out,
        "{title}generation {generation}{title:#} of {}, applied {ago} ago ({})",
        config.display(),
        local(applied)
    )?;
    if let Some(made_by) = status.made_by.filter(|made_by| *made_by != status.version) {
        writeln!(
            out,
            "{warning}made by sipguard {made_by}:{warning:#} `sipguard apply` replaces it with that of {}",
            status.version
        )?;
    }
    if !status.enforced {
        let why = if status
            .services
            .iter()
            .any(|service| service.mode == Mode::Enforce)
        {
            "no interface is filtered"
        } else if status.services.is_empty() {
            "no service is configured"
        } else {
            "monitor mode"
        };
        writeln!(out, "{bad}nothing is dropped: {why}{bad:#}")?;
    }

    writeln!(out)?;
    let titles: &[_] = if verbose {
        &["INTERFACE", "FILTERED", ">PROGRAM", ">GENERATION"]
    } else {
        &["INTERFACE", "FILTERED"]
    };
    let mut rows = Rows::new(titles, palette);
    for interface in &status.interfaces {
        let style = match interface.state {
            _ if interface.foreign.is_some() => bad,
            interface::State::Attached => palette.good,
            interface::State::Absent | interface::State::Detached => bad,
        };
        let mut cells = vec![interface.name.clone(), interface.to_string()];
        if verbose {
            let number =
                |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
            cells.extend([
                number(interface.program.map(u64::from)),
                number(interface.generation),
            ]);
        }
        rows.add(style, cells);
    }
    rows.write(out)?;

    writeln!(out)?;
    let mut rows = Rows::new(&["SERVICE", "PORTS", "UNLISTED", "MODE"], palette);
    for service in &status.services {
        let style = match service.mode {
            Mode::Enforce => anstyle::Style::new(),
            Mode::Monitor => warning,
        };
        let unlisted = match service.default {
            Action::Deny => "drop",
            Action::Allow => "pass",
        };
        let mode = match service.mode {
            Mode::Enforce => "enforce",
            Mode::Monitor => "monitor (nothing is dropped)",
        };
        rows.add(
            style,
            [
                service.name.clone(),
                ports(&service.ports),
                unlisted.to_owned(),
                mode.to_owned(),
            ],
        );
    }
    rows.write(out)?;

    let Entries {
        config,
        command_line,
    } = status.entries;
    writeln!(
        out,
        "\n{} of the config, {} of the command line",
        count(config, "entry", "entries"),
        output::Grouped(command_line as u64)
    )?;
    Ok(())
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
