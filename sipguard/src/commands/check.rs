//! `sipguard check`.
//!
//! JSON, one object a line for every port that was asked for:
//! ```json
//! {"n":1,"action":"drop","reason":"unlisted","service":"sip","source":"198.51.100.7","protocol":"udp","port":5060,"entry":null}
//! ```
//! `n` counts from 1. `reason` and `service` are null where the port is not guarded. `entry` is the entry that decides, as `list` has it.
//! In monitor mode `"enforced":false` is added: it passes all the same. Where an entry by hand decides, and bans or live sources have the source,
//! too, these are added as `"overruled"`, as `list` has them; so are those that an address of a name overrules.

use std::{io::Write, net::IpAddr};

use anyhow::{Context as _, Result, bail};
use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder};
use ipnet::IpNet;
use serde::Serialize;
use sipguard::{
    capture::{Begins, Frame},
    clock::Now,
    datapath::{Checker, Description},
    lifecycle,
    policy::{Mode, Ports, protocol_name},
    rehearsal::{Compiled, Judged, Rehearsal},
    report::{EntryReport, Living, OwnEntries, said_of},
    state::State,
};
use sipguard_ebpf::{
    abi::{Action, Layer, LinkKind, Protocol, Reason, Value},
    verdict::Verdict,
};

use super::{Context, Outcome, capture, live, status, write_json};
use crate::{
    cli::Check,
    output::{Palette, rough},
};

/// The answer for one port.
#[derive(Debug, Serialize)]
struct Told<'a> {
    n: usize,
    action: &'static str,
    reason: Option<&'static str>,
    service: Option<&'a str>,
    source: IpAddr,
    protocol: &'static str,
    port: u16,
    entry: Option<EntryReport<'a>>,
    /// What is said live and does not count because of that entry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overruled: Vec<EntryReport<'a>>,
    /// Only there where it is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    enforced: Option<bool>,
}

/// What is asked.
enum Asked {
    /// What is in force, through the kernel's own program.
    Live(Box<Checker>),
    /// A config file, here.
    File(Box<Rehearsal>),
}

impl Asked {
    fn judge(&mut self, frame: &[u8]) -> Result<Judged> {
        Ok(match self {
            Self::Live(checker) => checker.judge(frame)?.into(),
            Self::File(rehearsal) => rehearsal.judge(&Frame {
                begins: Begins::Ethernet,
                bytes: frame,
            })?,
        })
    }

    /// What is said live of exactly this prefix, as it is found in the kernel, what decides first. Of a file alone nothing is.
    fn live<'a>(
        &self,
        slot: u8,
        prefix: IpNet,
        living: &Living<'a>,
    ) -> Result<Vec<EntryReport<'a>>> {
        Ok(match self {
            Self::Live(checker) => living.of(&checker.generation, slot, prefix)?,
            Self::File(_) => Vec::new(),
        })
    }

    /// What is said by hand of exactly this prefix.
    fn value(&self, slot: u8, prefix: IpNet) -> Result<Option<Value>> {
        Ok(match self {
            Self::Live(checker) => checker.generation.value(slot, Layer::Hand, prefix)?,
            Self::File(rehearsal) => rehearsal.value(slot, Layer::Hand, prefix),
        })
    }
}

