//! What the frames of a device begin with where XDP sees them, or why XDP is no place to judge them.
//!
//! Generic XDP hands over what lies between the frame's link-layer header and its end. What that header is, the receiving driver says; the
//! kinds that are not named here and have no Ethernet header say it in ways that nobody has tried.

use netlink_packet_route::link::{
    InfoData, InfoGre, InfoIpVlan, InfoKind, IpVlanMode, LinkLayerType,
};
use sipguard_ebpf::abi::LinkKind;

use crate::kernel;

/// Why a device can't be guarded, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The loopback interface.
    #[error("only this host talks to itself there; name the interface that leads to the internet")]
    Loopback,
    /// A device that frames never come in by.
    #[error("no frame comes in by a {0} device; name the interface that they come in by")]
    NothingArrives(String),
    /// A device that gets its packets when XDP has run.
    #[error(
        "an ipvlan device in mode l3s gets its packets behind XDP; name the device below it, or use mode l2 or l3"
    )]
    BehindXdp,
    /// GRE to anybody.
    #[error(
        "what comes in by GRE without a remote address still begins with the outer header; give each far end a tunnel of its own, with \
         `remote ADDRESS`"
    )]
    NoRemote,
    /// A tunnel on an old kernel.
    #[error(
        "before Linux 5.14 (this is {running}) what comes in by {kind} still begins with the outer header; run a later kernel"
    )]
    OuterHeader {
        /// The kind of tunnel.
        kind: String,
        /// This kernel.
        running: String,
    },
    /// Route-based IPsec.
    #[error(
        "what comes in by {0} begins as on the device that the encrypted packet came in by; filter it with nftables"
    )]
    Ipsec(String),
    /// A device without Ethernet headers of a kind that was never tried.
    #[error(
        "what comes in by {0} has no Ethernet header, and it was never tried what it has instead; filter it with nftables"
    )]
    Untried(String),
    /// A header of its own.
    #[error(
        "its frames begin with a header that sipguard does not read ({0}); name the device that brings its packets as IP or Ethernet"
    )]
    Header(String),
}

/// What the frames of a device begin with, by its ARPHRD type (include/uapi/linux/if_arp.h), its kind, and what is said of that.
///
/// Tunnels with an IP header: "net: reset MAC header consistently across L3 virtual devices", in Linux 5.14; GRE without a remote is
/// excepted there, because programs that look at its frames expect the outer header (`__ipgre_rcv` in net/ipv4/ip_gre.c). IPsec:
/// `skb_mac_header_rebuild` in net/xfrm/xfrm_input.c.
pub(super) fn first_header(
    layer: LinkLayerType,
    kind: Option<&InfoKind>,
    data: Option<&InfoData>,
) -> Result<LinkKind, Unfit> {
    let name = || kind.map_or_else(|| layer.to_string(), InfoKind::to_string);
    match (kind, data) {
        (Some(InfoKind::Dummy | InfoKind::Ifb | InfoKind::Vrf), _) => {
            return Err(Unfit::NothingArrives(name()));
        }
        (_, Some(InfoData::IpVlan(told))) if told.contains(&InfoIpVlan::Mode(IpVlanMode::L3S)) => {
            return Err(Unfit::BehindXdp);
        }
        _ => {}
    }
    match layer {
        LinkLayerType::Ether => Ok(LinkKind::Ethernet),
        LinkLayerType::Loopback => Err(Unfit::Loopback),
        LinkLayerType::None
        | LinkLayerType::Rawip
        | LinkLayerType::Ppp
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit
        | LinkLayerType::Ipgre
        | LinkLayerType::Ip6gre => match kind {
            None | Some(InfoKind::Tun | InfoKind::Wireguard) => Ok(LinkKind::Ip),
            Some(InfoKind::Other(kind)) if kind == "ppp" => Ok(LinkKind::Ip),
            Some(InfoKind::GreTun) if !has_one_remote(data) => Err(Unfit::NoRemote),
            Some(
                InfoKind::GreTun
                | InfoKind::GreTun6
                | InfoKind::IpIp
                | InfoKind::SitTun
                | InfoKind::Ip6Tnl,
            ) => {
                if kernel::at_least(5, 14) {
                    Ok(LinkKind::Ip)
                } else {
                    Err(Unfit::OuterHeader {
                        kind: name(),
                        running: kernel::release(),
                    })
                }
            }
            Some(InfoKind::Vti | InfoKind::Vti6 | InfoKind::Xfrm) => Err(Unfit::Ipsec(name())),
            Some(_) => Err(Unfit::Untried(name())),
        },
        other => Err(Unfit::Header(other.to_string())),
    }
}

/// Whether GRE is to one far end, or to whom each route says.
fn has_one_remote(data: Option<&InfoData>) -> bool {
    let Some(InfoData::GreTun(told)) = data else {
        return false;
    };
    told.iter().any(|told| match told {
        InfoGre::Remote(remote) => !remote.is_unspecified() && !remote.is_multicast(),
        InfoGre::CollectMetadata => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn gre_begins_behind_its_header_only_with_one_remote() {
        let gre = |told: Vec<InfoGre>| {
            let data = InfoData::GreTun(told);
            first_header(LinkLayerType::Ipgre, Some(&InfoKind::GreTun), Some(&data))
        };
        let remote = |address: [u8; 4]| gre(vec![InfoGre::Remote(Ipv4Addr::from(address))]);
        assert_eq!(remote([192, 0, 2, 1]), Ok(LinkKind::Ip));
        assert_eq!(gre(vec![InfoGre::CollectMetadata]), Ok(LinkKind::Ip));
        assert_eq!(remote([0; 4]), Err(Unfit::NoRemote));
        assert_eq!(remote([239, 1, 1, 1]), Err(Unfit::NoRemote));
        assert_eq!(gre(Vec::new()), Err(Unfit::NoRemote));
    }

    #[test]
    fn what_was_never_tried_is_not_taken_for_ip() {
        let none = |kind: Option<InfoKind>| first_header(LinkLayerType::None, kind.as_ref(), None);
        // A modem, for one.
        assert_eq!(none(None), Ok(LinkKind::Ip));
        assert_eq!(none(Some(InfoKind::Wireguard)), Ok(LinkKind::Ip));
        assert_eq!(none(Some(InfoKind::Xfrm)), Err(Unfit::Ipsec("xfrm".into())));
        let gtp = none(Some(InfoKind::Gtp));
        assert_eq!(gtp, Err(Unfit::Untried("gtp".into())));
        let infiniband = first_header(LinkLayerType::Infiniband, None, None);
        assert_eq!(infiniband, Err(Unfit::Header("INFINIBAND".into())));
    }

    #[test]
    fn no_frame_comes_in_by_some_devices() {
        let ether = |kind| first_header(LinkLayerType::Ether, Some(&kind), None);
        assert_eq!(ether(InfoKind::Bridge), Ok(LinkKind::Ethernet));
        for kind in [InfoKind::Dummy, InfoKind::Ifb, InfoKind::Vrf] {
            let name = kind.to_string();
            assert_eq!(ether(kind), Err(Unfit::NothingArrives(name)));
        }
        let l3s = InfoData::IpVlan(vec![InfoIpVlan::Mode(IpVlanMode::L3S)]);
        let found = first_header(LinkLayerType::Ether, Some(&InfoKind::IpVlan), Some(&l3s));
        assert_eq!(found, Err(Unfit::BehindXdp));
    }
}
