//! How many packets a second a host gets rid of: floods from random sources on veth cables, each filter in turns of some milliseconds. XDP
//! programs take turns on one cable, on whose link each takes the place of the one before; whatever else filters has a host and a cable of
//! its own, with its rules in force all the time.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    Effort,
    bpf::{Link, Program},
    builds::Build,
    cable::{Cable, Flood, Kind, Turn},
    filters::Filter,
    guard::{Guard, Mode},
    limit,
    lists::{self, Prefix},
    place::{self, Places},
    turns::{Ratio, Turns},
};
use crate::netns::Sandbox;

/// How long a turn is to be, in nanoseconds.
const TURN: f64 = 10e6;
/// With long lists: until what the flood's sources lead to is in the processor's caches, a packet costs more, and that is to be a small part
/// of the turn. (In 10 ms one source in three of 16,384 is a new one.)
const LONG_TURN: f64 = 100e6;
/// Frames until caches and page pools are full, and until it is known how many a turn has.
const FIRST: u32 = 20_000;
/// With how many entries the rules of others are measured, and sipguard with other frames than IPv4's.
const USUAL: usize = 1_000;
const LONG: usize = 100_000;

const OTHERS: [Filter; 6] = [
    Filter::EmptyTc,
    Filter::Xdp,
    Filter::NftIngress,
    Filter::NftRaw,
    Filter::NftInput,
    Filter::Ipset,
];

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) filter: String,
    pub(super) frames: &'static str,
    /// Nothing where there is no list.
    pub(super) entries: Option<usize>,
    /// Whether the processor that sends receives as well, or another one does.
    pub(super) receives: Receives,
    /// Nanoseconds for each packet that was taken.
    pub(super) median_ns: f64,
    pub(super) fast_ns: f64,
    pub(super) of_limit: Ratio,
    pub(super) of_empty: Ratio,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Receives {
    SameProcessor,
    OtherProcessor,
}

/// What has its turns.
struct Contender {
    filter: String,
    kind: Kind,
    entries: Option<usize>,
    stands: Stands,
    flood: Flood,
    /// In a turn.
    frames: u32,
    turns: Turns,
}

enum Stands {
    /// On the link that all programs share.
    OnTheLink(Program),
    /// At a host of its own.
    At(Cable),
}

/// The cable of the XDP programs, and all who have turns.
struct Field {
    cable: Cable,
    link: Link,
    contenders: Vec<Contender>,
}

pub(super) fn run(sandbox: &Sandbox, effort: &Effort, builds: &[Build]) -> Result<Vec<Row>> {
    let mut field = Field::new(sandbox)?;
    for kind in [Kind::V4, Kind::V6, Kind::Tagged] {
        field.program("empty", kind, None, Program::empty()?)?;
        field.program(
            "reads the ports, counts",
            kind,
            None,
            limit::reads_ports_and_counts()?,
        )?;
        for &entries in effort.veth_sizes {
            if kind == Kind::V4 || entries == USUAL {
                field.sipguards(sandbox, kind, entries, builds)?;
            }
        }
    }
    for &entries in effort.veth_sizes {
        if [USUAL, LONG].contains(&entries) {
            field.others(sandbox, entries, builds)?;
        }
    }
    // What comes after this finds nothing of it.
    sandbox.begin_anew();
    let Some(places) = Places::find()? else {
        return field.measure(effort, Receives::SameProcessor);
    };
    place::on(places.world, || {
        let mut rows = field.measure(effort, Receives::SameProcessor)?;
        for cable in field.cables() {
            for thread in place::receive_on(places.gateway, &cable.receiver)? {
                place::first(Some(thread))?;
            }
        }
        rows.extend(field.measure(effort, Receives::OtherProcessor)?);
        Ok(rows)
    })
}

impl Field {
    fn new(sandbox: &Sandbox) -> Result<Self> {
        let cable = Cable::new(sandbox)?;
        Ok(Self {
            link: cable.attach(&Program::empty()?)?,
            cable,
            contenders: Vec::new(),
        })
    }

    fn program(
        &mut self,
        filter: &str,
        kind: Kind,
        entries: Option<usize>,
        program: Program,
    ) -> Result<()> {
        self.contenders.push(Contender {
            filter: filter.to_owned(),
            kind,
            entries,
            stands: Stands::OnTheLink(program),
            flood: self.cable.flood(kind)?,
            frames: FIRST,
            turns: Turns::default(),
        });
        Ok(())
    }

