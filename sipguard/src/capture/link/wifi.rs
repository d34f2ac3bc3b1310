//! 802.11, as an interface in monitor mode sees it. Of data that is not encrypted, what stands behind LLC and SNAP is as behind an EtherType.

use super::{Frame, Order, Unread};

/// With radiotap's header in front (<https://www.radiotap.org>).
pub(super) fn radiotap(captured: &[u8]) -> Result<Frame<'_>, Unread> {
    const TSFT: u32 = 1 << 0;
    const FLAGS: u32 = 1 << 1;
    const MORE: u32 = 1 << 31;
    /// The 802.11 header is padded.
    const PADDED: u8 = 0x20;
    if captured.len() < 8 {
        return Err(Unread::Cut);
    }
    let length = usize::from(Order::Little.u16(captured, 2));
    let Some((header, frame)) = captured.split_at_checked(length) else {
        return Err(Unread::Cut);
    };
    // The header may be shorter than what it says.
    let Some((first, words)) = header
        .get(4..)
        .and_then(|words| words.split_first_chunk::<4>())
    else {
        return Err(Unread::Cut);
    };
    let first = u32::from_le_bytes(*first);
    let mut at = 8_usize;
    if first & MORE != 0 {
        for word in words.chunks_exact(4) {
            at += 4;
            if Order::Little.u32(word, 0) & MORE == 0 {
                break;
            }
        }
    }
    if first & TSFT != 0 {
        at = at.next_multiple_of(8) + 8;
    }
    let flags = header.get(at).filter(|_| first & FLAGS != 0);
    wifi(frame, flags.is_some_and(|flags| flags & PADDED != 0))
}

/// From the frame control field on (IEEE 802.11 section 9.2.4.1).
pub(super) fn wifi(frame: &[u8], is_padded: bool) -> Result<Frame<'_>, Unread> {
    let &[kind, flags, ..] = frame else {
        return Err(Unread::Cut);
    };
    // Data, and of these those that carry some.
    if kind & 0x0c != 0x08 || kind & 0x40 != 0 {
        return Ok(Frame::other());
    }
    let has_four_addresses = flags & 3 == 3;
    let has_quality = kind & 0x80 != 0;
    let mut header: usize = if has_four_addresses { 30 } else { 24 };
    let quality = header;
    if has_quality {
        header += if flags & 0x80 == 0 { 2 } else { 6 };
    }
    if is_padded {
        header = header.next_multiple_of(4);
    }
    let Some(body) = frame.get(header..) else {
        return Err(Unread::Cut);
    };
    if flags & 0x40 != 0 {
        return Err(Unread::Encrypted);
    }
    if has_quality && frame[quality] & 0x80 != 0 {
        return Err(Unread::Several);
    }
    // A later fragment has no such header either.
    let Some((&[0xaa, 0xaa, 3, 0, 0, _], rest)) = body.split_first_chunk::<6>() else {
        return Ok(Frame::other());
    };
    match rest.split_first_chunk::<2>() {
        Some((kind, packet)) => Ok(Frame::network(u16::from_be_bytes(*kind), packet)),
        None => Err(Unread::Cut),
    }
}
