//! Which lengths the prefixes of a service's entries have, in which layer.

/// Who has said something of a prefix. Each layer is asked for its most specific entry by itself, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Layer {
    /// A person: the config file and its lists, `allow` and `deny`. What is said of `any` is asked for last, behind all layers.
    Hand = 0,
    /// What moves by itself: bans by other programs, and the entries of live sources.
    Live = 1,
}

/// The prefix lengths that a service has entries of, by layer. One may stay here after its last entry is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Lengths {
    /// In the order of the layers' numbers.
    pub layers: [LayerLengths; 2],
    /// Not 0: there is an entry by hand of `any`, IPv4.
    pub any4: u64,
    /// The same of IPv6.
    pub any6: u64,
}

impl Lengths {
    /// Those of one layer.
    #[must_use]
    #[inline(always)]
    pub const fn of(&self, layer: Layer) -> &LayerLengths {
        &self.layers[layer as usize]
    }
}

/// The prefix lengths of one layer, longest first: bit `n` counted from the lowest of a family's words stands for the length `64 * WORDS - n`. 0 is
/// not among them: `any` is asked for by itself, behind both layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LayerLengths {
    /// Of IPv4 prefixes: 32 to 1, in the upper half.
    pub v4: [u64; 1],
    /// Of IPv6 prefixes: 128 to 1.
    pub v6: [u64; 2],
}

const _: () = assert!(size_of::<Lengths>() == 64);

/// How many bits there are from the lowest one that is set up to the highest. BPF has no instruction for it, so it comes from a table, and the
/// compiler's own would do but for this: the compiler knows that its numbers end at 64, and leaves out what shows the verifier, which does
/// not, that a length calculated from one is a byte.
#[must_use]
#[inline(always)]
pub fn from_lowest(bits: u64) -> u8 {
    let lowest = bits & bits.wrapping_neg();
    let place = (lowest.wrapping_mul(DE_BRUIJN) >> 58) as usize;
    // SAFETY: the address of an element of a table: six bits are left.
    unsafe { (&raw const FROM_LOWEST[place]).read_volatile() }
}

/// A De Bruijn sequence: each six bits in a row are found in it once (Leiserson, Prokop, Randall, "Using de Bruijn Sequences to Index a 1 in a
/// Computer Word").
const DE_BRUIJN: u64 = 0x0218_a392_cd3d_5dbf;

/// Not the places of the bits: LLVM recognizes a table of those, volatile or not, and puts its own in its place (its pass
/// `AggressiveInstCombine`).
static FROM_LOWEST: [u8; 64] = {
    let mut numbers = [0; 64];
    let mut bit = 0;
    while bit < 64 {
        numbers[(DE_BRUIJN << bit >> 58) as usize] = 64 - bit;
        bit += 1;
    }
    numbers
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_counted_from_the_lowest() {
        for bit in 0..64 {
            assert_eq!(from_lowest(1 << bit), 64 - bit);
            assert_eq!(from_lowest(u64::MAX << bit), 64 - bit);
        }
    }
}
