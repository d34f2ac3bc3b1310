//! TCP sockets that wait, asked over netlink (`NETLINK_SOCK_DIAG`): the kernel hands on these alone, and does not look at connections.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_packet_core::{
    NLM_F_DUMP, NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::netlink::ask;

/// `SOCK_DIAG_BY_FAMILY`, include/uapi/linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `1 << TCP_LISTEN`, include/net/tcp_states.h.
const WAITING: u32 = 1 << 10;

/// The addresses and ports that TCP sockets of this network namespace wait on.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn listening() -> io::Result<Vec<(IpAddr, u16)>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).map_err(io::Error::other)?;
        let answers = ask(NETLINK_SOCK_DIAG, Diag::Request(family), NLM_F_DUMP)?;
        found.extend(answers.into_iter().filter_map(|answer| match answer {
            Diag::Socket(address, port) => Some((address, port)),
            Diag::Request(_) => None,
        }));
    }
    Ok(found)
}

/// What is asked and answered.
#[derive(Debug)]
enum Diag {
    /// All that wait, of a family.
    Request(u8),
    /// One that does.
    Socket(IpAddr, u16),
}

/// `struct inet_diag_req_v2`, include/uapi/linux/inet_diag.h: family, protocol, what else to tell, padding, states, and a socket, of which
/// nothing is asked.
impl NetlinkSerializable for Diag {
    fn message_type(&self) -> u16 {
        BY_FAMILY
    }

    fn buffer_len(&self) -> usize {
        56
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
        if let Self::Request(family) = self {
            buffer[0] = *family;
            // IPPROTO_TCP.
            buffer[1] = 6;
            buffer[4..8].copy_from_slice(&WAITING.to_ne_bytes());
        }
    }
}

/// `struct inet_diag_msg`, the same: family, state and two more bytes, own port and the other one, own address.
impl NetlinkDeserializable for Diag {
    type Error = io::Error;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, io::Error> {
        let socket = || {
            let family = i32::from(*payload.first()?);
            let port = u16::from_be_bytes(*payload.get(4..)?.first_chunk()?);
            let address = payload.get(8..)?;
            let address = if family == libc::AF_INET {
                Ipv4Addr::from(*address.first_chunk::<4>()?).into()
            } else {
                Ipv6Addr::from(*address.first_chunk::<16>()?).into()
            };
            Some(Self::Socket(address, port))
        };
        socket().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl From<Diag> for NetlinkPayload<Diag> {
    fn from(message: Diag) -> Self {
        Self::InnerMessage(message)
    }
}
