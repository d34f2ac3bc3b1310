//! From the test's frames to the receiver, and from its answers back.

use std::{
    num::NonZeroU32,
    os::fd::{AsFd, OwnedFd},
    process::Command,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_setfl},
    io::{Errno, read, write},
    net::{
        AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with,
        sockopt::set_socket_recv_buffer_size_force,
    },
};

use super::{Carrier, carrier::Words, ways::session};
use crate::{
    frame::{Frame, eth},
    netns::{End, Host, SCRATCH, Sandbox, Wire, join, until},
    tun::{self, Tun},
};

const PATIENCE: Duration = Duration::from_mins(1);

/// The two ends of what carries tunnels.
const NEAR: &str = "10.9.0.1";
const FAR: &str = "10.9.0.2";
const NEAR_V6: &str = "fd00:9::1";
const FAR_V6: &str = "fd00:9::2";

/// `ETH_P_PPP_SES`.
const SESSION: u16 = 0x8864;
/// The header of a session and the number of a PPP protocol.
const SESSION_HEADER: usize = 8;

/// What frames go out by, and answers come back.
pub(super) enum Line {
    /// A socket on the other end of the cable, or of the tunnel.
    Wire {
        _outside: Host,
        wire: Wire,
        carrier: Carrier,
        answers: Vec<OwnedFd>,
        /// Where in an answer's frame its packet begins.
        packet: usize,
        /// A session lives as long as these are open.
        _session: Vec<OwnedFd>,
    },
    /// The far end of a tun device.
    Tun { end: OwnedFd, information: bool },
}

impl Line {
    /// Makes what leads to the receiver, with the addresses that the frame builder knows.
    pub(super) fn new(sandbox: &Sandbox, receiver: &Host, carrier: Carrier) -> Self {
        match carrier {
            Carrier::Tun => tun(receiver, Tun::Ip),
            Carrier::TunInformation => tun(receiver, Tun::Information),
            Carrier::Cable => cable(sandbox, receiver),
            _ => tunnel(sandbox, receiver, carrier),
        }
    }

    pub(super) fn send(&self, frame: &[u8]) {
        match self {
            Self::Wire { wire, carrier, .. } => {
                if let Some(outer) = wrapped(*carrier, frame) {
                    wire.send(&outer);
                }
            }
            Self::Tun {
                end,
                information: false,
            } => inject(end, frame),
            // Flags that mean nothing, and the EtherType.
            Self::Tun {
                end,
                information: true,
            } => inject(end, &[&[0, 0], &frame[12..]].concat()),
        }
    }

    /// Waits until there is something to read.
    pub(super) fn wait(&self) {
        let first = match self {
            Self::Wire { answers, .. } => &answers[0],
            Self::Tun { end, .. } => end,
        };
        let mut ready = [PollFd::new(first, PollFlags::IN)];
        let patience = Timespec::try_from(PATIENCE).expect("a minute");
        let woken = poll(&mut ready, Some(&patience)).expect("poll works");
        assert_ne!(woken, 0, "the receiver answers no more");
    }

    /// The packets that came back, from their IP headers on.
    pub(super) fn drain(&self, mut each: impl FnMut(&[u8])) {
        let mut buffer = [0; 2048];
        let mut all = |begin, next: &mut dyn FnMut(&mut [u8]) -> rustix::io::Result<usize>| loop {
            match next(&mut buffer) {
                Ok(length) => each(buffer.get(begin..length).unwrap_or_default()),
                Err(Errno::AGAIN) => return,
                Err(error) => panic!("answers can't be read: {error}"),
            }
        };
        match self {
            Self::Wire {
                answers, packet, ..
            } => {
                for socket in answers {
                    all(*packet, &mut |buffer| {
                        let received = recv(socket, buffer, RecvFlags::empty());
                        received.map(|(length, _)| length)
                    });
                }
            }
            Self::Tun { end, information } => {
                let begin = if *information { 4 } else { 0 };
                all(begin, &mut |buffer| read(end, buffer));
            }
        }
    }
}

/// The frame on the cable that brings such a frame into a tunnel; none where the tunnel has no word for what it is.
fn wrapped(carrier: Carrier, frame: &[u8]) -> Option<Vec<u8>> {
    match carrier {
        Carrier::Cable => return Some(frame.to_vec()),
        // The sender's device refuses what is no packet.
        Carrier::Wireguard => {
            let whole = match frame[0] >> 4 {
                4 => frame.len() >= 20,
                6 => frame.len() >= 40,
                _ => false,
            };
            return whole.then(|| frame.to_vec());
        }
        _ => {}
    }
    let (kind, packet) = (&frame[12..14], &frame[14..]);
    let number = u16::from_be_bytes([kind[0], kind[1]]);
    let outer = match carrier {
        Carrier::Ip6Gre | Carrier::Ip6Tnl => eth().ip(FAR_V6).to(NEAR_V6),
        _ => eth().ip(FAR).to(NEAR),
    };
    let outer = match carrier.words() {
        Words::EtherType => outer.raw(0, 47, &[&[0, 0], kind, packet].concat()),
        Words::IpProtocol => {
            let protocol = match number {
                0x0800 => 4,
                0x86dd => 41,
                0x8847 => 137,
                _ => return None,
            };
            outer.raw(0, protocol, packet)
        }
        Words::PppProtocol => {
            let protocol: u16 = match number {
                0x0800 => 0x0021,
                0x86dd => 0x0057,
                0x8847 => 0x0281,
                0x8848 => 0x0283,
                _ => return None,
            };
            let length = u16::try_from(packet.len() + 2).expect("a short packet");
            let header = [0x1100, 1, length, protocol].map(u16::to_be_bytes).concat();
            eth().raw(SESSION, 0, &[&header, packet].concat())
        }
        Words::None => unreachable!("such frames are packets"),
    };
    Some(outer.bytes())
}

