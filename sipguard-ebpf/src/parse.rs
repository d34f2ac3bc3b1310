//! From a frame to what the policy asks about: source, protocol, destination port. Or the reason why there is none.
//!
//! The order of the checks is the order of the verdict table's rows 1 to 6, but for row 4's first half, which is [`crate::datagram`]'s.

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
    vlan::VlanHdr,
};

use crate::{
    abi::{LinkKind, Protocol, Reason},
    frame::{self, Frame, Said},
    header::{self, Family, Header},
    prefix::{Prefix as _, V4, V6},
};

/// How many VLAN tags are followed.
pub const TAGS: usize = 4;
/// How many extension headers are followed.
pub const EXTENSIONS: usize = 8;

/// No header that we reach begins behind this: 14 + 4 × 4 + 8 + 60 bytes and 8 extension headers of at most 2,048 bytes. The mask
/// changes no offset; it lets the verifier see that none grows without end.
pub(crate) const OFFSETS: usize = 0x7fff;

/// PPPoE session, RFC 2516.
const PPPOE_SESSION: u16 = 0x8864;
/// PPP's numbers for IPv4 and IPv6, RFC 1332 and RFC 5072.
const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;

/// What the policy asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: Source,
    /// A guarded protocol.
    pub protocol: Protocol,
    /// Destination port, as it stands in the frame, taken for a number of this machine's. Not as two bytes: kernels before 6.9 don't know how large a
    /// number is that is put together of two.
    pub port: u16,
    /// Where the packet's last byte is in the frame, as its IP header says; far away where that does not say. For the counters;
    /// a verdict follows from it in a first fragment only, which has to hold its ports. There it is farther away than in any other packet.
    pub last: usize,
}

/// Added to where a first fragment's last byte is.
const FIRST: usize = 1 << (usize::BITS - 1);

impl Packet {
    /// Whether it is the first fragment of several.
    #[must_use]
    #[inline(always)]
    pub const fn is_first_fragment(self) -> bool {
        self.last >= FIRST
    }
}

/// A source address. Both families have one shape, all of it written: of an `enum` the compiler also copies what only the other variant
/// has, and kernels before 6.3 refuse a program that reads what it has not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Whose address it is.
    pub family: Family,
    /// As in [`V6`]; an IPv4 address stands in the second word.
    pub words: [u64; 2],
}

impl Source {
    /// The [cell](crate::prefix::Prefix::cell) of the address.
    #[must_use]
    #[inline(always)]
    pub fn cell(self) -> u32 {
        match self.family {
            Family::V4 => V4(self.words[1] as u32).cell(),
            Family::V6 => V6(self.words).cell(),
        }
    }
}

impl From<V4> for Source {
    #[inline(always)]
    fn from(address: V4) -> Self {
        Self {
            family: Family::V4,
            words: [0, u64::from(address.0)],
        }
    }
}

impl From<V6> for Source {
    #[inline(always)]
    fn from(address: V6) -> Self {
        Self {
            family: Family::V6,
            words: address.0,
        }
    }
}

/// Finds source, protocol and destination port; `protocols` is the mask of guarded protocols. Where the kernel has said what the frame is,
/// what `link` says does not count.
///
/// # Errors
/// The reason why there is nothing to ask the policy about; [`Reason::None`] where the frame is no business of ours.
#[inline(always)]
pub fn parse(
    frame: &(impl Frame + ?Sized),
    link: LinkKind,
    protocols: u32,
) -> Result<Packet, Reason> {
    let guarded = |protocol: Protocol, _| (protocols & protocol.bit() != 0).then_some(());
    match plain(frame, link, guarded) {
        Plain::Guarded(packet, ()) => Ok(packet),
        Plain::Unguarded => Err(Reason::None),
        Plain::Not => general(frame, link, protocols),
    }
}

