//! The prefilter's bits: which an entry needs, and how many there should be.

use std::ops::Range;

use ipnet::IpNet;
use sipguard_ebpf::{
    abi::{Key, Layer, Lengths, SERVICES},
    prefix::{HALF_MAX, HALF_MIN, V4, V6, cell_bit, marker_bit},
};

use super::entries::{Entries, Family};

/// How many bits half a region has for each that is set in it: of the addresses far from every entry, one in so many is looked up for nothing.
const ROOM: u64 = 16;
/// How many there are for each that a live entry sets, while the half is no larger than this, in bits as a power of two. They come and go in
/// place, which sets more and unsets none: for four times as many entries an eighth of the bits is set. Larger ones than a quarter of a usual
/// second-level cache (256 KiB) cost more than they spare.
const ROOM_LIVE: u64 = 32;
const LARGE: u32 = 21;
/// How many there are while the half is small, and how small that is, in bits as a power of two: it stays in the processor's nearest
/// cache all the same.
const ROOM_SMALL: u64 = 64;
const SMALL: u32 = 16;
/// A half in which more of 64 are set is to be made anew: an eighth, less what some words don't tell of all and what the next change sets.
const CROWDED: u32 = 7;

/// How many words of 64 bits half a region has.
const fn half_words(shift: u32) -> u32 {
    1 << (32 - shift - 6)
}

/// How many words of 64 bits a service's region has: cells, then markers.
pub const fn region_words(shift: u32) -> u32 {
    2 * half_words(shift)
}

/// How many cells a prefix of this length touches.
fn cells<A: Family>(length: u8) -> u64 {
    1 << A::CELL.saturating_sub(length)
}

/// The bits that an entry needs: a word's place in the whole prefilter, and the bits to set there. A word may come more than once.
pub fn prefilter_words<A: Family>(key: &Key<A>, shift: u32) -> impl Iterator<Item = (u32, u64)> {
    cell_words(key, shift).chain([marker_word(key, shift)])
}

/// Those of its cells.
fn cell_words<A: Family>(key: &Key<A>, shift: u32) -> impl Iterator<Item = (u32, u64)> {
    let half = u32::from(key.service()) * region_words(shift);
    let touched = cells::<A>(key.length());
    // A prefix with more cells than there are bits leaves none of them unset.
    let some = u32::try_from(touched)
        .ok()
        .filter(|&touched| touched < 1 << (32 - shift));
    let words = some.map_or(half_words(shift), |_| 0);
    let first = key.address.cell();
    let bits = (0..some.unwrap_or(0))
        .map(move |cell| cell_bit(first.wrapping_add(cell << (32 - A::CELL)), shift));
    (half..half + words)
        .map(|word| (word, u64::MAX))
        .chain(bits.map(move |bit| word(half, bit)))
}

/// That of its marker.
fn marker_word<A: Family>(key: &Key<A>, shift: u32) -> (u32, u64) {
    let half = u32::from(key.service()) * region_words(shift) + half_words(shift);
    word(half, marker_bit(key.address, key.tag(), shift))
}

/// A bit of half a region that begins with this word.
fn word(half: u32, bit: u64) -> (u32, u64) {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "half a region has at most 2^24 bits"
    )]
    (half + (bit >> 6) as u32, 1 << (bit & 63))
}

/// Whether a prefix sets the bits of all cells of its service, so that they are of no use until they are made anew.
pub fn fills_cells(prefix: IpNet, shift: u32) -> bool {
    let touched = match prefix {
        IpNet::V4(prefix) => cells::<V4>(prefix.prefix_len()),
        IpNet::V6(prefix) => cells::<V6>(prefix.prefix_len()),
    };
    touched >= 1 << (32 - shift)
}

/// As many words of each half of a service's region as tell of all of them: cells are spread evenly, and neighbourhoods, too.
pub fn samples(service: u8, shift: u32) -> [Range<u32>; 2] {
    const SAMPLE: u32 = 256;
    let first = u32::from(service) * region_words(shift);
    let words = half_words(shift);
    [first, first + words].map(|half| half..half + words.min(SAMPLE))
}

/// Whether so many bits of half a region are set, of which these are some words, that more than one in eight of unlisted sources is looked up
/// for nothing. Not where all are, or where there is no larger one: then another one would be no better.
pub fn is_crowded(sample: &[u64], shift: u32) -> bool {
    let set: u32 = sample.iter().map(|word| word.count_ones()).sum();
    let words = sample.iter().map(|_| 1).sum::<u32>();
    shift > 32 - HALF_MAX && set > words * CROWDED && set < words * u64::BITS
}

