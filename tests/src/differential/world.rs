//! A receiver, the cable to it, and what arrives.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with,
        sockopt::set_socket_recv_buffer_size_force,
    },
};

use super::OPEN;
use crate::{
    frame::{GATEWAY_V4, GATEWAY_V6, eth},
    netns::{End, Host, Sandbox, Wire, join},
};

/// How many frames go out before the receiver is asked what it got: fewer than fit any of the kernel's queues on their way (veth's ring
/// holds 256).
pub const FRAMES: usize = 200;

const PATIENCE: Duration = Duration::from_mins(1);

/// What was delivered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery {
    /// By which protocol.
    pub transport: Transport,
    /// From where.
    pub source: IpAddr,
    /// To which port.
    pub port: u16,
    /// The datagram, or the flags of the answer.
    pub what: Vec<u8>,
}

/// A protocol whose delivery can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// A socket got the datagram.
    Udp,
    /// The receiver answered the segment.
    Tcp,
}

/// A receiver and the cable to it.
pub struct World {
    /// The receiver.
    pub receiver: Host,
    _outside: Host,
    wire: Wire,
    sockets: Vec<(u16, UdpSocket)>,
    _listeners: Vec<TcpListener>,
    /// What comes back over IPv4 and over IPv6.
    answers: [OwnedFd; 2],
    marks: u32,
}

impl World {
    /// A world in which nothing is guarded yet.
    #[must_use]
    pub fn new(sandbox: &Sandbox) -> Self {
        let (receiver, outside) = (sandbox.host(), sandbox.host());
        let end = |host, addresses| End {
            host,
            interface: "eth0",
            addresses,
        };
        join(
            end(&receiver, &["192.0.2.1/24", "2001:db8::1/64"]),
            end(&outside, &[]),
        );
        // The same frames go to every world: its addresses are those that the frame builder knows.
        receiver.ip("link set eth0 address 02:00:00:00:00:01");
        for (family, router) in [("-4", "192.0.2.2"), ("-6", "2001:db8::2")] {
            receiver.ip(&format!(
                "{family} neighbour add {router} lladdr 02:00:00:00:00:02 dev eth0"
            ));
            receiver.ip(&format!("{family} route add default via {router} dev eth0"));
        }
        let (sockets, listeners) = receiver.enter(|| {
            for (setting, value) in [
                ("ipv4/conf/all/rp_filter", "0"),
                ("ipv4/conf/eth0/rp_filter", "0"),
                ("ipv4/conf/eth0/accept_source_route", "1"),
                ("ipv4/conf/all/accept_source_route", "1"),
                // Every answer by itself: nothing is kept for a segment, and nothing is sent again.
                ("ipv4/tcp_syncookies", "2"),
                // Fragments that wait for others don't crowd out those of later cases.
                ("ipv4/ipfrag_high_thresh", "2000000000"),
                ("ipv4/ipfrag_max_dist", "0"),
                ("ipv6/ip6frag_high_thresh", "2000000000"),
                ("netfilter/nf_conntrack_frag6_high_thresh", "2000000000"),
            ] {
                let path = format!("/proc/sys/net/{setting}");
                // The last one is there only with connection tracking.
                if fs::exists(&path).expect("/proc is there") {
                    fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
                }
            }
            let any = Ipv6Addr::UNSPECIFIED;
            let sockets = OPEN.map(|port| {
                let socket = UdpSocket::bind((any, port)).expect("a free port");
                socket.set_nonblocking(true).expect("an option of sockets");
                roomy(&socket);
                (port, socket)
            });
            let listeners = OPEN.map(|port| TcpListener::bind((any, port)).expect("a free port"));
            (sockets.into(), listeners.into())
        });
        // A socket for one EtherType sees nothing of what goes out.
        let answers = outside.enter(|| [0x0800_u16, 0x86dd].map(answers));
        Self {
            wire: outside.wire("eth0"),
            receiver,
            _outside: outside,
            sockets,
            _listeners: listeners,
            answers,
            marks: 0,
        }
    }

