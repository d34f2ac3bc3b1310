//! The benchmark's frames: UDP datagrams, without a checksum of their own, as RFC 768 allows.

use std::net::IpAddr;

/// Ethernet's shortest frame, less its checksum.
const SHORTEST: usize = 60;

/// From `source` to `port`, behind a VLAN tag or not; as short as Ethernet allows where there is no payload.
pub(super) fn udp(
    macs: [[u8; 6]; 2],
    source: IpAddr,
    target: IpAddr,
    port: u16,
    tag: bool,
    payload: &[u8],
) -> Vec<u8> {
    let [from, to] = macs;
    let mut frame = Vec::with_capacity(SHORTEST + 8 + payload.len());
    let length = 8 + payload.len() as u16;
    frame.extend(to);
    frame.extend(from);
    if tag {
        frame.extend([0x81, 0, 0, 7]);
    }
    let mut datagram = vec![0x13, 0xc4, 0, 0, 0, 8, 0, 0];
    datagram[2..4].copy_from_slice(&port.to_be_bytes());
    datagram[4..6].copy_from_slice(&length.to_be_bytes());
    datagram.extend(payload);
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            frame.extend([0x08, 0]);
            let mut header = [
                0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ];
            header[2..4].copy_from_slice(&(20 + length).to_be_bytes());
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&target.octets());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum);
            frame.extend(header);
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let [high, low] = length.to_be_bytes();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, 17, 64]);
            frame.extend(source.octets());
            frame.extend(target.octets());
        }
        _ => unreachable!("both ends of a packet are of one family"),
    }
    frame.append(&mut datagram);
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

/// RFC 1071.
fn checksum(header: &[u8]) -> [u8; 2] {
    let words = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be_bytes()
}
