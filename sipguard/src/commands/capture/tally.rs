//! Who was met how often, in memory that has an end: sources by what became of their packets.
//!
//! Each is counted by itself, up to a million and some of them. Beyond that those that were met least are forgotten, and what is met afterwards may
//! have been met before: how often at most is known. Whoever was there from the beginning is counted exactly all the same.

use std::{
    cmp::Reverse,
    hash::{BuildHasher as _, RandomState},
    hint, mem,
    net::IpAddr,
};

/// Who was met, and what became of his packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) source: Option<IpAddr>,
    /// A number below 2^17.
    pub(super) words: u32,
}

/// One of those that were met most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) count: Count,
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// So often at least.
    pub(super) least: u64,
    /// So often at most.
    pub(super) most: u64,
}

pub(super) struct Tally {
    /// An open hash table. Of a slot the first two words say who it is, see [`IDENTITY`] and behind it; the third how often, 0 where it is nobody.
    slots: Vec<[u32; 3]>,
    /// As many of the slots are somebody's first choice. Behind them is room for those who come late to the last ones.
    homes: usize,
    /// How many are counted,
    used: usize,
    /// and how many can be.
    limit: usize,
    /// Nobody else knows it: so nobody can send what comes to lie in one place.
    seed: RandomState,
    mix: u64,
    /// How often somebody may have been met who was forgotten.
    missed: u32,
    /// Those who may be among those who were met most, in no order.
    listed: Vec<Listed>,
    /// Whoever was met so often is listed.
    bar: u32,
    /// Those who were met and are not counted yet.
    waiting: Vec<Waiting>,
}

#[derive(Clone, Copy)]
struct Waiting {
    key: Key,
    identity: u64,
    home: usize,
}

/// So many are looked up together: their slots are far from each other and from the processor, which waits once for all of them.
const TOGETHER: usize = 32;

struct Listed {
    key: Key,
    slot: usize,
}

/// Who it is: of an IPv4 address all there is to know; of an IPv6 address a number that nobody can choose, of so many bits that even of a million
/// addresses hardly ever two have the same one.
const IDENTITY: u64 = (1 << 56) - 1;
const V6: u64 = 1 << 55;
const NOBODY: u64 = 1 << 54;
/// It is listed.
const LISTED: u64 = 1 << 56;
/// It may have been met before it was counted.
const LATE: u64 = 1 << 57;

/// How many of those who were met most are known: more than are told, because some of them may be this gateway itself.
const TOP: usize = 62;
/// So many are listed at most; then those go who were met least, until so many are left. Seldom, where they are many more than are told, however
/// the packets of different sources follow each other.
const MOST_LISTED: usize = 4096;
const LEFT: usize = MOST_LISTED / 2;
/// Longer than any row of slots in use gets, whatever comes.
const BEHIND: usize = 4096;

const fn word([low, high, _]: [u32; 3]) -> u64 {
    low as u64 | (high as u64) << 32
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a word is cut into its halves"
)]
const fn slot(word: u64, count: u32) -> [u32; 3] {
    [word as u32, (word >> 32) as u32, count]
}

impl Tally {
    /// For up to so many, each counted by itself. Takes 15 bytes for each, once there are some thousands.
    pub(super) fn new(limit: usize) -> Self {
        let homes = limit + limit / 5;
        let seed = RandomState::new();
        Self {
            slots: vec![[0; 3]; homes + BEHIND],
            homes,
            used: 0,
            limit,
            mix: seed.hash_one(0),
            seed,
            missed: 0,
            listed: Vec::with_capacity(MOST_LISTED),
            bar: 1,
            waiting: Vec::with_capacity(TOGETHER),
        }
    }

    /// Counts one more, as seen after [`Tally::settle`].
    #[inline]
    pub(super) fn add(&mut self, key: Key) {
        let identity = self.identity(key);
        let home = self.home(identity);
        self.waiting.push(Waiting {
            key,
            identity,
            home,
        });
        if self.waiting.len() == TOGETHER {
            self.settle();
        }
    }

    /// Counts those who wait.
    pub(super) fn settle(&mut self) {
        let waiting = mem::take(&mut self.waiting);
        let near: u32 = waiting.iter().map(|it| self.slots[it.home][2] & 1).sum();
        // Read for nothing but to have it near.
        hint::black_box(near);
        for it in &waiting {
            self.count_one(it);
        }
        self.waiting = waiting;
        self.waiting.clear();
    }

