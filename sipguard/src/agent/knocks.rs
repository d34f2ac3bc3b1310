//! Who knocked: what is kept of the sources whose packets were to be dropped. At most [`MOST`] sources, with [`ROOM`] for what they say, for
//! [`KEPT`], in one file.
//!
//! Anybody can forge a source, so that a flood brings as many as it likes. Sources therefore have a rank: in how many different minutes they
//! were told of. One that knocks again and again has a high one, and a forged one knocks in a single minute: it is a *newcomer*. Where there is
//! no more room, the newcomer that was told of longest ago gives way. [`NEWCOMERS`] of the places are theirs, so that somebody new can become
//! somebody known during a flood, too; where there are no more newcomers than that, the lowest rank gives way, and among equals the one that
//! was told of longest ago. Who forges the same sources for an hour outranks those that came in fewer than sixty minutes, and nobody else.
//!
//! Where somebody has to give way, a new source is kept by chance, in one of [`CHANCE`] seconds in which it is told of: if each took a place, then
//! more sources than there are places would push each other out before any of them comes again. What the others say is looked at all the same.

mod few;
mod file;
mod knock;
mod order;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, hash::BuildHasher as _, net::IpAddr};

use jiff::{SignedDuration, Timestamp};
use sipguard_ebpf::abi::Action;

use self::order::{Order, Place};
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
/// In how many seconds, on average, a new source is kept once where somebody has to give way.
pub const CHANCE: u64 = 8;
/// How long a source is kept that does not knock any more.
pub const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How much is kept.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    most: usize,
    room: usize,
    newcomers: usize,
    chance: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            most: MOST,
            room: ROOM,
            newcomers: NEWCOMERS,
            chance: CHANCE,
        }
    }
}

#[derive(Debug)]
struct Kept {
    place: Place,
    /// How many bytes its texts take.
    bytes: usize,
    knock: Box<Knock>,
}

/// See the module.
#[derive(Debug)]
pub struct Knocks {
    sources: HashMap<IpAddr, Kept>,
    order: Order,
    /// Who came last and is not kept.
    passing: Option<Box<Knock>>,
    /// How many of them have been told of in a single minute.
    newcomers: usize,
    /// How many bytes their texts take.
    bytes: usize,
    /// How many packets were dropped and not told of, of whomever: less than none while those that were told of are not [counted](Self::dropped).
    left_out: i64,
    hide: Hide,
    bounds: Bounds,
    /// Whether there is something that was not written.
    changed: bool,
}

impl Default for Knocks {
    /// Nobody yet.
    fn default() -> Self {
        Self::within(Bounds::default())
    }
}

impl Knocks {
    fn within(bounds: Bounds) -> Self {
        Self {
            sources: HashMap::new(),
            order: Order::default(),
            passing: None,
            newcomers: 0,
            bytes: 0,
            left_out: 0,
            hide: Hide::default(),
            bounds,
            changed: false,
        }
    }

    /// Keeps what an event tells, if it tells of a packet that was to be dropped (monitor mode lets it pass), but for what its own generation
    /// hides, and what is [hidden](Self::hide) in all; returns what is known of its source then, if it says something that it has not said before.
    pub fn note(&mut self, event: &Event, hide: Hide) -> Option<&mut Knock> {
        if event.reason.action() != Action::Drop {
            return None;
        }
        self.left_out -= 1;
        let source = event.source?;
        let hide = self.hide.and(hide);
        self.changed = true;
        if let Some(kept) = self.sources.get_mut(&source) {
            let knock = &mut kept.knock;
            let was_newcomer = knock.is_newcomer();
            let says_more = knock.note(event, hide);
            self.order.told(kept.place, knock.minutes);
            self.newcomers -= usize::from(was_newcomer && !knock.is_newcomer());
            // Most say what they have said before.
            if !says_more {
                return None;
            }
            self.bytes -= kept.bytes;
            kept.bytes = kept.knock.bytes();
            self.bytes += kept.bytes;
        } else {
            let mut knock = Box::new(Knock::new(source, event.time));
            knock.note(event, hide);
            if self.is_full_for(&knock) && !self.has_a_chance(source, event.time) {
                return Some(self.passing.insert(knock));
            }
            self.put(knock);
        }
        self.make_room(Some(source));
        self.sources.get_mut(&source).map(|kept| &mut *kept.knock)
    }

    /// Whether somebody has to give way to it.
    fn is_full_for(&self, knock: &Knock) -> bool {
        self.sources.len() >= self.bounds.most || self.bytes + knock.bytes() > self.bounds.room
    }

    /// Whether a new source is kept in this second. Nobody can tell.
    fn has_a_chance(&self, source: IpAddr, now: Timestamp) -> bool {
        let drawn = self.sources.hasher().hash_one((source, now.as_second()));
        drawn.is_multiple_of(self.bounds.chance)
    }

    /// Forgets those that have not knocked for [`KEPT`].
    pub fn forget_old(&mut self, now: Timestamp) {
        // Where the clock is that near to the beginning of time, nobody is that old.
        let Ok(oldest) = now.checked_sub(KEPT) else {
            return;
        };
        let old = self.iter().filter(|knock| knock.last < oldest);
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
        for kept in self.sources.values_mut() {
            self.changed |= kept.knock.hide(hide);
            self.bytes -= kept.bytes;
            kept.bytes = kept.knock.bytes();
            self.bytes += kept.bytes;
        }
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Knock> {
        self.sources.values().map(|kept| &*kept.knock)
    }

    /// What is known of a source.
    pub fn get(&self, source: IpAddr) -> Option<&Knock> {
        self.sources.get(&source).map(|kept| &*kept.knock)
    }

    /// So many more packets were to be dropped, by the counters, told of or not: events say of how many there was nothing, too, but not whether those
    /// were to be dropped.
    pub fn dropped(&mut self, packets: u64) {
        self.left_out = self.left_out.saturating_add_unsigned(packets);
        self.changed |= packets > 0;
    }

    /// How many packets were to be dropped that the kernel did not tell of, since it is kept who knocks.
    pub fn left_out(&self) -> u64 {
        u64::try_from(self.left_out).unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether nobody has knocked.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    fn take(&mut self, source: IpAddr) {
        if let Some(kept) = self.sources.remove(&source) {
            self.order.leave(kept.place);
            self.newcomers -= usize::from(kept.knock.is_newcomer());
            self.bytes -= kept.bytes;
        }
    }

    fn put(&mut self, knock: Box<Knock>) {
        let source = knock.source;
        self.take(source);
        let kept = Kept {
            place: self.order.enter(source, knock.minutes),
            bytes: knock.bytes(),
            knock,
        };
        self.newcomers += usize::from(kept.knock.is_newcomer());
        self.bytes += kept.bytes;
        self.sources.insert(source, kept);
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
        let is_other = |source: &IpAddr| Some(*source) != but;
        let mut newcomers = self.order.of(..2).filter(is_other);
        let mut others = self.order.of(2..).filter(is_other);
        if self.newcomers > self.bounds.newcomers {
            newcomers.next().or_else(|| others.next())
        } else {
            others.next().or_else(|| newcomers.next())
        }
    }
}