/// What leads to the entries of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its part of the prefilter.
    pub words: Vec<u64>,
    /// The prefix lengths it has.
    pub lengths: Lengths,
    shift: u32,
}

impl Region {
    /// Of a service without entries.
    pub fn new(shift: u32) -> Self {
        Self {
            words: vec![0; region_words(shift) as usize],
            lengths: Lengths::default(),
            shift,
        }
    }

    /// Leads to another entry of the service, too.
    pub fn add<A: Family>(&mut self, key: &Key<A>) {
        let first = u32::from(key.service()) * region_words(self.shift);
        for (word, bits) in prefilter_words(key, self.shift) {
            self.words[(word - first) as usize] |= bits;
        }
        A::mark_length(&mut self.lengths, key);
    }
}

/// The shift and the words of as many regions as there are.
pub(super) fn build(
    entries4: &Entries<V4>,
    entries6: &Entries<V6>,
    regions: u8,
) -> (u32, Vec<u64>) {
    let mut needed = [Needed::default(); SERVICES];
    count(entries4, &mut needed);
    count(entries6, &mut needed);
    // All halves are of one size, the one that suits the service that needs most.
    let most = |room: fn(&Bits) -> u64| {
        let halves = needed.iter().flat_map(|needed| &needed.halves);
        let most = halves.map(room).max().unwrap_or_default().max(1);
        most.next_power_of_two().ilog2()
    };
    let mut halves = needed.iter().flat_map(|needed| &needed.halves);
    let small = if halves.any(|bits| bits.live > 0) {
        SMALL
    } else {
        most(|bits| bits.all.saturating_mul(ROOM_SMALL)).min(SMALL)
    };
    let live = most(|bits| {
        let by_hand = (bits.all - bits.live).saturating_mul(ROOM);
        by_hand.saturating_add(bits.live.saturating_mul(ROOM_LIVE))
    });
    let size = most(|bits| bits.all.saturating_mul(ROOM))
        .max(live.min(LARGE))
        .max(small)
        .clamp(HALF_MIN, HALF_MAX);
    let shift = 32 - size;
    let words = region_words(shift) as usize;
    let mut prefilter = vec![0; usize::from(regions) * words];
    // Setting so many bits one by one would leave next to none unset, and take long.
    let full = needed.map(|needed| needed.wide > 4 << size);
    for (region, _) in prefilter
        .chunks_mut(words)
        .zip(full)
        .filter(|(_, full)| *full)
    {
        region[..words / 2].fill(u64::MAX);
    }
    set(entries4, shift, &full, &mut prefilter);
    set(entries6, shift, &full, &mut prefilter);
    (shift, prefilter)
}

/// What a service's entries would set in a region without end.
#[derive(Clone, Copy, Default)]
struct Needed {
    /// Cells, save those of prefixes so short that they fill any half, and markers.
    halves: [Bits; 2],
    /// Cells of prefixes shorter than a cell; those that several touch count several times.
    wide: u64,
}

#[derive(Clone, Copy, Default)]
struct Bits {
    all: u64,
    /// Those of them that live entries set.
    live: u64,
}

fn count<A: Family>(entries: &Entries<A>, needed: &mut [Needed; SERVICES]) {
    let mut last = [None; SERVICES];
    for key in entries.keys() {
        let service = usize::from(key.service());
        let needed = &mut needed[service];
        let touched = cells::<A>(key.length());
        let mut new = 0;
        if touched > 1 {
            // What fills the largest half fills a smaller one just so, and at once.
            if touched < 1 << HALF_MAX {
                new = touched;
                needed.wide += touched;
            }
        } else if last[service].replace(key.address.cell()) != Some(key.address.cell()) {
            // The keys are in the order of their addresses, so that equal cells follow each other.
            new = 1;
        }
        for (half, new) in needed.halves.iter_mut().zip([new, 1]) {
            half.all += new;
            if key.layer() == Layer::Live {
                half.live += new;
            }
        }
    }
}

fn set<A: Family>(
    entries: &Entries<A>,
    shift: u32,
    full: &[bool; SERVICES],
    prefilter: &mut [u64],
) {
    for key in entries.keys() {
        let mut set = |(word, bits): (u32, u64)| prefilter[word as usize] |= bits;
        if !full[usize::from(key.service())] {
            cell_words(key, shift).for_each(&mut set);
        }
        set(marker_word(key, shift));
    }
}
