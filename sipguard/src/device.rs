//! What the kernel says of network interfaces, asked over netlink.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use sipguard_ebpf::abi::LinkKind;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// The largest packet it carries, in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// What its frames begin with, or the name of what we can't read.
    pub link: Result<LinkKind, String>,
    /// What kind of virtual device it is (`vlan`, `bridge`, …); `None` for hardware.
    pub kind: Option<String>,
    /// The number of the device it receives through, where it is a VLAN or the like (of a veth: the other end).
    pub below: Option<u32>,
    /// The number of the bridge or bond it is a port of.
    pub controller: Option<u32>,
    /// The XDP programs attached to it.
    pub xdp: Vec<Attached>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The program's id in the kernel.
    pub program: u32,
    /// Where it runs.
    pub hook: Hook,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// In the driver, before the kernel allocates anything.
    Native,
    /// Behind the driver, on any interface.
    Generic,
    /// In the network card.
    Offloaded,
}

impl Hook {
    /// Its name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
        }
    }
}

/// All interfaces of this network namespace.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn all() -> io::Result<Vec<Device>> {
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;

    let mut devices = Vec::new();
    loop {
        let (received, _) = socket.recv_from_full()?;
        let mut rest = received.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(devices),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    devices.push(device(&link));
                }
                _ => {}
            }
            // Messages are aligned to four bytes (include/uapi/linux/netlink.h, NLMSG_ALIGN).
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// The interface with this name, if there is one.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn named(name: &str) -> io::Result<Option<Device>> {
    Ok(all()?.into_iter().find(|device| device.name == name))
}

fn device(message: &LinkMessage) -> Device {
    let mut device = Device {
        name: String::new(),
        index: message.header.index,
        mtu: 0,
        up: message
            .header
            .flags
            .contains(netlink_packet_route::link::LinkFlags::Up),
        link: link_kind(message.header.link_layer_type),
        kind: None,
        below: None,
        controller: None,
        xdp: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::Link(index) => device.below = Some(*index),
            LinkAttribute::Controller(index) => device.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                device.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind_name(kind)),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(attributes) => device.xdp = attached(attributes),
            _ => {}
        }
    }
    device
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

/// What frames begin with, by the device's ARPHRD type (include/uapi/linux/if_arp.h).
fn link_kind(kind: LinkLayerType) -> Result<LinkKind, String> {
    match kind {
        LinkLayerType::Ether | LinkLayerType::Loopback => Ok(LinkKind::Ethernet),
        LinkLayerType::None
        | LinkLayerType::Rawip
        | LinkLayerType::Ppp
        | LinkLayerType::Tunnel
        | LinkLayerType::Tunnel6
        | LinkLayerType::Sit
        | LinkLayerType::Ipgre
        | LinkLayerType::Ip6gre => Ok(LinkKind::Ip),
        other => Err(format!("{other:?}")),
    }
}

fn attached(attributes: &[LinkXdp]) -> Vec<Attached> {
    let mut hook = None;
    let mut single = None;
    let mut several = Vec::new();
    for attribute in attributes {
        match *attribute {
            LinkXdp::Attached(XdpAttached::Driver) => hook = Some(Hook::Native),
            LinkXdp::Attached(XdpAttached::SocketBuffer) => hook = Some(Hook::Generic),
            LinkXdp::Attached(XdpAttached::Hardware) => hook = Some(Hook::Offloaded),
            LinkXdp::ProgId(program) => single = Some(program),
            LinkXdp::DrvProgId(program) => several.push(Attached {
                program,
                hook: Hook::Native,
            }),
            LinkXdp::SkbProgId(program) => several.push(Attached {
                program,
                hook: Hook::Generic,
            }),
            LinkXdp::HwProgId(program) => several.push(Attached {
                program,
                hook: Hook::Offloaded,
            }),
            _ => {}
        }
    }
    if several.is_empty()
        && let (Some(program), Some(hook)) = (single, hook)
    {
        several.push(Attached { program, hook });
    }
    several
}
