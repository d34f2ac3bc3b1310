//! Addresses as the policy's tables see them: masks, cells and the places of their bits in the prefilter.
//!
//! The prefilter is one region of bits for each service, of two halves. In the first one a bit is set for every *cell* that an entry touches
//! (a cell is an IPv4 /24 or an IPv6 /32; a shorter prefix touches all the cells below it), in the second one a *marker* for every entry. A
//! bit may be set for nothing, never the other way round. Apart, because what nobody lists is asked for in the first half alone: the less of it there is, the
//! more of it is in the processor's caches.

use core::{fmt::Debug, hash::Hash};

use crate::lengths::{LayerLengths, Lengths};

/// An odd number near 2^32 divided by the golden ratio: multiplying by it spreads neighbours, and on the upper bits of a word it
/// is one to one, so that a full-sized half has a bit of its own for every IPv4 cell (Knuth, TAOCP 3, section 6.4). It stands in
/// the upper half because BPF calculates with 64 bits: there the product's upper half need not be cut off.
const SPREAD: u64 = 0x9E37_79B1 << 32;

/// An address, or a prefix's address, of one family.
pub trait Prefix: Copy {
    /// How long an address is, in bits.
    const BITS: u8;
    /// How long a cell's prefix is, in bits.
    const CELL: u8;
    /// How many words of [`LayerLengths`] this family has.
    const WORDS: usize;
    /// As wide as the address is aligned, so that a key has no padding.
    type Tag: Copy + Debug + Ord + Hash + From<u32> + Into<u64>;

    /// The address with all bits behind the first `length` cleared.
    #[must_use]
    fn masked(self, length: u8) -> Self;
    /// The same, by the bit that stands for this length in [`LayerLengths`], too: where it is quicker.
    #[must_use]
    fn masked_by(self, bit: u64, length: u8) -> Self;
    /// The first 32 bits, those behind the cell's prefix cleared.
    fn cell(self) -> u32;
    /// The neighbourhood whose entries have their markers beside each other: an IPv4 cell, an IPv6 /64, folded.
    fn neighbourhood(self) -> u32;
    /// Which of its neighbours it is, folded into the lower [`HALF_MIN`] bits; the upper ones mean nothing.
    fn neighbour(self) -> u64;
    /// This family's words.
    fn lengths(lengths: &LayerLengths) -> &[u64];
    /// Whether there is an entry of all of this family's addresses.
    fn has_any(lengths: &Lengths) -> bool;
}

/// An IPv4 address in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct V4(pub u32);

/// An IPv6 address as two words in host byte order, the first bits first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct V6(pub [u64; 2]);

impl From<u128> for V6 {
    #[inline(always)]
    fn from(bits: u128) -> Self {
        Self([(bits >> 64) as u64, bits as u64])
    }
}

impl From<V6> for u128 {
    fn from(V6([high, low]): V6) -> Self {
        Self::from(high) << 64 | Self::from(low)
    }
}

impl Prefix for V4 {
    const BITS: u8 = 32;
    const CELL: u8 = 24;
    const WORDS: usize = 1;
    type Tag = u32;

    #[inline(always)]
    fn masked(self, length: u8) -> Self {
        Self(self.0 & !(0xffff_ffff_u64 >> (length & 63)) as u32)
    }

    #[inline(always)]
    fn masked_by(self, bit: u64, _: u8) -> Self {
        // From the bit on all are set: the longest prefix has the lowest one. No shift, whose bounds the compiler does not know.
        Self(self.0 & ((bit >> 32) as u32).wrapping_neg())
    }

    #[inline(always)]
    fn cell(self) -> u32 {
        self.masked(Self::CELL).0
    }

    #[inline(always)]
    fn neighbourhood(self) -> u32 {
        self.cell()
    }

    #[inline(always)]
    fn neighbour(self) -> u64 {
        u64::from(self.0)
    }

    #[inline(always)]
    fn lengths(lengths: &LayerLengths) -> &[u64] {
        &lengths.v4
    }

    #[inline(always)]
    fn has_any(lengths: &Lengths) -> bool {
        lengths.any4 != 0
    }
}

