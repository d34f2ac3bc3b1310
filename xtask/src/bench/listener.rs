//! What it costs the flooded to be told who floods: drops while `sipguard events` listens, beside drops while nobody does. A turn is long enough for
//! several grants, of which a listener makes ten a second, and short enough that a host's moods are the same for both of a round.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{
    Effort,
    builds::Build,
    cable::{Cable, Flood, Kind},
    guard::{Guard, Mode},
    lists,
    place::{self, Places},
    turns::{Ratio, Turns},
    watched,
};
use crate::netns::{Process, Sandbox, until};

const ENTRIES: usize = 1_000;
const FIRST: u32 = 20_000;
/// How long a turn is to be, in nanoseconds.
const TURN: f64 = 3e8;

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Row {
    /// Nanoseconds a dropped packet, at full speed.
    pub(super) unheard_ns: f64,
    pub(super) heard_ns: f64,
    /// How much is dropped while somebody listens, of what is dropped while nobody does.
    pub(super) heard: Ratio,
    /// Packets dropped while somebody listened.
    pub(super) packets: u64,
    /// Events that the listener had of them.
    pub(super) events: u64,
    /// Events that came too fast for the listener, as it says.
    pub(super) lost: u64,
    /// Packets that were not told of, as the events say.
    pub(super) left_out: u64,
    /// Of one processor, by the listener while the flood went on.
    pub(super) processor: f64,
    pub(super) peak_mib: f64,
}

/// One flooded host, and somebody who listens there now and then.
struct Flooded<'a> {
    cable: &'a Cable,
    guard: &'a Guard,
    flood: Flood,
    frames: u32,
}

/// What was heard in a turn.
struct Heard {
    ns: f64,
    events: u64,
    lost: u64,
    left_out: u64,
    processor_seconds: f64,
    peak_mib: f64,
}

pub(super) fn run(sandbox: &Sandbox, effort: &Effort, build: &Build) -> Result<Option<Row>> {
    let Some(places) = Places::find()? else {
        eprintln!("a listener beside a flood: needs two processors");
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
        let flooded = Flooded {
            cable: &cable,
            guard: &guard,
            flood,
            frames: (TURN / first.sent_ns) as u32,
        };
        flooded.measure(places, effort)
    });
    guard.down(&cable.receiver)?;
    row.map(Some)
}

impl Flooded<'_> {
    fn measure(&self, places: Places, effort: &Effort) -> Result<Row> {
        let (mut unheard, mut heard) = (Turns::default(), Turns::default());
        let mut all = Vec::new();
        for _ in 0..effort.listener_rounds {
            // What is granted ends by itself, with the first packets behind that.
            self.cable.turn(&self.flood, FIRST)?;
            unheard.push(self.cable.turn(&self.flood, self.frames)?.taken_ns);
            let turn = self.heard(places)?;
            heard.push(turn.ns);
            all.push(turn);
        }
        let sum = |of: fn(&Heard) -> u64| all.iter().map(of).sum::<u64>();
        let seconds: f64 = all.iter().map(|it| it.processor_seconds).sum();
        let packets = u64::from(self.frames) * all.len() as u64;
        let flooded: f64 = all.iter().map(|it| it.ns / 1e9).sum::<f64>() * f64::from(self.frames);
        Ok(Row {
            unheard_ns: unheard.fast(),
            heard_ns: heard.fast(),
            heard: heard.ratio(&unheard),
            packets,
            events: sum(|it| it.events),
            lost: sum(|it| it.lost),
            left_out: sum(|it| it.left_out),
            processor: seconds / flooded,
            peak_mib: all.iter().map(|it| it.peak_mib).fold(0.0, f64::max),
        })
    }

    /// A turn with somebody who listens, on the other processor.
    fn heard(&self, places: Places) -> Result<Heard> {
        let mut command = self.guard.command(&["events", "--json"]);
        let listener = place::on(places.gateway, || {
            Ok(self.cable.receiver.spawn(&mut command))
        })?;
        until("the listener hears of the flood", || {
            self.cable.turn(&self.flood, FIRST).is_err() || !listener.stdout().is_empty()
        });
        let number = listener.pid().as_raw_nonzero().get().cast_unsigned();
        let used = || watched::processor_seconds(number).context("the listener has ended");
        let before = used()?;
        let ns = self.cable.turn(&self.flood, self.frames)?.taken_ns;
        let processor_seconds = used()? - before;
        let peak_mib = watched::peak_mib(number).unwrap_or_default();
        let (events, left_out, lost) = ended(listener)?;
        Ok(Heard {
            ns,
            events,
            lost,
            left_out,
            processor_seconds,
            peak_mib,
        })
    }
}

/// Events, packets that they say were left out, and events that were lost.
fn ended(listener: Process) -> Result<(u64, u64, u64)> {
    #[derive(Deserialize)]
    struct Event {
        left_out: u64,
    }
    let finished = listener.stop();
    let (mut events, mut left_out) = (0, 0);
    for line in finished.stdout.lines() {
        let event: Event = serde_json::from_str(line).context("an event")?;
        events += 1;
        left_out += event.left_out;
    }
    // "N events came too fast to be read", where there are any.
    let told = finished.stderr.lines().find(|it| it.contains("too fast"));
    let lost = told.and_then(|told| {
        let digits: String = told
            .split(" event")
            .next()?
            .chars()
            .filter(char::is_ascii_digit)
            .collect();
        digits.parse().ok()
    });
    Ok((events, left_out, lost.unwrap_or_default()))
}
