//! PPP without the line that it came through (RFC 1661, RFC 1662).

use super::{super::Direction, Found, Frame, Unread};

/// A PPPoE session's EtherType, RFC 2516.
pub(super) const SESSION: u16 = 0x8864;

/// Begins with the protocol field, in front of which may stand who is meant and what kind of frame it is: all stations, unnumbered.
pub(super) fn ppp(captured: &[u8]) -> Result<Frame<'_>, Unread> {
    let bytes = captured.strip_prefix(&[0xff, 3]).unwrap_or(captured);
    // A number whose first byte is odd ends there (RFC 1661 section 6.5).
    let (protocol, packet) = match bytes {
        [only, packet @ ..] if only & 1 == 1 => (u16::from(*only), packet),
        [first, second, packet @ ..] => (u16::from_be_bytes([*first, *second]), packet),
        _ => return Err(Unread::Cut),
    };
    // IANA, PPP protocol numbers.
    match protocol {
        0x0021 => Ok(Frame::network(0x0800, packet)),
        0x0057 => Ok(Frame::network(0x86dd, packet)),
        // TCP and RTP headers that are compressed, fragments of several lines, encryption, compression.
        0x002d | 0x002f | 0x003d | 0x0053 | 0x0055 | 0x0061..=0x0069 | 0x00fb | 0x00fd => {
            Err(Unread::Compressed)
        }
        _ => Ok(Frame::other()),
    }
}

/// As pppd sees it: instead of who is meant stands which way it goes.
pub(super) fn pppd(captured: &[u8]) -> Found<'_> {
    let [direction, rest @ ..] = captured else {
        return Found::new(Err(Unread::Cut));
    };
    let direction = match direction {
        0 => Direction::In,
        _ => Direction::Out,
    };
    let rest = rest.strip_prefix(&[3]).unwrap_or(rest);
    Found::gone(ppp(rest), Some(direction))
}