pub(super) fn run(check: &Check, context: &Context, out: &mut dyn Write) -> Result<Outcome> {
    if let Some(file) = &check.pcap {
        capture::run(check, file, context, out)?;
        return Ok(Outcome::Done);
    }
    // The command line takes one or the other.
    let address = check.address.context("name an address or a capture")?;
    let now = context.host.now();
    let (mut asked, description, state) = who_is_asked(check, context, now)?;
    let is_live = matches!(asked, Asked::Live(_));
    let own = OwnEntries::new(&state);
    let bans = lifecycle::bans(&context.host, &state);
    let living = Living::new(&context.host, &description, &bans, now);
    let mut verdicts = Vec::new();
    for (n, (protocol, port)) in (1..).zip(ports(check, &description)?) {
        let frame = frame(address, protocol, port)?;
        let judged = asked.judge(&frame)?;
        let Verdict {
            reason,
            service,
            layer,
            ..
        } = judged.verdict;
        let service = description.service_at(service);
        let mut besides = Vec::new();
        let entry = match (judged.decided_by(), service) {
            (Some(prefix), Some(found)) if layer == Layer::Live => {
                let mut said = asked.live(found.slot, prefix, &living)?.into_iter();
                let first = said.next();
                besides = said.collect();
                first
            }
            (Some(prefix), Some(found)) => asked.value(found.slot, prefix)?.and_then(|value| {
                let name = &found.service.name;
                said_of(prefix, value, name, &description, &own, now).next()
            }),
            _ => None,
        };
        let overruled = match (&entry, service) {
            (Some(entry), Some(found))
                if layer == Layer::Hand && entry.prefix.prefix_len() > 0 && is_live =>
            {
                living.covering(found.slot, address)
            }
            _ => besides,
        };
        let mode = service.map_or(description.mode, |found| found.service.mode);
        verdicts.push(Told {
            n,
            action: match reason.action() {
                Action::Pass => "pass",
                Action::Drop => "drop",
            },
            reason: (reason != Reason::None).then(|| reason.name()),
            service: service.map(|found| found.service.name.as_str()),
            source: address,
            protocol: protocol_name(protocol),
            port,
            entry,
            overruled,
            enforced: (mode == Mode::Monitor).then_some(false),
        });
    }
    if context.json {
        for verdict in &verdicts {
            write_json(out, verdict)?;
        }
    } else if !context.is_quiet() {
        write(out, &verdicts, context.palette)?;
    }
    let is_dropped = |verdict: &Told<'_>| verdict.action == "drop";
    // Whoever is let in to one service is seldom let in to all.
    let dropped = if check.port.is_none() && check.service.is_none() {
        verdicts.iter().all(is_dropped)
    } else {
        verdicts.iter().any(is_dropped)
    };
    Ok(if dropped {
        Outcome::Dropped
    } else {
        Outcome::Done
    })
}

/// Who is asked, the policy that he judges by, and what was said by hand.
fn who_is_asked(check: &Check, context: &Context, now: Now) -> Result<(Asked, Description, State)> {
    if context.config_is_named && !check.live {
        let compiled = Compiled::of_file(&context.host, &context.config)?;
        let description = compiled.description.clone();
        if !description.live.is_empty() {
            let names = description.live.iter().map(|it| it.task.source.as_str());
            context.warn(&format!(
                "what live sources have is not in the file, and is not looked at: {}; `sipguard check --live` asks what is in force",
                names.collect::<Vec<_>>().join(", ")
            ));
        }
        let asked = Rehearsal::on_host(compiled, now);
        Ok((Asked::File(Box::new(asked)), description, State::default()))
    } else {
        let Some(live) = live(context)? else {
            bail!(
                "nothing is in force that could be asked: run `sipguard apply` first, or name a config file with --config"
            );
        };
        let checker = Checker::over(live.number, LinkKind::Ethernet)?;
        let description = checker.generation.description.clone();
        Ok((
            Asked::Live(Box::new(checker)),
            description,
            lifecycle::state(&context.host),
        ))
    }
}

/// Which ports are meant.
fn ports(check: &Check, description: &Description) -> Result<Vec<(Protocol, u16)>> {
    if let Some(name) = &check.service {
        lifecycle::service(description, name)?;
    }
    let guarded = description
        .services
        .iter()
        .filter(|found| {
            check
                .service
                .as_ref()
                .is_none_or(|name| *name == found.service.name)
        })
        .flat_map(|found| &found.service.ports);
    let asked: Vec<_> = match (check.port, check.proto) {
        (Some(port), Some(protocol)) => vec![(protocol, port)],
        (Some(port), None) => vec![(Protocol::Udp, port), (Protocol::Tcp, port)],
        (None, protocol) => guarded
            .filter(|&(&known, _)| protocol.is_none_or(|protocol| protocol == known))
            .flat_map(|(&protocol, ports)| ports.iter().map(move |&port| (protocol, port)))
            .collect(),
    };
    if asked.is_empty() {
        bail!("no such port is guarded: every packet passes; name one with --port");
    }
    Ok(asked)
}

