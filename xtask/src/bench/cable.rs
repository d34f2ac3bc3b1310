//! A veth cable between two hosts, and a flood that the kernel puts on it, so that nothing but the receiving side counts.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::{
    bpf::{Link, Program},
    frames,
    guard::INTERFACE,
    lists, place,
};
use crate::netns::{End, Host, Mac, Sandbox, join};

const SIP: u16 = 5060;

/// What a flood's frames are like. All are to the SIP port, from 16,384 random sources that no list has.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Kind {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
    /// IPv4 behind a VLAN tag in the frame.
    #[serde(rename = "IPv4, tagged")]
    Tagged,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
            Self::Tagged => "IPv4, tagged",
        }
    }

    fn frame(self, macs: [Mac; 2], payload: &[u8]) -> Vec<u8> {
        let (source, target) = match self {
            Self::V6 => (lists::UNLISTED[1], IpAddr::V6(ADDRESSES.1)),
            Self::V4 | Self::Tagged => (lists::COMPLEMENTS, IpAddr::V4(ADDRESSES.0)),
        };
        frames::udp(macs, source, target, SIP, self == Self::Tagged, payload)
    }

    /// Where the four bytes of the source are that become random: the first ones of an IPv4 address, the second four of an IPv6 address,
    /// whose first four stay those of a network for documentation.
    const fn varied(self) -> i16 {
        match self {
            Self::V4 | Self::V6 => 26,
            Self::Tagged => 30,
        }
    }
}

/// The receiver's.
pub(super) const ADDRESSES: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(198, 51, 100, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2),
);

pub(super) struct Cable {
    sender: Host,
    pub(super) receiver: Host,
    macs: [Mac; 2],
}

/// Frames and the program that sends them.
pub(super) struct Flood {
    program: Program,
    frame: Vec<u8>,
}

/// Nanoseconds a packet.
pub(super) struct Turn {
    pub(super) sent_ns: f64,
    /// For each packet that the receiver took from the cable.
    pub(super) taken_ns: f64,
}

impl Cable {
    pub(super) fn new(sandbox: &Sandbox) -> Result<Self> {
        let (sender, receiver) = (sandbox.host(), sandbox.host());
        let macs = join(
            End {
                host: &sender,
                interface: INTERFACE,
                addresses: &["198.51.100.1/24", "2001:db8:1::1/64"],
            },
            End {
                host: &receiver,
                interface: INTERFACE,
                addresses: &["198.51.100.2/24", "2001:db8:1::2/64"],
            },
        );
        receiver.ip("route add default via 198.51.100.1");
        poll(&receiver)?;
        Ok(Self {
            sender,
            receiver,
            macs,
        })
    }

    pub(super) fn flood(&self, kind: Kind) -> Result<Flood> {
        self.flood_saying(kind, &[])
    }

    /// A flood of packets with something in them.
    pub(super) fn flood_saying(&self, kind: Kind, payload: &[u8]) -> Result<Flood> {
        let out = number(&self.sender, INTERFACE)?;
        Ok(Flood {
            program: Program::send(out, kind.varied())?,
            frame: kind.frame(self.macs, payload),
        })
    }

    /// Sends one packet to the SIP port from this address.
    pub(super) fn knock(&self, source: Ipv4Addr) {
        let target = IpAddr::V4(ADDRESSES.0);
        let frame = frames::udp(self.macs, source.into(), target, SIP, false, &[]);
        self.sender.wire(INTERFACE).send(&frame);
    }

    /// Has the receiver run a program in its driver.
    pub(super) fn attach(&self, program: &Program) -> Result<Link> {
        let interface = number(&self.receiver, INTERFACE)?;
        self.receiver.enter(|| Link::new(program, interface))
    }

    /// Sends so many frames as fast as it goes.
    pub(super) fn turn(&self, flood: &Flood, frames: u32) -> Result<Turn> {
        let before = received(&self.receiver)?;
        let each = self.sender.enter(|| {
            place::first(None)?;
            flood.program.inject(&flood.frame, frames)
        })?;
        let arrived = received(&self.receiver)? - before;
        ensure!(arrived > 0, "none of {frames} frames arrived");
        // The kernel cuts off what is behind the point: half a nanosecond on average.
        let sent_ns = f64::from(each) + 0.5;
        Ok(Turn {
            sent_ns,
            taken_ns: sent_ns * f64::from(frames) / arrived as f64,
        })
    }
}

/// Has a veth take frames as a network card's driver does, with or without a program.
pub(super) fn poll(host: &Host) -> Result<()> {
    ethtool(host, ["gro", "on"])
}

/// Turns a feature of a host's interface on or off.
pub(super) fn ethtool(host: &Host, feature: [&str; 2]) -> Result<()> {
    let mut ethtool = Command::new("ethtool");
    let finished = host.run(ethtool.args(["-K", INTERFACE]).args(feature));
    ensure!(
        finished.status.success(),
        "ethtool: {}",
        finished.stderr.trim()
    );
    Ok(())
}

/// The kernel's number of an interface.
pub(super) fn number(host: &Host, interface: &str) -> Result<u32> {
    let number = link(host, interface)?["ifindex"].as_u64();
    Ok(u32::try_from(number.context("ip shows no number")?)?)
}

/// An interface's Ethernet address.
pub(super) fn mac(host: &Host, interface: &str) -> Result<Mac> {
    let link = link(host, interface)?;
    let text = link["address"].as_str().context("ip shows no address")?;
    let mut mac = Mac::default();
    for (byte, digits) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(digits, 16)?;
    }
    Ok(mac)
}

fn link(host: &Host, interface: &str) -> Result<serde_json::Value> {
    let shown = host.ip(&format!("-json link show {interface}")).stdout;
    let mut links: serde_json::Value = serde_json::from_str(&shown)?;
    Ok(links[0].take())
}

/// Packets that an interface took. No program is started for it, which would cost more than a turn on the cable.
pub(super) fn received(host: &Host) -> Result<u64> {
    let text = host.enter(|| fs::read_to_string("/proc/thread-self/net/dev"))?;
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(INTERFACE)?.strip_prefix(':'));
    // Bytes are in front.
    let packets = line.and_then(|line| line.split_whitespace().nth(1));
    let packets = packets.context("the kernel shows no count of packets")?;
    Ok(packets.parse()?)
}
