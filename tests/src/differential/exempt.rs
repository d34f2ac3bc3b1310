//! Where good traffic may be lost, and nowhere else: each exemption is a property of the frames, with the rule of the kernel's that it is
//! about.

use std::net::IpAddr;

use etherparse::{Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice};
use sipguard_ebpf::abi::{Action, Reason};

use super::{Carrier, change::internet};

/// Why a case's delivery may be missing behind the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exemption {
    /// A frame has more tags or extension headers than are followed: row 1 of the verdict table.
    TooDeep,
    /// A first fragment that ends before four bytes of what its header chain leads to: row 3 of the verdict table. Of IPv6, RFC 7112 forbids
    /// such, and Linux drops them from 5.11 on (`ipv6frag_thdr_truncated`), unless the fragment ends where an extension header begins: then
    /// that function's walk (`ipv6_skip_exthdr`) fails, which it takes for "not truncated". Of IPv4, only the authentication header makes a
    /// first fragment of eight bytes, which is the least, too short.
    ChainCut,
    /// An IPv6 fragment header of a first fragment, or of a whole packet, that has more in front than one header of hop-by-hop options: row 3
    /// of the verdict table. What follows is read in one way by Linux alone, and in another with connection tracking.
    Misread,
    /// A source sent several first fragments of one packet, and one of them, to a port that is closed to it, was dropped. Linux throws away
    /// what it has of a packet when a fragment comes that overlaps, and ignores one that repeats another's place
    /// (`inet_frag_queue_insert`): without the one that was dropped, other fragments overlap, or none.
    Rivals,
}

impl Exemption {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::TooDeep, Self::ChainCut, Self::Misread, Self::Rivals];

    /// The one that these frames, with the verdicts on them, are of.
    #[must_use]
    pub fn of(frames: &[Vec<u8>], reasons: &[Reason], carrier: Carrier) -> Option<Self> {
        if reasons.contains(&Reason::TooDeep) {
            return Some(Self::TooDeep);
        }
        let packets: Vec<_> = frames
            .iter()
            .map(|frame| frame.get(internet(frame, carrier)..).unwrap_or_default())
            .collect();
        let misread = |(packet, reason): (&&[u8], &Reason)| {
            *reason == Reason::Malformed && is_misread(packet).unwrap_or_default()
        };
        if packets.iter().zip(reasons).any(misread) {
            return Some(Self::Misread);
        }
        let fragments: Vec<_> = packets.iter().map(|it| Fragment::read(it)).collect();
        let first: Vec<(&Fragment, Reason)> = fragments
            .iter()
            .zip(reasons)
            .filter_map(|(fragment, reason)| Some((fragment.as_ref()?, *reason)))
            .filter(|(fragment, _)| fragment.offset == 0)
            .collect();
        let cut = |(fragment, reason): &(&Fragment, Reason)| {
            *reason == Reason::Malformed && fragment.more && fragment.chain_cut
        };
        if first.iter().any(cut) {
            return Some(Self::ChainCut);
        }
        let rivals = |(fragment, reason): &(&Fragment, Reason)| {
            let rival = |(other, passed): &(&Fragment, Reason)| {
                other.packet == fragment.packet && passed.action() == Action::Pass
            };
            matches!(reason, Reason::Unlisted | Reason::Denied) && first.iter().any(rival)
        };
        first.iter().any(rivals).then_some(Self::Rivals)
    }
}

/// What a fragment says of itself.
struct Fragment {
    /// What fragments of one packet have in common: addresses, identification, IPv4's protocol.
    packet: (IpAddr, IpAddr, u32, u8),
    /// In units of eight bytes.
    offset: u16,
    more: bool,
    /// Whether it ends less than four bytes behind its header chain.
    chain_cut: bool,
}

impl Fragment {
    /// Reads a packet; none where it is no fragment.
    fn read(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
                // What is behind the packet in its frame is no part of it.
                let end = usize::from(header.total_len()).min(packet.len());
                let contents = packet.get(header.slice().len()..end)?;
                let (_, rest) = behind(header.protocol().0, contents, authentication);
                header.is_fragmenting_payload().then(|| Self {
                    packet: (
                        header.source_addr().into(),
                        header.destination_addr().into(),
                        header.identification().into(),
                        header.protocol().0,
                    ),
                    offset: header.fragments_offset().value(),
                    more: header.more_fragments(),
                    chain_cut: rest.len() < 4,
                })
            }
            6 => {
                let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
                let end = 40 + usize::from(header.payload_length());
                // What is behind the packet in its frame is no part of it for Linux, but the filter goes by the frame.
                let beyond = packet.len().saturating_sub(end);
                let (mut number, mut rest) = (header.next_header().0, packet.get(40..)?);
                // A fragment header that makes no fragment is none.
                let fragment = loop {
                    (number, rest) = behind(number, rest, extension);
                    let fragment = fragment_header(number, rest)?;
                    (number, rest) = (fragment.next_header().0, &rest[8..]);
                    if fragment.is_fragmenting_payload() {
                        break fragment;
                    }
                };
                let inside = rest.len() >= beyond;
                (number, rest) = behind(number, rest, extension);
                while let Some(nested) = fragment_header(number, rest)
                    && nested.fragment_offset().value() == 0
                {
                    (number, rest) = behind(nested.next_header().0, &rest[8..], extension);
                }
                Some(Self {
                    packet: (
                        header.source_addr().into(),
                        header.destination_addr().into(),
                        fragment.identification(),
                        0,
                    ),
                    offset: fragment.fragment_offset().value(),
                    more: fragment.more_fragments(),
                    chain_cut: inside && rest.len() < beyond + 4,
                })
            }
            _ => None,
        }
    }
}

/// Whether a fragment header of offset zero stands where it may be misread; none where the packet ends before that is known.
fn is_misread(packet: &[u8]) -> Option<bool> {
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let (mut number, mut rest) = (header.next_header().0, packet.get(40..)?);
    let mut in_front = Vec::new();
    loop {
        if let Some(fragment) = fragment_header(number, rest) {
            if fragment.fragment_offset().value() != 0 {
                return Some(false);
            }
            if !matches!(in_front[..], [] | [0]) {
                return Some(true);
            }
            (number, rest) = (fragment.next_header().0, &rest[8..]);
        } else {
            let [next, units, ..] = *rest else {
                return None;
            };
            let length = extension(number, units)?;
            in_front.push(number);
            (number, rest) = (next, rest.get(length..)?);
        }
    }
}

fn fragment_header(number: u8, rest: &[u8]) -> Option<Ipv6FragmentHeaderSlice<'_>> {
    let header = Ipv6FragmentHeaderSlice::from_slice(rest).ok()?;
    (number == 44).then_some(header)
}

/// The first header that has no `length`, or is not there; and what is there of it.
fn behind(mut number: u8, mut rest: &[u8], length: Length) -> (u8, &[u8]) {
    while let [next, units, ..] = *rest
        && let Some(length) = length(number, units)
    {
        number = next;
        rest = rest.get(length..).unwrap_or_default();
    }
    (number, rest)
}

/// How many bytes long a header of this number is that has so many units, where another one follows it.
type Length = fn(u8, u8) -> Option<usize>;

/// What IPv6 has besides the fragment header.
fn extension(number: u8, units: u8) -> Option<usize> {
    match number {
        0 | 43 | 60 => Some(8 * (usize::from(units) + 1)),
        _ => authentication(number, units),
    }
}

/// What IPv4 has, too.
fn authentication(number: u8, units: u8) -> Option<usize> {
    (number == 51).then(|| 4 * (usize::from(units) + 2))
}
