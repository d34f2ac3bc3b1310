//! What Linux would do with a packet that sipguard did not stop: the checks of its own that it makes in front of a socket (`ip_rcv_core` in
//! `net/ipv4/ip_input.c`, `ip6_rcv_core`, `__udp4_lib_rcv`, `tcp_v4_rcv`).

use std::net::IpAddr;

use sipguard::capture::Frame;
use sipguard_ebpf::{abi::Reason, frame::Frame as _, header::Family, parse::network};

/// In words.
pub(super) fn would(frame: &Frame<'_>, is_truncated: bool, reason: Reason) -> String {
    let Ok((family, at)) = network(frame, frame.link()) else {
        return match reason {
            Reason::TooDeep => {
                "taken apart tag by tag, where it has a device for each of them".to_owned()
            }
            _ => "handed to whoever takes such frames; it is none of IP".to_owned(),
        };
    };
    if let Some(wrong) = broken(frame, family, at, is_truncated) {
        return format!("thrown away, because {wrong}");
    }
    match reason {
        Reason::TooDeep => "read to the last of its headers, and delivered".to_owned(),
        Reason::Malformed if is_truncated => "nobody knows: the capture holds too little of it".to_owned(),
        Reason::Malformed => {
            "thrown away, because its headers are broken or cut short; or kept, and put together with other fragments to something else".to_owned()
        }
        Reason::Fragment | Reason::Orphan => {
            let seconds = if family == Family::V4 { 30 } else { 60 };
            format!("kept until all of its datagram's fragments have come, {seconds} s at most, and put together with them")
        }
        _ => delivered(frame, family, at),
    }
}

fn delivered(frame: &Frame<'_>, family: Family, at: usize) -> String {
    let destination = frame.addresses().map(|(_, destination)| destination);
    let Some(destination) = destination else {
        return "thrown away, because it is cut short".to_owned();
    };
    let whose = match destination {
        IpAddr::V4(address) if address.is_multicast() || address.is_broadcast() => {
            "which has joined it"
        }
        IpAddr::V6(address) if address.is_multicast() => "which has joined it",
        _ => "if that is an address of this host, and routed on if it routes",
    };
    match ports(frame, family, at) {
        Some((name, port)) => {
            format!("handed to whoever has {name} port {port} of {destination} open, {whose}")
        }
        None => format!("taken in for {destination}, {whose}"),
    }
}

/// Of a plain packet, the protocol and the destination port.
fn ports(frame: &Frame<'_>, family: Family, at: usize) -> Option<(&'static str, u16)> {
    let (protocol, begin) = payload(frame, family, at)?;
    let name = match protocol {
        6 => "TCP",
        17 => "UDP",
        132 => "SCTP",
        136 => "UDP-Lite",
        _ => return None,
    };
    Some((name, u16::from_be_bytes(frame.read(begin + 2)?)))
}

/// Protocol, and where it begins, where nothing stands between.
fn payload(frame: &Frame<'_>, family: Family, at: usize) -> Option<(u8, usize)> {
    match family {
        Family::V4 => {
            let header: [u8; 20] = frame.read(at)?;
            Some((header[9], at + usize::from(header[0] & 0xf) * 4))
        }
        Family::V6 => {
            let header: [u8; 40] = frame.read(at)?;
            Some((header[6], at + 40))
        }
    }
}

/// What Linux finds wrong with it that sipguard does not look at.
fn broken(
    frame: &Frame<'_>,
    family: Family,
    at: usize,
    is_truncated: bool,
) -> Option<&'static str> {
    let (_, begin) = payload(frame, family, at)?;
    let here = frame.bytes.len() - at;
    let (length, is_fragment) = match family {
        Family::V4 => {
            let header: [u8; 20] = frame.read(at)?;
            if header[0] >> 4 != 4 || header[0] & 0xf < 5 {
                return Some("its IPv4 header is broken");
            }
            let whole = frame.bytes.get(at..begin)?;
            if sum(whole.iter().copied(), 0) != 0xffff {
                return Some("the checksum of its IPv4 header is wrong");
            }
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            // 0 is what the kernel itself writes into what it has put together.
            if length != 0 && length < begin - at {
                return Some("it says that it is shorter than its header");
            }
            (length, header[6] & 0x3f != 0 || header[7] != 0)
        }
        Family::V6 => {
            let header: [u8; 40] = frame.read(at)?;
            if header[0] >> 4 != 6 {
                return Some("its IPv6 header is broken");
            }
            let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
            (if length == 0 { 0 } else { length + 40 }, false)
        }
    };
    if length > here && !is_truncated {
        return Some("it says that it is longer than what has come");
    }
    if is_truncated || is_fragment || length == 0 {
        return None;
    }
    transport(frame, family, at, begin, at + length)
}

/// The same of UDP and TCP.
fn transport(
    frame: &Frame<'_>,
    family: Family,
    at: usize,
    begin: usize,
    end: usize,
) -> Option<&'static str> {
    let (protocol, _) = payload(frame, family, at)?;
    let bytes = frame.bytes.get(begin..end)?;
    let addresses = match family {
        Family::V4 => frame.bytes.get(at + 12..at + 20)?,
        Family::V6 => frame.bytes.get(at + 8..at + 40)?,
    };
    let bytes = match protocol {
        17 => {
            let Some(&[_, _, _, _, high, low, one, other]) = bytes.first_chunk::<8>() else {
                return Some("it is shorter than a UDP header");
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length < 8 || length > bytes.len() {
                return Some("its UDP length is wrong");
            }
            if [one, other] == [0, 0] {
                // Nobody has made one, which IPv6 does not allow.
                return (family == Family::V6).then_some("it has no UDP checksum");
            }
            &bytes[..length]
        }
        6 if bytes.len() < 20 => return Some("it is shorter than a TCP header"),
        6 => bytes,
        _ => return None,
    };
    // RFC 768, RFC 9293 section 3.1, RFC 8200 section 8.1.
    let pseudo = u64::from(protocol) + bytes.len() as u64;
    let all = addresses.iter().chain(bytes).copied();
    (sum(all, pseudo) != 0xffff).then_some(
        "its checksum is wrong (unless it was captured on the machine that sent it, whose network card makes the checksum)",
    )
}

/// The ones' complement sum of 16-bit words (RFC 1071).
fn sum(bytes: impl Iterator<Item = u8>, begin: u64) -> u64 {
    let mut sum = begin;
    for (place, byte) in bytes.enumerate() {
        sum += u64::from(byte) << (if place % 2 == 0 { 8 } else { 0 });
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
