//! Asking the kernel over netlink.

use std::{fmt::Debug, io, os::fd::RawFd};

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, NlasIterator,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage, LinkXdp},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Why a request failed, as the kernel said it.
#[derive(Debug)]
pub(crate) struct Refused {
    error: io::Error,
    /// A sentence (`NL_SET_ERR_MSG` in the kernel), where it gave one.
    sentence: Option<String>,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self {
            error,
            sentence: None,
        }
    }
}

impl From<&ErrorMessage> for Refused {
    fn from(message: &ErrorMessage) -> Self {
        Self {
            error: message.to_io(),
            sentence: sentence(message),
        }
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

/// The extended acknowledgement's text: an attribute behind the request's header, which the answer repeats (`netlink_ack` in
/// net/netlink/af_netlink.c).
fn sentence(message: &ErrorMessage) -> Option<String> {
    /// `struct nlmsghdr`, include/uapi/linux/netlink.h.
    const HEADER: usize = 16;
    /// `NLMSGERR_ATTR_MSG`, the same.
    const TEXT: u16 = 1;
    let attributes = NlasIterator::new(message.header.get(HEADER..)?);
    let text = attributes
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == TEXT)?;
    let text = String::from_utf8_lossy(text.value());
    Some(text.trim_end_matches('\0').to_owned())
}

/// Sends one request and returns all answers to it.
///
/// # Errors
/// What the kernel refused, or that it could not be asked.
pub(crate) fn ask<M>(protocol: isize, request: M, flags: u16) -> Result<Vec<M>, Refused>
where
    M: NetlinkSerializable + NetlinkDeserializable + Debug,
    NetlinkPayload<M>: From<M>,
{
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // The sentence that goes with an error, and of the request no more than its header.
    socket.set_ext_ack(true)?;
    socket.set_cap_ack(true)?;
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    loop {
        let (received, _) = socket.recv_from_full()?;
        let mut rest = received.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<M>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(Refused::from(&error)),
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
            // Messages are aligned to four bytes (include/uapi/linux/netlink.h, NLMSG_ALIGN).
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// The driver's own sentence about why it does not take a native XDP program, asked by trying once more: a link gives a number alone, an
/// attachment by netlink has room for words. `None` where there are none, or where it was taken this time (and taken off again).
#[must_use]
pub fn refusal(index: u32, program: RawFd) -> Option<String> {
    /// include/uapi/linux/if_link.h.
    const UPDATE_IF_NOEXIST: u32 = 1 << 0;
    const DRV_MODE: u32 = 1 << 2;
    let attach = |program, flags| {
        let mut request = LinkMessage::default();
        request.header.index = index;
        let xdp = vec![LinkXdp::Fd(program), LinkXdp::Flags(flags)];
        request.attributes.push(LinkAttribute::Xdp(xdp));
        ask(
            NETLINK_ROUTE,
            RouteNetlinkMessage::SetLink(request),
            NLM_F_ACK,
        )
    };
    if let Err(refused) = attach(program, DRV_MODE | UPDATE_IF_NOEXIST) {
        return refused.sentence;
    }
    // Not meant to stay: it would end with nothing that is pinned. Where even this fails there is nothing left to try.
    let _ = attach(-1, DRV_MODE);
    None
}
