//! What the frames of a device begin with, or why they can't be judged.
//!
//! What begins with an Ethernet header can be judged in the driver. The kinds that are not named here and have none were never tried.

use netlink_packet_route::link::{InfoData, InfoIpVlan, InfoKind, IpVlanMode, LinkLayerType};
use sipguard_ebpf::abi::LinkKind;

use super::Device;
use crate::prose::joined;

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
    /// What a switch is connected by (DSA), whose ports these are.
    #[error("its frames carry a switch's tags; name the switch's ports: {0}")]
    Switch(String),
    /// A header of its own.
    #[error(
        "its frames begin with a header that sipguard does not read ({0}); name the device that brings its packets as IP or Ethernet"
    )]
    Header(String),
}

/// Finds the devices that switches are connected by: the tag that tells the switch's port stands where the EtherType or the end of the frame should
/// be (net/dsa/tag_*.c), and neither XDP nor TC ingress sees the packet before the port's own device has it. Linux says so from 6.1 on.
pub(super) fn find_switches(devices: &mut [Device]) {
    let ports: Vec<_> = devices
        .iter()
        .filter(|device| device.kind.as_deref() == Some("dsa"))
        .filter_map(|port| Some((port.below?, port.name.clone())))
        .collect();
    for device in devices {
        let own = ports.iter().filter(|(conduit, _)| *conduit == device.index);
        let own: Vec<_> = own.map(|(_, name)| name).collect();
        if !own.is_empty() {
            device.link = Err(Unfit::Switch(joined(own)));
        }
    }
}

/// What the frames of a device begin with, by its ARPHRD type (include/uapi/linux/if_arp.h), its kind, and what is said of that.
///
/// What has no Ethernet header is judged at TC ingress, where the kernel says what a packet is and where it begins, whatever stands in front:
/// the outer header, of GRE without a remote (`__ipgre_rcv` in net/ipv4/ip_gre.c) and of all tunnels before Linux 5.14. IPsec:
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
            None
            | Some(
                InfoKind::Tun
                | InfoKind::Wireguard
                | InfoKind::GreTun
                | InfoKind::GreTun6
                | InfoKind::IpIp
                | InfoKind::SitTun
                | InfoKind::Ip6Tnl,
            ) => Ok(LinkKind::Ip),
            Some(InfoKind::Other(kind)) if kind == "ppp" => Ok(LinkKind::Ip),
            Some(InfoKind::Vti | InfoKind::Vti6 | InfoKind::Xfrm) => Err(Unfit::Ipsec(name())),
            Some(_) => Err(Unfit::Untried(name())),
        },
        other => Err(Unfit::Header(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_a_switch_is_connected_by_is_not_taken_for_ethernet() {
        let device = |index, name: &str, kind: Option<&str>, below| Device {
            kind: kind.map(str::to_owned),
            below,
            ..Device::plain(index, name)
        };
        let mut devices = [
            device(1, "eth0", None, None),
            device(2, "eth1", None, None),
            device(3, "lan1", Some("dsa"), Some(1)),
            device(4, "lan2", Some("dsa"), Some(1)),
            device(5, "eth1.7", Some("vlan"), Some(2)),
        ];
        find_switches(&mut devices);
        let links = devices.map(|device| device.link);
        assert_eq!(links[0], Err(Unfit::Switch("lan1 and lan2".into())));
        assert_eq!(links[1..], [const { Ok(LinkKind::Ethernet) }; 4]);
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
