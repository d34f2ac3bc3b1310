//! Lists of prefixes as they might be in force somewhere: hosts, small networks and /24s (in IPv6 /128, /64 and /48), the same in every run.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// One source in no list: reserved for documentation (RFC 5737, RFC 3849), as are the hosts of the benchmark.
pub(super) const UNLISTED: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 77)),
];

/// Its halves are each other's complement, as the sender of live frames wants it.
pub(super) const COMPLEMENTS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 63, 255));

/// An address with its host bits zero, and a length.
#[derive(Clone, Copy)]
pub(super) struct Prefix {
    pub(super) address: IpAddr,
    pub(super) length: u8,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Prefix {
    /// Some address that the prefix covers.
    pub(super) fn host(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let host = if self.length == 32 { 0 } else { 5 };
                Ipv4Addr::from_bits(address.to_bits() | host).into()
            }
            IpAddr::V6(address) => {
                let host = if self.length == 128 { 0 } else { 5 };
                Ipv6Addr::from_bits(address.to_bits() | host).into()
            }
        }
    }
}

/// IPv4 entries, each in a /24 of its own, which is the hardest for a filter that looks at the neighbourhood first: seven of ten are
/// hosts, two /24, one /29.
pub(super) fn ipv4(entries: usize) -> Vec<Prefix> {
    let mut random = Random(4);
    let mut taken = HashSet::new();
    let networks = std::iter::from_fn(move || Some(random.next() as u32 & 0xffff_ff00))
        .filter(|network| is_unicast(*network))
        .filter(move |network| taken.insert(*network));
    let shapes = (0..entries).map(|turn| match turn % 10 {
        0 | 5 => (24, 0),
        1 => (29, 0x48),
        _ => (32, 0x4d),
    });
    let prefix = |(network, (length, host)): (u32, (u8, u32))| Prefix {
        address: Ipv4Addr::from_bits(network | host).into(),
        length,
    };
    networks.zip(shapes).map(prefix).collect()
}

/// IPv6 entries of 2000::/3: seven of ten are hosts, two /64, one /48.
pub(super) fn ipv6(entries: usize) -> Vec<Prefix> {
    let mut random = Random(6);
    let mut prefix = |turn| {
        let length = match turn % 10 {
            0 | 5 => 64,
            1 => 48,
            _ => 128,
        };
        let bits = u128::from(random.next()) << 64 | u128::from(random.next());
        let bits = (bits >> 3 | 1 << 125) & u128::MAX << (128 - length);
        Prefix {
            address: Ipv6Addr::from_bits(bits).into(),
            length,
        }
    };
    (0..entries).map(&mut prefix).collect()
}

/// Entries of both families, half and half where they are few, else nine IPv4 for each IPv6.
pub(super) fn mixed(entries: usize) -> Vec<Prefix> {
    let second = (entries / 10).max(entries.min(20) / 2);
    let mut list = ipv4(entries - second);
    list.extend(ipv6(second));
    list
}

/// As a list file has them.
pub(super) fn text(list: &[Prefix]) -> String {
    let lines: Vec<String> = list.iter().map(ToString::to_string).collect();
    lines.join("\n") + "\n"
}

fn is_unicast(network: u32) -> bool {
    let [a, b, c, _] = network.to_be_bytes();
    // Less this host, private, loopback, documentation, multicast and what is above.
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..) | (192, 0, 2) | (198, 51, 100) | (203, 0, 113)
    )
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }
}
