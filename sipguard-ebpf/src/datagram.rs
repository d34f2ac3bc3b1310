//! Which datagram a fragment belongs to, and the memory of those whose first fragment was dropped.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    abi::LinkKind,
    frame::Frame,
    header::{Family, Header},
    parse::{EXTENSIONS, MORE, OFFSETS, network},
    prefix::V6,
};

/// What Linux knows a datagram's fragments by (`struct frag_v4_compare_key` and `frag_v6_compare_key` of include/net/ipv6_frag.h and
/// include/net/inet_frag.h, save the interface): the whole key, so that no datagram is taken for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Datagram {
    /// As [`crate::parse::Source::words`].
    source: [u64; 2],
    destination: [u64; 2],
    /// The family's number above the identification; of IPv4 the protocol below it. Of IPv6 a later fragment's means nothing.
    number: u64,
}

impl Datagram {
    /// The datagram that a frame is a fragment of; none where it is no fragment, or ends before that is known.
    ///
    /// Reads again what [`crate::parse::parse`] has read: only fragments pay for it then.
    #[inline(always)]
    pub fn of(frame: &(impl Frame + ?Sized), link: LinkKind) -> Option<Self> {
        let (family, offset) = network(frame, link).ok()?;
        match family {
            Family::V4 => v4(frame, offset),
            Family::V6 => v6(frame, offset),
        }
    }

    /// Which of the places it is remembered at. Without the seed nobody can tell which datagrams share one.
    #[must_use]
    #[inline(always)]
    pub fn place(&self, seed: u64) -> u32 {
        /// An odd number with as many ones as zeros (2^64 divided by the golden ratio).
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let Self {
            source: [a, b],
            destination: [c, d],
            number,
        } = *self;
        let mut mixed = seed;
        for word in [a, b, c, d, number] {
            mixed = (mixed ^ word).wrapping_mul(FACTOR);
            mixed ^= mixed >> 32;
        }
        mixed as u32 & (DROPPED_PLACES as u32 - 1)
    }
}

/// RFC 791 section 3.1.
#[inline(always)]
fn v4(frame: &(impl Frame + ?Sized), offset: usize) -> Option<Datagram> {
    let header = frame.read::<Ipv4Hdr>(offset & OFFSETS)?;
    let id = u64::from(u16::from_be_bytes(header.id));
    Some(Datagram {
        source: [0, u64::from(u32::from_be_bytes(header.src_addr))],
        destination: [0, u64::from(u32::from_be_bytes(header.dst_addr))],
        number: (Family::V4 as u64) << 32 | id << 8 | u64::from(header.proto),
    })
}

/// RFC 8200 section 4.5: the first fragment header that makes a fragment.
#[inline(always)]
fn v6(frame: &(impl Frame + ?Sized), offset: usize) -> Option<Datagram> {
    let header = frame.read::<Ipv6Hdr>(offset & OFFSETS)?;
    let mut kind = Header::numbered(header.next_hdr);
    let mut offset = offset + size_of::<Ipv6Hdr>();
    let mut walked = 0;
    while kind.extends(Family::V6) && walked < EXTENSIONS {
        walked += 1;
        let [next, length, high, low, id @ ..] = frame.read::<[u8; 8]>(offset & OFFSETS)?;
        if kind.is_fragment() && u16::from_be_bytes([high, low]) & (0xfff8 | u16::from(MORE)) != 0 {
            return Some(Datagram {
                source: V6::from(u128::from_be_bytes(header.src_addr)).0,
                destination: V6::from(u128::from_be_bytes(header.dst_addr)).0,
                number: (Family::V6 as u64) << 32 | u64::from(u32::from_be_bytes(id)),
            });
        }
        offset = (offset + kind.bytes(length)) & OFFSETS;
        kind = Header::numbered(next);
    }
    None
}

/// How long a first fragment's drop is remembered, in jiffies: one second where the kernel counts a thousand of them a second, ten where it
/// counts a hundred. Fragments of one datagram are milliseconds apart, and a sender does not use its identification again so soon
/// (RFC 6864 section 4.3).
pub const MOMENT: u64 = 1000;

/// How many are remembered for each processor: a power of two.
pub const DROPPED_PLACES: usize = 512;

/// A datagram whose first fragment was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Dropped {
    /// Which one.
    pub datagram: Datagram,
    /// Until when its other fragments are dropped, too; in jiffies.
    pub until: u64,
    /// The service whose port it went to.
    pub service: u64,
}

const _: () = assert!(size_of::<Dropped>() == 56);