/// Where the packet begins in what [`wrapped`] makes.
fn begin(carrier: Carrier) -> usize {
    let ethernet = eth().header_length();
    let ip = |address: &str| ethernet + Frame::header_length(&crate::frame::bare().ip(address));
    match carrier {
        Carrier::Wireguard => 0,
        Carrier::Gre | Carrier::GreFromAnybody | Carrier::GreExternal => ip(NEAR) + 4,
        Carrier::Ip6Gre => ip(NEAR_V6) + 4,
        Carrier::Ipip | Carrier::Sit => ip(NEAR),
        Carrier::Ip6Tnl => ip(NEAR_V6),
        Carrier::Ppp => ethernet + SESSION_HEADER,
        Carrier::Cable | Carrier::Tun | Carrier::TunInformation => ethernet,
    }
}

/// The receiver's addresses are those that the frame builder knows: the same frames go to every world.
fn cable(sandbox: &Sandbox, receiver: &Host) -> Line {
    let outside = joined(sandbox, receiver);
    for (family, address, router) in [
        ("-4", "192.0.2.1/24", "192.0.2.2"),
        ("-6", "2001:db8::1/64 nodad", "2001:db8::2"),
    ] {
        receiver.ip(&format!("{family} address add {address} dev eth0"));
        neighbour(receiver, router);
        receiver.ip(&format!("{family} route add default via {router} dev eth0"));
    }
    Line::Wire {
        wire: outside.wire("eth0"),
        // A socket for one EtherType sees nothing of what goes out.
        answers: answers(&outside, &[0x0800, 0x86dd]),
        packet: begin(Carrier::Cable),
        carrier: Carrier::Cable,
        _outside: outside,
        _session: Vec::new(),
    }
}

/// A host joined to the receiver by a cable. Nobody there answers: the receiver's packets are for an address of nobody's.
fn joined(sandbox: &Sandbox, receiver: &Host) -> Host {
    let outside = sandbox.host();
    let end = |host| End {
        host,
        interface: "eth0",
        addresses: &[],
    };
    join(end(receiver), end(&outside));
    receiver.ip("link set eth0 address 02:00:00:00:00:01");
    outside
}

fn neighbour(receiver: &Host, address: &str) {
    receiver.ip(&format!(
        "neighbour add {address} lladdr 02:00:00:00:00:02 dev eth0"
    ));
}

fn tunnel(sandbox: &Sandbox, receiver: &Host, carrier: Carrier) -> Line {
    let outside = joined(sandbox, receiver);
    // Room for what is around a packet.
    for host in [receiver, &outside] {
        host.ip("link set eth0 mtu 2000");
    }
    for (own, far) in [
        (format!("{NEAR}/24"), FAR),
        (format!("{NEAR_V6}/64 nodad"), FAR_V6),
    ] {
        receiver.ip(&format!("address add {own} dev eth0"));
        if carrier != Carrier::Wireguard {
            neighbour(receiver, far);
        }
    }
    let name = carrier.interface();
    let mut kept = Vec::new();
    let kind = match carrier {
        Carrier::Gre => format!("gre local {NEAR} remote {FAR}"),
        Carrier::GreFromAnybody => format!("gre local {NEAR}"),
        Carrier::GreExternal => "gre external".to_owned(),
        Carrier::Ip6Gre => format!("ip6gre local {NEAR_V6} remote {FAR_V6} encaplimit none"),
        Carrier::Ipip => format!("ipip local {NEAR} remote {FAR} mode any"),
        Carrier::Sit => format!("sit local {NEAR} remote {FAR} mode any"),
        Carrier::Ip6Tnl => {
            format!("ip6tnl local {NEAR_V6} remote {FAR_V6} mode any encaplimit none")
        }
        _ => String::new(),
    };
    match carrier {
        Carrier::Ppp => kept = receiver.enter(session).expect("a kernel with PPPoE"),
        Carrier::Wireguard => wireguard(receiver, &outside),
        _ => {
            receiver.ip(&format!("link add {name} type {kind}"));
        }
    }
    receiver.ip(&format!("link set {name} up mtu 1500 txqueuelen 4096"));
    if carrier == Carrier::Wireguard {
        meet(&outside);
    }
    for (family, address) in [("-4", "192.0.2.1/24"), ("-6", "2001:db8::1/64 nodad")] {
        receiver.ip(&format!("{family} address add {address} dev {name}"));
        match carrier {
            // Who is asked for where a packet goes is a neighbour with an outer address for an Ethernet address, as `ip neighbour` has it.
            Carrier::GreFromAnybody => {
                let router = if family == "-4" {
                    "192.0.2.2"
                } else {
                    "2001:db8::2"
                };
                receiver.ip(&format!(
                    "neighbour add {router} lladdr {FAR} dev {name} nud permanent"
                ));
                receiver.ip(&format!(
                    "{family} route add default via {router} dev {name}"
                ));
            }
            Carrier::GreExternal => {
                receiver.ip(&format!(
                    "{family} route add default encap ip dst {FAR} dev {name}"
                ));
            }
            _ => {
                receiver.ip(&format!("{family} route add default dev {name}"));
            }
        }
    }
    let outer = match carrier {
        Carrier::Wireguard => "wg0",
        _ => "eth0",
    };
    let kinds = match carrier {
        Carrier::Wireguard => &[0x0800, 0x86dd][..],
        Carrier::Ip6Gre | Carrier::Ip6Tnl => &[0x86dd],
        Carrier::Ppp => &[SESSION],
        _ => &[0x0800],
    };
    Line::Wire {
        wire: outside.wire(outer),
        answers: answers(&outside, kinds),
        packet: begin(carrier),
        carrier,
        _outside: outside,
        _session: kept,
    }
}

