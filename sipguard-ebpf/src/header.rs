//! What the number of a next header stands for, from a table.
//!
//! A table instead of a `match`, and read so that the compiler does not turn it into one: the verifier follows every branch of a `match`
//! to the end of the program, one extension header after the other, but takes what comes out of a table for one unknown value.

use core::mem;

use network_types::ip::IpProto;

use crate::abi::Protocol;

/// The two families of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 1 << 0,
    /// IPv6.
    V6 = 1 << 1,
}

/// Set where the header is IPv6's fragment header.
const FRAGMENT: u8 = 1 << 2;
/// Set where the header has the ports; then [`PROTOCOL`] is one.
const PORTS: u8 = 1 << 3;
/// Where the [`Protocol`] stands.
const PROTOCOL_SHIFT: u8 = 4;
/// Where it stands how much [`Header::front`] is.
const FRONT_SHIFT: u8 = 6;

/// The kind of a header behind an IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct Header {
    /// The families that it is an extension header of, and the flags above.
    flags: u8,
    /// The bits of its second byte that are its length.
    length: u8,
    /// What is added to the length,
    added: u8,
    /// and how many bytes each of the sum is.
    unit: u8,
}

static HEADERS: [Header; 256] = {
    let other = Header {
        flags: 0,
        length: 0,
        added: 0,
        unit: 0,
    };
    // RFC 8200 section 4: in units of eight bytes, not counting the first.
    let extension = Header {
        flags: Family::V6 as u8 | 2 << FRONT_SHIFT,
        length: 0xff,
        added: 1,
        unit: 8,
    };
    let mut headers = [other; 256];
    headers[IpProto::HopOpt as usize] = Header {
        flags: Family::V6 as u8 | 1 << FRONT_SHIFT,
        ..extension
    };
    headers[IpProto::Ipv6Route as usize] = extension;
    headers[IpProto::Ipv6Opts as usize] = extension;
    // RFC 8200 section 4.5: always eight bytes, whatever the second one says.
    headers[IpProto::Ipv6Frag as usize] = Header {
        flags: Family::V6 as u8 | FRAGMENT,
        length: 0,
        ..extension
    };
    // RFC 4302 section 2.2: in units of four bytes, not counting two.
    headers[IpProto::Ah as usize] = Header {
        flags: Family::V4 as u8 | Family::V6 as u8 | 2 << FRONT_SHIFT,
        length: 0xff,
        added: 2,
        unit: 4,
    };
    let mut protocol = 0;
    while protocol < Protocol::ALL.len() {
        let number = match Protocol::ALL[protocol] {
            Protocol::Udp => IpProto::Udp,
            Protocol::Tcp => IpProto::Tcp,
            Protocol::Sctp => IpProto::Sctp,
            Protocol::UdpLite => IpProto::UdpLite,
        };
        headers[number as usize].flags = PORTS | (protocol as u8) << PROTOCOL_SHIFT;
        protocol += 1;
    }
    headers
};

impl Header {
    /// The kind with this number (IANA, protocol numbers).
    #[must_use]
    #[inline(always)]
    pub fn numbered(number: u8) -> Self {
        let word = (&raw const HEADERS[usize::from(number)]).cast::<u32>();
        // SAFETY: the address of an element of a table, which is as large and as aligned as a word; and any bytes are a `Header`. Volatile
        // reads are made as they are written, and one of four bytes is four reads less than four of one.
        unsafe { mem::transmute(word.read_volatile()) }
    }

    /// Whether another header follows this one, behind an IP header of this family.
    #[must_use]
    #[inline(always)]
    pub const fn extends(self, family: Family) -> bool {
        self.flags & family as u8 != 0
    }

    /// Whether this is IPv6's fragment header.
    #[must_use]
    #[inline(always)]
    pub const fn is_fragment(self) -> bool {
        self.flags & FRAGMENT != 0
    }

    /// All ones where this is IPv6's fragment header, else zero. Calculated with, where a branch would double what the verifier follows.
    #[must_use]
    #[inline(always)]
    pub const fn fragment_mask(self) -> u8 {
        (self.flags >> FRAGMENT.trailing_zeros() & 1).wrapping_neg()
    }

    /// How much stands in front of a fragment header behind this one, summed up over all headers there: no fragment header counts, one header of
    /// hop-by-hop options is 1, everything else is more. Calculated with, as above.
    #[must_use]
    #[inline(always)]
    pub const fn front(self) -> u8 {
        self.flags >> FRONT_SHIFT
    }

    /// How long an extension header is, in bytes, whose second byte is `length`.
    #[must_use]
    #[inline(always)]
    pub const fn bytes(self, length: u8) -> usize {
        ((length & self.length) as usize + self.added as usize) * self.unit as usize
    }

    /// The protocol whose ports begin this header.
    #[must_use]
    #[inline(always)]
    pub const fn protocol(self) -> Option<Protocol> {
        if self.flags & PORTS == 0 {
            return None;
        }
        Some(match self.flags >> PROTOCOL_SHIFT & 3 {
            0 => Protocol::Udp,
            1 => Protocol::Tcp,
            2 => Protocol::Sctp,
            _ => Protocol::UdpLite,
        })
    }
}

/// The number of the [`Protocol`] with this number among those of next headers, or [`OTHER`].
static PROTOCOLS: [u8; 256] = {
    let mut protocols = [OTHER; 256];
    let mut number = 0;
    while number < protocols.len() {
        if let Some(protocol) = HEADERS[number].protocol() {
            protocols[number] = protocol as u8;
        }
        number += 1;
    }
    protocols
};

/// More than any protocol's number.
const OTHER: u8 = u8::MAX;

/// As [`Header::protocol`] of the header with this number, where nothing else is asked of it: from a table of its own, in half the instructions.
#[must_use]
#[inline(always)]
pub fn protocol(number: u8) -> Option<Protocol> {
    // SAFETY: the address of an element of a table.
    match unsafe { (&raw const PROTOCOLS[usize::from(number)]).read_volatile() } {
        0 => Some(Protocol::Udp),
        1 => Some(Protocol::Tcp),
        2 => Some(Protocol::Sctp),
        3 => Some(Protocol::UdpLite),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_number_is_nobody_s() {
        for number in 0..=255 {
            let header = Header::numbered(number);
            let of_both = number == 51;
            let of_v6 = of_both || [0, 43, 44, 60].contains(&number);
            let ports = [6, 17, 132, 136].contains(&number);
            assert_eq!(header.extends(Family::V4), of_both, "{number}");
            assert_eq!(header.extends(Family::V6), of_v6, "{number}");
            assert_eq!(header.is_fragment(), number == 44, "{number}");
            assert_eq!(header.protocol().is_some(), ports, "{number}");
            assert_eq!(protocol(number), header.protocol(), "{number}");
        }
    }
}
