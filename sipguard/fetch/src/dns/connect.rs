//! Sockets that no guarded port is bound to: an answer to a guarded port would have to pass the filter, and may not.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use domain::net::client::protocol::{AsyncConnect, AsyncDgramRecv, AsyncDgramSend};
use rustix::net::{RecvFlags, recv};
use tokio::{
    io::{Interest, ReadBuf, Ready},
    net::{TcpSocket, TcpStream, UdpSocket},
};

/// How often another port is tried.
const TRIES: usize = 100;

/// What both have in common.
#[derive(Clone, Debug)]
struct To {
    server: SocketAddr,
    guarded: Arc<BTreeSet<u16>>,
}

/// Makes UDP sockets.
#[derive(Clone, Debug)]
pub(super) struct Udp(To);

/// Makes TCP connections.
#[derive(Clone, Debug)]
pub(super) struct Tcp(To);

impl To {
    /// Where the kernel chooses the port.
    fn any(&self) -> SocketAddr {
        match self.server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }

    /// A socket with another port than those; `bind` makes one with any.
    fn unguarded<S>(
        &self,
        bind: impl Fn() -> io::Result<S>,
        address: impl Fn(&S) -> io::Result<SocketAddr>,
    ) -> io::Result<S> {
        // As long as they are held they are not chosen again.
        let mut held = Vec::new();
        for _ in 0..TRIES {
            let socket = bind()?;
            if !self.guarded.contains(&address(&socket)?.port()) {
                return Ok(socket);
            }
            held.push(socket);
        }
        Err(io::Error::other(
            "every port that can be had is a guarded one",
        ))
    }
}

type Connecting<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + Sync>>;

impl Udp {
    pub(super) fn new(server: SocketAddr, guarded: Arc<BTreeSet<u16>>) -> Self {
        Self(To { server, guarded })
    }

    fn bound(to: &To) -> io::Result<UdpSocket> {
        let bind = || std::net::UdpSocket::bind(to.any());
        let socket = to.unguarded(bind, std::net::UdpSocket::local_addr)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }
}

impl AsyncConnect for Udp {
    type Connection = Datagrams;
    type Fut = Connecting<Datagrams>;

    fn connect(&self) -> Connecting<Datagrams> {
        let to = self.0.clone();
        Box::pin(async move {
            let socket = Self::bound(&to)?;
            // Only this server's answers come in, and its refusal is told.
            socket.connect(to.server).await?;
            Ok(Datagrams {
                socket: Arc::new(socket),
                ready: Mutex::new(None),
            })
        })
    }
}

/// A UDP socket that hears of errors, too: that nobody listens on the port is told by ICMP, and tokio's own way to receive waits on for a
/// datagram.
pub(super) struct Datagrams {
    socket: Arc<UdpSocket>,
    /// Waits until there is something to receive, or to be told.
    ready: Mutex<Option<Waiting>>,
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<Ready>> + Send>>;

impl AsyncDgramRecv for Datagrams {
    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        const EITHER: Interest = Interest::READABLE.add(Interest::ERROR);
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let waiting = ready.get_or_insert_with(|| {
                let socket = Arc::clone(&self.socket);
                Box::pin(async move { socket.ready(EITHER).await })
            });
            let outcome = ready!(waiting.as_mut().poll(context));
            *ready = None;
            let outcome = outcome?;
            // Both at once would be taken for neither.
            let which = if outcome.is_readable() {
                Interest::READABLE
            } else if outcome.is_error() {
                Interest::ERROR
            } else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            let receive = || {
                let room = buffer.initialize_unfilled();
                let (received, _) = recv(&self.socket, room, RecvFlags::empty())?;
                Ok(received)
            };
            match self.socket.try_io(which, receive) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(received) => {
                    buffer.advance(received);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncDgramSend for Datagrams {
    fn poll_send(&self, context: &mut Context<'_>, datagram: &[u8]) -> Poll<io::Result<usize>> {
        self.socket.poll_send(context, datagram)
    }
}

impl Tcp {
    pub(super) fn new(server: SocketAddr, guarded: Arc<BTreeSet<u16>>) -> Self {
        Self(To { server, guarded })
    }

    fn bound(to: &To) -> io::Result<TcpSocket> {
        let bind = || {
            let socket = match to.server {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.bind(to.any())?;
            Ok(socket)
        };
        to.unguarded(bind, TcpSocket::local_addr)
    }
}

impl AsyncConnect for Tcp {
    type Connection = TcpStream;
    type Fut = Connecting<TcpStream>;

    fn connect(&self) -> Connecting<TcpStream> {
        let to = self.0.clone();
        Box::pin(async move { Self::bound(&to)?.connect(to.server).await })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn no_guarded_port_asks() {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let mut range = range.split_whitespace().map(|port| port.parse().unwrap());
        let (first, last): (u16, u16) = (range.next().unwrap(), range.next().unwrap());
        // Four of five that the kernel may choose, even and odd ones: it has its likings.
        let guarded: BTreeSet<u16> = (first..=last).filter(|port| port % 10 > 1).collect();
        let guarded = Arc::new(guarded);
        let to = |server: &str| To {
            server: server.parse().unwrap(),
            guarded: Arc::clone(&guarded),
        };
        for server in ["127.0.0.1:53", "[::1]:53"] {
            for _ in 0..20 {
                let udp = Udp::bound(&to(server)).unwrap().local_addr().unwrap();
                let tcp = Tcp::bound(&to(server)).unwrap().local_addr().unwrap();
                assert!(!guarded.contains(&udp.port()) && !guarded.contains(&tcp.port()));
            }
        }
        let all = To {
            guarded: Arc::new((first..=last).collect()),
            ..to("127.0.0.1:53")
        };
        let error = Udp::bound(&all).unwrap_err().to_string();
        assert_eq!(error, "every port that can be had is a guarded one");
    }
}