/// As [`parse`], for everything that [`plain`] leaves.
///
/// # Errors
/// As [`parse`].
#[inline(always)]
pub fn general(
    frame: &(impl Frame + ?Sized),
    link: LinkKind,
    protocols: u32,
) -> Result<Packet, Reason> {
    let (family, offset) = network(frame, link)?;
    let ip = match family {
        Family::V4 => ipv4(frame, offset)?,
        Family::V6 => ipv6(frame, offset)?,
    };
    let (kind, offset, first) = extensions(frame, family, &ip)?;
    let guarded = kind
        .protocol()
        .filter(|protocol| protocols & protocol.bit() != 0);
    let Some(protocol) = guarded else {
        inside(frame, offset)?;
        reassembled(&ip, first, offset + 4)?;
        return Err(Reason::None);
    };
    let [_, port] = frame
        .read::<[u16; 2]>(offset & OFFSETS)
        .ok_or(Reason::Malformed)?;
    reassembled(&ip, first, offset + 4)?;
    Ok(Packet {
        source: ip.source,
        protocol,
        port,
        last: ip.last | usize::from(first & MORE) << FIRST.trailing_zeros(),
    })
}

/// The family of the frame's packet, and where that begins.
#[inline(always)]
pub fn network(frame: &(impl Frame + ?Sized), link: LinkKind) -> Result<(Family, usize), Reason> {
    match (frame.said(), link) {
        (Some(Said { kind, tags }), _) => behind(frame, kind, 0, tags),
        (None, LinkKind::Ethernet) => ethernet(frame),
        (None, LinkKind::Ip) => bare(frame),
    }
}

/// What an IP header says.
struct Ip {
    source: Source,
    /// As [`Packet::last`].
    last: usize,
    /// Number of the next header, and where that begins.
    next: u8,
    end: usize,
    /// As [`MORE`] has it. Of IPv4 only: IPv6 has a header for it.
    first: u8,
}

/// Set where more fragments follow. Bits above it: a fragment header has others in front of it that it must not have.
pub(crate) const MORE: u8 = 1;

/// A first fragment must be what Linux makes of it, once it is put together:
///
/// - Where more fragments follow, what lies before `end` must be in the packet: Linux cuts off what is behind the packet, and takes a first
///   fragment that ends where an IPv6 extension header begins. What counts then comes in the next fragment, whatever stood behind this one.
/// - In front of an IPv6 fragment header there is nothing, or hop-by-hop options alone. Connection tracking takes the fragment header out,
///   and the stack reads on behind it with the number from the IPv6 header, or from those options: if other headers stand between, that is
///   not what the fragment header says (`nf_ct_frag6_reasm` of `net/ipv6/netfilter/nf_conntrack_reasm.c` leaves `nhoff` where it is). And it
///   notes in one byte where the header in front is (`find_prev_fhdr`), too little for one that stands further behind.
///
/// Asked last, behind what reads the frame: before that it doubles what the verifier follows.
#[inline(always)]
fn reassembled(ip: &Ip, first: u8, end: usize) -> Result<(), Reason> {
    // All ones where no more follow.
    let limit = (ip.last + 1) | usize::from(first & MORE).wrapping_sub(1);
    if end > limit || first > MORE {
        return Err(Reason::Malformed);
    }
    Ok(())
}

/// What lies before `end` must be in the frame. Not asked where something behind it is read, which is as good.
#[inline(always)]
fn inside(frame: &(impl Frame + ?Sized), end: usize) -> Result<(), Reason> {
    frame
        .read::<[u8; 1]>((end - 1) & OFFSETS)
        .map(|_| ())
        .ok_or(Reason::Malformed)
}

/// What most frames begin with. Packed, so that it need not be aligned.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Front<const TAGS: usize, I> {
    ethernet: EthHdr,
    tags: [VlanHdr; TAGS],
    ip: I,
}

/// And behind that.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct FrontIp<I> {
    header: I,
    source_port: u16,
    port: u16,
}

const _: () = assert!(size_of::<Front<0, FrontIp<Ipv4Hdr>>>() == 38);
const _: () = assert!(size_of::<Front<1, FrontIp<Ipv4Hdr>>>() == 42);
const _: () = assert!(size_of::<Front<0, FrontIp<Ipv6Hdr>>>() == 58);
const _: () = assert!(size_of::<Front<1, FrontIp<Ipv6Hdr>>>() == 62);