    /// Sends frames, at most [`FRAMES`] plus those of one case, and returns what was delivered of them, sorted.
    pub fn deliver<'f>(&mut self, frames: impl Iterator<Item = &'f [u8]>) -> Vec<Delivery> {
        for frame in frames {
            self.wire.send(frame);
        }
        self.marks += 1;
        let [_, high, middle, low] = self.marks.to_be_bytes();
        // A listed address, from a block that no case uses.
        let mark = Ipv4Addr::new(100, 64 | high & 0x0f, middle, low);
        // It goes the way that the frames went: they have all been dealt with when it is answered.
        self.wire
            .send(&eth().ip(&mark.to_string()).tcp(6000).bytes());
        let mut delivered = Vec::new();
        self.until_answered(mark, &mut delivered);
        drain(&self.answers[1], |answer| delivered.extend(segment(answer)));
        let mut buffer = vec![0; 1 << 16];
        for (port, socket) in &self.sockets {
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((length, from)) => delivered.push(Delivery {
                        transport: Transport::Udp,
                        source: from.ip().to_canonical(),
                        port: *port,
                        what: buffer[..length].to_vec(),
                    }),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("port {port}: {error}"),
                }
            }
        }
        delivered.sort_unstable();
        delivered
    }

    fn until_answered(&self, mark: Ipv4Addr, delivered: &mut Vec<Delivery>) {
        let mut answered = false;
        while !answered {
            let mut ready = [PollFd::new(&self.answers[0], PollFlags::IN)];
            let patience = Timespec::try_from(PATIENCE).expect("a minute");
            let woken = poll(&mut ready, Some(&patience)).expect("poll works");
            assert_ne!(woken, 0, "the receiver answers no more");
            drain(&self.answers[0], |answer| {
                let Some(delivery) = segment(answer) else {
                    return;
                };
                if delivery.source == mark {
                    answered = true;
                } else {
                    delivered.push(delivery);
                }
            });
        }
    }

    /// Loads connection tracking, which puts fragments together by code of its own. Nothing is tracked, or the table would be full soon.
    pub fn track_connections(&self) {
        let rules = "table inet defragment {
            chain first { type filter hook prerouting priority raw; notrack; }
            chain second { type filter hook input priority filter; ct state established accept; }
        }";
        self.receiver
            .run(std::process::Command::new("nft").arg(rules))
            .succeeded();
    }
}

fn roomy(socket: impl std::os::fd::AsFd) {
    set_socket_recv_buffer_size_force(socket, 32 << 20).expect("these tests need root");
}

fn answers(kind: u16) -> OwnedFd {
    // An EtherType in the network's order, which is what packet sockets take for a protocol.
    let protocol = Protocol::from_raw(std::num::NonZeroU32::from(
        std::num::NonZeroU16::new(kind.to_be()).expect("not zero"),
    ));
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        flags,
        Some(protocol),
    )
    .expect("a packet socket");
    roomy(&socket);
    socket
}

fn drain(socket: &OwnedFd, mut each: impl FnMut(&[u8])) {
    let mut buffer = [0; 256];
    loop {
        match recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok((length, _)) => each(&buffer[..length.min(256)]),
            Err(Errno::AGAIN) => return,
            Err(error) => panic!("answers can't be read: {error}"),
        }
    }
}

/// What an answer tells about the segment that it answers. The receiver writes plain headers.
fn segment(frame: &[u8]) -> Option<Delivery> {
    let own = [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)];
    let (from, source, tcp) = match frame.get(12..14)? {
        [0x08, 0x00] if frame.get(23)? == &6 => {
            let address =
                |at: usize| Some(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?.into());
            let header = usize::from(frame[14] & 15) * 4;
            // Sent back along a source route, to an address that is not the segment's source.
            (!source_routed(frame.get(34..14 + header)?)).then_some(())?;
            (address(26)?, address(30)?, frame.get(14 + header..)?)
        }
        [0x86, 0xdd] if frame.get(20)? == &6 => {
            let address =
                |at: usize| Some(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?.into());
            (address(22)?, address(38)?, frame.get(54..)?)
        }
        _ => return None,
    };
    own.contains(&from).then_some(())?;
    Some(Delivery {
        transport: Transport::Tcp,
        source,
        port: u16::from_be_bytes([*tcp.first()?, *tcp.get(1)?]),
        what: vec![*tcp.get(13)?],
    })
}

fn source_routed(options: &[u8]) -> bool {
    let mut rest = options;
    loop {
        match rest {
            [] | [0, ..] => return false,
            [0x83 | 0x89, ..] => return true,
            [1, left @ ..] => rest = left,
            [_, length, ..] => {
                rest = rest
                    .get(usize::from((*length).max(2))..)
                    .unwrap_or_default();
            }
            [_] => return false,
        }
    }
}
