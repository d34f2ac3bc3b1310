//! What Wireshark exports of a layer (File, Export PDUs): tags that say what it was and between whom, and then what it was.

use super::{Begins, Frame, Order, Unread};

// wsutil/wsgcrypt-free part of Wireshark: epan/exported_pdu.h and wiretap/.
const END: u16 = 0;
const DISSECTOR: u16 = 12;
const V4_SOURCE: u16 = 20;
const V4_DESTINATION: u16 = 21;
const V6_SOURCE: u16 = 22;
const V6_DESTINATION: u16 = 23;
const PORT_TYPE: u16 = 24;
const SOURCE_PORT: u16 = 25;
const DESTINATION_PORT: u16 = 26;

/// An IP packet where that is what was exported; else one is made of the tags, where they say between whom it was.
pub(super) fn exported<'a>(
    captured: &'a [u8],
    scratch: &'a mut Vec<u8>,
) -> Result<Frame<'a>, Unread> {
    let mut rest = captured;
    let mut name: &[u8] = &[];
    let (mut source, mut destination): (&[u8], &[u8]) = (&[], &[]);
    let (mut kind, mut ports) = (None, [None, None]);
    let number = |value: &[u8]| value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    loop {
        if rest.len() < 4 {
            return Err(Unread::Cut);
        }
        let (tag, length) = (
            Order::Big.u16(rest, 0),
            usize::from(Order::Big.u16(rest, 2)),
        );
        let Some(value) = rest.get(4..4 + length) else {
            return Err(Unread::Cut);
        };
        rest = &rest[4 + length..];
        match tag {
            END => break,
            DISSECTOR => name = value,
            V4_SOURCE | V6_SOURCE => source = value,
            V4_DESTINATION | V6_DESTINATION => destination = value,
            PORT_TYPE => kind = number(value),
            SOURCE_PORT => ports[0] = number(value),
            DESTINATION_PORT => ports[1] = number(value),
            _ => {}
        }
    }
    // Padded with zeros.
    let named = |wanted: &str| {
        name.strip_prefix(wanted.as_bytes())
            .is_some_and(|rest| rest.iter().all(|&byte| byte == 0))
    };
    if ["ip", "ipv4", "ipv6", "raw_ip"].into_iter().any(named) {
        return Ok(Frame {
            begins: Begins::Ip,
            bytes: rest,
        });
    }
    if ["eth", "eth_withoutfcs", "eth_maybefcs"]
        .into_iter()
        .any(named)
    {
        return Ok(Frame {
            begins: Begins::Ethernet,
            bytes: rest,
        });
    }
    // `exp_pdu_port_type`; IANA, protocol numbers.
    let protocol = match kind {
        Some(1) => 132,
        Some(2) => 6,
        Some(3) => 17,
        _ => return Err(Unread::Exported),
    };
    let [Some(from), Some(to)] = ports.map(|port| port.and_then(|port| u16::try_from(port).ok()))
    else {
        return Err(Unread::Exported);
    };
    scratch.clear();
    match (source.len(), destination.len()) {
        (4, 4) => scratch.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0]),
        (16, 16) => scratch.extend([0x60, 0, 0, 0, 0, 0, protocol, 64]),
        _ => return Err(Unread::Exported),
    }
    for part in [
        source,
        destination,
        &from.to_be_bytes(),
        &to.to_be_bytes(),
        rest,
    ] {
        scratch.extend_from_slice(part);
    }
    Ok(Frame {
        begins: Begins::Ip,
        bytes: scratch,
    })
}
