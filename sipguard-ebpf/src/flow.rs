//! Who sends a packet to whom, as far as the packet says it: for those who are told of it. No verdict follows from this.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    abi::LinkKind,
    frame::Frame,
    header::{Family, Header},
    parse::{EXTENSIONS, OFFSETS, Source, network},
    prefix::{V4, V6},
};

/// What a packet's headers say, down to the first that is broken, or not in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// As in [`crate::parse::Source::words`].
    pub source: [u64; 2],
    /// The same of the destination.
    pub destination: [u64; 2],
    /// Whose addresses they are.
    pub family: Family,
    /// The number of the last header that is known (IANA, protocol numbers).
    pub protocol: u8,
    /// As they stand in the frame; zeros where they are not in it.
    pub ports: [[u8; 2]; 2],
    /// Where the header begins that has the ports; 0 where they are not in the frame.
    pub offset: usize,
}

impl Flow {
    /// What the headers of this frame say; none where there is no IP header.
    ///
    /// Reads again what [`crate::parse::parse`] has read: only what is told of pays for it then.
    #[inline(always)]
    pub fn of(frame: &(impl Frame + ?Sized), link: LinkKind) -> Option<Self> {
        let (family, offset) = network(frame, link).ok()?;
        let (mut flow, next, offset) = match family {
            Family::V4 => v4(frame, offset)?,
            Family::V6 => v6(frame, offset)?,
        };
        flow.walk(frame, next, offset);
        Some(flow)
    }

    /// Goes on behind the IP header, to the ports.
    #[inline(always)]
    fn walk(&mut self, frame: &(impl Frame + ?Sized), mut next: u8, mut offset: usize) {
        let mut walked = 0;
        loop {
            let kind = Header::numbered(next);
            self.protocol = next;
            if !kind.extends(self.family) {
                if kind.protocol().is_some()
                    && offset != 0
                    && let Some([a, b, c, d]) = frame.read::<[u8; 4]>(offset & OFFSETS)
                {
                    self.ports = [[a, b], [c, d]];
                    self.offset = offset;
                }
                return;
            }
            if walked == EXTENSIONS {
                return;
            }
            walked += 1;
            let Some([following, length, high, low, ..]) = frame.read::<[u8; 8]>(offset & OFFSETS)
            else {
                return;
            };
            // What is behind the header of a later fragment is anything (RFC 8200 section 4.5).
            if kind.is_fragment() && u16::from_be_bytes([high, low]) & 0xfff8 != 0 {
                return;
            }
            next = following;
            offset = (offset + kind.bytes(length)) & OFFSETS;
        }
    }
}

/// RFC 791 section 3.1. Where the header is broken, or belongs to a later fragment, nothing is known to begin behind it: that is 0.
#[inline(always)]
fn v4(frame: &(impl Frame + ?Sized), offset: usize) -> Option<(Flow, u8, usize)> {
    let header = frame.read::<Ipv4Hdr>(offset & OFFSETS)?;
    let flow = Flow {
        source: words4(header.src_addr),
        destination: words4(header.dst_addr),
        family: Family::V4,
        protocol: header.proto,
        ports: [[0; 2]; 2],
        offset: 0,
    };
    let whole = header.version() == 4 && header.ihl() >= 20 && header.frag_offset() == 0;
    let end = if whole {
        offset + usize::from(header.ihl())
    } else {
        0
    };
    Some((flow, header.proto, end))
}

/// RFC 8200 section 3.
#[inline(always)]
fn v6(frame: &(impl Frame + ?Sized), offset: usize) -> Option<(Flow, u8, usize)> {
    let header = frame.read::<Ipv6Hdr>(offset & OFFSETS)?;
    let flow = Flow {
        source: V6::from(u128::from_be_bytes(header.src_addr)).0,
        destination: V6::from(u128::from_be_bytes(header.dst_addr)).0,
        family: Family::V6,
        protocol: header.next_hdr,
        ports: [[0; 2]; 2],
        offset: 0,
    };
    let end = if header.version() == 6 {
        offset + size_of::<Ipv6Hdr>()
    } else {
        0
    };
    Some((flow, header.next_hdr, end))
}

#[inline(always)]
fn words4(address: [u8; 4]) -> [u64; 2] {
    Source::from(V4(u32::from_be_bytes(address))).words
}
