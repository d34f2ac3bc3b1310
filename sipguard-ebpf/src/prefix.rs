//! Addresses as the policy's tables see them: masks, cells and the places of their bits in the prefilter.
//!
//! The prefilter is one region of bits for each service. Two kinds of bits are set in it: one for every *cell* that an entry
//! touches (a cell is an IPv4 /24 or an IPv6 /32; a shorter prefix touches all the cells below it), and one *marker* for
//! every entry. A bit may be set for nothing, never the other way round.

use crate::abi::Lengths;

/// An odd number near 2^32 divided by the golden ratio: multiplying by it spreads neighbours, and on the upper bits of a word it
/// is one to one, so that a full-sized region has a bit of its own for every IPv4 cell (Knuth, TAOCP 3, section 6.4).
const SPREAD: u32 = 0x9E37_79B1;

/// An address, or a prefix's address, of one family.
pub trait Prefix: Copy {
    /// How long an address is, in bits.
    const BITS: u8;
    /// How long a cell's prefix is, in bits.
    const CELL: u8;
    /// How many words of [`Lengths`] this family has.
    const WORDS: usize;

    /// The address with all bits behind the first `length` cleared.
    #[must_use]
    fn masked(self, length: u8) -> Self;
    /// The first 32 bits, those behind the cell's prefix cleared.
    fn cell(self) -> u32;
    /// All bits folded into 32.
    fn folded(self) -> u32;
    /// This family's words.
    fn lengths(lengths: &Lengths) -> &[u64];
}

/// An IPv4 address in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct V4(pub u32);

/// An IPv6 address as four words in host byte order, the first bits first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct V6(pub [u32; 4]);

/// `length` ones from the top, of 64 bits. In two steps and without a branch: a shift by 64 is none, and every branch here would be
/// followed for every prefix length.
#[inline(always)]
const fn mask(length: u8) -> u64 {
    let half = length / 2;
    !((u64::MAX >> half) >> (length - half))
}

impl Prefix for V4 {
    const BITS: u8 = 32;
    const CELL: u8 = 24;
    const WORDS: usize = 1;

    #[inline(always)]
    fn masked(self, length: u8) -> Self {
        Self(self.0 & (mask(length) >> 32) as u32)
    }

    #[inline(always)]
    fn cell(self) -> u32 {
        self.masked(Self::CELL).0
    }

    #[inline(always)]
    fn folded(self) -> u32 {
        self.0
    }

    #[inline(always)]
    fn lengths(lengths: &Lengths) -> &[u64] {
        &lengths.v4
    }
}

impl Prefix for V6 {
    const BITS: u8 = 128;
    const CELL: u8 = 32;
    const WORDS: usize = 3;

    #[inline(always)]
    fn masked(self, length: u8) -> Self {
        let Self([a, b, c, d]) = self;
        let (high, low) = if length > 64 {
            (u64::MAX, mask(length - 64))
        } else {
            (mask(length), 0)
        };
        Self([
            a & (high >> 32) as u32,
            b & high as u32,
            c & (low >> 32) as u32,
            d & low as u32,
        ])
    }

    #[inline(always)]
    fn cell(self) -> u32 {
        self.0[0]
    }

    #[inline(always)]
    fn folded(self) -> u32 {
        let Self([a, b, c, d]) = self;
        let high = (u64::from(a) << 32 | u64::from(b)).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        let low = (u64::from(c) << 32 | u64::from(d)).wrapping_mul(0x1656_67B1_9E37_79F9);
        let folded = high ^ low.rotate_left(31);
        (folded >> 32) as u32 ^ folded as u32
    }

    #[inline(always)]
    fn lengths(lengths: &Lengths) -> &[u64] {
        &lengths.v6
    }
}

/// The smallest region, in bits as a power of two: one cache line.
pub const REGION_MIN: u32 = 9;
/// The largest region, in bits as a power of two: a bit for every IPv4 cell.
pub const REGION_MAX: u32 = 24;

/// Where a cell's bit is in a region of 2^(32 - `shift`) bits.
#[must_use]
#[inline(always)]
pub const fn cell_bit(cell: u32, shift: u32) -> u32 {
    cell.wrapping_mul(SPREAD) >> shift
}

/// Where the marker of `prefix/length` is in a region of 2^(32 - `shift`) bits; the prefix's host bits must be zero.
#[inline(always)]
pub fn marker_bit<A: Prefix>(prefix: A, length: u8, shift: u32) -> u32 {
    (prefix.folded() ^ (length as u32).wrapping_mul(0x85EB_CA6B)).wrapping_mul(SPREAD) >> shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_cut_where_the_length_says() {
        let address = V6([u32::MAX; 4]);
        for length in 0..=128u8 {
            let wanted = if length == 0 {
                0
            } else {
                u128::MAX << (128 - length)
            };
            let V6([a, b, c, d]) = address.masked(length);
            let got = [a, b, c, d]
                .into_iter()
                .fold(0u128, |sum, word| sum << 32 | u128::from(word));
            assert_eq!(got, wanted, "length {length}");
        }
        for length in 0..=32u8 {
            let wanted = if length == 0 {
                0
            } else {
                u32::MAX << (32 - length)
            };
            assert_eq!(V4(u32::MAX).masked(length), V4(wanted), "length {length}");
        }
    }

    #[test]
    fn a_full_region_has_a_bit_of_its_own_for_every_ipv4_cell() {
        // Odd multipliers are bijections modulo a power of two; two cells must differ whatever the rest.
        let shift = 32 - REGION_MAX;
        for cell in (0..1u32 << 24).step_by(65_521) {
            assert_ne!(cell_bit(cell << 8, shift), cell_bit((cell ^ 1) << 8, shift));
        }
    }
}
