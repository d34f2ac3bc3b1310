//! A receiver, what leads to it, and what arrives.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpListener, UdpSocket},
    num::NonZeroU32,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, bind, ipproto, listen, recv,
        socket_with, sockopt::set_socket_recv_buffer_size_force,
    },
};

use super::{
    Carrier, OPEN, Way,
    answer::answered,
    tunnel,
    ways::{self, Ways},
};
use crate::{
    frame::{Frame, bare, eth},
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

/// A receiver and what leads to it.
pub struct World {
    /// The receiver.
    pub receiver: Host,
    /// What this kernel has, and what it lacks.
    pub ways: Ways,
    line: Line,
    sockets: Vec<(Transport, u16, UdpSocket)>,
    // Kept open.
    _listeners: (Vec<TcpListener>, Vec<OwnedFd>),
    marks: u32,
}

/// What frames go out by, and answers come back.
enum Line {
    Cable {
        _outside: Host,
        wire: Wire,
        /// What comes back over IPv4 and over IPv6.
        answers: [OwnedFd; 2],
    },
    /// The far end of a tun device: no Ethernet header.
    Tunnel(OwnedFd),
}

impl World {
    /// A world in which nothing is guarded yet.
    #[must_use]
    pub fn new(sandbox: &Sandbox, carrier: Carrier) -> Self {
        let receiver = sandbox.host();
        receiver.enter(settings);
        let line = match carrier {
            Carrier::Cable => cable(sandbox, &receiver),
            Carrier::Tunnel => Line::Tunnel(tunnel::open(&receiver)),
        };
        let mut ways = Ways::default();
        if carrier == Carrier::Cable {
            ways.try_vlan(&receiver);
            ways.try_session(&receiver);
        }
        ways.try_authentication(&receiver);
        let mut sockets = datagrams(&receiver, Transport::Udp).expect("every kernel has UDP");
        let found = datagrams(&receiver, Transport::UdpLite);
        sockets.extend(ways.note(Way::UdpLite, found).unwrap_or_default());
        let listeners = receiver.enter(|| {
            let any = Ipv6Addr::UNSPECIFIED;
            OPEN.map(|port| TcpListener::bind((any, port)).expect("a free port"))
        });
        let found = receiver.enter(associations);
        let associations = ways.note(Way::Sctp, found).unwrap_or_default();
        Self {
            receiver,
            ways,
            line,
            sockets,
            _listeners: (listeners.into(), associations),
            marks: 0,
        }
    }

    /// Sends frames, at most [`FRAMES`] plus those of one case, and returns what was delivered of them, sorted.
    pub fn deliver<'f>(&mut self, frames: impl Iterator<Item = &'f [u8]>) -> Vec<Delivery> {
        for frame in frames {
            self.line.send(frame);
        }
        // They go the ways that the frames went: those have all been dealt with when these are answered.
        let mut marks = Vec::new();
        if self.ways.has(Way::Session) {
            marks.push(self.mark(|link, source| link.pppoe().ip(source)));
        }
        // What is behind that header Linux puts into a queue of its own (`xfrm_trans_queue` in net/xfrm/xfrm_input.c).
        if self.ways.has(Way::Authentication) {
            marks.push(self.mark(|link, source| link.ip(source).ah(16)));
        }
        marks.push(self.mark(Frame::ip));
        let mut delivered = self.line.until_answered(marks);
        let mut buffer = vec![0; 1 << 16];
        for (transport, port, socket) in &self.sockets {
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((length, from)) => delivered.push(Delivery {
                        transport: *transport,
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

    /// Sends a segment from a listed address, from a block that no case uses, and returns the address.
    fn mark(&mut self, begin: impl Fn(Frame, &str) -> Frame) -> Ipv4Addr {
        self.marks += 1;
        let [_, high, middle, low] = self.marks.to_be_bytes();
        let mark = Ipv4Addr::new(100, 64 | high & 0x0f, middle, low);
        let link = match &self.line {
            Line::Cable { .. } => eth(),
            Line::Tunnel(_) => bare(),
        };
        let frame = begin(link, &mark.to_string()).tcp(6000);
        self.line.send(&frame.bytes());
        mark
    }

    /// Has connection tracking put fragments together, by code of its own. Nothing is tracked, or the table would be full soon.
    pub fn track_connections(&self) {
        ways::track_connections(&self.receiver);
    }
}

impl Line {
    fn send(&self, frame: &[u8]) {
        match self {
            Self::Cable { wire, .. } => wire.send(frame),
            Self::Tunnel(end) => tunnel::send(end, frame),
        }
    }

    /// What comes back until all these addresses got an answer.
    fn until_answered(&self, mut marks: Vec<Ipv4Addr>) -> Vec<Delivery> {
        let mut delivered = Vec::new();
        let first = match self {
            Self::Cable { answers, .. } => &answers[0],
            Self::Tunnel(end) => end,
        };
        while !marks.is_empty() {
            let mut ready = [PollFd::new(first, PollFlags::IN)];
            let patience = Timespec::try_from(PATIENCE).expect("a minute");
            let woken = poll(&mut ready, Some(&patience)).expect("poll works");
            assert_ne!(woken, 0, "the receiver answers no more");
            let mut each = |answer: &[u8]| {
                let Some(delivery) = answered(answer) else {
                    return;
                };
                let before = marks.len();
                marks.retain(|mark| delivery.source != *mark);
                if marks.len() == before {
                    delivered.push(delivery);
                }
            };
            match self {
                Self::Cable { answers, .. } => drain(&answers[0], each),
                Self::Tunnel(end) => tunnel::drain(end, &mut each),
            }
        }
        if let Self::Cable {
            answers: [_, second],
            ..
        } = self
        {
            drain(second, |answer| delivered.extend(answered(answer)));
        }
        delivered
    }
}

/// Set before there are interfaces, which begin with the default ones.
fn settings() {
    for (setting, value) in [
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/accept_source_route", "1"),
        ("ipv4/conf/default/accept_source_route", "1"),
        // Every answer by itself: nothing is kept for a segment, and nothing is sent again.
        ("ipv4/tcp_syncookies", "2"),
        // Fragments that wait for others don't crowd out those of later cases.
        ("ipv4/ipfrag_high_thresh", "2000000000"),
        ("ipv4/ipfrag_max_dist", "0"),
        ("ipv6/ip6frag_high_thresh", "2000000000"),
        ("netfilter/nf_conntrack_frag6_high_thresh", "2000000000"),
    ] {
        let path = format!("/proc/sys/net/{setting}");
        // The last one is there only with connection tracking, and some kernels (5.10) let nobody raise it: there they don't wait for long.
        if fs::exists(&path).expect("/proc is there") {
            match fs::write(&path, value) {
                Err(error) if setting.starts_with("netfilter/") => {
                    println!("not on this kernel: {setting} = {value} ({error})");
                    let timeout = path.replace("high_thresh", "timeout");
                    fs::write(&timeout, "1").unwrap_or_else(|error| panic!("{timeout}: {error}"));
                }
                written => written.unwrap_or_else(|error| panic!("{path}: {error}")),
            }
        }
    }
}

/// The receiver's addresses are those that the frame builder knows: the same frames go to every world.
fn cable(sandbox: &Sandbox, receiver: &Host) -> Line {
    let outside = sandbox.host();
    let end = |host, addresses| End {
        host,
        interface: "eth0",
        addresses,
    };
    join(
        end(receiver, &["192.0.2.1/24", "2001:db8::1/64"]),
        end(&outside, &[]),
    );
    receiver.ip("link set eth0 address 02:00:00:00:00:01");
    for (family, router) in [("-4", "192.0.2.2"), ("-6", "2001:db8::2")] {
        receiver.ip(&format!(
            "{family} neighbour add {router} lladdr 02:00:00:00:00:02 dev eth0"
        ));
        receiver.ip(&format!("{family} route add default via {router} dev eth0"));
    }
    Line::Cable {
        wire: outside.wire("eth0"),
        // A socket for one EtherType sees nothing of what goes out.
        answers: outside.enter(|| [0x0800_u16, 0x86dd].map(answers)),
        _outside: outside,
    }
}

/// Sockets of UDP or UDP-Lite on the open ports.
fn datagrams(
    receiver: &Host,
    transport: Transport,
) -> io::Result<Vec<(Transport, u16, UdpSocket)>> {
    let number = NonZeroU32::new(transport.number().into()).map(Protocol::from_raw);
    let open = |port| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET6, SocketType::DGRAM, flags, number)?;
        bind(
            &socket,
            &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0),
        )?;
        roomy(&socket);
        Ok((transport, port, UdpSocket::from(socket)))
    };
    receiver.enter(|| OPEN.into_iter().map(open).collect())
}

/// Sockets of SCTP that listen on the open ports.
fn associations() -> io::Result<Vec<OwnedFd>> {
    let open = |port| {
        let socket = socket_with(
            AddressFamily::INET6,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            Some(ipproto::SCTP),
        )?;
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
        bind(&socket, &any)?;
        listen(&socket, 128)?;
        Ok(socket)
    };
    OPEN.into_iter().map(open).collect()
}

fn roomy(socket: impl AsFd) {
    set_socket_recv_buffer_size_force(socket, 32 << 20).expect("these tests need root");
}

fn answers(kind: u16) -> OwnedFd {
    // An EtherType in the network's order, which is what packet sockets take for a protocol.
    let protocol = NonZeroU32::new(kind.to_be().into()).map(Protocol::from_raw);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, protocol)
        .expect("a packet socket");
    roomy(&socket);
    socket
}

/// The packets behind the Ethernet headers.
fn drain(socket: &OwnedFd, mut each: impl FnMut(&[u8])) {
    let mut buffer = [0; 256];
    loop {
        match recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok((length, _)) => each(buffer.get(14..length.min(256)).unwrap_or_default()),
            Err(Errno::AGAIN) => return,
            Err(error) => panic!("answers can't be read: {error}"),
        }
    }
}
