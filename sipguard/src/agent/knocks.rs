//! Who knocked: what is kept of the sources whose packets were to be dropped. At most [`MOST`] sources, with [`ROOM`] for what they say, for
//! [`KEPT`], in one file.
//!
//! Anybody can forge a source, so that a flood brings as many as it likes. Sources therefore have a rank: in how many different minutes they
//! were told of. One that knocks again and again has a high one, and a forged one knocks in a single minute: it is a *newcomer*. Where there is
//! no more room, the newcomer that was told of longest ago gives way. [`NEWCOMERS`] of the places are theirs, so that somebody new can become
//! somebody known during a flood, too; where there are no more newcomers than that, the lowest rank gives way, and among equals the one that
//! was told of longest ago. Who forges the same sources for an hour outranks those that came in fewer than sixty minutes, and nobody else.

mod few;
mod file;
mod knock;
mod sketch;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, btree_set},
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};
use sipguard_ebpf::abi::Action;

pub use self::{
    few::{Few, Seen},
    file::{FILE, KnocksError, Read, read},
    knock::{Attempted, Dialling, Knock, Number, Registering},
};
use crate::{events::Event, policy::Hide};

/// How many sources are kept.
pub const MOST: usize = 10_000;
/// How many bytes their texts take in all, about.
pub const ROOM: usize = 3 << 20;
/// How many places sources have that were told of in a single minute.
pub const NEWCOMERS: usize = 2_000;
/// How long a source is kept that does not knock any more.
pub const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How much is kept.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    most: usize,
    room: usize,
    newcomers: usize,
}

/// Who gives way first: fewest minutes, then told of longest ago (seconds since 1970). The address tells equals apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    minutes: u32,
    last: i64,
    source: IpAddr,
}

impl Rank {
    fn of(knock: &Knock) -> Self {
        Self {
            minutes: knock.minutes,
            last: knock.last.as_second(),
            source: knock.source,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Knocks {
    sources: HashMap<IpAddr, Box<Knock>>,
    /// All of them.
    ranks: BTreeSet<Rank>,
    /// How many of them have been told of in a single minute.
    newcomers: usize,
    /// How many bytes their texts take.
    bytes: usize,
    /// How many packets were left out, of whomever.
    left_out: u64,
    hide: Hide,
    bounds: Bounds,
    /// Whether there is something that was not written.
    changed: bool,
}

impl Knocks {
    /// Nobody yet. What is hidden is never kept.
    pub fn new(hide: Hide) -> Self {
        Self::within(
            hide,
            Bounds {
                most: MOST,
                room: ROOM,
                newcomers: NEWCOMERS,
            },
        )
    }

    fn within(hide: Hide, bounds: Bounds) -> Self {
        Self {
            sources: HashMap::new(),
            ranks: BTreeSet::new(),
            newcomers: 0,
            bytes: 0,
            left_out: 0,
            hide,
            bounds,
            changed: false,
        }
    }

    /// Keeps what an event tells, if it tells of a packet that was to be dropped (monitor mode lets it pass); returns what is known of its
    /// source then.
    pub fn note(&mut self, event: &Event) -> Option<&mut Knock> {
        if event.reason.action() != Action::Drop {
            return None;
        }
        self.left_out = self.left_out.saturating_add(event.left_out);
        let source = event.source?;
        self.changed = true;
        let Some(knock) = self.sources.get_mut(&source) else {
            let mut knock = Box::new(Knock::new(source, event.time));
            knock.note(event, self.hide);
            self.put(knock);
            self.make_room(Some(source));
            return self.sources.get_mut(&source).map(Box::as_mut);
        };
        // Most are known already, and nothing but their rank moves.
        let (rank, bytes, was_newcomer) = (Rank::of(knock), knock.bytes(), knock.is_newcomer());
        knock.note(event, self.hide);
        let now = Rank::of(knock);
        if now != rank {
            self.ranks.remove(&rank);
            self.ranks.insert(now);
        }
        self.bytes = self.bytes - bytes + knock.bytes();
        self.newcomers -= usize::from(was_newcomer && !knock.is_newcomer());
        self.make_room(Some(source));
        self.sources.get_mut(&source).map(Box::as_mut)
    }

    /// Forgets those that have not knocked for [`KEPT`].
    pub fn forget_old(&mut self, now: Timestamp) {
        // Where the clock is that near to the beginning of time, nobody is that old.
        let Ok(oldest) = now.checked_sub(KEPT) else {
            return;
        };
        let old = self.sources.values().filter(|knock| knock.last < oldest);
        let old: Vec<_> = old.map(|knock| knock.source).collect();
        for source in old {
            self.take(source);
            self.changed = true;
        }
    }

    /// Hides from now on, what is kept already, too.
    pub fn hide(&mut self, hide: Hide) {
        if self.hide == hide {
            return;
        }
        self.hide = hide;
        let all: Vec<_> = self.sources.keys().copied().collect();
        for source in all {
            if let Some(mut knock) = self.take(source) {
                self.changed |= knock.hide(hide);
                self.put(knock);
            }
        }
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Knock> {
        self.sources.values().map(Box::as_ref)
    }

    /// What is known of a source.
    pub fn get(&self, source: IpAddr) -> Option<&Knock> {
        self.sources.get(&source).map(Box::as_ref)
    }

    /// How many packets were to be dropped that the kernel did not tell of, while somebody kept who knocks.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether nobody has knocked.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    fn take(&mut self, source: IpAddr) -> Option<Box<Knock>> {
        let knock = self.sources.remove(&source)?;
        self.ranks.remove(&Rank::of(&knock));
        self.newcomers -= usize::from(knock.is_newcomer());
        self.bytes -= knock.bytes();
        Some(knock)
    }

    fn put(&mut self, knock: Box<Knock>) {
        self.take(knock.source);
        self.ranks.insert(Rank::of(&knock));
        self.newcomers += usize::from(knock.is_newcomer());
        self.bytes += knock.bytes();
        self.sources.insert(knock.source, knock);
    }

    /// Lets others go until there is room.
    fn make_room(&mut self, but: Option<IpAddr>) {
        while self.sources.len() > self.bounds.most || self.bytes > self.bounds.room {
            let Some(last) = self.gives_way(but) else {
                return;
            };
            self.take(last);
        }
    }

    /// Who is let go next.
    fn gives_way(&self, but: Option<IpAddr>) -> Option<IpAddr> {
        let known = Rank {
            minutes: 2,
            last: i64::MIN,
            source: IpAddr::from([0; 4]),
        };
        let newcomers = self.ranks.range(..known);
        let others = self.ranks.range(known..);
        let first = |mut ranks: btree_set::Range<'_, Rank>| {
            ranks
                .find(|rank| Some(rank.source) != but)
                .map(|rank| rank.source)
        };
        if self.newcomers > self.bounds.newcomers {
            first(newcomers).or_else(|| first(others))
        } else {
            first(others).or_else(|| first(newcomers))
        }
    }
}