// SAFETY: headers without padding between them.
unsafe impl<const TAGS: usize, I: frame::Header> frame::Header for Front<TAGS, I> {}
// SAFETY: as above.
unsafe impl<I: frame::Header> frame::Header for FrontIp<I> {}

/// What [`plain`] makes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain<G> {
    /// Another frame: [`general`] takes it.
    Not,
    /// One to a port that nothing guards.
    Unguarded,
    /// One to a guarded port, and what guards that.
    Guarded(Packet, G),
}

/// IPv4 without options, or IPv6 without extension headers, behind no more than one tag, that is no fragment, its bounds checked once: half the
/// cost of the [`general`] way, which all other frames take. What guards a port is asked before the rest is read: of most frames nothing is.
#[inline(always)]
pub fn plain<G>(
    frame: &(impl Frame + ?Sized),
    link: LinkKind,
    guard: impl Fn(Protocol, u16) -> Option<G>,
) -> Plain<G> {
    match (frame.said(), link) {
        (Some(said), _) => plain_behind(frame, said.kind, guard),
        (None, LinkKind::Ethernet) => match plain_ethernet::<0, G>(frame, &guard) {
            Plain::Not => plain_ethernet::<1, G>(frame, guard),
            seen => seen,
        },
        (None, LinkKind::Ip) => Plain::Not,
    }
}

#[inline(always)]
fn plain_ethernet<const TAGS: usize, G>(
    frame: &(impl Frame + ?Sized),
    guard: impl Fn(Protocol, u16) -> Option<G>,
) -> Plain<G> {
    // The shorter of the two: the longer one is asked for where it is that.
    let Some(front) = frame.first::<Front<TAGS, FrontIp<Ipv4Hdr>>>() else {
        return Plain::Not;
    };
    let mut kind = front.ethernet.ether_type;
    for tag in front.tags {
        if !is_tag(kind) {
            return Plain::Not;
        }
        kind = tag.ether_type;
    }
    let offset = size_of::<EthHdr>() + TAGS * size_of::<VlanHdr>();
    if kind == EtherType::Ipv4 as u16 {
        return plain_ipv4(&front.ip, offset, guard);
    }
    if kind == EtherType::Ipv6 as u16
        && let Some(front) = frame.first::<Front<TAGS, FrontIp<Ipv6Hdr>>>()
    {
        return plain_ipv6(&front.ip, offset, guard);
    }
    Plain::Not
}

/// The same where the kernel has said what the frame begins with.
#[inline(always)]
fn plain_behind<G>(
    frame: &(impl Frame + ?Sized),
    kind: u16,
    guard: impl Fn(Protocol, u16) -> Option<G>,
) -> Plain<G> {
    if kind == EtherType::Ipv4 as u16
        && let Some(ip) = frame.first()
    {
        return plain_ipv4(&ip, 0, guard);
    }
    if kind == EtherType::Ipv6 as u16
        && let Some(ip) = frame.first()
    {
        return plain_ipv6(&ip, 0, guard);
    }
    Plain::Not
}

#[inline(always)]
fn plain_ipv4<G>(
    ip: &FrontIp<Ipv4Hdr>,
    offset: usize,
    guard: impl Fn(Protocol, u16) -> Option<G>,
) -> Plain<G> {
    let (port, ip) = (ip.port, &ip.header);
    if ip.vihl != 0x45 || ip.frag_offset() != 0 || more_fragments(ip) != 0 {
        return Plain::Not;
    }
    guarded(ip.proto, port, guard, || {
        let source = V4(u32::from_be_bytes(ip.src_addr)).into();
        (source, last_byte(offset, ip.tot_len))
    })
}

#[inline(always)]
fn plain_ipv6<G>(
    ip: &FrontIp<Ipv6Hdr>,
    offset: usize,
    guard: impl Fn(Protocol, u16) -> Option<G>,
) -> Plain<G> {
    let (port, ip) = (ip.port, &ip.header);
    if ip.version() != 6 {
        return Plain::Not;
    }
    guarded(ip.next_hdr, port, guard, || {
        let source = V6::from(u128::from_be_bytes(ip.src_addr)).into();
        let end = offset + size_of::<Ipv6Hdr>();
        (source, last_byte(end, ip.payload_len))
    })
}

