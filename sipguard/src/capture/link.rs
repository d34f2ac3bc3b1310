//! What the packets of a capture begin with, by its link type (the numbers are those of <https://www.tcpdump.org/linktypes.html>).

mod exported;
mod nflog;
mod ppp;
mod wifi;

use std::fmt;

use super::{
    Direction, Order,
    frame::{Begins, Frame},
};

/// A link type, as captures number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(pub(super) u16);

/// Why a packet can't be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unread {
    /// It begins with something that is not read: the capture's link type.
    Link(u16),
    /// The capture ends before its IP header begins.
    Cut,
    /// 802.11 that nobody has decrypted.
    Encrypted,
    /// Several packets in one frame of 802.11.
    Several,
    /// PPP that is compressed or encrypted.
    Compressed,
    /// What Wireshark exported, without its addresses and ports.
    Exported,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Link(number) => match name(number) {
                Some(name) => write!(f, "{name} (link type {number})"),
                None => write!(
                    f,
                    "link type {number} (see https://www.tcpdump.org/linktypes.html)"
                ),
            },
            Self::Cut => write!(f, "cut short before the IP header"),
            Self::Encrypted => write!(f, "encrypted 802.11"),
            Self::Several => write!(f, "several packets in one frame of 802.11"),
            Self::Compressed => write!(f, "compressed or encrypted PPP"),
            Self::Exported => write!(f, "exported by Wireshark without addresses and ports"),
        }
    }
}

/// What people come across that holds no IP, or not where we would look.
fn name(link: u16) -> Option<&'static str> {
    Some(match link {
        3 => "AX.25",
        6 => "Token Ring",
        7 | 129 => "ARCNET",
        8 => "SLIP",
        10 => "FDDI",
        11 | 100 => "ATM",
        104 => "Cisco HDLC",
        107 => "Frame Relay",
        119 => "802.11 with a Prism header",
        130..=137 | 164 | 178..=184 | 194 | 200 => "a header of Juniper's",
        144 => "IrDA",
        147..=162 => "a private use",
        163 => "802.11 with an AVS header",
        177 => "LAPD",
        187 | 201 => "Bluetooth HCI",
        189 | 220 | 249 => "USB",
        192 => "802.11 with a PPI header",
        195 | 215 | 230 | 283 => "802.15.4",
        197 => "ERF",
        227 => "CAN",
        231 => "D-Bus",
        243 => "MPEG-2",
        251 | 256 => "Bluetooth Low Energy",
        255 => "Bluetooth BR/EDR",
        139..=142 => "SS7",
        _ => return None,
    })
}

/// How Linux has met a packet (`sll_pkttype` of packet(7)).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen(u16);

impl From<u16> for Seen {
    fn from(kind: u16) -> Self {
        Self(kind)
    }
}

impl Seen {
    pub(super) const fn direction(self) -> Option<Direction> {
        match self.0 {
            0 => Some(Direction::In),
            4 => Some(Direction::Out),
            // To everybody, to several, to another host: nobody says which of them is this one.
            _ => None,
        }
    }
}

/// What is to be judged, and which way it went, where the packet itself says so.
pub(super) struct Found<'a> {
    pub(super) frame: Result<Frame<'a>, Unread>,
    pub(super) direction: Option<Direction>,
}

impl<'a> Found<'a> {
    const fn new(frame: Result<Frame<'a>, Unread>) -> Self {
        Self {
            frame,
            direction: None,
        }
    }

    const fn gone(frame: Result<Frame<'a>, Unread>, direction: Option<Direction>) -> Self {
        Self { frame, direction }
    }
}

impl Link {
    /// The frame as an interface would have delivered it.
    pub(super) fn frame<'a>(
        self,
        captured: &'a [u8],
        order: Order,
        scratch: &'a mut Vec<u8>,
    ) -> Found<'a> {
        let begins = |begins, bytes| Ok(Frame { begins, bytes });
        // Behind a header of so many bytes.
        let ip_behind = |header| match captured.get(header..) {
            Some(bytes) => begins(Begins::Ip, bytes),
            None => Err(Unread::Cut),
        };
        match self.0 {
            1 => Found::new(begins(Begins::Ethernet, captured)),
            // Systems don't agree on the number of raw IP; files have 101, and some have what their system had.
            101 | 12 | 14 | 228 | 229 => Found::new(begins(Begins::Ip, captured)),
            // The address family's number.
            0 | 108 => Found::new(ip_behind(4)),
            113 => cooked(captured),
            276 => cooked_2(captured),
            9 | 50 => Found::new(ppp::ppp(captured)),
            51 => Found::new(Ok(Frame::network(ppp::SESSION, captured))),
            166 => ppp::pppd(captured),
            239 => nflog::nflog(captured, order),
            253 => nflog::netlink(captured, order),
            127 => Found::new(wifi::radiotap(captured)),
            105 => Found::new(wifi::wifi(captured, false)),
            252 => Found::new(exported::exported(captured, scratch)),
            117 => pflog(captured),
            // IPsec, as FreeBSD shows it: family, SPI and flags.
            109 => Found::new(ip_behind(12)),
            other => Found::new(Err(Unread::Link(other))),
        }
    }
}

/// What the protocol field of a cooked capture says is an EtherType on most devices.
const fn has_ethertypes(device: u16) -> bool {
    // Frame Relay, 802.11 with radiotap, netlink (`ARPHRD_` of include/uapi/linux/if_arp.h).
    !matches!(device, 770 | 803 | 824)
}

/// Linux's cooked captures: 16 bytes, the last two of which are the EtherType.
fn cooked(captured: &[u8]) -> Found<'_> {
    let Some((header, packet)) = captured.split_at_checked(16) else {
        return Found::new(Err(Unread::Cut));
    };
    let [kind, device, protocol] = [0, 2, 14].map(|at| Order::Big.u16(header, at));
    Found::gone(Ok(told(device, protocol, packet)), Seen(kind).direction())
}

/// Their second version: 20 bytes, the first two of which are the EtherType.
fn cooked_2(captured: &[u8]) -> Found<'_> {
    let Some((header, packet)) = captured.split_at_checked(20) else {
        return Found::new(Err(Unread::Cut));
    };
    let [protocol, device] = [0, 8].map(|at| Order::Big.u16(header, at));
    let kind = u16::from(header[10]);
    Found::gone(Ok(told(device, protocol, packet)), Seen(kind).direction())
}

const fn told(device: u16, protocol: u16, packet: &[u8]) -> Frame<'_> {
    if has_ethertypes(device) {
        Frame::network(protocol, packet)
    } else {
        Frame::other()
    }
}

/// What BSD's packet filter logs: a header that begins with its length (less padding), with the direction behind what did not change since.
fn pflog(captured: &[u8]) -> Found<'_> {
    let direction = captured.get(60).and_then(|direction| match direction {
        1 => Some(Direction::In),
        2 => Some(Direction::Out),
        _ => None,
    });
    let packet = captured
        .first()
        .and_then(|&length| captured.get(usize::from(length).next_multiple_of(4)..));
    let frame = packet.ok_or(Unread::Cut).map(|bytes| Frame {
        begins: Begins::Ip,
        bytes,
    });
    Found::gone(frame, direction)
}

#[cfg(test)]
mod tests;