/// The first packet that a host with this address would send there. Only its addresses and ports matter.
fn frame(source: IpAddr, protocol: Protocol, port: u16) -> Result<Vec<u8>> {
    let (number, header_length) = match protocol {
        Protocol::Udp => (IpNumber::UDP, 8),
        Protocol::Tcp => (IpNumber::TCP, 20),
        Protocol::Sctp => (IpNumber::SCTP, 12),
        Protocol::UdpLite => (IpNumber::UDP_LITE, 8),
    };
    // Every protocol that can be guarded has the ports in its first four bytes.
    let mut transport = vec![0; header_length];
    transport[..2].copy_from_slice(&5060_u16.to_be_bytes());
    transport[2..4].copy_from_slice(&port.to_be_bytes());
    let headers = match source {
        IpAddr::V4(source) => IpHeaders::Ipv4(
            Ipv4Header {
                time_to_live: 64,
                protocol: number,
                source: source.octets(),
                destination: [192, 0, 2, 1],
                ..Ipv4Header::default()
            },
            etherparse::Ipv4Extensions::default(),
        ),
        IpAddr::V6(source) => IpHeaders::Ipv6(
            Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: 0,
                next_header: number,
                hop_limit: 64,
                source: source.octets(),
                destination: [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            },
            etherparse::Ipv6Extensions::default(),
        ),
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ip(headers)
        .write(&mut frame, number, &transport)
        .context("can't build a packet")?;
    Ok(frame)
}

/// One line for all ports of a service that have the same verdict, as they do unless an entry ends in between.
fn write(out: &mut dyn Write, verdicts: &[Told<'_>], palette: Palette) -> Result<()> {
    let mut rest = verdicts;
    while let Some(first) = rest.first() {
        let same = rest
            .iter()
            .take_while(|other| {
                (other.service, other.reason, &other.entry, &other.overruled)
                    == (first.service, first.reason, &first.entry, &first.overruled)
            })
            .count();
        let (group, others) = rest.split_at(same.max(1));
        rest = others;
        let mut ports = Ports::new();
        for verdict in group {
            if let Some(protocol) = sipguard::policy::protocol_named(verdict.protocol) {
                ports.entry(protocol).or_default().insert(verdict.port);
            }
        }
        let style = if first.action == "drop" {
            palette.bad
        } else {
            palette.good
        };
        let service = first
            .service
            .map(|name| format!(" ({name})"))
            .unwrap_or_default();
        writeln!(
            out,
            "{} → {}{service}: {style}{}{style:#}, {}",
            first.source,
            status::ports(&ports),
            first.action,
            why(first)
        )?;
    }
    Ok(())
}

fn why(verdict: &Told<'_>) -> String {
    let mut why = match (&verdict.entry, verdict.reason) {
        (Some(entry), Some(reason)) => {
            let left = entry
                .seconds_left
                .map(|left| format!(", for another {}", rough(left)))
                .unwrap_or_default();
            format!(
                "{reason} by {} ({}){left}",
                sipguard::prefix::format(entry.prefix),
                entry.says_who()
            )
        }
        (None, Some("unlisted")) => "not listed".to_owned(),
        (None, Some("open")) => "not listed, and the service is open".to_owned(),
        (None, Some(reason)) => reason.to_owned(),
        (_, None) => "not guarded".to_owned(),
    };
    for ban in &verdict.overruled {
        let prefix = sipguard::prefix::format(ban.prefix);
        why = format!("{why}; overruled: {prefix} ({})", ban.says_who());
    }
    if verdict.enforced == Some(false) && verdict.action == "drop" {
        why.push_str("; monitor mode: it passes all the same");
    }
    why
}
