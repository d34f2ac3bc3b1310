//! What the agent takes: memory and processor time while nothing happens, and while a scanner floods with as much as the cable carries.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, mount};
use serde::Serialize;

use super::{
    Effort,
    builds::Build,
    cable::{ADDRESSES, Cable, Kind},
    guard::{Guard, Mode},
    lists,
    place::{self, Places},
    watched, wire,
};
use crate::netns::{Sandbox, until};

const FIRST: u32 = 20_000;
/// How long a turn of the flood is, in nanoseconds.
const TURN: f64 = 1e9;
/// How long it is left alone.
const IDLE: Duration = Duration::from_secs(20);
/// Where it writes metrics, every ten seconds.
const METRICS: &str = "/run/sipguard/metrics.prom";
const EVERY: Duration = Duration::from_secs(11);

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) agent: String,
    /// Entries of the policy that it remembers who was allowed by.
    pub(super) entries: usize,
    /// While nothing happens.
    pub(super) idle_mib: f64,
    /// Of one processor.
    pub(super) idle_processor: f64,
    /// While a scanner floods with requests from 16,384 sources.
    pub(super) peak_mib: f64,
    pub(super) processor: f64,
    /// Packets a second that were dropped meanwhile.
    pub(super) dropped: u64,
    /// Events a second that it read.
    pub(super) events: f64,
    /// Packets that it was not told of, for each that it was.
    pub(super) left_out: f64,
    /// Events that found no room on their way to it.
    pub(super) lost: u64,
}

pub(super) fn run(sandbox: &Sandbox, effort: &Effort, builds: &[Build]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let Some(places) = Places::find()? else {
        eprintln!("the agent: needs two processors");
        return Ok(rows);
    };
    // What the agent of this machine writes is none of ours.
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", "/run", "tmpfs", flags, None).context("mounting /run")?;
    for &entries in effort.agent_sizes {
        for build in builds {
            rows.push(row(sandbox, places, effort, build, entries)?);
        }
    }
    Ok(rows)
}

fn row(
    sandbox: &Sandbox,
    places: Places,
    effort: &Effort,
    build: &Build,
    entries: usize,
) -> Result<Row> {
    sandbox.begin_anew();
    let cable = Cable::new(sandbox)?;
    let allowed = lists::text(&lists::ipv4(entries));
    let guard = Guard::by(&build.binary, &allowed, Mode::Native)?;
    guard.apply(&cable.receiver)?;
    let agent = place::on(places.gateway, || {
        let mut command: Command = guard.command(&["--quiet", "agent"]);
        Ok(cable.receiver.spawn(&mut command))
    })?;
    let number = agent.pid().as_raw_nonzero().get().cast_unsigned();
    until("the agent writes metrics", || Path::new(METRICS).exists());
    let used = || watched::processor_seconds(number).context("the agent has ended");
    let before = used()?;
    thread::sleep(IDLE);
    let idle_processor = (used()? - before) / IDLE.as_secs_f64();
    let idle_mib = watched::now_mib(number).context("the agent has ended")?;

    let row = place::on(places.world, || {
        let flood = cable.flood_saying(Kind::V4, wire::options(ADDRESSES.0.into()).as_bytes())?;
        let first = cable.turn(&flood, FIRST)?;
        let frames = (TURN / first.sent_ns) as u32;
        let [told, left_out, lost] = counted()?;
        let before = used()?;
        let mut dropped = 0.0;
        // By the clock, which goes on between two turns as the agent does.
        let began = Instant::now();
        for _ in 0..effort.agent_turns {
            let turn = cable.turn(&flood, frames)?;
            dropped += turn.sent_ns * f64::from(frames) / turn.taken_ns;
        }
        let seconds = began.elapsed().as_secs_f64();
        let processor = (used()? - before) / seconds;
        // What it has read by now.
        thread::sleep(EVERY);
        let after = counted()?;
        let events = after[0] - told;
        Ok(Row {
            agent: build.named("sipguard agent"),
            entries,
            idle_mib,
            idle_processor,
            peak_mib: watched::peak_mib(number).context("the agent has ended")?,
            processor,
            dropped: (dropped / seconds) as u64,
            events: events / seconds,
            left_out: (after[1] - left_out) / events,
            lost: (after[2] - lost) as u64,
        })
    })?;
    agent.stop();
    guard.down(&cable.receiver)?;
    Ok(row)
}

/// Events that the agent has read, packets that they left out, events that were lost.
fn counted() -> Result<[f64; 3]> {
    let text = fs::read_to_string(METRICS).context("the agent's metrics")?;
    let value = |name: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or_default()
    };
    Ok([
        value("sipguard_events_total"),
        value("sipguard_events_left_out_total"),
        value("sipguard_events_lost_total"),
    ])
}
