//! What the receiver's answers tell about what they answer.

use std::net::IpAddr;

use super::{Delivery, Transport};
use crate::frame::{GATEWAY_V4, GATEWAY_V6};

/// What an answer tells about the segment or chunk that it answers. The receiver writes plain headers.
pub(super) fn answered(packet: &[u8]) -> Option<Delivery> {
    let own = [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)];
    let (from, source, number, rest) = match packet.first()? >> 4 {
        4 => {
            let address =
                |at: usize| Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into());
            let header = usize::from(packet[0] & 15) * 4;
            // Sent back along a source route, to an address that is not the segment's source.
            (!source_routed(packet.get(20..header)?)).then_some(())?;
            let rest = packet.get(header..)?;
            (address(12)?, address(16)?, packet[9], rest)
        }
        6 => {
            let address =
                |at: usize| Some(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?.into());
            (address(8)?, address(24)?, packet[6], packet.get(40..)?)
        }
        _ => return None,
    };
    own.contains(&from).then_some(())?;
    let (transport, what) = match number {
        // The flags.
        6 => (Transport::Tcp, rest.get(13)?),
        // The first chunk's type.
        132 => (Transport::Sctp, rest.get(12)?),
        _ => return None,
    };
    Some(Delivery {
        transport,
        source,
        port: u16::from_be_bytes([rest[0], rest[1]]),
        what: vec![*what],
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
