//! What comes of a packet that the receiver's programs can see.

use std::net::IpAddr;

/// What was delivered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery {
    /// By which protocol.
    pub transport: Transport,
    /// From where.
    pub source: IpAddr,
    /// To which port.
    pub port: u16,
    /// The datagram; the flags of the answer; the type of its first chunk.
    pub what: Vec<u8>,
}

/// A protocol whose delivery can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// A socket got the datagram.
    Udp,
    /// A socket got the datagram.
    UdpLite,
    /// The receiver answered the segment.
    Tcp,
    /// The receiver answered the chunk.
    Sctp,
}

impl Transport {
    /// Its number in an IP header.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::UdpLite => 136,
            Self::Tcp => 6,
            Self::Sctp => 132,
        }
    }
}
