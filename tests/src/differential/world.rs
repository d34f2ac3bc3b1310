//! A receiver, what leads to it, and what arrives.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpListener, UdpSocket},
    num::NonZeroU32,
    os::fd::OwnedFd,
};

use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, bind, ipproto, listen, socket_with,
};

use super::{
    Carrier, OPEN, Way,
    answer::answered,
    delivery::{Delivery, Transport},
    line::{Line, roomy},
    ways::{self, Ways},
};
use crate::{
    frame::{Frame, bare, eth},
    netns::{Host, Sandbox},
};
use sipguard_ebpf::abi::LinkKind;

/// How many frames go out before the receiver is asked what it got: fewer than fit any of the kernel's queues on their way (veth's ring
/// holds 256).
pub const FRAMES: usize = 200;

/// A receiver and what leads to it.
pub struct World {
    /// The receiver.
    pub receiver: Host,
    /// What this kernel has, and what it lacks.
    pub ways: Ways,
    line: Line,
    carrier: Carrier,
    sockets: Vec<(Transport, u16, UdpSocket)>,
    // Kept open.
    _listeners: (Vec<TcpListener>, Vec<OwnedFd>),
    marks: u32,
}

impl World {
    /// A world in which nothing is guarded yet.
    #[must_use]
    pub fn new(sandbox: &Sandbox, carrier: Carrier) -> Self {
        let receiver = sandbox.host();
        receiver.enter(settings);
        let mut ways = Ways::default();
        let line = Line::new(sandbox, &receiver, carrier);
        if carrier.has_ether_types() {
            ways.try_vlan(&receiver, carrier.interface());
        }
        if carrier == Carrier::Cable {
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
            carrier,
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
        let mut delivered = self.until_answered(marks);
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
        let link = match self.carrier.link() {
            LinkKind::Ethernet => eth(),
            LinkKind::Ip => bare(),
        };
        let frame = begin(link, &mark.to_string()).tcp(6000);
        self.line.send(&frame.bytes());
        mark
    }

    /// What comes back until all these addresses got an answer.
    fn until_answered(&self, mut marks: Vec<Ipv4Addr>) -> Vec<Delivery> {
        let mut delivered = Vec::new();
        while !marks.is_empty() {
            self.line.wait();
            self.line.drain(|answer| {
                let Some(delivery) = answered(answer) else {
                    return;
                };
                let before = marks.len();
                marks.retain(|mark| delivery.source != *mark);
                if marks.len() == before {
                    delivered.push(delivery);
                }
            });
        }
        delivered
    }

    /// Has connection tracking put fragments together, by code of its own. Nothing is tracked, or the table would be full soon.
    pub fn track_connections(&self) {
        ways::track_connections(&self.receiver);
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
