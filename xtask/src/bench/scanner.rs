//! How long it takes until a scanner that sends ten packets a second is told of, beside 16,384 sources that send as much as the cable carries. Its
//! packets are received where theirs are: what is granted there is what it has to share with them.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{
    builds::Build,
    cable::{Cable, Flood, Kind},
    guard::{Guard, Mode},
    lists,
    place::{self, Places},
};
use crate::netns::{Sandbox, until};

const ENTRIES: usize = 1_000;
const RUNS: u8 = 20;
const FIRST: u32 = 20_000;
/// What comes between two packets of the scanner, in nanoseconds.
const PAUSE: f64 = 1e8;
/// Turns of the flood before he begins.
const BEFORE: u32 = 5;
/// Where he knocks from, and somebody who knocks before the flood; the flood's own sources are hardly ever there.
const NETWORK: &str = "203.0.113.0/24";
/// He is never told of later than that.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// Packets of the flood in a second.
    pub(super) flood: u64,
    /// From his first packet on, in seconds, shortest first.
    pub(super) told: Vec<f64>,
}

impl Row {
    pub(super) fn median(&self) -> f64 {
        self.told[self.told.len() / 2]
    }

    pub(super) fn longest(&self) -> f64 {
        self.told[self.told.len() - 1]
    }
}

pub(super) fn run(sandbox: &Sandbox, build: &Build) -> Result<Option<Row>> {
    let Some(places) = Places::find()? else {
        eprintln!("a scanner beside a flood: needs two processors");
        return Ok(None);
    };
    sandbox.begin_anew();
    let cable = Cable::new(sandbox)?;
    let list = lists::text(&lists::ipv4(ENTRIES));
    let guard = Guard::by(&build.binary, &list, Mode::Native)?;
    guard.apply(&cable.receiver)?;
    let row = place::on(places.world, || {
        let flood = cable.flood(Kind::V4)?;
        let first = cable.turn(&flood, FIRST)?;
        let frames = (PAUSE / first.sent_ns) as u32;
        let mut told = Vec::new();
        for run in 0..RUNS {
            let scanner = Ipv4Addr::new(203, 0, 113, 2 + run);
            told.push(once(places, &cable, &guard, (&flood, frames), scanner)?);
        }
        told.sort_by(f64::total_cmp);
        let flood = (1e9 / first.taken_ns) as u64;
        Ok(Row { flood, told })
    });
    guard.down(&cable.receiver)?;
    row.map(Some)
}

fn once(
    places: Places,
    cable: &Cable,
    guard: &Guard,
    (flood, frames): (&Flood, u32),
    scanner: Ipv4Addr,
) -> Result<f64> {
    let mut command = guard.command(&["events", "--json", "--source", NETWORK]);
    let listener = place::on(places.gateway, || Ok(cable.receiver.spawn(&mut command)))?;
    until("somebody listens", || {
        cable.knock(Ipv4Addr::new(203, 0, 113, 1));
        !listener.stdout().is_empty()
    });
    for _ in 0..BEFORE {
        cable.turn(flood, frames)?;
    }
    let wanted = format!("\"source\":\"{scanner}\"");
    let began = Instant::now();
    loop {
        cable.knock(scanner);
        cable.turn(flood, frames)?;
        let passed = began.elapsed();
        if listener.stdout().contains(&wanted) {
            listener.stop();
            return Ok(passed.as_secs_f64());
        }
        ensure!(passed < PATIENCE, "{scanner} was not told of in {passed:?}");
    }
}