/// What is asked of both families, once the header with this number is known to have this port: `rest` are the source and the last byte.
#[inline(always)]
fn guarded<G>(
    number: u8,
    port: u16,
    guard: impl Fn(Protocol, u16) -> Option<G>,
    rest: impl FnOnce() -> (Source, usize),
) -> Plain<G> {
    let Some(protocol) = header::protocol(number) else {
        return Plain::Not;
    };
    let Some(guard) = guard(protocol, port) else {
        return Plain::Unguarded;
    };
    let (source, last) = rest();
    let packet = Packet {
        source,
        protocol,
        port,
        last,
    };
    Plain::Guarded(packet, guard)
}

/// Whether an EtherType, as it stands in the frame, says that a VLAN tag follows.
#[inline(always)]
fn is_tag(kind: u16) -> bool {
    kind == EtherType::Ieee8021q as u16 || kind == EtherType::Ieee8021ad as u16
}

/// Behind the Ethernet header and what follows it.
#[inline(always)]
fn ethernet(frame: &(impl Frame + ?Sized)) -> Result<(Family, usize), Reason> {
    let kind = frame.read::<EthHdr>(0).ok_or(Reason::None)?.ether_type;
    behind(frame, kind, size_of::<EthHdr>(), 0)
}

/// Behind the tags and a PPPoE session's header, if `kind`, an EtherType as it stands in frames, says that they begin at `offset`; so many
/// tags were in front of that. A frame that ends before its IP header begins is no business of ours.
#[inline(always)]
fn behind(
    frame: &(impl Frame + ?Sized),
    mut kind: u16,
    mut offset: usize,
    tags: usize,
) -> Result<(Family, usize), Reason> {
    // Whether there is a tag is asked at the end of each turn: a loop that is entered in its middle is one that kernels before 6.4 may refuse.
    if is_tag(kind) {
        let mut walked = 0;
        loop {
            // The first bound is the one that the verifier sees.
            if walked == TAGS || walked + tags == TAGS {
                return Err(Reason::TooDeep);
            }
            walked += 1;
            kind = frame
                .read::<VlanHdr>(offset & OFFSETS)
                .ok_or(Reason::None)?
                .ether_type;
            offset += size_of::<VlanHdr>();
            if !is_tag(kind) {
                break;
            }
        }
    }
    if kind == EtherType::Ipv4 as u16 {
        Ok((Family::V4, offset))
    } else if kind == EtherType::Ipv6 as u16 {
        Ok((Family::V6, offset))
    } else if kind == PPPOE_SESSION.to_be() {
        pppoe(frame, offset)
    } else {
        Err(Reason::None)
    }
}

/// Behind a PPPoE session's header and the PPP protocol field, which may be compressed to one byte: a number whose first byte is
/// odd ends there (RFC 1661 section 6.5; Linux took it so until 2026).
#[inline(always)]
fn pppoe(frame: &(impl Frame + ?Sized), offset: usize) -> Result<(Family, usize), Reason> {
    let [.., first] = frame
        .read::<[u8; 7]>(offset & OFFSETS)
        .ok_or(Reason::None)?;
    let (protocol, offset) = if first & 1 == 1 {
        (u16::from(first), offset + 7)
    } else {
        let [.., first, second] = frame
            .read::<[u8; 8]>(offset & OFFSETS)
            .ok_or(Reason::None)?;
        (u16::from_be_bytes([first, second]), offset + 8)
    };
    match protocol {
        PPP_IPV4 => Ok((Family::V4, offset)),
        PPP_IPV6 => Ok((Family::V6, offset)),
        _ => Err(Reason::None),
    }
}

