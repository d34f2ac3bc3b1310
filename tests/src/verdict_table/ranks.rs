//! Ranks: what is said by hand comes before what moves by itself, whatever the prefixes; `any` by hand comes behind both, and then the
//! service's default. Each of these in both families, beside what the config file says ([`super::USUAL`]).

use sipguard::policy::Action;

use super::{Config, Expected, HEADERS, Rows, allowed, banned, denied, open, unlisted};
use crate::{
    compiled::NOW,
    frame::{Frame, bare, eth},
    reference::{Banned, Own},
};

/// What has ended by [`NOW`], and what has not for as long as the machine runs.
const ENDED: Option<u64> = Some(NOW.boot_ns / 1_000);
const LASTS: Option<u64> = Some(NOW.boot_ns * 1_000_000);

/// The command line's entries: a prefix of each family, the service's place in the config, what is done, when it ends.
type Said = ([&'static str; 2], usize, Action, Option<u64>);

const SIP: usize = 0;
const WEB: usize = 1;
const BLOCKLIST: usize = 3;
const BORDER: usize = 5;
const OTHER: usize = 6;

#[rustfmt::skip]
const BY_HAND: &[Said] = &[
    (["198.19.3.9/32", "2001:db9:3:9::9/128"], WEB, Action::Allow, None),
    (["198.19.3.11/32", "2001:db9:3:9::11/128"], SIP, Action::Allow, ENDED),
    (["198.19.3.12/32", "2001:db9:3:9::12/128"], SIP, Action::Allow, LASTS),
    // Less specific than the bans within them.
    (["198.21.0.0/16", "2001:dba::/32"], SIP, Action::Deny, None),
    (["198.22.0.0/16", "2001:dbb::/32"], SIP, Action::Allow, None),
    (["198.23.0.0/16", "2001:dbc::/32"], SIP, Action::Allow, ENDED),
    // Over the config file's word for a while, and for a while that is over.
    (["203.0.113.8/32", "2001:db8:100::8/128"], SIP, Action::Deny, LASTS),
    (["203.0.113.7/32", "2001:db8:100::7/128"], SIP, Action::Deny, ENDED),
    (["0.0.0.0/0", "::/0"], OTHER, Action::Allow, LASTS),
    (["0.0.0.0/0", "::/0"], BORDER, Action::Allow, ENDED),
    (["0.0.0.0/0", "::/0"], BLOCKLIST, Action::Deny, ENDED),
];

#[rustfmt::skip]
const BANS: &[([&str; 2], Option<u64>)] = &[
    // Within what is allowed by hand, on its very prefix, and around it.
    (["203.0.113.5/32", "2001:db8:100::5/128"], None),
    (["198.51.100.10/32", "2001:db8:a::10/128"], None),
    (["203.0.112.0/22", "2001:db8:100::/40"], None),
    // Within each other.
    (["198.19.0.0/16", "2001:db9::/32"], None),
    (["198.19.3.0/24", "2001:db9:3::/48"], LASTS),
    (["198.19.3.9/32", "2001:db9:3:9::9/128"], None),
    (["198.19.3.10/32", "2001:db9:3:9::10/128"], ENDED),
    // Alone.
    (["198.20.0.1/32", "2001:dbf::1/128"], LASTS),
    (["198.20.0.2/32", "2001:dbf::2/128"], ENDED),
    (["198.20.4.0/23", "2001:dbf:8000::/33"], None),
    // Within what the command line says.
    (["198.21.0.1/32", "2001:dba::1/128"], None),
    (["198.22.0.1/32", "2001:dbb::1/128"], None),
    (["198.23.0.1/32", "2001:dbc::1/128"], None),
    (["203.0.113.7/32", "2001:db8:100::7/128"], None),
    (["203.0.113.8/32", "2001:db8:100::8/128"], ENDED),
];

/// What is said beside the config file.
pub(super) fn said() -> (Vec<Own>, Vec<Banned>) {
    let own = BY_HAND
        .iter()
        .flat_map(|&(prefixes, service, action, until)| {
            prefixes.map(|prefix| Own {
                prefix: prefix.parse().expect("a prefix"),
                service,
                action,
                until,
            })
        });
    let bans = BANS.iter().flat_map(|&(prefixes, until)| {
        prefixes.map(|prefix| Banned {
            prefix: prefix.parse().expect("a prefix"),
            until,
        })
    });
    (own.collect(), bans.collect())
}

/// A name, a source of each family, a port, and the verdict with the prefix lengths of both families.
type Situation = (&'static str, [&'static str; 2], u16, fn(usize) -> Expected);

#[rustfmt::skip]
const SITUATIONS: &[Situation] = &[
    ("hand-allow-less-specific", ["203.0.113.5", "2001:db8:100::5"], 5060, |family| allowed("sip", [24, 48][family])),
    ("hand-allow-same-prefix", ["198.51.100.10", "2001:db8:a::10"], 5061, |family| allowed("sip", [32, 128][family])),
    ("hand-allow-more-specific", ["203.0.113.9", "2001:db8:100::9"], 50_600, |family| allowed("sip", [24, 48][family])),
    ("hand-deny-more-specific", ["203.0.113.65", "2001:db8:100:6::65"], 5060, |family| denied("sip", [26, 64][family])),
    ("hand-allow-inside-hand-deny", ["203.0.113.66", "2001:db8:100:6::66"], 5060, |family| allowed("sip", [32, 128][family])),
    ("around-what-is-by-hand", ["203.0.112.9", "2001:db8:101::9"], 5060, |family| banned("sip", [22, 40][family])),
    ("by-hand-in-another-service", ["203.0.113.5", "2001:db8:100::5"], 80, |family| banned("web", [32, 128][family])),
    ("by-hand-in-another-service-less-specific", ["203.0.113.9", "2001:db8:100::9"], 80, |family| banned("web", [22, 40][family])),
    ("live-least-specific", ["198.19.9.9", "2001:db9:9::9"], 5060, |family| banned("sip", [16, 32][family])),
    ("live-more-specific", ["198.19.3.8", "2001:db9:3:9::8"], 5060, |family| banned("sip", [24, 48][family])),
    ("live-most-specific", ["198.19.3.9", "2001:db9:3:9::9"], 5060, |family| banned("sip", [32, 128][family])),
    ("live-most-specific-has-ended", ["198.19.3.10", "2001:db9:3:9::10"], 5060, |family| banned("sip", [24, 48][family])),
    ("command-line-allow-over-same-live", ["198.19.3.9", "2001:db9:3:9::9"], 80, |family| allowed("web", [32, 128][family])),
    ("command-line-allow-has-ended", ["198.19.3.11", "2001:db9:3:9::11"], 5060, |family| banned("sip", [24, 48][family])),
    ("command-line-allow-for-a-while", ["198.19.3.12", "2001:db9:3:9::12"], 5060, |family| allowed("sip", [32, 128][family])),
    ("command-line-allow-for-a-while-elsewhere", ["198.19.3.12", "2001:db9:3:9::12"], 80, |family| banned("web", [24, 48][family])),
    ("hand-deny-less-specific", ["198.21.0.1", "2001:dba::1"], 5060, |family| denied("sip", [16, 32][family])),
    ("hand-deny-less-specific-elsewhere", ["198.21.0.1", "2001:dba::1"], 80, |family| banned("web", [32, 128][family])),
    ("hand-allow-short-over-live-host", ["198.22.0.1", "2001:dbb::1"], 5060, |family| allowed("sip", [16, 32][family])),
    ("hand-allow-short-has-ended", ["198.23.0.1", "2001:dbc::1"], 5060, |family| banned("sip", [32, 128][family])),
    ("hand-allow-short-has-ended-unlisted", ["198.23.0.2", "2001:dbc::2"], 5060, |_| unlisted("sip")),
    ("hand-deny-for-a-while", ["203.0.113.8", "2001:db8:100::8"], 5060, |family| denied("sip", [32, 128][family])),
    ("hand-deny-has-ended-hand-allow-around", ["203.0.113.7", "2001:db8:100::7"], 5060, |family| allowed("sip", [24, 48][family])),
    ("live-alone", ["198.20.0.1", "2001:dbf::1"], 5060, |family| banned("sip", [32, 128][family])),
    ("live-alone-has-ended", ["198.20.0.2", "2001:dbf::2"], 5060, |_| unlisted("sip")),
    ("live-first-address", ["198.20.4.0", "2001:dbf:8000::"], 5060, |family| banned("sip", [23, 33][family])),
    ("live-last-address", ["198.20.5.255", "2001:dbf:ffff:ffff:ffff:ffff:ffff:ffff"], 5060, |family| banned("sip", [23, 33][family])),
    ("just-before-live", ["198.20.3.255", "2001:dbf:7fff:ffff:ffff:ffff:ffff:ffff"], 5060, |_| unlisted("sip")),
    ("just-behind-live", ["198.20.6.0", "2001:dc0::"], 5060, |_| unlisted("sip")),
    ("unlisted", ["192.0.2.99", "2001:db8:ffff::7"], 5060, |_| unlisted("sip")),
    ("live-before-any-allowed", ["198.20.0.1", "2001:dbf::1"], 5070, |family| banned("public", [32, 128][family])),
    ("any-allowed", ["192.0.2.99", "2001:db8:ffff::7"], 5070, |_| allowed("public", 0)),
    ("any-allowed-live-has-ended", ["198.20.0.2", "2001:dbf::2"], 5070, |_| allowed("public", 0)),
    ("hand-deny-before-any-allowed", ["198.51.100.9", "2001:db8:bad::9"], 5070, |family| denied("public", [24, 48][family])),
    ("hand-allow-before-live-before-any", ["198.51.100.10", "2001:db8:a::10"], 5070, |family| allowed("public", [32, 128][family])),
    ("live-before-any-denied", ["198.20.0.1", "2001:dbf::1"], 4100, |family| banned("closed", [32, 128][family])),
    ("any-denied", ["192.0.2.99", "2001:db8:ffff::7"], 4100, |_| denied("closed", 0)),
    ("any-denied-live-has-ended", ["198.20.0.2", "2001:dbf::2"], 4100, |_| denied("closed", 0)),
    ("live-before-open", ["198.20.0.1", "2001:dbf::1"], 4000, |family| banned("blocklist", [32, 128][family])),
    ("any-denied-has-ended-open", ["192.0.2.99", "2001:db8:ffff::7"], 4000, |_| open("blocklist")),
    ("live-and-any-denied-have-ended-open", ["198.20.0.2", "2001:dbf::2"], 4000, |_| open("blocklist")),
    ("any-allowed-has-ended", ["192.0.2.99", "2001:db8:ffff::7"], 65_535, |_| unlisted("border")),
    ("live-over-any-allowed-that-has-ended", ["198.20.0.1", "2001:dbf::1"], 65_535, |family| banned("border", [32, 128][family])),
];

/// Those that are also met behind other headers.
const EVERYWHERE: [&str; 6] = [
    "hand-allow-less-specific",
    "hand-deny-less-specific",
    "live-most-specific",
    "command-line-allow-has-ended",
    "live-alone-has-ended",
    "any-allowed-live-has-ended",
];

pub(super) fn add(rows: &mut Rows) {
    for &(name, sources, port, expected) in SITUATIONS {
        for (family, (source, version)) in sources.into_iter().zip(["ipv4", "ipv6"]).enumerate() {
            let mut add = |what: &str, frame: &Frame| {
                let name = format!("rank-{name}-{version}-{what}");
                rows.add_for(Config::Ranks, name, frame, expected(family));
            };
            for (protocol, header) in HEADERS {
                add(protocol, &header(eth().ip(source), port));
            }
            if !EVERYWHERE.contains(&name) {
                continue;
            }
            add("tagged", &eth().vlan(7).ip(source).udp(port));
            add(
                "two-tags",
                &eth().service_tag(8).vlan(7).ip(source).udp(port),
            );
            add("pppoe", &eth().pppoe().ip(source).udp(port));
            add("bare", &bare().ip(source).udp(port));
            add(
                "first-fragment",
                &eth()
                    .ip(source)
                    .fragment(0, true)
                    .udp(port)
                    .payload(&[0; 8]),
            );
            if family == 0 {
                add("options", &eth().ip(source).options(8).udp(port));
            } else {
                add(
                    "extension-headers",
                    &eth().ip(source).hop_by_hop(8).destination(16).udp(port),
                );
            }
        }
    }
    // Over TCP this port is another service's, which everybody was let into for a while.
    for (source, version, length) in [("198.20.0.1", "ipv4", 32), ("2001:dbf::1", "ipv6", 128)] {
        let name = format!("rank-live-before-any-for-a-while-{version}");
        rows.add_for(
            Config::Ranks,
            name,
            &eth().ip(source).tcp(5090),
            banned("other", length),
        );
    }
    for (source, version) in [("192.0.2.99", "ipv4"), ("2001:db8:ffff::7", "ipv6")] {
        let name = format!("rank-any-for-a-while-{version}");
        rows.add_for(
            Config::Ranks,
            name,
            &eth().ip(source).tcp(5090),
            allowed("other", 0),
        );
    }
}