/// The ones that a length leaves, for every length and for every other byte. From a table, because every branch here would be followed
/// for every length by the verifier.
static MASKS: [V6; 256] = {
    let mut masks = [V6([u64::MAX; 2]); 256];
    masks[0] = V6([0; 2]);
    let mut length = 1;
    while length < 128 {
        let bits = u128::MAX << (128 - length);
        masks[length] = V6([(bits >> 64) as u64, bits as u64]);
        length += 1;
    }
    masks
};

impl Prefix for V6 {
    const BITS: u8 = 128;
    const CELL: u8 = 32;
    const WORDS: usize = 2;
    type Tag = u64;

    #[inline(always)]
    fn masked(self, length: u8) -> Self {
        // SAFETY: the address of an element of a table.
        let Self(mask) = unsafe { (&raw const MASKS[usize::from(length)]).read_volatile() };
        let Self([high, low]) = self;
        Self([high & mask[0], low & mask[1]])
    }

    #[inline(always)]
    fn masked_by(self, _: u64, length: u8) -> Self {
        self.masked(length)
    }

    #[inline(always)]
    fn cell(self) -> u32 {
        (self.0[0] >> 32) as u32
    }

    #[inline(always)]
    fn neighbourhood(self) -> u32 {
        let Self([high, _]) = self;
        (high.wrapping_mul(0xC2B2_AE3D_27D4_EB4F) >> 32) as u32
    }

    #[inline(always)]
    fn neighbour(self) -> u64 {
        let Self([_, low]) = self;
        low.wrapping_mul(0x1656_67B1_9E37_79F9) >> (64 - HALF_MIN)
    }

    #[inline(always)]
    fn lengths(lengths: &LayerLengths) -> &[u64] {
        &lengths.v6
    }

    #[inline(always)]
    fn has_any(lengths: &Lengths) -> bool {
        lengths.any6 != 0
    }
}

/// The smallest half of a region, in bits as a power of two: one cache line.
pub const HALF_MIN: u32 = 9;
/// The largest one, in bits as a power of two: a bit for every IPv4 cell.
pub const HALF_MAX: u32 = 24;

/// Where the cells of a service begin, in halves of 2^(32 - `shift`) bits.
#[must_use]
#[inline(always)]
pub const fn cells(service: u8, shift: u32) -> u64 {
    (service as u64) << ((33 - shift) & 31)
}

/// Where the markers of a service begin, in halves of 2^(32 - `shift`) bits.
#[must_use]
#[inline(always)]
pub const fn markers(service: u8, shift: u32) -> u64 {
    (service as u64 * 2 + 1) << ((32 - shift) & 31)
}

/// Where a cell's bit is in a half of 2^(32 - `shift`) bits.
#[must_use]
#[inline(always)]
pub const fn cell_bit(cell: u32, shift: u32) -> u64 {
    (cell as u64).wrapping_mul(SPREAD) >> ((32 + shift) & 63)
}

/// Both at once, with twice the service's number in the upper half of a word, in half the instructions.
#[must_use]
#[inline(always)]
pub const fn cell_bit_of(service: u64, cell: u32, shift: u32) -> u64 {
    (service | (cell as u64).wrapping_mul(SPREAD) >> 32) >> (shift & 63)
}

