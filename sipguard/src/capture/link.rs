//! What the packets of a capture begin with, by its link type (the numbers are those of <https://www.tcpdump.org/linktypes.html>).

use sipguard_ebpf::abi::LinkKind;

/// How to find what the program judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Ethernet,
    Ip,
    /// Four bytes with the address family's number, then the IP header.
    Loopback,
    /// 16 bytes, the last two of which are the EtherType.
    Cooked,
    /// 20 bytes, the first two of which are the EtherType.
    Cooked2,
}

/// Addresses, in an Ethernet header.
const ADDRESSES: usize = 12;

impl Framing {
    /// The number itself where such packets can't be judged.
    pub(super) const fn of(link: i32) -> Result<Self, i32> {
        match link {
            1 => Ok(Self::Ethernet),
            // Systems don't agree on the number of raw IP; files have 101, and some have what their system had.
            101 | 12 | 14 | 228 | 229 => Ok(Self::Ip),
            0 | 108 => Ok(Self::Loopback),
            113 => Ok(Self::Cooked),
            276 => Ok(Self::Cooked2),
            _ => Err(link),
        }
    }

    /// The frame as an interface would have delivered it. A cooked one gets an Ethernet header without addresses, which no verdict asks for.
    pub(super) fn frame<'a>(
        self,
        captured: &'a [u8],
        scratch: &'a mut Vec<u8>,
    ) -> (LinkKind, &'a [u8]) {
        match self {
            Self::Ethernet => (LinkKind::Ethernet, captured),
            Self::Ip => (LinkKind::Ip, captured),
            Self::Loopback => (LinkKind::Ip, captured.get(4..).unwrap_or_default()),
            // What stands before the EtherType is as long as two addresses, and more.
            Self::Cooked => (LinkKind::Ethernet, captured.get(2..).unwrap_or_default()),
            Self::Cooked2 => {
                let (Some(kind), Some(packet)) = (captured.get(..2), captured.get(20..)) else {
                    return (LinkKind::Ethernet, &[]);
                };
                scratch.clear();
                scratch.resize(ADDRESSES, 0);
                scratch.extend_from_slice(kind);
                scratch.extend_from_slice(packet);
                (LinkKind::Ethernet, scratch)
            }
        }
    }
}
