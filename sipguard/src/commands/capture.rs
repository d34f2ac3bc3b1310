//! `sipguard check --pcap`.
//!
//! JSON, one object a line and packet:
//! ```json
//! {"n":1,"action":"drop","reason":"unlisted","service":"sip","source":"198.51.100.7","protocol":"udp","port":5060}
//! ```
//! `n` counts from 1. What doesn't apply is null: `reason` where nothing is guarded, the rest where no ports were found. `action` is what
//! the policy says; in monitor mode `"enforced":false` is added. `"truncated":true` is added where the capture holds only the beginning
//! of the packet: the verdict is on that. With `--against live`, `"live":{"action":"pass","reason":"allowed"}` is what is in force.

mod summary;

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sipguard::{
    capture::{self, Packet},
    datapath::Description,
    policy::{Mode, protocol_name},
    rehearsal::Rehearsal,
};
use sipguard_ebpf::abi::{Action, Answer, Protocol, Reason};

use self::summary::Summary;
use super::{Context, live, needs_root, write_json};
use crate::cli::Against;

/// What a policy says of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict<'d> {
    reason: Reason,
    service: Option<&'d str>,
    /// Whether it would be carried out.
    enforced: bool,
}

impl<'d> Verdict<'d> {
    fn of(answer: &Answer, description: &'d Description) -> Self {
        let reason = Reason::COUNTED
            .into_iter()
            .find(|reason| *reason as u8 == answer.reason);
        let service = description.service_at(answer.service);
        let mode = service.map_or(description.mode, |found| found.service.mode);
        Self {
            reason: reason.unwrap_or(Reason::None),
            service: service.map(|found| found.service.name.as_str()),
            enforced: mode == Mode::Enforce,
        }
    }

    fn action(self) -> &'static str {
        match self.reason.action() {
            Action::Pass => "pass",
            Action::Drop => "drop",
        }
    }

    fn named_reason(self) -> Option<&'static str> {
        (self.reason != Reason::None).then(|| self.reason.name())
    }

    /// Whether the packet would not arrive.
    fn is_lost(self) -> bool {
        self.enforced && self.reason.action() == Action::Drop
    }

    /// Added to JSON only where it says something.
    fn told_enforced(self) -> Option<bool> {
        (!self.enforced).then_some(false)
    }
}

#[derive(Serialize)]
struct Line<'d> {
    n: u64,
    action: &'static str,
    reason: Option<&'static str>,
    service: Option<&'d str>,
    source: Option<IpAddr>,
    protocol: Option<&'static str>,
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enforced: Option<bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<LiveLine>,
}

#[derive(Serialize)]
struct LiveLine {
    action: &'static str,
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enforced: Option<bool>,
}

pub(super) fn run(
    file: &Path,
    against: Option<Against>,
    context: &Context,
    out: &mut dyn Write,
) -> Result<()> {
    needs_root()?;
    let mut policy = Rehearsal::of_file(&context.host, &context.config)?;
    let description = policy.description.clone();
    let mut other = match against {
        None => None,
        Some(Against::Live) => {
            let live = live(context)?.ok_or_else(|| {
                anyhow!("nothing is in force to compare with: leave out --against live, or run `sipguard apply` first")
            })?;
            Some(Rehearsal::of_live(&live))
        }
    };
    let other_description = other.as_ref().map(|other| other.description.clone());

    let (input, length) = open(file)?;
    let progress = progress(length, context);
    let mut summary = Summary::default();
    let end = capture::read(input, |packet: Packet<'_>| -> Result<()> {
        let judged = |rehearsal: &mut Rehearsal| {
            rehearsal
                .judge(packet.bytes, packet.link)
                .with_context(|| format!("packet {}", packet.number))
        };
        let answer = judged(&mut policy)?;
        let verdict = Verdict::of(&answer, &description);
        let now = match (&mut other, &other_description) {
            (Some(other), Some(description)) => Some((judged(other)?, description)),
            _ => None,
        };
        let now = now.map(|(answer, description)| Verdict::of(&answer, description));
        if context.json {
            write_line(out, &packet, &answer, verdict, now)?;
        } else {
            summary.add(source(&answer), packet.truncated, verdict, now);
        }
        if packet.number.is_multiple_of(4096) {
            progress.set_position(packet.position);
        }
        Ok(())
    });
    progress.finish_and_clear();
    if !context.json {
        summary.write(out, context)?;
    }
    // Before the error, where both go to one terminal.
    out.flush()?;
    end.with_context(|| shown(file))
}

fn write_line(
    out: &mut dyn Write,
    packet: &Packet<'_>,
    answer: &Answer,
    verdict: Verdict<'_>,
    now: Option<Verdict<'_>>,
) -> Result<()> {
    let source = source(answer);
    let protocol = Protocol::ALL.get(usize::from(answer.protocol));
    write_json(
        out,
        &Line {
            n: packet.number,
            action: verdict.action(),
            reason: verdict.named_reason(),
            service: verdict.service,
            source,
            protocol: protocol
                .filter(|_| source.is_some())
                .map(|protocol| protocol_name(*protocol)),
            port: source.map(|_| answer.port),
            enforced: verdict.told_enforced(),
            truncated: packet.truncated,
            live: now.map(|now| LiveLine {
                action: now.action(),
                reason: now.named_reason(),
                enforced: now.told_enforced(),
            }),
        },
    )
}

/// The source address, where the packet was read as far as that.
fn source(answer: &Answer) -> Option<IpAddr> {
    let [high, low] = answer.source;
    match answer.family {
        // An IPv4 address stands in the lower half of the second word.
        4 => u32::try_from(low)
            .ok()
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        6 => Some(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into()),
        _ => None,
    }
}

/// The capture, and its length where it has one.
fn open(file: &Path) -> Result<(Box<dyn Read>, Option<u64>)> {
    if file == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let opened = File::open(file).with_context(|| {
        format!(
            "cannot open {}; name a capture, or - for standard input",
            shown(file)
        )
    })?;
    let length = opened
        .metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map(|it| it.len());
    Ok((Box::new(opened), length))
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    }
}

/// On a terminal that shows nothing else meanwhile.
fn progress(length: Option<u64>, context: &Context) -> ProgressBar {
    let alone = io::stderr().is_terminal() && !context.is_quiet();
    if !alone || context.json && context.terminal {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{wide_bar} {percent}% {eta} left"),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {bytes} {bytes_per_sec}",
        ),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