    fn count_one(&mut self, it: &Waiting) {
        let mut at = it.home;
        let (count, is_listed) = loop {
            let found = self.slots[at];
            let [.., count] = found;
            if count == 0 {
                if self.used == self.limit || at + 1 == self.slots.len() {
                    self.forget();
                    // There is room now.
                    return self.count_one(it);
                }
                self.used += 1;
                let late = if self.missed > 0 { LATE } else { 0 };
                self.slots[at] = slot(it.identity | late, 1);
                break (1, false);
            }
            let word = word(found);
            if word & IDENTITY == it.identity {
                let count = count.saturating_add(1);
                self.slots[at][2] = count;
                break (count, word & LISTED != 0);
            }
            at += 1;
        };
        if count >= self.bar && !is_listed {
            self.list(it.key, at);
        }
    }

    /// How many are counted by themselves, and whether that is all.
    pub(super) const fn distinct(&self) -> (usize, bool) {
        (self.used, self.missed == 0)
    }

    /// How often at most somebody was not counted who was met before he is counted.
    pub(super) const fn missed(&self) -> u32 {
        self.missed
    }

    /// How often somebody was met.
    pub(super) fn count(&self, key: Key) -> Count {
        let found = self.slots[self.find(self.identity(key))];
        self.told(found)
    }

