//! One question to a port from one address, and what comes back.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send,
        socket_with,
    },
};

/// How long an answer is waited for where one must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How long where none may come, and where one may come later.
pub(super) const SOON: Duration = Duration::from_secs(2);

const QUESTION: &[u8] = b"OPTIONS sip:gateway SIP/2.0\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Udp,
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A program's.
    Reply,
    /// The kernel's: nobody waits there, but the packet arrived.
    Refusal,
    Nothing,
}

/// Asks once. Over TCP nothing is sent but what TCP itself sends: sshd and the gateway's listener speak first.
pub(super) fn ask(
    protocol: Protocol,
    from: IpAddr,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<Answer> {
    let family = match from {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = match protocol {
        Protocol::Udp => SocketType::DGRAM,
        Protocol::Tcp => SocketType::STREAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None)?;
    bind(&socket, &SocketAddr::new(from, 0))?;
    let begun = connect(&socket, &to).and_then(|()| match protocol {
        Protocol::Udp => send(&socket, QUESTION, SendFlags::NOSIGNAL).map(drop),
        Protocol::Tcp => Ok(()),
    });
    match begun {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return said_nothing(error),
    }
    let ends = Instant::now() + patience;
    loop {
        let left = ends.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&left))? == 0 {
            return Ok(Answer::Nothing);
        }
        match recv(&socket, &mut [0u8; 64], RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNREFUSED | Errno::CONNRESET) => return Ok(Answer::Refusal),
            Ok(_) => return Ok(Answer::Reply),
            Err(Errno::AGAIN) => {}
            Err(error) => return said_nothing(error),
        }
    }
}

/// Errors by which our own kernel says that nothing came back: nobody has the address yet, or not any more.
fn said_nothing(error: Errno) -> io::Result<Answer> {
    match error {
        Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::TIMEDOUT => Ok(Answer::Nothing),
        error => Err(error.into()),
    }
}