/// A frame that begins with its IP header, whose version says which it is. Two bytes are read, because the check for a single one at
/// the very beginning becomes a comparison that the verifier learns nothing from; one byte alone is nobody's packet.
#[inline(always)]
fn bare(frame: &(impl Frame + ?Sized)) -> Result<(Family, usize), Reason> {
    let [first, _] = frame.read::<[u8; 2]>(0).ok_or(Reason::None)?;
    match first >> 4 {
        4 => Ok((Family::V4, 0)),
        6 => Ok((Family::V6, 0)),
        _ => Err(Reason::None),
    }
}

/// [`MORE`] or zero (RFC 791 section 3.1).
#[inline(always)]
fn more_fragments(ip: &Ipv4Hdr) -> u8 {
    ip.frag_flags() & MORE
}

/// RFC 791 section 3.1.
#[inline(always)]
fn ipv4(frame: &(impl Frame + ?Sized), offset: usize) -> Result<Ip, Reason> {
    let header = frame
        .read::<Ipv4Hdr>(offset & OFFSETS)
        .ok_or(Reason::Malformed)?;
    if header.version() != 4 || header.ihl() < 20 {
        return Err(Reason::Malformed);
    }
    let end = offset + usize::from(header.ihl());
    let first = more_fragments(&header);
    if header.frag_offset() != 0 {
        return Err(inside(frame, end).err().unwrap_or(Reason::Fragment));
    }
    Ok(Ip {
        source: V4(u32::from_be_bytes(header.src_addr)).into(),
        last: last_byte(offset, header.tot_len),
        next: header.proto,
        end,
        first,
    })
}

/// RFC 8200 section 3.
#[inline(always)]
fn ipv6(frame: &(impl Frame + ?Sized), offset: usize) -> Result<Ip, Reason> {
    let header = frame
        .read::<Ipv6Hdr>(offset & OFFSETS)
        .ok_or(Reason::Malformed)?;
    if header.version() != 6 {
        return Err(Reason::Malformed);
    }
    let end = offset + size_of::<Ipv6Hdr>();
    Ok(Ip {
        source: V6::from(u128::from_be_bytes(header.src_addr)).into(),
        last: last_byte(end, header.payload_len),
        next: header.next_hdr,
        end,
        first: 0,
    })
}

/// Where the last of so many bytes is. No bytes at all stand for more than the field can say (jumbograms, and what the stack has put
/// together itself).
#[inline(always)]
fn last_byte(offset: usize, length: [u8; 2]) -> usize {
    offset + usize::from(u16::from_be_bytes(length).wrapping_sub(1))
}

/// Walks the extension headers (RFC 8200 section 4; the authentication header, RFC 4302, behind IPv4 too) in whatever order they come:
/// Linux takes more orders than the RFC recommends. Returns the kind of the first header that is none, where it begins, and what
/// [`reassembled`] asks of a first fragment.
#[inline(always)]
fn extensions(
    frame: &(impl Frame + ?Sized),
    family: Family,
    ip: &Ip,
) -> Result<(Header, usize, u8), Reason> {
    let mut kind = Header::numbered(ip.next);
    let mut offset = ip.end;
    let mut first = ip.first;
    let mut front = 0;
    let mut walked = 0;
    while kind.extends(family) {
        if walked == EXTENSIONS {
            return Err(Reason::TooDeep);
        }
        walked += 1;
        // Every extension header is at least eight bytes long.
        let [next, length, high, low, ..] = frame
            .read::<[u8; 8]>(offset & OFFSETS)
            .ok_or(Reason::Malformed)?;
        // The lowest bit says that more follow, the next two nothing; what is left is the offset (RFC 8200 section 4.5).
        let field = u16::from_be_bytes([high, low]);
        if kind.is_fragment() && field & 0xfff8 != 0 {
            reassembled(ip, first, offset + 8)?;
            return Err(Reason::Fragment);
        }
        first |= kind.fragment_mask() & (low & MORE | front & !MORE);
        front += kind.front();
        let end = offset + kind.bytes(length);
        inside(frame, end)?;
        offset = end & OFFSETS;
        kind = Header::numbered(next);
    }
    Ok((kind, offset, first))
}
