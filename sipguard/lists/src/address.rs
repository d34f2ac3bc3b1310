//! Addresses that no name of a provider has, and that are in no country: letting them in would let in the host itself, or everybody near it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks of which no name may have addresses, with what they are.
const NEVER: [(IpNet, &str); 11] = [
    (v4([0, 0, 0, 0], 8), "an address of this network"),
    (v4([127, 0, 0, 0], 8), "a loopback address"),
    (v4([169, 254, 0, 0], 16), "a link-local address"),
    (v4([224, 0, 0, 0], 4), "a multicast address"),
    (v4([240, 0, 0, 0], 4), "a reserved address"),
    (v6([0, 0], [0, 0], 128), "the unspecified address"),
    (v6([0, 0], [0, 1], 128), "a loopback address"),
    (MAPPED, "IPv4 in IPv6 form"),
    (v6([0x64, 0xff9b], [0, 0], 96), "a translated IPv4 address"),
    (v6([0xfe80, 0], [0, 0], 10), "a link-local address"),
    (v6([0xff00, 0], [0, 0], 8), "a multicast address"),
];

/// RFC 4291, section 2.5.5.2.
const MAPPED: IpNet = IpNet::V6(Ipv6Net::new_assert(
    Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
    96,
));

/// Networks that are somebody else's at every place: RFC 1918, RFC 6598 and RFC 4193.
const PRIVATE: [IpNet; 5] = [
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    v6([0xfc00, 0], [0, 0], 7),
];

/// Networks that are not for everybody to reach, by the registries of RFC 6890 as they are in 2026, with those of multicast and of 6to4.
const SPECIAL: [IpNet; 20] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 3),
    // All but 2000::/3, in which are the others.
    v6([0, 0], [0, 0], 3),
    v6([0x4000, 0], [0, 0], 2),
    v6([0x8000, 0], [0, 0], 1),
    v6([0x2001, 0], [0, 0], 23),
    v6([0x2001, 0xdb8], [0, 0], 32),
    v6([0x2002, 0], [0, 0], 16),
];

/// RFC 9637.
const DOCUMENTATION: IpNet = v6([0x3fff, 0], [0, 0], 20);

/// The special-purpose network that has something in common with a prefix.
pub fn special(prefix: IpNet) -> Option<IpNet> {
    let mut all = SPECIAL.into_iter().chain([DOCUMENTATION]);
    all.find(|net| net.contains(&prefix) || prefix.contains(net))
}

/// Hands out what there is of a prefix without special-purpose networks, in order.
pub fn without_special(prefix: IpNet, hand: &mut dyn FnMut(IpNet)) {
    match special(prefix) {
        None => hand(prefix),
        Some(net) if net.contains(&prefix) => {}
        // It is wider than that one, and so has halves.
        Some(_) => {
            if let Ok(halves) = prefix.subnets(prefix.prefix_len() + 1) {
                halves.for_each(|half| without_special(half, hand));
            }
        }
    }
}

const fn v4(octets: [u8; 4], length: u8) -> IpNet {
    let address = Ipv4Addr::from_octets(octets);
    IpNet::V4(Ipv4Net::new_assert(address, length))
}

/// From the first two and the last two groups; those between are zero.
const fn v6(begin: [u16; 2], end: [u16; 2], length: u8) -> IpNet {
    let [[a, b], [g, h]] = [begin, end];
    let address = Ipv6Addr::new(a, b, 0, 0, 0, 0, g, h);
    IpNet::V6(Ipv6Net::new_assert(address, length))
}

/// Why a name may not have this address, if so; `private` says whether it may have a private one.
pub fn refused(address: IpAddr, private: bool) -> Option<&'static str> {
    let never = NEVER.iter().find(|(net, _)| net.contains(&address));
    if let Some((_, what)) = never {
        return Some(what);
    }
    let is_private = PRIVATE.iter().any(|net| net.contains(&address));
    (is_private && !private)
        .then_some("a private address, and the source does not say `private = true`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_purpose_networks_are_cut_out() {
        for (prefix, wanted) in [
            ("8.0.0.0/8", "8.0.0.0/8"),
            ("10.1.0.0/16", ""),
            ("203.0.112.0/23", "203.0.112.0/24"),
            ("192.0.0.0/22", "192.0.1.0/24 192.0.3.0/24"),
            ("198.16.0.0/14", "198.16.0.0/15"),
            ("2001:db8::/31", "2001:db9::/32"),
            ("2001:200::/23", "2001:200::/23"),
            ("2002:cb00:7100::/48", ""),
            ("64:ff9b::/96", ""),
            ("::ffff:0:0/96", ""),
            ("fc00::/7", ""),
            ("2a00::/12", "2a00::/12"),
            (
                "3ffe::/15",
                "3ffe::/16 3fff:1000::/20 3fff:2000::/19 3fff:4000::/18 3fff:8000::/17",
            ),
        ] {
            let mut rest = Vec::new();
            without_special(prefix.parse().unwrap(), &mut |net| {
                rest.push(net.to_string());
            });
            assert_eq!(rest.join(" "), wanted, "{prefix}");
        }
        let mut count = 0;
        for prefix in crate::prefix::ANY {
            without_special(prefix, &mut |net| {
                assert_eq!(special(net), None);
                count += 1;
            });
        }
        assert!((100..300).contains(&count), "{count}");
    }

    #[test]
    fn addresses_that_no_name_may_have() {
        for (address, alone, with_private) in [
            ("203.0.113.7", true, true),
            ("2001:db8::7", true, true),
            ("0.255.255.255", false, false),
            ("1.0.0.0", true, true),
            ("9.255.255.255", true, true),
            ("10.0.0.0", false, true),
            ("10.255.255.255", false, true),
            ("11.0.0.0", true, true),
            ("100.63.255.255", true, true),
            ("100.64.0.0", false, true),
            ("100.127.255.255", false, true),
            ("100.128.0.0", true, true),
            ("126.255.255.255", true, true),
            ("127.0.0.1", false, false),
            ("128.0.0.0", true, true),
            ("169.254.0.1", false, false),
            ("172.15.255.255", true, true),
            ("172.16.0.0", false, true),
            ("172.31.255.255", false, true),
            ("172.32.0.0", true, true),
            ("192.168.255.255", false, true),
            ("223.255.255.255", true, true),
            ("224.0.0.1", false, false),
            ("240.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("::", false, false),
            ("::1", false, false),
            ("::2", true, true),
            ("::ffff:203.0.113.7", false, false),
            ("64:ff9b::203.0.113.7", false, false),
            ("64:ff9b:1::1", true, true),
            ("fbff::1", true, true),
            ("fc00::1", false, true),
            ("fdff::1", false, true),
            ("fe80::1", false, false),
            ("febf::1", false, false),
            ("ff02::1", false, false),
        ] {
            let taken =
                [false, true].map(|private| refused(address.parse().unwrap(), private).is_none());
            assert_eq!(taken, [alone, with_private], "{address}");
        }
    }
}
