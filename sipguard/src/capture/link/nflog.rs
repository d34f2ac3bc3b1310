//! What netfilter logs (NFLOG), by itself and inside the netlink messages it is handed over in.

use super::{super::Direction, Found, Frame, Order, Unread};

// enum nfulnl_attr_type of include/uapi/linux/netfilter/nfnetlink_log.h
const PACKET_HEADER: u16 = 1;
const IN_DEVICE: u16 = 4;
const OUT_DEVICE: u16 = 5;
const PAYLOAD: u16 = 9;

// enum nf_inet_hooks of include/uapi/linux/netfilter.h
const HOOK_FORWARD: u8 = 2;
const HOOK_OUT: u8 = 3;
const HOOK_POSTROUTING: u8 = 4;

/// Four bytes, the first of which is the family, and attributes: length and number in the file's byte order, and a value.
pub(super) fn nflog(captured: &[u8], order: Order) -> Found<'_> {
    let [family, _, _, _, attributes @ ..] = captured else {
        return Found::new(Err(Unread::Cut));
    };
    let mut rest = attributes;
    let (mut protocol, mut hook, mut payload) = (None, None, None);
    let (mut comes_in, mut goes_out) = (false, false);
    while rest.len() >= 4 {
        let length = usize::from(order.u16(rest, 0));
        // The highest two bits are flags (`NLA_TYPE_MASK`).
        let number = order.u16(rest, 2) & 0x3fff;
        let end = length.clamp(4, rest.len());
        let value = &rest[4..end];
        match (number, value) {
            (PACKET_HEADER, [high, low, at, ..]) => {
                protocol = Some(u16::from_be_bytes([*high, *low]));
                hook = Some(*at);
            }
            (IN_DEVICE, _) => comes_in = true,
            (OUT_DEVICE, _) => goes_out = true,
            (PAYLOAD, _) => {
                payload = Some(value);
                break;
            }
            _ => {}
        }
        rest = rest.get(end.next_multiple_of(4)..).unwrap_or_default();
    }
    let direction = match hook {
        Some(HOOK_OUT | HOOK_POSTROUTING) => Some(Direction::Out),
        // It is to somebody else.
        Some(HOOK_FORWARD) => None,
        Some(_) => Some(Direction::In),
        None if goes_out && !comes_in => Some(Direction::Out),
        None if comes_in => Some(Direction::In),
        None => None,
    };
    // Where nothing says what it is: `AF_INET` and `AF_INET6` of Linux.
    let kind = protocol.filter(|&kind| kind != 0).unwrap_or(match family {
        2 => 0x0800,
        10 => 0x86dd,
        _ => 0,
    });
    let frame = payload.map(|payload| Frame::network(kind, payload));
    Found::gone(frame.ok_or(Unread::Cut), direction)
}

/// A cooked header that says which of netlink's families it is, and a message.
pub(super) fn netlink(captured: &[u8], order: Order) -> Found<'_> {
    // `NETLINK_NETFILTER`; a packet of `NFNL_SUBSYS_ULOG`.
    const NETFILTER: u16 = 12;
    const LOGGED: u16 = 4 << 8;
    const COOKED: usize = 16;
    const HEADER: usize = 16;
    let Some((header, message)) = captured.split_at_checked(COOKED) else {
        return Found::new(Err(Unread::Cut));
    };
    if Order::Big.u16(header, 14) != NETFILTER || message.len() < HEADER {
        return Found::new(Ok(Frame::other()));
    }
    let length = order.u32(message, 0) as usize;
    if order.u16(message, 4) != LOGGED {
        return Found::new(Ok(Frame::other()));
    }
    let end = length.clamp(HEADER, message.len());
    if message
        .get(end.next_multiple_of(4)..)
        .is_some_and(|more| !more.is_empty())
    {
        return Found::new(Err(Unread::Several));
    }
    nflog(&message[HEADER..end], order)
}
