//! What an interface would have delivered, and what it begins with.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Deref,
};

use sipguard_ebpf::{
    abi::LinkKind,
    frame::{self, Header, Said},
    header::Family,
    parse::network,
};

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Begins {
    /// An Ethernet header.
    Ethernet,
    /// An IP header, whose version says which.
    Ip,
    /// What this EtherType says (host byte order), because the capture has another header than Ethernet's in front of it, which was taken off.
    /// It is judged as what the kernel has said that it is.
    Network(u16),
}

/// Part of a capture's packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it begins with.
    pub begins: Begins,
    /// As much of it as was captured.
    pub bytes: &'a [u8],
}

/// As long as an Ethernet header.
const ETHERNET: usize = 14;

impl<'a> Frame<'a> {
    /// Behind a header of a capture that is not Ethernet's.
    pub(super) const fn network(kind: u16, bytes: &'a [u8]) -> Self {
        Self {
            begins: Begins::Network(kind),
            bytes,
        }
    }

    /// Something that is not IP and is not looked at.
    pub(super) const fn other() -> Self {
        Self::network(0, &[])
    }

    /// What it begins with on an interface of that kind.
    #[must_use]
    pub const fn link(&self) -> LinkKind {
        match self.begins {
            Begins::Ip => LinkKind::Ip,
            Begins::Ethernet | Begins::Network(_) => LinkKind::Ethernet,
        }
    }

    /// The same with an Ethernet header, which has no addresses where one has to be made.
    pub fn with_ethernet<'s>(&self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        let kind = match (self.begins, self.bytes.first().map(|first| first >> 4)) {
            (Begins::Ethernet, _) => return self.bytes,
            (Begins::Network(kind), _) => kind,
            (Begins::Ip, Some(4)) => 0x0800,
            (Begins::Ip, Some(6)) => 0x86dd,
            // For experiments (IEEE 802).
            (Begins::Ip, _) => 0x88b5,
        };
        scratch.clear();
        scratch.resize(ETHERNET - 2, 0);
        scratch.extend_from_slice(&kind.to_be_bytes());
        scratch.extend_from_slice(self.bytes);
        scratch
    }

    /// By how many bytes that makes it longer.
    #[must_use]
    pub const fn ethernet_added(&self) -> usize {
        match self.begins {
            Begins::Ethernet => 0,
            Begins::Ip | Begins::Network(_) => ETHERNET,
        }
    }

    /// Source and destination of its IP packet, if it has one.
    #[must_use]
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        let (family, offset) = network(self, self.link()).ok()?;
        let field = |at: usize| frame::Frame::read::<[u8; 16]>(self, offset + at);
        let short = |at: usize| frame::Frame::read::<[u8; 4]>(self, offset + at);
        // RFC 791 section 3.1, RFC 8200 section 3.
        Some(match family {
            Family::V4 => (
                Ipv4Addr::from(short(12)?).into(),
                Ipv4Addr::from(short(16)?).into(),
            ),
            Family::V6 => (
                Ipv6Addr::from(field(8)?).into(),
                Ipv6Addr::from(field(24)?).into(),
            ),
        })
    }
}

/// As the kernel's program reads a frame.
impl frame::Frame for Frame<'_> {
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        frame::Frame::read(self.bytes, offset)
    }

    fn first<T: Header>(&self) -> Option<impl Deref<Target = T>> {
        frame::Frame::first(self.bytes)
    }

    fn said(&self) -> Option<Said> {
        match self.begins {
            Begins::Ethernet | Begins::Ip => None,
            Begins::Network(kind) => Some(Said {
                kind: kind.to_be(),
                tags: 0,
            }),
        }
    }
}
