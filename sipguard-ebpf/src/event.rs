//! What the kernel tells of single packets, and what it may tell: the other part that both sides must agree on. As in [`crate::abi`], integers are
//! in host byte order, and all padding is spelled out.

use core::mem::size_of;

use crate::abi::{Action, REASONS, Reason};

/// Changes with every change of what is in this file: what is said here goes between generations and a listener, which outlive each other.
pub const EVENTS_VERSION: u32 = 1;

/// How many sources of one second are remembered as told of, at most. Where there is no room for another one, it is left out.
pub const PLACES: usize = 65_536;

/// They are kept in sets of so many, and a source has one of these to be in: with one place for each, one source in five would find it taken
/// beside 16,384 others.
pub const WAYS: usize = 4;

/// How many sets there are: a power of two.
pub const SETS: usize = PLACES / WAYS;

/// Those of a set that were told of, as [`place`] has them.
pub type Set = [u32; WAYS];

/// How many of a frame's first bytes can follow.
pub const BYTES_MOST: usize = 1500;

/// What a listener lets the kernel tell of, until its next grant. It comes to an end by itself: who has spent it tells of nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Grant {
    /// Bit `r`: what gets its verdict for the [`Reason`] of this number is told of. 0: nobody listens.
    pub reasons: u32,
    /// Another one with each grant.
    pub number: u32,
    /// How many events each processor may tell of.
    pub events: u32,
    /// How many of a frame's first bytes are wanted, at most [`BYTES_MOST`].
    pub bytes: u32,
    /// What decides at which places a source is; nobody knows it, and each second has another one.
    pub seed: u64,
    /// The number of this second, from 1 to 255 and again.
    pub second: u32,
    /// Always zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<Grant>() == 32);

/// What one processor keeps of what it tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Teller {
    /// The verdict that is to be told of, on its way from one program to the next: as [`Told::packed`] has it.
    pub told: u32,
    /// The number of the grant that is being spent.
    pub number: u32,
    /// How much of it is spent.
    pub spent: u32,
    /// Always zero.
    pub padding: u32,
    /// When that grant was seen first, in jiffies.
    pub since: u64,
    /// How many packets were left out since the last event.
    pub left_out: u64,
    /// The event, on its way to the listener.
    pub record: Record,
}

const _: () = assert!(size_of::<Teller>() == 120);

/// How long a grant lasts, in jiffies, half a second where the kernel counts a thousand of them a second and five where it counts a hundred:
/// listeners grant ten times a second, and one that does not is dead.
pub const GRANT_LASTS: u64 = 500;

/// Bit `r`: what gets its verdict for the reason of this number is dropped, or would be outside of monitor mode.
pub const DROPS: u32 = of(Action::Drop);

/// Bit `r`: what gets its verdict for the reason of this number passes.
pub const PASSES: u32 = of(Action::Pass);

const fn of(action: Action) -> u32 {
    let mut reasons = 0;
    let mut at = 0;
    while at < Reason::COUNTED.len() {
        let reason = Reason::COUNTED[at];
        if reason.action() as u8 == action as u8 {
            reasons |= 1 << reason as u32;
        }
        at += 1;
    }
    reasons
}

/// What of a verdict is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// A [`Reason`] as its number.
    pub reason: u8,
    /// The service's number or [`crate::abi::NO_SERVICE`].
    pub service: u8,
}

impl Told {
    /// Of the verdict that this [`counter`](crate::abi::counter) counts.
    #[must_use]
    #[inline(always)]
    pub const fn counted(counter: u32) -> Self {
        Self {
            reason: (counter % REASONS as u32) as u8,
            service: (counter / REASONS as u32) as u8,
        }
    }

    /// As one number.
    #[must_use]
    #[inline(always)]
    pub const fn packed(self) -> u32 {
        (self.service as u32) << 8 | self.reason as u32
    }

    /// What [`Told::packed`] has packed.
    #[must_use]
    #[inline(always)]
    pub const fn unpacked(packed: u32) -> Self {
        Self {
            reason: packed as u8,
            service: (packed >> 8) as u8,
        }
    }

    /// Whether the policy says that the frame is to be dropped.
    #[must_use]
    #[inline(always)]
    pub const fn is_drop(self) -> bool {
        DROPS >> (self.reason & 31) & 1 == 1
    }
}