    /// The native program of each build.
    fn sipguards(
        &mut self,
        sandbox: &Sandbox,
        kind: Kind,
        entries: usize,
        builds: &[Build],
    ) -> Result<()> {
        let list = match kind {
            Kind::V6 => lists::ipv6(entries),
            Kind::V4 | Kind::Tagged => lists::ipv4(entries),
        };
        for build in builds {
            // One knows nothing of the other, nor of its state.
            sandbox.begin_anew();
            let guarded = Cable::new(sandbox)?;
            let guard = Guard::by(&build.binary, &lists::text(&list), Mode::Native)?;
            let program = guard.program(&guarded.receiver)?;
            self.program(
                &build.named(Filter::Native.name()),
                kind,
                Some(entries),
                program,
            )?;
        }
        Ok(())
    }

    /// What has a host of its own, for IPv4.
    fn others(&mut self, sandbox: &Sandbox, entries: usize, builds: &[Build]) -> Result<()> {
        let list = lists::ipv4(entries);
        for build in builds {
            self.host(sandbox, Filter::Tc, build, &list)?;
        }
        for filter in OTHERS {
            if filter.is_possible(entries) {
                self.host(sandbox, filter, &builds[0], &list)?;
            }
        }
        Ok(())
    }

    fn host(
        &mut self,
        sandbox: &Sandbox,
        filter: Filter,
        build: &Build,
        list: &[Prefix],
    ) -> Result<()> {
        sandbox.begin_anew();
        let cable = Cable::new(sandbox)?;
        filter.install(&cable.receiver, list, build)?;
        self.contenders.push(Contender {
            filter: build.named(filter.name()),
            kind: Kind::V4,
            entries: Some(list.len()),
            flood: cable.flood(Kind::V4)?,
            stands: Stands::At(cable),
            frames: FIRST,
            turns: Turns::default(),
        });
        Ok(())
    }

    fn cables(&self) -> impl Iterator<Item = &Cable> {
        let own = self.contenders.iter().filter_map(|it| match &it.stands {
            Stands::At(cable) => Some(cable),
            Stands::OnTheLink(_) => None,
        });
        std::iter::once(&self.cable).chain(own)
    }

    fn measure(&mut self, effort: &Effort, receives: Receives) -> Result<Vec<Row>> {
        for place in 0..self.contenders.len() {
            let turn = self.turn(place, FIRST)?;
            let contender = &mut self.contenders[place];
            let is_long = contender.entries.is_some_and(|entries| entries >= LONG);
            let turn_ns = if is_long { LONG_TURN } else { TURN };
            contender.frames = (turn_ns / turn.sent_ns) as u32;
            contender.turns = Turns::default();
        }
        for round in 0..effort.veth_rounds {
            for turn in 0..self.contenders.len() {
                // Each round begins with another one.
                let place = (turn + round as usize) % self.contenders.len();
                let turn = self.turn(place, self.contenders[place].frames)?;
                self.contenders[place].turns.push(turn.taken_ns);
            }
        }
        Ok(self.rows(receives))
    }

    fn turn(&self, place: usize, frames: u32) -> Result<Turn> {
        let Contender {
            filter,
            stands,
            flood,
            ..
        } = &self.contenders[place];
        let cable = match stands {
            Stands::OnTheLink(program) => {
                self.link.update(program)?;
                &self.cable
            }
            Stands::At(cable) => cable,
        };
        cable.turn(flood, frames).with_context(|| filter.clone())
    }

    fn rows(&self, receives: Receives) -> Vec<Row> {
        let rows = self.contenders.iter().map(|contender| {
            // The first two of their kind.
            let mut kind = self
                .contenders
                .iter()
                .filter(|it| it.kind == contender.kind);
            let mut of = || {
                let other = kind.next().map_or(&contender.turns, |it| &it.turns);
                contender.turns.ratio(other)
            };
            let of_empty = of();
            Row {
                filter: contender.filter.clone(),
                frames: contender.kind.name(),
                entries: contender.entries,
                receives,
                median_ns: contender.turns.median(),
                fast_ns: contender.turns.fast(),
                of_limit: of(),
                of_empty,
            }
        });
        rows.collect()
    }
}
