//! From a frame to what may be SIP in it, and between whom. The first fragment of several will do: a message says first what counts here.

use std::net::IpAddr;

use etherparse::{EtherType, IpNumber, LaxNetSlice, LaxSlicedPacket};
use sipguard_ebpf::abi::LinkKind;

/// A UDP datagram, or a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Where it came from.
    pub source: IpAddr,
    /// Where it went.
    pub destination: IpAddr,
    /// What is in it, as far as it was captured and in its first fragment.
    pub payload: &'a [u8],
}

const PPPOE_SESSION: EtherType = EtherType(0x8864);
/// The header of a session, RFC 2516, with the number of what is in it.
const PPPOE_HEADER: usize = 8;
const UDP_HEADER: usize = 8;

impl<'a> Packet<'a> {
    /// Reads a frame. None where it has nothing for a port in it, or goes on what began in another packet.
    pub fn read(frame: &'a [u8], link: LinkKind) -> Option<Self> {
        let sliced = match link {
            LinkKind::Ethernet => LaxSlicedPacket::from_ethernet(frame).ok()?,
            LinkKind::Ip => LaxSlicedPacket::from_ip(frame).ok()?,
        };
        match sliced.ether_payload() {
            Some(session) if session.ether_type == PPPOE_SESSION => {
                let inside = session.payload.get(PPPOE_HEADER..)?;
                Self::of(&LaxSlicedPacket::from_ip(inside).ok()?)
            }
            _ => Self::of(&sliced),
        }
    }

    fn of(sliced: &LaxSlicedPacket<'a>) -> Option<Self> {
        let (source, destination, offset) = match sliced.net.as_ref()? {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                let offset = header.fragments_offset().value();
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    offset,
                )
            }
            LaxNetSlice::Ipv6(ip) => {
                let header = ip.header();
                let fragment = ip.extensions().clone().into_iter().find_map(|it| match it {
                    etherparse::Ipv6ExtensionSlice::Fragment(fragment) => Some(fragment),
                    _ => None,
                });
                let offset = fragment.map_or(0, |fragment| fragment.fragment_offset().value());
                (
                    header.source_addr().into(),
                    header.destination_addr().into(),
                    offset,
                )
            }
            LaxNetSlice::Arp(_) => return None,
        };
        let ip = sliced.ip_payload()?;
        if offset > 0 {
            return None;
        }
        let begin = match ip.ip_number {
            IpNumber::UDP => UDP_HEADER,
            // Its length in words of four bytes.
            IpNumber::TCP => usize::from(ip.payload.get(12)? >> 4) * 4,
            _ => return None,
        };
        Some(Self {
            source,
            destination,
            payload: ip.payload.get(begin..)?,
        })
    }
}