/// Where the marker of an entry with this address and [`tag`](crate::abi::Key::tag) is in a half of 2^(32 - `shift`) bits: its neighbourhood says in
/// which block of the smallest half's size. What is asked for a packet beyond its cell is then in one or two cache lines, whatever lengths there are.
#[inline(always)]
pub fn marker_bit<A: Prefix>(address: A, tag: u64, shift: u32) -> u64 {
    // The length is in the tag's second byte, so that most IPv4 hosts have one half of the block and most other prefixes the other one.
    cell_bit(address.neighbourhood(), shift)
        ^ (address.neighbour() ^ tag >> 5) & ((1 << HALF_MIN) - 1)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{collections::BTreeSet, vec::Vec};

    use super::*;
    use crate::{abi::Key, lengths::Layer};

    #[test]
    fn masks_cut_where_the_length_says() {
        for length in 0..=128u8 {
            let wanted = if length == 0 {
                0
            } else {
                u128::MAX << (128 - length)
            };
            let got = u128::from(V6::from(u128::MAX).masked(length));
            assert_eq!(got, wanted, "length {length}");
        }
        for length in 0..=32u8 {
            let wanted = if length == 0 {
                0
            } else {
                u32::MAX << (32 - length)
            };
            assert_eq!(V4(u32::MAX).masked(length), V4(wanted), "length {length}");
            if length > 0 {
                let by = V4(u32::MAX).masked_by(1 << (64 - length), length);
                assert_eq!(by, V4(wanted), "length {length}");
            }
        }
    }

    /// As many bits as there are prefixes, but for a few that meet by chance.
    fn spread<A: Prefix>(prefixes: impl Iterator<Item = (A, u8)>) -> Vec<u64> {
        let bits: Vec<_> = prefixes
            .map(|(prefix, length)| {
                let key = Key::new(3, Layer::Live, prefix.masked(length), length);
                marker_bit(key.address, key.tag(), 32 - HALF_MAX)
            })
            .collect();
        let different = bits.iter().collect::<BTreeSet<_>>().len();
        assert!(different + 8 >= bits.len(), "{different} of {}", bits.len());
        bits
    }

    /// In one block of the smallest half's size: by chance, 64 of 512 meet four times.
    fn spread_beside_each_other<A: Prefix>(prefixes: impl Iterator<Item = (A, u8)>) {
        let bits = spread(prefixes);
        let block = |bit: &u64| bit >> HALF_MIN;
        assert!(bits.iter().all(|bit| block(bit) == block(&bits[0])));
    }

    #[test]
    fn markers_are_spread() {
        for length in [12, 16, 20, 24] {
            let first = 0xcb00_7100;
            spread((0..4096).map(|n| (V4(first ^ n << (32 - length)), length)));
        }
        for length in [28, 32] {
            let first = 0xcb00_7100;
            spread((0..4096).map(|n| (V4(first ^ n << 8), length)));
        }
        let first = 0x2001_0db8_0100_0006_0000_0000_0000_0066_u128;
        for length in [16, 24, 32, 40, 48, 56, 64_u8] {
            let prefix = |n: u128| V6::from(first ^ n << (128 - u32::from(length)));
            spread((0..4096).map(|n| (prefix(n), length)));
        }
        for length in [80, 96, 112, 128] {
            spread((0..4096).map(|n: u128| (V6::from(first ^ n << 64), length)));
        }
        // One within the other.
        spread((0..=32).map(|length| (V4(0xcb00_7142), length)));
        spread((0..=128).map(|length| (V6::from(first), length)));
    }

    #[test]
    fn markers_of_neighbours_are_beside_each_other() {
        for step in [1, 2] {
            let neighbours = (0..64).map(|n| V4(0xcb00_7100 + n * step));
            spread_beside_each_other(neighbours.map(|host| (host, 32)));
        }
        // One within the other.
        spread_beside_each_other((24..=32).map(|length| (V4(0xcb00_7142), length)));
        for step in [1, 1 << 16, 1 << 32, 1 << 56] {
            let first = 0x2001_0db8_0100_0006_u128 << 64;
            let neighbours = (0..64).map(|n| V6::from(first | (n * step)));
            spread_beside_each_other(neighbours.map(|host| (host, 128)));
        }
        let address = V6([0x2001_0db8_0100_0006, 0x66]);
        spread_beside_each_other((64..=128).map(|length| (address, length)));
    }

    #[test]
    fn a_full_half_has_a_bit_of_its_own_for_every_ipv4_cell() {
        // Odd multipliers are bijections modulo a power of two; two cells must differ whatever the rest.
        let shift = 32 - HALF_MAX;
        for cell in (0..1u32 << 24).step_by(65_521) {
            assert_ne!(cell_bit(cell << 8, shift), cell_bit((cell ^ 1) << 8, shift));
        }
    }
}
