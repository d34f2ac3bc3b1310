//! Changes of finished frames and headers.

use sipguard_ebpf::abi::LinkKind;

use super::{Carrier, Mutation};
use crate::{frame::sum, random::Random};

/// Changes one finished frame.
pub(super) fn change(
    mutation: Mutation,
    frame: &mut Vec<u8>,
    carrier: Carrier,
    random: &mut Random,
) {
    let at = internet(frame, carrier);
    let first = carrier.shortest();
    if frame.len() < at + 40 {
        return;
    }
    let v4 = frame[at] >> 4 == 4;
    match mutation {
        Mutation::IpLength => {
            let field = if v4 { at + 2 } else { at + 4 };
            let length = u16::from_be_bytes([frame[field], frame[field + 1]]);
            let change = u16::try_from(random.below(64)).expect("below 64");
            let length = length.wrapping_add(change).wrapping_sub(32);
            frame[field..field + 2].copy_from_slice(&length.to_be_bytes());
        }
        Mutation::HeaderLength if v4 => frame[at] = 0x40 | random.byte() >> 4,
        Mutation::Version => frame[at] = frame[at] & 0x0f | random.byte() & 0xf0,
        Mutation::Protocol => {
            let numbers = [0, 4, 6, 17, 41, 43, 44, 50, 51, 59, 60, 132, 135, 136, 139];
            frame[if v4 { at + 9 } else { at + 6 }] = *random.choose(&numbers);
        }
        Mutation::EtherType => {
            // Both IPs and tags most often; MPLS, Ethernet in a tunnel, WCCP, which GRE turns into IPv4.
            let kinds = [
                0x0800_u16, 0x0800, 0x86dd, 0x86dd, 0x8100, 0x88a8, 0x8864, 0x9100, 0x0806, 0x8847,
                0x8848, 0x6558, 0x883e, 46,
            ];
            frame[at - 2..at].copy_from_slice(&random.choose(&kinds).to_be_bytes());
        }
        Mutation::Harmless if v4 => {
            frame[at + 1] = random.byte();
            frame[at + 6] ^= random.byte() & 0xc0;
            frame[at + 8] = 1 + random.byte() / 2;
        }
        Mutation::Harmless => {
            frame[at] |= random.byte() & 0x0f;
            frame[at + 1] = random.byte();
            frame[at + 7] = random.byte();
        }
        Mutation::Truncated => frame.truncate(first + random.below(frame.len() - first)),
        Mutation::Trailing => frame.extend(random.bytes(40)),
        Mutation::Byte => {
            let place = random.below(frame.len());
            frame[place] = random.byte();
        }
        Mutation::Random => {
            random.mutate(frame);
            return;
        }
        _ => return,
    }
    repair(frame, carrier);
}

/// Where the IP header begins.
pub(super) fn internet(frame: &[u8], carrier: Carrier) -> usize {
    if carrier.link() == LinkKind::Ip {
        return 0;
    }
    let tag = |kind: &[u8]| matches!(kind, [0x81, 0x00] | [0x88, 0xa8]);
    let mut at = 14;
    while frame.get(at - 2..at).is_some_and(tag) {
        at += 4;
    }
    match (frame.get(at - 2..at), frame.get(at + 6)) {
        (Some([0x88, 0x64]), Some(0x21 | 0x57)) => at + 7,
        (Some([0x88, 0x64]), _) => at + 8,
        _ => at,
    }
}

/// Makes the checksum of an IPv4 header right again.
pub(super) fn repair(frame: &mut [u8], carrier: Carrier) {
    let at = internet(frame, carrier);
    let Some(first) = frame.get(at).filter(|first| *first >> 4 == 4) else {
        return;
    };
    let end = at + usize::from(first & 15) * 4;
    if end >= at + 20 && end <= frame.len() {
        frame[at + 10..at + 12].fill(0);
        let sum = sum(&frame[at..end]);
        frame[at + 10..at + 12].copy_from_slice(&sum);
    }
}

/// Changes two bytes and the checksum that covers them (RFC 1624).
pub(super) fn set(bytes: &mut [u8], at: usize, new: [u8; 2], sum_at: usize) {
    let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let old = word(bytes, at);
    let terms = [!word(bytes, sum_at), !old, u16::from_be_bytes(new)];
    let folded = sum(&terms.map(u16::to_be_bytes).concat());
    bytes[at..at + 2].copy_from_slice(&new);
    bytes[sum_at..sum_at + 2].copy_from_slice(&folded);
}

/// IPv4 options of this length as a whole.
pub(super) fn options(random: &mut Random, bytes: usize) -> Vec<u8> {
    let mut options = Vec::new();
    while options.len() < bytes {
        let left = u8::try_from(bytes - options.len()).expect("at most 40");
        let length = left.min(3 + 4 * u8::try_from(1 + random.below(3)).expect("at most 3"));
        let option = match random.below(7) {
            0 => vec![1],
            1 => vec![0; usize::from(left)],
            // Loose and strict source routes that are used up, or not.
            2 => vec![0x83, length, length + 1],
            3 => vec![*random.choose(&[0x83, 0x89]), length, 4],
            4 => vec![0x07, length, 4],
            5 => vec![0x44, length, 5, 0],
            _ => vec![0x94, 4, 0, 0],
        };
        let option_length = if option.len() > 2 {
            usize::from(option[1])
        } else {
            option.len()
        };
        let end = options.len() + option_length;
        options.extend(option);
        options.resize(end.min(bytes), 0);
    }
    options.truncate(bytes);
    options
}
