//! What the kernel says of network interfaces, asked over netlink.

mod addresses;
pub mod driver;
mod features;
mod listening;
pub(crate) mod netlink;
mod probe;
mod receive;
mod routes;
mod unfit;

use std::io;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
        Prop, XdpAttached,
    },
};
use netlink_sys::protocols::NETLINK_ROUTE;
use sipguard_ebpf::abi::LinkKind;

pub use self::{
    addresses::addresses,
    features::NativeXdp,
    listening::listening,
    netlink::refusal,
    probe::probe,
    receive::{Receive, Setting, Threads},
    routes::{Unpacks, unpacking},
    unfit::Unfit,
};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Other names that it has (`altname` in `ip link`).
    pub alt_names: Vec<String>,
    /// Its number.
    pub index: u32,
    /// The largest packet it carries, in bytes.
    pub mtu: u32,
    /// How many receive queues it can have at most.
    pub queues: u32,
    /// Whether it is up.
    pub up: bool,
    /// What its frames begin with, or why it can't be guarded.
    pub link: Result<LinkKind, Unfit>,
    /// What kind of virtual device it is (`vlan`, `bridge`, …); `None` for hardware.
    pub kind: Option<String>,
    /// The number of the device that it was made on, where it is a VLAN, a tunnel or the like.
    pub below: Option<u32>,
    /// The number of the bridge or bond it is a port of.
    pub controller: Option<u32>,
    /// How many packets it has received since it was made, as its driver counts them.
    pub received: u64,
    /// How many packets found no room in its queue, as far as its driver counts them.
    pub missed: u64,
    /// How often its line came up or went down: drivers that begin anew, for other queues for one, let go of it for a moment.
    pub carrier_changes: u32,
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

/// Where a program meets what comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// XDP in the driver, before the kernel allocates anything.
    Native,
    /// XDP behind the driver, on any interface.
    Generic,
    /// XDP in the network card.
    Offloaded,
    /// TC ingress: behind the driver, on any interface, where the kernel has said what a packet is.
    Tc,
}

impl Hook {
    /// Its name in JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
            Self::Tc => "tc",
        }
    }
}

#[cfg(test)]
impl Device {
    /// An Ethernet card about which there is nothing to say.
    pub(crate) fn plain(index: u32, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            alt_names: Vec::new(),
            index,
            mtu: 1500,
            queues: 1,
            up: true,
            link: Ok(LinkKind::Ethernet),
            kind: None,
            below: None,
            controller: None,
            received: 0,
            missed: 0,
            carrier_changes: 0,
            xdp: Vec::new(),
        }
    }
}

/// All interfaces of this network namespace.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn all() -> io::Result<Vec<Device>> {
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let answers = netlink::ask(NETLINK_ROUTE, request, NLM_F_DUMP)?;
    let devices = answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(device(link)),
        _ => None,
    });
    let mut devices: Vec<_> = devices.collect();
    unfit::find_switches(&mut devices);
    Ok(devices)
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
        alt_names: Vec::new(),
        index: message.header.index,
        mtu: 0,
        queues: 1,
        up: message.header.flags.contains(LinkFlags::Up),
        link: Err(Unfit::Loopback),
        kind: None,
        below: None,
        controller: None,
        received: 0,
        missed: 0,
        carrier_changes: 0,
        xdp: Vec::new(),
    };
    let (mut kind, mut data, mut is_elsewhere) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::PropList(told) => {
                device
                    .alt_names
                    .extend(told.iter().filter_map(|told| match told {
                        Prop::AltIfName(name) => Some(name.clone()),
                        _ => None,
                    }));
            }
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::NumRxQueues(queues) => device.queues = *queues,
            LinkAttribute::Stats64(told) => {
                device.received = told.rx_packets;
                device.missed = told.rx_missed_errors;
            }
            LinkAttribute::CarrierChanges(changes) => device.carrier_changes = *changes,
            LinkAttribute::Link(index) => device.below = Some(*index),
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::Controller(index) => device.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(told) => kind = Some(told),
                        LinkInfo::Data(told) => data = Some(told),
                        _ => {}
                    }
                }
            }
            LinkAttribute::Xdp(attributes) => device.xdp = attached(attributes),
            _ => {}
        }
    }
    match (kind, data) {
        // The two ends of a pair name each other, and neither is below.
        (Some(InfoKind::Veth | InfoKind::Vxcan | InfoKind::Netkit), _) => device.below = None,
        (_, Some(InfoData::Vxlan(told))) => {
            device.below = told.iter().find_map(|told| match told {
                InfoVxlan::Link(index) => Some(*index),
                _ => None,
            });
        }
        // The number is another network namespace's.
        _ if is_elsewhere => device.below = None,
        _ => {}
    }
    device.link = unfit::first_header(message.header.link_layer_type, kind, data);
    device.kind = kind.map(InfoKind::to_string);
    device
}

/// Whether the kernel counts `upper` as a device above `lower`, over which it receives.
fn is_above(upper: &Device, lower: &Device) -> bool {
    lower.controller == Some(upper.index) || upper.below == Some(lower.index)
}

/// The devices directly above one: VLANs and tunnels that were made on it, the bridge or bond that it is a port of.
pub fn above<'d>(device: &Device, devices: &'d [Device]) -> impl Iterator<Item = &'d Device> {
    devices.iter().filter(move |upper| is_above(upper, device))
}

/// How many devices are below one, along the longest way down: lower ones have lower heights.
pub fn height(device: &Device, devices: &[Device]) -> usize {
    /// MAX_NEST_DEV in include/linux/netdevice.h.
    const HIGHEST: usize = 8;
    let mut level = vec![device];
    for height in 0..HIGHEST {
        let below = devices
            .iter()
            .filter(|lower| level.iter().any(|upper| is_above(upper, lower)));
        level = below.collect();
        if level.is_empty() {
            return height;
        }
    }
    HIGHEST
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