    /// Those who were met most, these first; in an order that is the same every time.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<_> = self
            .listed
            .iter()
            .map(|listed| Row {
                key: listed.key,
                count: self.told(self.slots[listed.slot]),
            })
            .collect();
        rows.sort_unstable_by(|one, other| {
            other
                .count
                .least
                .cmp(&one.count.least)
                .then(one.key.cmp(&other.key))
        });
        rows.truncate(TOP);
        rows
    }

    fn told(&self, found: [u32; 3]) -> Count {
        let [.., count] = found;
        let most = match count {
            u32::MAX => u64::MAX,
            // Who is not there may have been forgotten.
            0 => u64::from(self.missed),
            _ if word(found) & LATE != 0 => u64::from(count) + u64::from(self.missed),
            _ => u64::from(count),
        };
        Count {
            least: u64::from(count),
            most,
        }
    }

    fn identity(&self, key: Key) -> u64 {
        let words = u64::from(key.words);
        match key.source {
            Some(IpAddr::V4(address)) => words << 32 | u64::from(address.to_bits()),
            Some(IpAddr::V6(address)) => {
                let hash = self.seed.hash_one((address.to_bits(), words));
                V6 | hash & (V6 - 1)
            }
            None => NOBODY | words,
        }
    }

    /// The first slot where somebody may be.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a product is folded, and a share of the homes is less than they are"
    )]
    fn home(&self, identity: u64) -> usize {
        /// As in `Datagram::place`: an odd number with as many ones as zeros.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(identity ^ self.mix) * u128::from(FACTOR);
        let folded = (product as u64 ^ (product >> 64) as u64).wrapping_mul(FACTOR);
        ((u128::from(folded) * self.homes as u128) >> 64) as usize
    }

    /// The slot where somebody is, or where he would be.
    fn find(&self, identity: u64) -> usize {
        let mut at = self.home(identity);
        while self.slots[at][2] != 0 && word(self.slots[at]) & IDENTITY != identity {
            at += 1;
        }
        at
    }

    /// Lists somebody, and where that makes too many, no longer those who were met least. Nobody of these was met more often than one of so many
    /// who are left, and whoever is, later, is listed then.
    #[cold]
    fn list(&mut self, key: Key, at: usize) {
        self.listed.push(Listed { key, slot: at });
        self.mark(at, LISTED);
        if self.listed.len() < MOST_LISTED {
            return;
        }
        let slots = &self.slots;
        let rank = |listed: &Listed| (Reverse(slots[listed.slot][2]), listed.key);
        let (_, last, _) = self
            .listed
            .select_nth_unstable_by(LEFT - 1, |one, other| rank(one).cmp(&rank(other)));
        self.bar = slots[last.slot][2].saturating_add(1);
        for place in LEFT..self.listed.len() {
            self.mark(self.listed[place].slot, 0);
        }
        self.listed.truncate(LEFT);
    }

    fn mark(&mut self, at: usize, listed: u64) {
        let [.., count] = self.slots[at];
        self.slots[at] = slot(word(self.slots[at]) & !LISTED | listed, count);
    }

    /// Forgets those who were met least: half of all, or more where many were met equally often.
    #[cold]
    fn forget(&mut self) {
        let mut counts: Vec<u32> = self
            .slots
            .iter()
            .map(|slot| slot[2])
            .filter(|&it| it > 0)
            .collect();
        let middle = counts.len() / 2;
        let (_, &mut most, _) = counts.select_nth_unstable(middle);
        drop(counts);
        let mut listed = mem::take(&mut self.listed);
        listed.retain(|listed| self.slots[listed.slot][2] > most);
        let mut at = 0;
        while at < self.slots.len() {
            let [.., count] = self.slots[at];
            if count > 0 && count <= most {
                // Another one may come here.
                self.remove(at);
            } else {
                at += 1;
            }
        }
        self.missed = self.missed.saturating_add(most);
        for listed in &mut listed {
            listed.slot = self.find(self.identity(listed.key));
        }
        self.listed = listed;
        // All who are left are listed.
        if self.bar <= most.saturating_add(1) {
            self.bar = 1;
        }
    }

    /// Empties a slot, and moves those behind it who would rather be there.
    fn remove(&mut self, at: usize) {
        self.used -= 1;
        let (mut hole, mut next) = (at, at + 1);
        while let Some(&found) = self.slots.get(next)
            && found[2] > 0
        {
            if self.home(word(found) & IDENTITY) <= hole {
                self.slots[hole] = found;
                hole = next;
            }
            next += 1;
        }
        self.slots[hole] = [0; 3];
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        net::{Ipv4Addr, Ipv6Addr},
    };

    use super::*;

    fn key(number: u32) -> Key {
        let source = match number % 3 {
            0 => IpAddr::V4(Ipv4Addr::from_bits(number.wrapping_mul(0x0101_0105))),
            _ => IpAddr::V6(Ipv6Addr::from_bits(u128::from(number) << 64)),
        };
        Key {
            source: (number != 7).then_some(source),
            words: number % 5,
        }
    }

    /// Numbers that look as if they came by chance, the same every time; small ones come often.
    fn numbers(length: usize) -> impl Iterator<Item = u32> {
        let mut state = 1_u64;
        std::iter::repeat_with(move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let random = (state >> 33) as u32;
            random >> (random % 31)
        })
        .take(length)
    }

    fn wanted(length: usize) -> Vec<(Key, u64)> {
        let mut all = HashMap::<_, u64>::new();
        numbers(length).for_each(|number| {
            let key = key(number);
            *all.entry((key.source, key.words)).or_default() += 1;
        });
        let mut all: Vec<_> = all
            .into_iter()
            .map(|((source, words), count)| (Key { source, words }, count))
            .collect();
        all.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(&other.0)));
        all
    }

    #[test]
    fn with_room_for_all_everything_is_exact() {
        for length in [1, 40, 1000, 100_000] {
            let mut tally = Tally::new(100_000);
            numbers(length).for_each(|number| tally.add(key(number)));
            tally.settle();
            let wanted = wanted(length);
            assert_eq!(tally.distinct(), (wanted.len(), true));
            for &(key, count) in &wanted {
                let found = tally.count(key);
                assert_eq!((found.least, found.most), (count, count));
            }
            let rows: Vec<_> = tally
                .rows()
                .iter()
                .map(|row| (row.key, row.count.least))
                .collect();
            assert_eq!(rows, wanted[..wanted.len().min(TOP)]);
        }
    }

    #[test]
    fn without_room_the_bounds_hold_and_the_most_frequent_are_there() {
        let mut tally = Tally::new(2000);
        numbers(100_000).for_each(|number| tally.add(key(number)));
        tally.settle();
        let (distinct, is_all) = tally.distinct();
        assert!(distinct <= 2000 && !is_all);
        let wanted = wanted(100_000);
        for &(key, count) in &wanted {
            let found = tally.count(key);
            assert!(
                (found.least..=found.most).contains(&count),
                "{key:?} {count} {found:?}"
            );
        }
        let rows = tally.rows();
        let exact = rows
            .iter()
            .filter(|row| row.count.least == row.count.most)
            .count();
        assert!(exact >= 20, "{exact}");
        for (row, (key, count)) in rows.iter().zip(&wanted).take(20) {
            assert_eq!((row.key, row.count.least), (*key, *count));
        }
    }

    /// More than are listed, one after the other again and again: those who come once more often are found among them.
    #[test]
    fn the_most_frequent_are_found_among_many_that_take_turns() {
        for many in [100, 5000, 20_000] {
            let mut tally = Tally::new(30_000);
            for turn in 0..20 {
                for number in 0..many {
                    tally.add(key(number));
                    if number.is_multiple_of(many / 50) && turn > 10 {
                        tally.add(key(number));
                    }
                }
            }
            tally.settle();
            let rows = tally.rows();
            let found: Vec<_> = rows.iter().filter(|row| row.count.least == 29).collect();
            assert_eq!(found.len(), 50, "{many}");
            assert_eq!(rows.len(), TOP);
            assert!(rows.iter().all(|row| row.count.least == row.count.most));
        }
    }

    #[test]
    fn many_that_are_met_equally_often_leave_room() {
        let mut tally = Tally::new(100);
        for turn in 0..1000 {
            for number in 0..150 {
                tally.add(key(number + turn));
            }
        }
        tally.settle();
        assert!(tally.distinct().0 <= 100);
        for row in tally.rows() {
            assert!(row.count.least <= row.count.most);
        }
    }
}
