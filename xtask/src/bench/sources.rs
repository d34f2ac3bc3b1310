//! What a live list takes: until all of it is in force, and until what has changed of it is, from the moment at which the fetcher's file is
//! there. The state is on the disk that the workspace is on.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::Path,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    Effort, bans,
    guard::{Guard, INTERFACE, Mode},
    in_force::judged_otherwise,
};
use crate::netns::{End, Host, SCRATCH, Sandbox, join};

const URL: &str = "https://feeds.example/voip.txt";
/// Half of them go, and as many others come.
const CHANGES: u32 = 1_000;

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) entries: u32,
    /// Until the whole list is in force.
    pub(super) seconds: f64,
    /// How many entries change.
    pub(super) changes: u32,
    /// Until these are in force in the kernel.
    pub(super) change_seconds: f64,
    /// Until they are on the disk, too.
    pub(super) change_on_disk_seconds: f64,
}

pub(super) fn run(sandbox: &Sandbox, effort: &Effort) -> Result<Vec<Row>> {
    let (host, peer) = (sandbox.host(), sandbox.host());
    let end = |host| End {
        host,
        interface: INTERFACE,
        addresses: &[],
    };
    join(end(&host), end(&peer));
    let guard = Guard::new("203.0.113.0/24\n", Mode::Native)?;
    guard.deny_live(&format!("url = \"{URL}\""))?;
    let rows = bans::on_disk(&host, || {
        let sizes = [100_000, 1_000_000];
        let rows = sizes.map(|entries| row(&host, &guard, effort, entries));
        rows.into_iter().collect()
    });
    guard.down(&host)?;
    rows
}

/// The best of several rounds.
fn row(host: &Host, guard: &Guard, effort: &Effort, entries: u32) -> Result<Row> {
    let mut row = Row {
        entries,
        seconds: f64::INFINITY,
        changes: CHANGES,
        change_seconds: f64::INFINITY,
        change_on_disk_seconds: f64::INFINITY,
    };
    guard.run(host, &["apply", "--offline"])?;
    let mut changed = now() - 100_000;
    for round in 0..effort.policy_rounds {
        // Another list altogether, and then one that is nearly the same.
        let first = (round + 1) * 2 * entries;
        changed += 1;
        found(first, entries, changed)?;
        let words = ["refresh", "live", "--offline", "--accept"];
        row.seconds = row.seconds.min(guard.run(host, &words)?.as_secs_f64());
        changed += 1;
        found(first + CHANGES / 2, entries, changed)?;
        // What is gone goes last, and in the order of addresses.
        let gone = (first..first + CHANGES / 2).map(address).max();
        let gone = gone.context("something is gone")?;
        let began = Instant::now();
        let (took, in_force) = judged_otherwise(gone, || guard.run(host, &words))?;
        let in_force = in_force.duration_since(began).as_secs_f64();
        row.change_seconds = row.change_seconds.min(in_force);
        row.change_on_disk_seconds = row.change_on_disk_seconds.min(took.as_secs_f64());
    }
    Ok(row)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Those of a feed are far from each other.
fn address(place: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0b00_0000 + place.wrapping_mul(0x9e37_79b1) % 0xd000_0000)
}

/// What the fetcher would write for so many addresses from one on.
fn found(first: u32, entries: u32, changed: u64) -> Result<()> {
    let folder = Path::new(SCRATCH).join("sipguard-fetch");
    fs::create_dir_all(&folder)?;
    let mut addresses: Vec<Ipv4Addr> = (first..first + entries).map(address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let asked = changed + 10;
    let next = asked + 3600;
    let mut text = format!(
        "{{\"version\":1,\"source\":\"live\",\"asked\":{asked},\"answered\":{asked},\"changed\":{changed},\"next\":{next},\"url\":\"{URL}\",\"entries\":["
    );
    for (place, address) in addresses.into_iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        write!(
            text,
            "{comma}\n{{\"prefix\":\"{address}\",\"first\":1790000000}}"
        )?;
    }
    text.push_str("\n]}\n");
    let new = folder.join("new");
    fs::write(&new, text)?;
    Ok(fs::rename(new, folder.join("live.json"))?)
}
