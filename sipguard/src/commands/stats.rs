//! `sipguard stats`.
//!
//! JSON, one object (with `--watch` one a line and second):
//! ```json
//! {"time":"2026-03-01T12:00:00Z","generation":3,
//!  "counters":[{"interface":"eth0","service":"sip","reason":"unlisted","action":"drop","enforced":true,"packets":12,"bytes":5160,
//!               "packets_per_second":null,"bytes_per_second":null}],
//!  "totals":{"pass":{"packets":3,"bytes":1290},"drop":{"packets":12,"bytes":5160}}}
//! ```
//! `service` is null for packets that no service judged. `action` is what the policy says; where `enforced` is false (monitor mode), it
//! passed all the same. Rates come with the second line of `--watch`. Counters that a service in force can have are there though they are
//! zero, so that a program finds the same ones each time.

use std::{
    collections::HashMap,
    io::Write,
    time::{Duration, Instant},
};

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use sipguard::{
    datapath,
    lifecycle::{self, Live},
    policy::{self, Mode},
    state::State,
};
use sipguard_ebpf::abi::{Action, NO_SERVICE, Reason};
use tokio::{
    runtime,
    signal::ctrl_c,
    time::{MissedTickBehavior, interval},
};

use super::{Context, live, write_json};
use crate::{
    cli::Stats,
    output::{Grouped, Palette, Rows, Scaled, joined, local},
};

/// Blank screen, cursor in the corner.
const CLEAR: &str = "\x1b[H\x1b[2J";
const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize)]
struct Snapshot {
    time: Timestamp,
    generation: Option<u64>,
    counters: Vec<Counter>,
    totals: Totals,
}

#[derive(Clone, Debug, Serialize)]
struct Counter {
    interface: String,
    service: Option<String>,
    #[serde(serialize_with = "by_name")]
    reason: Reason,
    action: &'static str,
    enforced: bool,
    packets: u64,
    bytes: u64,
    packets_per_second: Option<u64>,
    bytes_per_second: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn by_name<S: serde::Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.name())
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Totals {
    pass: Total,
    drop: Total,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Total {
    packets: u64,
    bytes: u64,
}

pub(super) fn run(stats: &Stats, context: &Context, out: &mut dyn Write) -> Result<()> {
    if stats.watch {
        return runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(watch(context, out));
    }
    let snapshot = snapshot(context)?;
    show(out, &snapshot, context)
}

async fn watch(context: &Context, out: &mut dyn Write) -> Result<()> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<(Snapshot, Instant)> = None;
    let stopped = ctrl_c();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            stopped = &mut stopped => return Ok(stopped?),
        }
        let taken = Instant::now();
        let mut snapshot = snapshot(context)?;
        if let Some((before, then)) = &before {
            snapshot.rates(before, taken.duration_since(*then));
        }
        if context.terminal && !context.json {
            write!(out, "{CLEAR}")?;
        } else if before.is_some() && !context.json {
            writeln!(out)?;
        }
        show(out, &snapshot, context)?;
        out.flush()?;
        before = Some((snapshot, taken));
    }
}

fn show(out: &mut dyn Write, snapshot: &Snapshot, context: &Context) -> Result<()> {
    if context.json {
        write_json(out, snapshot)
    } else {
        snapshot.write(out, context.palette)
    }
}

fn snapshot(context: &Context) -> Result<Snapshot> {
    let live = live(context)?;
    let state = lifecycle::state(&context.host);
    let mut counters = Vec::new();
    for interface in datapath::counted_interfaces()? {
        if let Some(counts) = datapath::counts(&interface)? {
            counters.extend(of_interface(&interface, &counts, live.as_ref(), &state));
        }
    }
    Ok(Snapshot {
        time: context.host.now().wall,
        generation: live.map(|live| live.number),
        totals: totals(&counters),
        counters,
    })
}

fn of_interface(
    interface: &str,
    counts: &datapath::Counts,
    live: Option<&Live>,
    state: &State,
) -> Vec<Counter> {
    let description = live.map(|live| &live.generation.description);
    let mut counters = Vec::new();
    for slot in 0..=NO_SERVICE {
        let service = description.and_then(|description| description.service_at(slot));
        let name = match service {
            Some(found) => Some(found.service.name.as_str()),
            // A service that is gone keeps its counters for when it comes back.
            None => state.slots.service(slot),
        };
        for reason in Reason::COUNTED {
            let counted = counts.of(slot, reason);
            let expected = match service {
                _ if slot == NO_SERVICE => live.is_some() && !is_of_service(reason),
                Some(found) => {
                    is_of_service(reason)
                        && match found.service.default {
                            policy::Action::Allow => reason != Reason::Unlisted,
                            policy::Action::Deny => reason != Reason::Open,
                        }
                }
                None => false,
            };
            if !expected && counted.packets == 0 {
                continue;
            }
            let mode = match service {
                Some(found) => found.service.mode,
                None => description.map_or(Mode::Enforce, |description| description.mode),
            };
            counters.push(Counter {
                interface: interface.to_owned(),
                service: name.map(str::to_owned),
                reason,
                action: match reason.action() {
                    Action::Pass => "pass",
                    Action::Drop => "drop",
                },
                enforced: mode == Mode::Enforce,
                packets: counted.packets,
                bytes: counted.bytes,
                packets_per_second: None,
                bytes_per_second: None,
            });
        }
    }
    counters
}

