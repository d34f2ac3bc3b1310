//! What carries the frames to the receiver: a cable, or one of the devices without an Ethernet header.

use sipguard_ebpf::abi::LinkKind;

/// What carries the frames.
///
/// A case's frames are of one form for all carriers that say what a packet is: they begin with an Ethernet header, of which a tunnel takes
/// the EtherType into its own header, and leaves out the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Ethernet: a veth pair.
    Cable,
    /// tun, where the first byte of a packet says what it is.
    Tun,
    /// tun with packet information: an EtherType in front of each packet.
    TunInformation,
    /// GRE over IPv4.
    Gre,
    /// GRE over IPv4 without a remote address.
    GreFromAnybody,
    /// GRE over IPv4, to whom each route says.
    GreExternal,
    /// GRE over IPv6.
    Ip6Gre,
    /// IPv4 and MPLS in IPv4.
    Ipip,
    /// IPv6, IPv4 and MPLS in IPv4.
    Sit,
    /// IPv6, IPv4 and MPLS in IPv6.
    Ip6Tnl,
    /// `WireGuard`, where the first byte of a packet says what it is.
    Wireguard,
    /// A PPPoE session's device.
    Ppp,
}

/// In what words a carrier says what a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// Any EtherType.
    EtherType,
    /// The number of an IP protocol.
    IpProtocol,
    /// The number of a PPP protocol.
    PppProtocol,
    /// None: the packet says it.
    None,
}

impl Carrier {
    /// The receiver's interface.
    #[must_use]
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Cable => "eth0",
            Self::Tun | Self::TunInformation => "tun0",
            Self::Wireguard => "wg0",
            Self::Ppp => "ppp0",
            Self::Gre
            | Self::GreFromAnybody
            | Self::GreExternal
            | Self::Ip6Gre
            | Self::Ipip
            | Self::Sit
            | Self::Ip6Tnl => "tun7",
        }
    }

    pub(super) const fn words(self) -> Words {
        match self {
            Self::Cable
            | Self::TunInformation
            | Self::Gre
            | Self::GreFromAnybody
            | Self::GreExternal
            | Self::Ip6Gre => Words::EtherType,
            Self::Ipip | Self::Sit | Self::Ip6Tnl => Words::IpProtocol,
            Self::Ppp => Words::PppProtocol,
            Self::Tun | Self::Wireguard => Words::None,
        }
    }

    /// Whether it says what a packet is by an EtherType, which may be that of a tag.
    #[must_use]
    pub fn has_ether_types(self) -> bool {
        self.words() == Words::EtherType
    }

    /// Whether it brings such a frame to its interface: what ipip does not is sit's.
    #[must_use]
    pub fn brings(self, frame: &[u8]) -> bool {
        self != Self::Ipip || frame.get(12..14) != Some(&[0x86, 0xdd])
    }

    /// What a case's frames begin with.
    #[must_use]
    pub const fn link(self) -> LinkKind {
        match self.words() {
            Words::None => LinkKind::Ip,
            _ => LinkKind::Ethernet,
        }
    }

    /// The shortest frame that it takes, in bytes.
    pub(super) const fn shortest(self) -> usize {
        match self.link() {
            LinkKind::Ethernet => 14,
            LinkKind::Ip => 1,
        }
    }

    /// The longest.
    pub(super) const fn longest(self) -> usize {
        match self.link() {
            LinkKind::Ethernet => 1514,
            LinkKind::Ip => 1500,
        }
    }
}