/// One event. The frame's first bytes follow, and behind them whatever the kernel has there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// When, in nanoseconds of the boot clock.
    pub boot_ns: u64,
    /// How many packets this processor has not told of since its last event, though they were to be told of.
    pub left_out: u64,
    /// The number of the generation that judged the frame: what `slot` and `service` are is for it to say.
    pub generation: u64,
    /// As in [`crate::parse::Source::words`]; zeros where `family` is 0.
    pub source: [u64; 2],
    /// The same of the destination.
    pub destination: [u64; 2],
    /// The frame's length in bytes, as it arrived.
    pub length: u32,
    /// How many bytes follow.
    pub bytes: u32,
    /// The EtherType of the packet that they have behind `front`; 0 where they are the frame itself, which begins with an Ethernet header.
    pub kind: u16,
    /// How many bytes stand in front of that packet: an Ethernet header, or whatever a tunnel has left there.
    pub front: u16,
    /// Of a VLAN tag that is not in the frame any more: its EtherType, and what stands behind that. Zeros where there is none.
    pub tag: [u16; 2],
    /// Which of the policy's interfaces it came in on.
    pub slot: u16,
    /// Source port; 0 where it is not known.
    pub source_port: u16,
    /// Destination port; 0 where it is not known.
    pub port: u16,
    /// What the interface's frames begin with: a [`crate::abi::LinkKind`] as its number.
    pub link: u8,
    /// 4 or 6; 0 where there is no IP header.
    pub family: u8,
    /// The number of the last header that is known (IANA, protocol numbers).
    pub protocol: u8,
    /// A [`Reason`] as its number.
    pub reason: u8,
    /// The service's number or [`crate::abi::NO_SERVICE`].
    pub service: u8,
    /// 1 where the policy was carried out, 0 where monitor mode let the frame pass that it drops.
    pub enforced: u8,
    /// Always zero.
    pub padding: [u8; 4],
}

const _: () = assert!(size_of::<Record>() == 88);

/// In which set a source is, and what it is known by there: a number with the second's in its lowest byte. Without the seed nobody can tell which
/// sources share a set: two do by chance alone (multiply-shift hashing; Dietzfelbinger, Hagerup, Katajainen, Penttonen, "A Reliable Randomized
/// Algorithm for the Closest-Pair Problem").
#[must_use]
#[inline(always)]
pub const fn place(seed: u64, second: u32, [high, low]: [u64; 2]) -> (u32, u32) {
    /// As many ones as zeros (2^64 divided by the golden ratio): with it the plainest seeds spread, too.
    const PLAIN: u64 = 0x9e37_79b9_7f4a_7c15;
    let seed = seed ^ PLAIN;
    let mixed = low
        .wrapping_mul(seed | 1)
        .wrapping_add(high.wrapping_mul(seed.rotate_left(32) | 1));
    let set = mixed >> (u64::BITS - SETS.ilog2());
    // The bits behind those of the set.
    let mark = (mixed >> 18) as u32 & !0xff | second & 0xff;
    (set as u32, mark)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{vec, vec::Vec};

    use super::*;

    #[test]
    fn verdicts_are_packed_and_unpacked() {
        for told in [
            Told {
                reason: 6,
                service: 16,
            },
            Told {
                reason: 5,
                service: 0,
            },
        ] {
            assert_eq!(Told::unpacked(told.packed()), told);
            assert_eq!(told.is_drop(), told.reason == 6);
        }
    }

    /// What the promise rests on that a scanner is told of beside 16,384 others: few of them find all of their places taken.
    #[test]
    fn sources_are_spread() {
        for (seed, step) in [(1, 1), (0x1234_5678_9abc_def0, 256), (u64::MAX, 1 << 12)] {
            let mut sets: Vec<Set> = vec![[0; WAYS]; SETS];
            let mut refused = 0;
            for source in 0..16_384_u64 {
                let (set, mark) = place(seed, 7, [0, 0x0a00_0000 + source * step]);
                assert_eq!(mark & 0xff, 7);
                match sets[set as usize].iter_mut().find(|way| **way == 0) {
                    Some(way) => *way = mark,
                    None => refused += 1,
                }
            }
            // One in fifty would be bad luck: with one source a set on average, four others in it.
            assert!(refused < 16_384 / 50, "{seed:#x}: {refused}");
        }
    }
}