/// A pair of peers that let each other send as anybody.
fn wireguard(receiver: &Host, outside: &Host) {
    for (host, address) in [
        (outside, format!("{FAR}/24")),
        (outside, format!("{FAR_V6}/64 nodad")),
    ] {
        host.ip(&format!("address add {address} dev eth0"));
    }
    for host in [receiver, outside] {
        host.ip("link add wg0 type wireguard");
    }
    let key = |name: &str| {
        let file = format!("{SCRATCH}/{name}");
        let text = format!("umask 077; wg genkey > {file}; wg pubkey < {file}");
        let key = receiver.run(Command::new("sh").args(["-ec", &text]));
        (file, key.succeeded().stdout.trim().to_owned())
    };
    let (near, far) = (key("near"), key("far"));
    for (host, own, peer, address) in [
        (receiver, &near.0, &far.1, FAR),
        (outside, &far.0, &near.1, NEAR),
    ] {
        let words = format!(
            "set wg0 listen-port 51820 private-key {own} \
             peer {peer} allowed-ips 0.0.0.0/0,::/0 endpoint {address}:51820 persistent-keepalive 25"
        );
        host.run(Command::new("wg").args(words.split_ascii_whitespace()))
            .succeeded();
    }
}

/// Has the peers agree on their keys. Before they have, 128 packets wait, and the others are lost (`MAX_STAGED_PACKETS` in
/// drivers/net/wireguard/messages.h).
fn meet(outside: &Host) {
    // What is to be kept alive says something at once.
    outside.ip("link set wg0 up mtu 1500");
    until("the peers have met", || {
        let shown = outside.run(Command::new("wg").args(["show", "wg0", "latest-handshakes"]));
        let shown = shown.succeeded().stdout;
        shown.split_whitespace().last() != Some("0")
    });
}

/// A tun device: packets come in without an Ethernet header, written by this process instead of a tunnel's.
fn tun(receiver: &Host, kind: Tun) -> Line {
    let name = Carrier::Tun.interface();
    let end = receiver.enter(|| tun::open(name, kind));
    fcntl_setfl(&end, OFlags::NONBLOCK).expect("an open file");
    // Room for all answers to what is sent at once.
    receiver.ip(&format!("link set {name} up txqueuelen 4096"));
    for (family, address) in [("-4", "192.0.2.1/24"), ("-6", "2001:db8::1/64 nodad")] {
        receiver.ip(&format!("{family} address add {address} dev {name}"));
        receiver.ip(&format!("{family} route add default dev {name}"));
    }
    Line::Tun {
        end,
        information: kind == Tun::Information,
    }
}

/// Sends a packet into a tun device. Of one that begins with no version that it knows, the kernel says so and makes nothing.
fn inject(end: &OwnedFd, packet: &[u8]) {
    match write(end, packet) {
        Ok(_) | Err(Errno::INVAL) => {}
        Err(error) => panic!("a packet of {} bytes: {error}", packet.len()),
    }
}

/// Sockets that see the frames of these EtherTypes that come in.
fn answers(host: &Host, kinds: &[u16]) -> Vec<OwnedFd> {
    let open = |kind: &u16| {
        // An EtherType in the network's order, which is what packet sockets take for a protocol.
        let protocol = NonZeroU32::new(kind.to_be().into()).map(Protocol::from_raw);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, protocol)
            .expect("a packet socket");
        roomy(&socket);
        socket
    };
    host.enter(|| kinds.iter().map(open).collect())
}

pub(super) fn roomy(socket: impl AsFd) {
    set_socket_recv_buffer_size_force(socket, 32 << 20).expect("these tests need root");
}