/// Whether a service gives verdicts for this reason.
fn is_of_service(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Denied | Reason::Allowed | Reason::Unlisted | Reason::Open
    )
}

fn totals(counters: &[Counter]) -> Totals {
    let mut totals = Totals::default();
    for counter in counters {
        let total = match counter.reason.action() {
            Action::Pass => &mut totals.pass,
            Action::Drop => &mut totals.drop,
        };
        total.packets += counter.packets;
        total.bytes += counter.bytes;
    }
    totals
}

impl Snapshot {
    fn rates(&mut self, before: &Self, elapsed: Duration) {
        let key = |counter: &Counter| {
            (
                counter.interface.clone(),
                counter.service.clone(),
                counter.reason,
            )
        };
        let known: HashMap<_, _> = before
            .counters
            .iter()
            .map(|counter| (key(counter), counter))
            .collect();
        for counter in &mut self.counters {
            let (packets, bytes) = known
                .get(&key(counter))
                .map_or((0, 0), |known| (known.packets, known.bytes));
            // `down` and `apply` in between begin at zero.
            let rate = |now: u64, then: u64| {
                let counted = u128::from(now.saturating_sub(then));
                let rate = counted * 1_000_000_000 / elapsed.as_nanos().max(1);
                u64::try_from(rate).unwrap_or(u64::MAX)
            };
            counter.packets_per_second = Some(rate(counter.packets, packets));
            counter.bytes_per_second = Some(rate(counter.bytes, bytes));
        }
    }

    fn write(&self, out: &mut dyn Write, palette: Palette) -> Result<()> {
        if self.generation.is_none() {
            let bad = palette.bad;
            writeln!(
                out,
                "{bad}nothing is in force:{bad:#} no packet is counted or dropped"
            )?;
            if self.counters.is_empty() {
                return Ok(());
            }
        }
        let rates = self
            .counters
            .iter()
            .any(|counter| counter.packets_per_second.is_some());
        if rates {
            let dim = palette.dim;
            writeln!(out, "{dim}{}{dim:#}", local(self.time))?;
        }
        let mut titles = vec![
            "INTERFACE",
            "SERVICE",
            "VERDICT",
            "REASON",
            ">PACKETS",
            ">BYTES",
        ];
        if rates {
            titles.extend([">PACKETS/S", ">BITS/S"]);
        }
        let mut rows = Rows::new(&titles, palette);
        for counter in &self.counters {
            let style = match (counter.packets, counter.reason.action()) {
                (0, _) => palette.dim,
                (_, Action::Pass) => palette.good,
                (_, Action::Drop) => palette.bad,
            };
            let verdict = match (counter.action, counter.enforced) {
                ("drop", false) => "would drop",
                (action, _) => action,
            };
            let mut cells = vec![
                counter.interface.clone(),
                counter.service.clone().unwrap_or_else(|| "-".to_owned()),
                verdict.to_owned(),
                counter.reason.name().to_owned(),
                Grouped(counter.packets).to_string(),
                Scaled(counter.bytes, "B").to_string(),
            ];
            if rates {
                cells.extend([
                    Grouped(counter.packets_per_second.unwrap_or_default()).to_string(),
                    Scaled(
                        counter
                            .bytes_per_second
                            .unwrap_or_default()
                            .saturating_mul(8),
                        "bit",
                    )
                    .to_string(),
                ]);
            }
            rows.add(style, cells);
        }
        rows.write(out)?;
        let Totals { pass, drop } = self.totals;
        let monitored = self.counters.iter().any(|counter| !counter.enforced);
        let dropped = if monitored { "to drop" } else { "dropped" };
        writeln!(
            out,
            "\npassed {} ({}), {dropped} {} ({})",
            Grouped(pass.packets),
            Scaled(pass.bytes, "B"),
            Grouped(drop.packets),
            Scaled(drop.bytes, "B")
        )?;
        if monitored {
            let warning = palette.warning;
            let whose = self.monitored();
            writeln!(
                out,
                "{warning}monitor mode{whose}: what is to be dropped passes all the same{warning:#}"
            )?;
        }
        Ok(())
    }

    /// ` for web`, or nothing where all of it is.
    fn monitored(&self) -> String {
        let (enforced, watched): (Vec<_>, Vec<_>) = self
            .counters
            .iter()
            .filter(|counter| counter.action == "drop")
            .partition(|counter| counter.enforced);
        let mut services: Vec<_> = watched
            .into_iter()
            .map(|counter| counter.service.as_deref().unwrap_or("broken packets"))
            .collect();
        services.sort_unstable();
        services.dedup();
        if enforced.is_empty() {
            String::new()
        } else {
            format!(" for {}", joined(services))
        }
    }
}
