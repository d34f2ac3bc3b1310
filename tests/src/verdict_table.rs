//! The verdict table as rows of {name, frame, expected verdict}, run through `judge` on the host and through the loaded program.

mod ranks;

use std::{iter, path::Path};

use sipguard::config;
use sipguard_ebpf::abi::{Action, Layer, LinkKind, Reason};

use crate::{
    compiled::Compiled,
    frame::{Frame, LOOKS_LIKE_SIP, Link, TAG_9100, bare, eth},
};

/// What the rows are judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Config {
    /// UDP and TCP are guarded.
    Usual,
    /// SCTP and UDP-Lite are guarded, too.
    Wide,
    /// As [`Self::Usual`], with entries of the command line and bans, some of which have ended.
    Ranks,
}

impl Config {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Usual, Self::Wide, Self::Ranks];
    /// Those that are a file and nothing else.
    pub const FILES: [Self; 2] = [Self::Usual, Self::Wide];

    /// The text of the config file.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Usual | Self::Ranks => USUAL.to_owned(),
            Self::Wide => [USUAL, WIDE].concat(),
        }
    }

    /// What it says, compiled.
    #[must_use]
    pub fn compiled(self) -> Compiled {
        let policy = config::parse(&self.text(), Path::new("table.toml"));
        let policy = policy.unwrap_or_else(|problems| panic!("{problems}"));
        let (own, bans) = match self {
            Self::Usual | Self::Wide => (Vec::new(), Vec::new()),
            Self::Ranks => ranks::said(),
        };
        Compiled::said(policy, own, bans)
    }
}

const USUAL: &str = r#"
[sources]
everyone  = ["0.0.0.0/0", "::/0"]
providers = ["203.0.113.0/24", "2001:db8:100::/48"]
admins    = ["198.51.100.10", "2001:db8:a::10"]
# Shorter than what the prefilter has bits for, and at odd lengths.
networks  = ["100.64.0.0/10", "192.168.77.160/29", "2400::/12", "2001:db8:800::/37", "2001:db8:200:8000::/49"]
# Nested in what is allowed, with something allowed nested in it again.
blocked   = ["203.0.113.64/26", "100.64.7.0/24", "2001:db8:100:6::/64", "2400:7::/32"]
excepted  = ["203.0.113.66", "2001:db8:100:6::66"]
# First and last of what there is.
edges     = ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
spammers  = ["198.51.100.0/24", "2001:db8:bad::/48"]

[services.sip]
udp = [5060, 5061, 50600]
tcp = [5060, 5061, 50600]
allow = ["providers", "admins", "networks", "excepted"]
deny = ["blocked"]

[services.web]
udp = [80]
tcp = [80]
allow = ["admins"]

[services.public]
udp = [5070]
tcp = [5070]
allow = ["everyone", "admins"]
deny = ["spammers"]

[services.blocklist]
udp = [4000]
tcp = [4000]
default = "allow"
allow = ["admins"]
deny = ["spammers"]

[services.closed]
udp = [4100]
tcp = [4100]
default = "allow"
allow = ["admins"]
deny = ["everyone"]

[services.border]
udp = [1, 65535, 5090]
tcp = [65535, 5091]
allow = ["edges"]

[services.other]
udp = [5091]
tcp = [5090]
allow = ["providers"]
"#;

const WIDE: &str = r#"
[services.signalling]
sctp = [5060, 2905]
udplite = [5060]
allow = ["providers"]
deny = ["excepted"]
"#;

/// One frame and its verdict.
#[derive(Clone, Debug)]
pub struct Row {
    /// Unique, in kebab-case.
    pub name: String,
    /// What the frame is judged by.
    pub config: Config,
    /// What the frame begins with.
    pub link: LinkKind,
    /// The frame.
    pub frame: Vec<u8>,
    /// The verdict.
    pub expected: Expected,
}

/// Frames that come one behind the other, and their verdicts: row 4's first half, where what becomes of one depends on another.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Unique, in kebab-case.
    pub name: String,
    /// The frames, all of which begin with an Ethernet header, each with its verdict by [`Config::Usual`].
    pub frames: Vec<(Vec<u8>, Expected)>,
}

/// A verdict as a row states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// What is done with the frame. Stated apart from the reason, so that what follows from a reason is tested, too.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The service whose port the frame goes to, where that is what decided.
    pub service: Option<&'static str>,
    /// The length of the prefix whose entry decided.
    pub length: Option<u8>,
    /// The layer of that entry.
    pub layer: Option<Layer>,
}

impl Expected {
    const fn without_service(action: Action, reason: Reason) -> Self {
        Self {
            action,
            reason,
            service: None,
            length: None,
            layer: None,
        }
    }
}

const UNGUARDED: Expected = Expected::without_service(Action::Pass, Reason::None);
const FRAGMENT: Expected = Expected::without_service(Action::Pass, Reason::Fragment);
const TOO_DEEP: Expected = Expected::without_service(Action::Drop, Reason::TooDeep);
const ORPHAN: Expected = Expected {
    service: Some("sip"),
    ..Expected::without_service(Action::Drop, Reason::Orphan)
};
const MALFORMED: Expected = Expected::without_service(Action::Drop, Reason::Malformed);
const UNLISTED: Expected = unlisted("sip");

const fn unlisted(service: &'static str) -> Expected {
    Expected {
        service: Some(service),
        ..Expected::without_service(Action::Drop, Reason::Unlisted)
    }
}

const fn open(service: &'static str) -> Expected {
    Expected {
        service: Some(service),
        ..Expected::without_service(Action::Pass, Reason::Open)
    }
}

const fn allowed(service: &'static str, length: u8) -> Expected {
    Expected {
        service: Some(service),
        length: Some(length),
        layer: Some(Layer::Hand),
        ..Expected::without_service(Action::Pass, Reason::Allowed)
    }
}

const fn denied(service: &'static str, length: u8) -> Expected {
    Expected {
        service: Some(service),
        length: Some(length),
        layer: Some(Layer::Hand),
        ..Expected::without_service(Action::Drop, Reason::Denied)
    }
}

const fn banned(service: &'static str, length: u8) -> Expected {
    Expected {
        layer: Some(Layer::Live),
        ..denied(service, length)
    }
}

/// Names, and sources that mean the same in both families, so that what is true of both is written once.
struct Family {
    name: &'static str,
    scanner: &'static str,
    provider: (&'static str, u8),
    header: usize,
}

const V4: Family = Family {
    name: "ipv4",
    scanner: "198.51.100.7",
    provider: ("203.0.113.5", 24),
    header: 20,
};
const V6: Family = Family {
    name: "ipv6",
    scanner: "2001:db8:ffff::7",
    provider: ("2001:db8:100::5", 48),
    header: 40,
};
const FAMILIES: [Family; 2] = [V4, V6];

type Add = fn(Frame, u16) -> Frame;
type Header = (&'static str, Add);
const HEADERS: [Header; 2] = [("udp", Frame::udp), ("tcp", Frame::tcp)];

/// All rows.
#[must_use]
pub fn rows() -> Vec<Row> {
    let mut rows = Rows(Vec::new());
    ports(&mut rows);
    sources(&mut rows);
    services(&mut rows);
    tags(&mut rows);
    not_ip(&mut rows);
    pppoe(&mut rows);
    inside_pppoe(&mut rows);
    beside_pppoe(&mut rows);
    bare_ip(&mut rows);
    ipv4_headers(&mut rows);
    ipv6_headers(&mut rows);
    extension_headers(&mut rows);
    authentication(&mut rows);
    fragments(&mut rows);
    unguarded_protocols(&mut rows);
    wide(&mut rows);
    truncated(&mut rows);
    false_tails(&mut rows);
    misread_fragments(&mut rows);
    ranks::add(&mut rows);
    rows.0
}

/// All sequences.
#[must_use]
#[rustfmt::skip]
pub fn sequences() -> Vec<Sequence> {
    let mut sequences = Vec::new();
    let mut add = |name: String, frames: &[(Frame, Expected)]| {
        // Those of rows are below.
        let id = 0xf000 + u16::try_from(sequences.len()).expect("few");
        let frames = frames.iter().map(|(frame, expected)| (frame.clone().identified(id).bytes(), *expected));
        sequences.push(Sequence { name, frames: frames.collect() });
    };
    for family in FAMILIES {
        let (scanner, (provider, length)) = (family.scanner, family.provider);
        let first = |source: &str| eth().ip(source).fragment(0, true).udp(5060).payload(&[0; 8]);
        let later = |source: &str, offset| eth().ip(source).fragment(offset, false).raw(0, 17, &LOOKS_LIKE_SIP);
        let name = |what: &str| format!("{}-{what}", family.name);
        add(name("first-then-later"), &[(first(scanner), UNLISTED), (later(scanner, 2), ORPHAN)]);
        add(name("first-then-two-later"), &[(first(scanner), UNLISTED), (later(scanner, 9), ORPHAN), (later(scanner, 2), ORPHAN)]);
        add(name("later-then-first"), &[(later(scanner, 2), FRAGMENT), (first(scanner), UNLISTED), (later(scanner, 3), ORPHAN)]);
        add(name("first-twice"), &[(first(scanner), UNLISTED), (first(scanner), UNLISTED), (later(scanner, 2), ORPHAN)]);
        add(name("of-a-listed-source"), &[(first(provider), allowed("sip", length)), (later(provider, 2), FRAGMENT)]);
        add(name("of-another-source"), &[(first(scanner), UNLISTED), (later(provider, 2), FRAGMENT)]);
        let other = if family.name == "ipv4" { "192.0.2.9" } else { "2001:db8::9" };
        add(name("to-another-destination"), &[(first(scanner), UNLISTED), (eth().ip(scanner).to(other).fragment(2, false).raw(0, 17, &LOOKS_LIKE_SIP), FRAGMENT)]);
        add(name("to-an-unguarded-port"), &[(eth().ip(scanner).fragment(0, true).udp(22), UNGUARDED), (later(scanner, 2), FRAGMENT)]);
        add(name("of-icmp"), &[(eth().ip(scanner).fragment(0, true).icmp(), UNGUARDED), (later(scanner, 2), FRAGMENT)]);
        add(name("behind-what-is-malformed"), &[(eth().ip(scanner).fragment(0, true).udp(5060).cut(14 + family.header + 3), MALFORMED), (later(scanner, 2), FRAGMENT)]);
        add(name("behind-a-whole-packet"), &[(eth().ip(scanner).udp(5060), UNLISTED), (later(scanner, 2), FRAGMENT)]);
        add(name("tags-that-differ"), &[(eth().vlan(0).ip(scanner).fragment(0, true).udp(5060), UNLISTED), (later(scanner, 2), ORPHAN)]);
        add(name("behind-denied"), &[(eth().ip(if family.name == "ipv4" { "203.0.113.65" } else { "2001:db8:100:6::1" }).fragment(0, true).udp(5060), denied("sip", if family.name == "ipv4" { 26 } else { 64 })),
            (later(if family.name == "ipv4" { "203.0.113.65" } else { "2001:db8:100:6::1" }, 2), ORPHAN)]);
        // Of IPv6 the number that a later fragment names means nothing.
        let named = eth().ip(scanner).fragment(2, false).raw(0, 6, &LOOKS_LIKE_SIP);
        add(name("of-another-protocol"), &[(first(scanner), UNLISTED), (named, if family.name == "ipv4" { FRAGMENT } else { ORPHAN })]);
    }
    let scanner = V6.scanner;
    let later = || eth().ip(scanner).fragment(2, false).raw(0, 17, &LOOKS_LIKE_SIP);
    add("ipv6-atomic-then-later".to_owned(), &[(eth().ip(scanner).fragment(0, false).udp(5060), UNLISTED), (later(), FRAGMENT)]);
    add("ipv6-atomic-in-front".to_owned(), &[(eth().ip(scanner).fragment(0, false).fragment(0, true).udp(5060), UNLISTED), (later(), ORPHAN)]);
    add("ipv6-hop-by-hop-in-front".to_owned(), &[(eth().ip(scanner).hop_by_hop(8).fragment(0, true).udp(5060), UNLISTED), (later(), ORPHAN)]);
    add("ipv6-headers-behind".to_owned(), &[(eth().ip(scanner).fragment(0, true).destination(16).udp(5060), UNLISTED), (later(), ORPHAN)]);
    sequences
}

// One row, one line: where that is what makes a list readable, rustfmt leaves it alone.
struct Rows(Vec<Row>);

impl Rows {
    fn add(&mut self, name: impl Into<String>, frame: &Frame, expected: Expected) {
        self.add_for(Config::Usual, name, frame, expected);
    }

    fn add_for(
        &mut self,
        config: Config,
        name: impl Into<String>,
        frame: &Frame,
        expected: Expected,
    ) {
        // Each its own: what becomes of a fragment may depend on others of its datagram.
        let id = u16::try_from(self.0.len()).expect("fewer rows");
        let frame = frame.clone().identified(id);
        self.0.push(Row {
            name: name.into(),
            config,
            link: match frame.link() {
                Link::Ethernet => LinkKind::Ethernet,
                Link::Bare => LinkKind::Ip,
            },
            frame: frame.bytes(),
            expected,
        });
    }
}

/// Each guarded port, its neighbours, and what it is with its bytes swapped; as destination and as source.
fn ports(rows: &mut Rows) {
    const SIP: [u16; 3] = [5060, 5061, 50600];
    for family in FAMILIES {
        for (protocol, header) in HEADERS {
            let name = |what: &str, port: u16| format!("{what}-{}-{protocol}-{port}", family.name);
            let (provider, length) = family.provider;
            for port in SIP {
                let frame = header(eth().ip(family.scanner), port);
                rows.add(name("unlisted", port), &frame, UNLISTED);
                let frame = header(eth().ip(provider), port);
                rows.add(name("allowed", port), &frame, allowed("sip", length));
            }
            let frame = header(eth().ip(family.scanner), 80);
            rows.add(name("unlisted", 80), &frame, unlisted("web"));
            // Allowed in one service is not allowed in another.
            let frame = header(eth().ip(provider), 80);
            rows.add(name("provider-of-sip", 80), &frame, unlisted("web"));

            let neighbours = [5059, 5062, 50_599, 50_601, 79, 81];
            let swapped = [5060_u16, 5061, 50_600, 80].map(u16::swap_bytes);
            let others = [22, 0, 16_384, 65_534];
            for port in neighbours.into_iter().chain(swapped).chain(others) {
                let frame = header(eth().ip(family.scanner), port);
                rows.add(name("unguarded", port), &frame, UNGUARDED);
            }
            let frame = header(eth().ip(family.scanner), 40_000).from_port(5060);
            rows.add(name("source-port-alone", 5060), &frame, UNGUARDED);
            let frame = header(eth().ip(family.scanner), 5060).from_port(22);
            rows.add(name("source-port-22", 5060), &frame, UNLISTED);
        }
    }
}

/// Which entry decides.
#[rustfmt::skip]
fn sources(rows: &mut Rows) {
    for (name, source, expected) in [
        ("prefix-first-address", "203.0.113.0", allowed("sip", 24)),
        ("prefix-last-address", "203.0.113.255", allowed("sip", 24)),
        ("just-before-prefix", "203.0.112.255", UNLISTED),
        ("just-behind-prefix", "203.0.114.0", UNLISTED),
        ("denied-inside-allowed", "203.0.113.65", denied("sip", 26)),
        ("denied-inside-allowed-first", "203.0.113.64", denied("sip", 26)),
        ("denied-inside-allowed-last", "203.0.113.127", denied("sip", 26)),
        ("just-before-denied-inside-allowed", "203.0.113.63", allowed("sip", 24)),
        ("just-behind-denied-inside-allowed", "203.0.113.128", allowed("sip", 24)),
        ("allowed-inside-denied-inside-allowed", "203.0.113.66", allowed("sip", 32)),
        ("single-host", "198.51.100.10", allowed("sip", 32)),
        ("just-before-single-host", "198.51.100.9", UNLISTED),
        ("just-behind-single-host", "198.51.100.11", UNLISTED),
        ("short-prefix", "100.100.1.1", allowed("sip", 10)),
        ("short-prefix-first-address", "100.64.0.0", allowed("sip", 10)),
        ("short-prefix-last-address", "100.127.255.255", allowed("sip", 10)),
        ("just-before-short-prefix", "100.63.255.255", UNLISTED),
        ("just-behind-short-prefix", "100.128.0.0", UNLISTED),
        ("denied-inside-short-prefix", "100.64.7.9", denied("sip", 24)),
        ("odd-prefix-first-address", "192.168.77.160", allowed("sip", 29)),
        ("odd-prefix-last-address", "192.168.77.167", allowed("sip", 29)),
        ("just-before-odd-prefix", "192.168.77.159", UNLISTED),
        ("just-behind-odd-prefix", "192.168.77.168", UNLISTED),
        ("bytes-swapped", "5.113.0.203", UNLISTED),
        ("all-zero", "0.0.0.0", UNLISTED),
        ("all-ones", "255.255.255.255", UNLISTED),
        ("loopback", "127.0.0.1", UNLISTED),
        ("multicast", "224.0.0.1", UNLISTED),
        ("own-address", "192.0.2.1", UNLISTED),
        ("v6-prefix-first-address", "2001:db8:100::", allowed("sip", 48)),
        ("v6-prefix-last-address", "2001:db8:100:ffff:ffff:ffff:ffff:ffff", allowed("sip", 48)),
        ("v6-just-before-prefix", "2001:db8:ff:ffff:ffff:ffff:ffff:ffff", UNLISTED),
        ("v6-just-behind-prefix", "2001:db8:101::", UNLISTED),
        ("v6-denied-inside-allowed", "2001:db8:100:6::65", denied("sip", 64)),
        ("v6-just-behind-denied-inside-allowed", "2001:db8:100:7::", allowed("sip", 48)),
        ("v6-allowed-inside-denied-inside-allowed", "2001:db8:100:6::66", allowed("sip", 128)),
        ("v6-single-host", "2001:db8:a::10", allowed("sip", 128)),
        ("v6-just-before-single-host", "2001:db8:a::f", UNLISTED),
        ("v6-just-behind-single-host", "2001:db8:a::11", UNLISTED),
        ("v6-single-host-with-other-words-two-and-three", "2001:db8:b:1::10", UNLISTED),
        ("v6-short-prefix", "240f:1::1", allowed("sip", 12)),
        ("v6-just-behind-short-prefix", "2410::", UNLISTED),
        ("v6-denied-inside-short-prefix", "2400:7::1", denied("sip", 32)),
        ("v6-odd-prefix-first-address", "2001:db8:800::", allowed("sip", 37)),
        ("v6-odd-prefix-last-address", "2001:db8:fff:ffff:ffff:ffff:ffff:ffff", allowed("sip", 37)),
        ("v6-just-before-odd-prefix", "2001:db8:7ff:ffff:ffff:ffff:ffff:ffff", UNLISTED),
        ("v6-just-behind-odd-prefix", "2001:db8:1000::", UNLISTED),
        ("v6-just-behind-49", "2001:db8:201::", UNLISTED),
        ("v6-inside-49", "2001:db8:200:8000::", allowed("sip", 49)),
        ("v6-just-before-49", "2001:db8:200:7fff:ffff::", UNLISTED),
        ("v6-all-zero", "::", UNLISTED),
        ("v6-all-ones", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", UNLISTED),
        ("v6-loopback", "::1", UNLISTED),
        ("v6-link-local", "fe80::1", UNLISTED),
        // Linux takes UDP from both; a provider's IPv4 address in this form is not the provider.
        ("v6-mapped-provider", "::ffff:203.0.113.5", UNLISTED),
        ("v6-translated-provider", "64:ff9b::203.0.113.5", UNLISTED),
    ] {
        rows.add(format!("source-{name}"), &eth().ip(source).udp(5060), expected);
    }
}

/// What services do besides guarding SIP: defaults, entries for everyone, ports of one protocol only.
#[rustfmt::skip]
fn services(rows: &mut Rows) {
    for (protocol, header) in HEADERS {
        for (name, source, port, expected) in [
            ("web-admin", "198.51.100.10", 80, allowed("web", 32)),
            ("web-admin-v6", "2001:db8:a::10", 80, allowed("web", 128)),
            ("everyone-allowed", "192.0.2.99", 5070, allowed("public", 0)),
            ("everyone-allowed-v6", "2001:db8:ffff::7", 5070, allowed("public", 0)),
            ("everyone-allowed-all-zero", "0.0.0.0", 5070, allowed("public", 0)),
            ("everyone-allowed-all-zero-v6", "::", 5070, allowed("public", 0)),
            ("everyone-allowed-but-spammers", "198.51.100.7", 5070, denied("public", 24)),
            ("everyone-allowed-but-spammers-v6", "2001:db8:bad::7", 5070, denied("public", 48)),
            ("everyone-allowed-but-spammers-but-admin", "198.51.100.10", 5070, allowed("public", 32)),
            ("blocklist-unlisted", "192.0.2.99", 4000, open("blocklist")),
            ("blocklist-unlisted-v6", "2001:db8:ffff::7", 4000, open("blocklist")),
            ("blocklist-spammer", "198.51.100.7", 4000, denied("blocklist", 24)),
            ("blocklist-spammer-v6", "2001:db8:bad::7", 4000, denied("blocklist", 48)),
            ("blocklist-admin-among-spammers", "198.51.100.10", 4000, allowed("blocklist", 32)),
            ("blocklist-admin-v6", "2001:db8:a::10", 4000, allowed("blocklist", 128)),
            ("everyone-denied", "192.0.2.99", 4100, denied("closed", 0)),
            ("everyone-denied-v6", "2001:db8:ffff::7", 4100, denied("closed", 0)),
            ("everyone-denied-but-admin", "198.51.100.10", 4100, allowed("closed", 32)),
            ("everyone-denied-but-admin-v6", "2001:db8:a::10", 4100, allowed("closed", 128)),
            ("host-all-zero", "0.0.0.0", 65_535, allowed("border", 32)),
            ("host-all-ones", "255.255.255.255", 65_535, allowed("border", 32)),
            ("host-all-zero-v6", "::", 65_535, allowed("border", 128)),
            ("host-all-ones-v6", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65_535, allowed("border", 128)),
            ("next-to-all-zero", "0.0.0.1", 65_535, unlisted("border")),
            ("next-to-all-ones-v6", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 65_535, unlisted("border")),
        ] {
            let frame = header(eth().ip(source), port);
            rows.add(format!("service-{name}-{protocol}"), &frame, expected);
        }
    }
    let provider = || eth().ip(V4.provider.0);
    rows.add("port-of-udp-only-udp", &eth().ip(V6.scanner).udp(1), unlisted("border"));
    rows.add("port-of-udp-only-tcp", &eth().ip(V6.scanner).tcp(1), UNGUARDED);
    rows.add("port-of-two-services-udp-5090", &provider().udp(5090), unlisted("border"));
    rows.add("port-of-two-services-tcp-5090", &provider().tcp(5090), allowed("other", 24));
    rows.add("port-of-two-services-udp-5091", &provider().udp(5091), allowed("other", 24));
    rows.add("port-of-two-services-tcp-5091", &provider().tcp(5091), unlisted("border"));
}

/// VLAN tags of both kinds, as many as are followed and one more.
#[rustfmt::skip]
fn tags(rows: &mut Rows) {
    type Tag = fn(Frame, u16) -> Frame;
    let mixes: [(&str, &[Tag]); 8] = [
        ("1q", &[Frame::vlan]),
        ("1ad", &[Frame::service_tag]),
        ("1ad-1q", &[Frame::service_tag, Frame::vlan]),
        ("1q-1q", &[Frame::vlan, Frame::vlan]),
        ("1q-1ad", &[Frame::vlan, Frame::service_tag]),
        ("1q-1ad-1q", &[Frame::vlan, Frame::service_tag, Frame::vlan]),
        ("four-1q", &[Frame::vlan, Frame::vlan, Frame::vlan, Frame::vlan]),
        ("four-mixed", &[Frame::service_tag, Frame::vlan, Frame::service_tag, Frame::vlan]),
    ];
    for family in FAMILIES {
        let (provider, length) = family.provider;
        for (mix, tags) in mixes {
            let tagged = || tags.iter().zip(7..).fold(eth(), |frame, (tag, id)| tag(frame, id));
            for (protocol, header) in HEADERS {
                let name = |what: &str| format!("{mix}-{}-{protocol}-{what}", family.name);
                let frame = header(tagged().ip(family.scanner), 5060);
                rows.add(name("unlisted"), &frame, UNLISTED);
                let frame = header(tagged().ip(provider), 5060);
                rows.add(name("allowed"), &frame, allowed("sip", length));
                let frame = header(tagged().ip(family.scanner), 22);
                rows.add(name("unguarded"), &frame, UNGUARDED);
            }
        }
        for (protocol, header) in HEADERS {
            let five = (1..=5).fold(eth(), Frame::vlan).ip(provider);
            let name = |what: &str| format!("{what}-{}-{protocol}", family.name);
            rows.add(name("five-1q"), &header(five, 5060), TOO_DEEP);
            let five = (1..=5).fold(eth(), Frame::service_tag).ip(provider);
            // Deep enough for a verdict before anything else is looked at.
            rows.add(name("five-1ad-unguarded"), &header(five, 22), TOO_DEEP);
            let eight = (1..=8).fold(eth(), Frame::vlan).ip(provider);
            rows.add(name("eight-1q"), &header(eight, 5060), TOO_DEEP);
            let old = eth().tag(TAG_9100, 7).ip(family.scanner);
            rows.add(name("0x9100"), &header(old, 5060), UNGUARDED);
            let old = eth().vlan(7).tag(TAG_9100, 7).ip(family.scanner);
            rows.add(name("0x9100-behind-1q"), &header(old, 5060), UNGUARDED);
            let old = eth().tag(TAG_9100, 7).vlan(7).ip(family.scanner);
            rows.add(name("1q-behind-0x9100"), &header(old, 5060), UNGUARDED);
            let priority = eth().vlan(0).ip(family.scanner);
            rows.add(name("priority-tag"), &header(priority, 5060), UNLISTED);
            let all_bits = eth().vlan(0xffff).ip(family.scanner);
            rows.add(name("tag-with-all-bits"), &header(all_bits, 5060), UNLISTED);
        }
    }
    rows.add("five-1q-arp", &(1..=5).fold(eth(), Frame::vlan).arp(), TOO_DEEP);
    rows.add("four-1q-arp", &(1..=4).fold(eth(), Frame::vlan).arp(), UNGUARDED);
    let cut = |length| (1..=5).fold(eth(), Frame::vlan).arp().cut(length);
    rows.add("five-1q-cut-before-the-fifth", &cut(14 + 16), TOO_DEEP);
    rows.add("five-1q-cut-in-the-fourth", &cut(14 + 15), UNGUARDED);
}

/// Frames that are no business of a filter for IP.
#[rustfmt::skip]
fn not_ip(rows: &mut Rows) {
    let sip = || eth().ip(V4.scanner).udp(5060);
    rows.add("arp", &eth().arp(), UNGUARDED);
    rows.add("arp-tagged", &eth().vlan(7).arp(), UNGUARDED);
    rows.add("lldp", &eth().lldp(), UNGUARDED);
    rows.add("snap", &eth().snap(V4.scanner), UNGUARDED);
    rows.add("802-3-length-0", &sip().ether_type(0), UNGUARDED);
    rows.add("802-3-length-1500", &sip().ether_type(1500), UNGUARDED);
    rows.add("ether-type-before-ipv4", &sip().ether_type(0x07ff), UNGUARDED);
    rows.add("ether-type-behind-ipv4", &sip().ether_type(0x0801), UNGUARDED);
    rows.add("ether-type-ipv4-bytes-swapped", &sip().ether_type(0x0008), UNGUARDED);
    rows.add("ether-type-ipv6-bytes-swapped", &sip().ether_type(0xdd86), UNGUARDED);
    rows.add("pppoe-discovery", &eth().pppoe().ip(V4.scanner).udp(5060).ether_type(0x8863), UNGUARDED);
    rows.add("mpls", &eth().raw(0x8847, 0, &[0, 1, 0x01, 64]).ip(V4.scanner).udp(5060), UNGUARDED);
    rows.add("unknown-ether-type-tagged", &eth().vlan(7).raw(0x88b5, 0, &LOOKS_LIKE_SIP), UNGUARDED);
    for length in [0, 1, 12, 13] {
        rows.add(format!("ethernet-frame-of-{length}-bytes"), &sip().cut(length), UNGUARDED);
    }
}

type Session = (&'static str, fn(Frame) -> Frame);
const SESSIONS: [Session; 2] = [
    ("pppoe", Frame::pppoe),
    ("pppoe-compressed", Frame::pppoe_compressed),
];

/// PPPoE sessions with both forms of the PPP protocol field.
fn pppoe(rows: &mut Rows) {
    for ((form, session), header_length) in SESSIONS.into_iter().zip([8, 7]) {
        for family in FAMILIES {
            let (provider, length) = family.provider;
            for (protocol, header) in HEADERS {
                let name = |what: &str| format!("{form}-{}-{protocol}-{what}", family.name);
                let frame = |source| session(eth()).ip(source);
                rows.add(
                    name("unlisted"),
                    &header(frame(family.scanner), 5060),
                    UNLISTED,
                );
                rows.add(
                    name("allowed"),
                    &header(frame(provider), 5061),
                    allowed("sip", length),
                );
                rows.add(
                    name("unguarded"),
                    &header(frame(family.scanner), 5062),
                    UNGUARDED,
                );
            }
            let frame = session(eth().vlan(7)).ip(family.scanner).udp(5060);
            rows.add(format!("{form}-{}-tagged", family.name), &frame, UNLISTED);
            let frame = session((1..=4).fold(eth(), Frame::vlan))
                .ip(family.scanner)
                .udp(5060);
            rows.add(
                format!("{form}-{}-four-tags", family.name),
                &frame,
                UNLISTED,
            );
            let frame = session((1..=5).fold(eth(), Frame::vlan))
                .ip(provider)
                .udp(5060);
            rows.add(
                format!("{form}-{}-five-tags", family.name),
                &frame,
                TOO_DEEP,
            );
            let frame = || session(eth()).ip(family.scanner).udp(5060);
            let wrong = frame().version(10 - if family.header == 20 { 4 } else { 6 });
            rows.add(
                format!("{form}-{}-other-version", family.name),
                &wrong,
                MALFORMED,
            );
            let ip = 14 + header_length;
            for (what, length, expected) in [
                ("before-ip", ip, MALFORMED),
                ("in-ip", ip + family.header - 1, MALFORMED),
                ("before-ports", ip + family.header, MALFORMED),
                ("in-ports", ip + family.header + 3, MALFORMED),
                ("behind-ports", ip + family.header + 4, UNLISTED),
                ("in-ppp", ip - 1, UNGUARDED),
                ("in-pppoe", 14 + 5, UNGUARDED),
                ("before-pppoe", 14, UNGUARDED),
            ] {
                let name = format!("{form}-{}-cut-{what}", family.name);
                rows.add(name, &frame().cut(length), expected);
            }
        }
    }
}

/// What a session's packets may be besides plain UDP and TCP.
fn inside_pppoe(rows: &mut Rows) {
    for (form, session) in SESSIONS {
        for family in FAMILIES {
            let inside = |begin: Frame| session(begin).ip(family.scanner);
            for (what, frame, expected) in [
                (
                    "service-tagged",
                    inside(eth().service_tag(7).vlan(8)).tcp(5060),
                    UNLISTED,
                ),
                (
                    "first-fragment",
                    inside(eth()).fragment(0, true).udp(5060),
                    UNLISTED,
                ),
                (
                    "later-fragment",
                    inside(eth()).fragment(9, false).udp(5060),
                    FRAGMENT,
                ),
                ("ah", inside(eth().vlan(7)).ah(16).udp(5060), UNLISTED),
                // Linux asks for no code in a session, and takes the packet's length from the IP header.
                (
                    "code-7",
                    inside(eth()).udp(5060).patch(14 + 1, &[7]),
                    UNLISTED,
                ),
                (
                    "length-0",
                    inside(eth()).udp(5060).patch(14 + 4, &[0, 0]),
                    UNLISTED,
                ),
            ] {
                rows.add(format!("{form}-{}-{what}", family.name), &frame, expected);
            }
            for (protocol, header) in [("sctp", Frame::sctp as Add), ("udplite", Frame::udp_lite)] {
                rows.add_for(
                    Config::Wide,
                    format!("{form}-{}-{protocol}", family.name),
                    &header(inside(eth().vlan(7)), 5060),
                    unlisted("signalling"),
                );
            }
        }
    }
}

/// What is in a session besides IP.
fn beside_pppoe(rows: &mut Rows) {
    for (name, protocol) in [
        ("lcp", 0xc021),
        ("pap", 0xc023),
        ("ipcp", 0x8021),
        ("ipv6cp", 0x8057),
        ("mplscp", 0x8281),
        ("compressed-0x0023", 0x2300),
        ("compressed-0x00ff", 0xff03),
        // What the two ends may agree on besides, and what nobody but them can read.
        ("multilink", 0x003d),
        ("multilink-compressed", 0x3d00),
        ("van-jacobson-compressed", 0x002d),
        ("van-jacobson-uncompressed", 0x002f),
        ("ccp", 0x00fd),
    ] {
        let frame = eth().ppp(protocol).ip(V4.scanner).udp(5060);
        rows.add(format!("pppoe-{name}"), &frame, UNGUARDED);
    }
    // The first byte is odd and so the whole number; what follows should be an IP header and is not.
    for (name, protocol) in [("ipv4", 0x2100), ("ipv6", 0x5700)] {
        let frame = eth().ppp(protocol).ip(V4.scanner).udp(5060);
        rows.add(format!("pppoe-{name}-bytes-swapped"), &frame, MALFORMED);
    }
}

/// Interfaces whose frames begin with an IP header.
#[rustfmt::skip]
fn bare_ip(rows: &mut Rows) {
    for family in FAMILIES {
        let (provider, length) = family.provider;
        for (protocol, header) in HEADERS {
            let name = |what: &str| format!("bare-{}-{protocol}-{what}", family.name);
            let frame = |source, port| header(bare().ip(source), port);
            rows.add(name("unlisted"), &frame(family.scanner, 5060), UNLISTED);
            rows.add(name("allowed"), &frame(provider, 5060), allowed("sip", length));
            rows.add(name("unguarded"), &frame(family.scanner, 22), UNGUARDED);
            let header = family.header;
            for (what, length, expected) in [
                ("one-byte", 1, UNGUARDED),
                ("two-bytes", 2, MALFORMED),
                ("in-ip", header - 1, MALFORMED),
                ("before-ports", header, MALFORMED),
                ("in-ports", header + 3, MALFORMED),
                ("behind-ports", header + 4, UNLISTED),
            ] {
                let frame = frame(family.scanner, 5060).cut(length);
                rows.add(name(&format!("cut-{what}")), &frame, expected);
            }
        }
        for version in [0, 5, 7, 15] {
            let name = format!("bare-{}-as-version-{version}", family.name);
            let frame = bare().ip(family.scanner).udp(5060).version(version);
            rows.add(name, &frame, UNGUARDED);
        }
        let echo = match family.header {
            20 => bare().ip(family.scanner).icmp(),
            _ => bare().ip(family.scanner).icmp_v6(),
        };
        rows.add(format!("bare-{}-ping", family.name), &echo, UNGUARDED);
    }
    rows.add("bare-empty", &bare().ip(V4.scanner).udp(5060).cut(0), UNGUARDED);
    rows.add("bare-ipv4-options", &bare().ip(V4.scanner).options(40).tcp(5060), UNLISTED);
    rows.add("bare-ipv4-later-fragment", &bare().ip(V4.scanner).fragment(1, false).udp(5060), FRAGMENT);
    rows.add("bare-ipv6-extension", &bare().ip(V6.scanner).destination(8).udp(5060), UNLISTED);
    rows.add("bare-ipv6-too-deep", &(0..9).fold(bare().ip(V6.scanner), |it, _| it.destination(8)).udp(5060), TOO_DEEP);
    // An Ethernet header is not expected there: its first byte is read as the version.
    rows.add("bare-ethernet", &bare().payload(&eth().ip(V4.scanner).udp(5060).bytes()), UNGUARDED);
}

/// Options, header lengths and versions of IPv4.
#[rustfmt::skip]
fn ipv4_headers(rows: &mut Rows) {
    let scanner = || eth().ip(V4.scanner);
    let provider = || eth().ip(V4.provider.0);
    for bytes in (4..=40).step_by(4) {
        let name = |what: &str| format!("options-{bytes}-{what}");
        rows.add(name("udp-unlisted"), &scanner().options(bytes).udp(5060), UNLISTED);
        rows.add(name("tcp-unlisted"), &scanner().options(bytes).tcp(5061), UNLISTED);
        rows.add(name("allowed"), &provider().options(bytes).udp(5060), allowed("sip", 24));
        rows.add(name("unguarded"), &scanner().options(bytes).udp(5062), UNGUARDED);
        let cut = |length| scanner().options(bytes).udp(5060).cut(length);
        rows.add(name("cut-in-options"), &cut(14 + 20 + bytes - 1), MALFORMED);
        rows.add(name("cut-behind-options"), &cut(14 + 20 + bytes), MALFORMED);
        rows.add(name("cut-behind-ports"), &cut(14 + 20 + bytes + 4), UNLISTED);
    }
    // Options that look like the ports of what they are not.
    let ports = [0x9c, 0x40, 0x13, 0xc4];
    rows.add("options-look-like-guarded-ports", &scanner().options(8).udp(22).patch(14 + 20, &ports), UNGUARDED);
    rows.add("options-look-like-unguarded-ports", &scanner().options(4).udp(5060).patch(14 + 20, &[0x9c, 0x40, 0, 22]), UNLISTED);
    for words in 0..5 {
        let frame = scanner().ihl(words).udp(5060);
        rows.add(format!("ihl-{words}"), &frame, MALFORMED);
        let frame = provider().ihl(words).icmp();
        rows.add(format!("ihl-{words}-unguarded-protocol"), &frame, MALFORMED);
    }
    // The options are there, but they are the UDP header: that is where Linux looks for the ports, too.
    rows.add("ihl-6-without-options", &scanner().ihl(6).udp(5060), UNGUARDED);
    rows.add("ihl-15-behind-the-end", &scanner().ihl(15).udp(5060), MALFORMED);
    rows.add("ihl-15-behind-the-end-unguarded-protocol", &scanner().ihl(15).icmp(), MALFORMED);
    for version in [0, 3, 5, 6, 15] {
        let frame = provider().version(version).udp(5060);
        rows.add(format!("ipv4-as-version-{version}"), &frame, MALFORMED);
    }
    rows.add("ipv4-as-version-6-unguarded-port", &scanner().version(6).udp(22), MALFORMED);
    // Lengths inside the headers are not consulted.
    rows.add("ipv4-total-length-0", &scanner().udp(5060).patch(14 + 2, &[0, 0]), UNLISTED);
    rows.add("ipv4-total-length-too-long", &scanner().udp(5060).patch(14 + 2, &[0xff, 0xff]), UNLISTED);
    rows.add("ipv4-total-length-ends-before-ports", &provider().udp(5060).patch(14 + 2, &[0, 20]), allowed("sip", 24));
    rows.add("ipv4-wrong-checksum", &scanner().udp(5060).patch(14 + 10, &[0xde, 0xad]), UNLISTED);
    rows.add("ipv4-udp-length-0", &scanner().udp(5060).patch(14 + 20 + 4, &[0, 0]), UNLISTED);
    rows.add("ipv4-udp-checksum-0", &scanner().udp(5060).patch(14 + 20 + 6, &[0, 0]), UNLISTED);
    rows.add("ipv4-padded-to-60-bytes", &scanner().udp(5060).payload(&[0; 18]), UNLISTED);
    rows.add("ipv4-large", &scanner().udp(5060).payload(&[0x41; 1400]), UNLISTED);
    rows.add("ipv4-ttl-0", &scanner().udp(5060).patch(14 + 8, &[0]), UNLISTED);
    rows.add("ipv4-dont-fragment", &scanner().udp(5060).patch(14 + 6, &[0x40, 0]), UNLISTED);
    rows.add("ipv4-reserved-flag", &scanner().udp(5060).patch(14 + 6, &[0x80, 0]), UNLISTED);
    rows.add("ipv4-to-broadcast", &scanner().to("255.255.255.255").udp(5060), UNLISTED);
    // A provider's address as the destination makes nobody a provider.
    rows.add("ipv4-to-provider", &scanner().to("203.0.113.5").udp(5060), UNLISTED);
    rows.add("ipv4-tcp-rst", &scanner().tcp(5060).patch(14 + 20 + 13, &[0x04]), UNLISTED);
    rows.add("ipv4-tcp-no-flags", &scanner().tcp(5060).patch(14 + 20 + 13, &[0]), UNLISTED);
    rows.add("ipv4-tcp-established", &scanner().tcp(5060).patch(14 + 20 + 13, &[0x10]), UNLISTED);
    rows.add("ipv4-tcp-data-offset-0", &scanner().tcp(5060).patch(14 + 20 + 12, &[0]), UNLISTED);
}

/// The fixed header of IPv6.
#[rustfmt::skip]
fn ipv6_headers(rows: &mut Rows) {
    let scanner = || eth().ip(V6.scanner);
    let provider = || eth().ip(V6.provider.0);
    for version in [0, 4, 5, 7, 15] {
        let frame = provider().version(version).udp(5060);
        rows.add(format!("ipv6-as-version-{version}"), &frame, MALFORMED);
    }
    rows.add("ipv6-as-version-4-unguarded-port", &scanner().version(4).udp(22), MALFORMED);
    rows.add("ipv6-payload-length-0", &scanner().udp(5060).patch(14 + 4, &[0, 0]), UNLISTED);
    rows.add("ipv6-payload-length-too-long", &scanner().udp(5060).patch(14 + 4, &[0xff, 0xff]), UNLISTED);
    rows.add("ipv6-payload-length-ends-before-ports", &provider().udp(5060).patch(14 + 4, &[0, 2]), allowed("sip", 48));
    rows.add("ipv6-traffic-class-and-flow-label", &scanner().udp(5060).patch(14, &[0x6f, 0xff, 0xff, 0xff]), UNLISTED);
    rows.add("ipv6-large", &scanner().tcp(5060).payload(&[0x41; 1400]), UNLISTED);
    rows.add("ipv6-to-multicast", &scanner().to("ff02::1").udp(5060), UNLISTED);
    rows.add("ipv6-to-provider", &scanner().to("2001:db8:100::5").udp(5060), UNLISTED);
    rows.add("ipv6-udp-checksum-0", &scanner().udp(5060).patch(14 + 40 + 6, &[0, 0]), UNLISTED);
}

type Extension = (&'static str, fn(Frame, usize) -> Frame);
const EXTENSIONS: [Extension; 4] = [
    ("hop-by-hop", Frame::hop_by_hop),
    ("routing", Frame::routing),
    ("destination", Frame::destination),
    ("ah", Frame::ah),
];

/// All orders of some extension headers.
fn orders(headers: &[Extension]) -> Vec<Vec<Extension>> {
    if headers.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (place, first) in headers.iter().enumerate() {
        let others = [&headers[..place], &headers[place + 1..]].concat();
        for mut order in orders(&others) {
            order.insert(0, *first);
            all.push(order);
        }
    }
    all
}

/// Chains of extension headers, as many as are followed and one more, in whatever order Linux takes them.
#[rustfmt::skip]
fn extension_headers(rows: &mut Rows) {
    let scanner = || eth().ip(V6.scanner);
    let provider = || eth().ip(V6.provider.0);
    for (extension, add) in EXTENSIONS {
        for (protocol, header) in HEADERS {
            let name = |what: &str| format!("{extension}-{protocol}-{what}");
            rows.add(name("unlisted"), &header(add(scanner(), 8), 5060), UNLISTED);
            rows.add(name("allowed"), &header(add(provider(), 24), 5060), allowed("sip", 48));
            rows.add(name("unguarded"), &header(add(scanner(), 24), 22), UNGUARDED);
        }
        for count in 1..=9 {
            let chain = (0..count).fold(provider(), |frame, _| add(frame, 16)).udp(50_600);
            let expected = if count > 8 { TOO_DEEP } else { allowed("sip", 48) };
            rows.add(format!("{extension}-{count}-times"), &chain, expected);
        }
        let longest = if extension == "ah" { 1028 } else { 2048 };
        rows.add(format!("{extension}-longest"), &add(scanner(), longest).udp(5060), UNLISTED);
        let all = (0..8).fold(scanner(), |frame, _| add(frame, longest)).udp(5060);
        rows.add(format!("{extension}-8-longest"), &all, UNLISTED);
        let frame = || add(scanner(), 24).udp(5060);
        for (what, length, expected) in [
            ("before", 0, MALFORMED),
            ("in-next-header", 1, MALFORMED),
            ("in-first-8-bytes", 7, MALFORMED),
            ("behind-first-8-bytes", 8, MALFORMED),
            ("in-last-byte", 23, MALFORMED),
            ("behind", 24, MALFORMED),
            ("in-ports", 27, MALFORMED),
            ("behind-ports", 28, UNLISTED),
        ] {
            let frame = frame().cut(14 + 40 + length);
            rows.add(format!("{extension}-cut-{what}"), &frame, expected);
        }
        // Not guarded, but the chain has to be there all the same.
        let cut = add(scanner(), 24).icmp_v6().cut(14 + 40 + 23);
        rows.add(format!("{extension}-cut-unguarded-protocol"), &cut, MALFORMED);
        let whole = add(scanner(), 24).icmp_v6().cut(14 + 40 + 24);
        rows.add(format!("{extension}-nothing-behind-unguarded-protocol"), &whole, UNGUARDED);
        // In IPv4 these are protocols like any other.
        if extension != "ah" {
            let frame = add(eth().ip(V4.scanner), 8).udp(5060);
            rows.add(format!("{extension}-in-ipv4"), &frame, UNGUARDED);
        }
        let length_to_the_end = add(scanner(), 8).udp(5060).patch(14 + 40 + 1, &[200]);
        rows.add(format!("{extension}-length-behind-the-end"), &length_to_the_end, MALFORMED);
    }
    // Whatever the order: Linux takes what the RFC only recommends, hop-by-hop options in front aside. A fragment header behind others is not
    // the same to all of it.
    let others: [Extension; 4] = [
        ("routing", Frame::routing),
        ("destination", Frame::destination),
        ("ah", Frame::ah),
        ("fragment", |frame, _| frame.fragment(0, false)),
    ];
    for order in orders(&others) {
        let names: Vec<_> = order.iter().map(|(name, _)| *name).collect();
        let chain = |frame: Frame| order.iter().fold(frame, |frame, (_, add)| add(frame, 16));
        let name = |what: &str| format!("order-{}-{what}", names.join("-"));
        let fragment = names.iter().position(|name| *name == "fragment");
        let judged = |expected| if fragment.unwrap_or_default() > 0 { MALFORMED } else { expected };
        rows.add(name("unlisted"), &chain(scanner()).udp(5060), judged(UNLISTED));
        rows.add(name("allowed"), &chain(provider()).tcp(5061), judged(allowed("sip", 48)));
        rows.add(name("behind-hop-by-hop"), &chain(scanner().hop_by_hop(8)).tcp(5060), judged(UNLISTED));
    }
    // RFC 2675: the length is in a hop-by-hop option, and the field for it is 0.
    let jumbogram = |frame: Frame| frame.patch(14 + 4, &[0, 0]).patch(14 + 40 + 2, &[0xc2, 4, 0, 1, 0, 0]);
    rows.add("jumbogram-unlisted", &jumbogram(scanner().hop_by_hop(8).udp(5060)), UNLISTED);
    rows.add("jumbogram-allowed", &jumbogram(provider().hop_by_hop(8).tcp(5060)), allowed("sip", 48));
    rows.add("jumbogram-behind-tags", &eth().vlan(7).ip(V6.scanner).hop_by_hop(8).udp(5060).patch(18 + 4, &[0, 0]).patch(18 + 40 + 2, &[0xc2, 4, 0, 1, 0, 0]), UNLISTED);
    let recommended = |frame: Frame| frame.hop_by_hop(8).destination(16).routing(24).ah(24).destination(8);
    rows.add("chain-in-the-order-of-the-rfc", &recommended(scanner()).udp(5060), UNLISTED);
    rows.add("chain-in-the-order-of-the-rfc-allowed", &recommended(provider()).tcp(5060), allowed("sip", 48));
    let all = |frame: Frame| frame.hop_by_hop(8).fragment(0, false).destination(16).routing(24).ah(24);
    rows.add("chain-hop-by-hop-last", &all(scanner()).hop_by_hop(8).udp(5060), UNLISTED);
    rows.add("chain-tagged", &all(eth().service_tag(7).vlan(8).ip(V6.scanner)).udp(5060), UNLISTED);
    let nine = |frame: Frame| all(frame).routing(8).ah(24).destination(8).hop_by_hop(8);
    rows.add("chain-9-mixed", &nine(provider()).udp(5060), TOO_DEEP);
    rows.add("chain-9-unguarded-port", &nine(scanner()).udp(22), TOO_DEEP);
    rows.add("chain-9-unguarded-protocol", &nine(scanner()).icmp_v6(), TOO_DEEP);
    rows.add("chain-9-cut-before-the-ninth", &(0..9).fold(scanner(), |it, _| it.destination(8)).udp(5060).cut(14 + 40 + 64), TOO_DEEP);
    rows.add("chain-9-cut-in-the-eighth", &(0..9).fold(scanner(), |it, _| it.destination(8)).udp(5060).cut(14 + 40 + 63), MALFORMED);
    rows.add("chain-8-no-next-header", &(0..8).fold(scanner(), |it, _| it.destination(8)).no_next_header(), UNGUARDED);
    rows.add("extension-looks-like-ports", &scanner().destination(16).udp(22).patch(14 + 40 + 8, &LOOKS_LIKE_SIP), UNGUARDED);
    // Mobility, HIP and Shim6 headers end the chain for Linux, too: no socket gets what is behind them.
    for number in [135, 139, 140] {
        let frame = scanner().raw(0, number, &[17, 0, 0, 0, 0, 0, 0, 0]).payload(&LOOKS_LIKE_SIP);
        rows.add(format!("extension-{number}-is-not-followed"), &frame, UNGUARDED);
    }
}

/// The authentication header, whose length counts in units of its own, in IPv4 too.
#[rustfmt::skip]
fn authentication(rows: &mut Rows) {
    let scanner = || eth().ip(V4.scanner);
    let provider = || eth().ip(V4.provider.0);
    for (protocol, header) in HEADERS {
        let name = |what: &str| format!("ah-ipv4-{protocol}-{what}");
        rows.add(name("unlisted"), &header(scanner().ah(24), 5060), UNLISTED);
        rows.add(name("allowed"), &header(provider().ah(24), 5060), allowed("sip", 24));
        rows.add(name("unguarded"), &header(scanner().ah(24), 22), UNGUARDED);
        rows.add(name("behind-options"), &header(scanner().options(12).ah(24), 5060), UNLISTED);
    }
    for bytes in [8, 12, 20, 28, 44, 1028] {
        rows.add(format!("ah-ipv4-{bytes}-bytes"), &scanner().ah(bytes).udp(5060), UNLISTED);
        rows.add(format!("ah-ipv6-{bytes}-bytes"), &eth().ip(V6.scanner).ah(bytes).udp(5060), UNLISTED);
    }
    rows.add("ah-ipv4-8-times", &(0..8).fold(provider(), |it, _| it.ah(12)).udp(5060), allowed("sip", 24));
    rows.add("ah-ipv4-9-times", &(0..9).fold(provider(), |it, _| it.ah(12)).udp(5060), TOO_DEEP);
    for (what, length, expected) in [
        ("before", 0, MALFORMED),
        ("in-first-8-bytes", 7, MALFORMED),
        ("in-last-byte", 23, MALFORMED),
        ("behind", 24, MALFORMED),
        ("in-ports", 27, MALFORMED),
        ("behind-ports", 28, UNLISTED),
    ] {
        let frame = scanner().ah(24).udp(5060).cut(14 + 20 + length);
        rows.add(format!("ah-ipv4-cut-{what}"), &frame, expected);
    }
    rows.add("ah-ipv4-esp", &scanner().ah(24).esp(), UNGUARDED);
    rows.add("ah-ipv4-later-fragment", &scanner().fragment(3, false).ah(24).udp(5060), FRAGMENT);
    let first = scanner().fragment(0, true).ah(24).udp(5060);
    rows.add("ah-ipv4-first-fragment", &first, UNLISTED);
    rows.add("ah-ipv4-first-fragment-without-ports", &first.cut(14 + 20 + 24), MALFORMED);
}

/// First fragments are judged, later ones pass.
#[rustfmt::skip]
fn fragments(rows: &mut Rows) {
    for family in FAMILIES {
        let (provider, length) = family.provider;
        // Where the fragment's contents begin.
        let contents = 14 + family.header + if family.header == 20 { 0 } else { 8 };
        for (protocol, header) in HEADERS {
            let name = |what: &str| format!("{what}-{}-{protocol}", family.name);
            let frame = |source, offset, more, port| header(eth().ip(source).fragment(offset, more), port);
            let scanner = family.scanner;
            rows.add(name("first-fragment-unlisted"), &frame(scanner, 0, true, 5060), UNLISTED);
            rows.add(name("first-fragment-allowed"), &frame(provider, 0, true, 5060), allowed("sip", length));
            rows.add(name("first-fragment-unguarded"), &frame(scanner, 0, true, 22), UNGUARDED);
            let large = frame(scanner, 0, true, 5060).payload(&[0x41; 1440]);
            rows.add(name("first-fragment-large"), &large, UNLISTED);
            rows.add(name("later-fragment"), &frame(scanner, 185, true, 5060), FRAGMENT);
            rows.add(name("last-fragment"), &frame(scanner, 370, false, 5060), FRAGMENT);
            rows.add(name("second-fragment-at-8"), &frame(scanner, 1, true, 5060), FRAGMENT);
            rows.add(name("last-fragment-at-the-highest-offset"), &frame(scanner, 0x1fff, false, 5060), FRAGMENT);
            rows.add(name("later-fragment-of-an-allowed-source"), &frame(provider, 185, false, 5060), FRAGMENT);
            rows.add(name("later-fragment-to-unguarded"), &frame(scanner, 185, false, 22), FRAGMENT);
            // Nothing more to come, nothing before: the whole packet.
            rows.add(name("atomic-fragment-unlisted"), &frame(scanner, 0, false, 5060), UNLISTED);
            rows.add(name("atomic-fragment-allowed"), &frame(provider, 0, false, 5060), allowed("sip", length));
            let cut = |offset, length| frame(scanner, offset, true, 5060).cut(contents + length);
            rows.add(name("first-fragment-without-ports"), &cut(0, 0), MALFORMED);
            rows.add(name("first-fragment-with-half-the-ports"), &cut(0, 3), MALFORMED);
            rows.add(name("first-fragment-with-just-the-ports"), &cut(0, 4), UNLISTED);
            rows.add(name("first-fragment-of-8-bytes"), &cut(0, 8), UNLISTED);
            rows.add(name("later-fragment-without-contents"), &cut(3, 0), FRAGMENT);
            let tagged = |frame: Frame| header(frame.ip(scanner).fragment(9, false), 5060);
            rows.add(name("later-fragment-1q"), &tagged(eth().vlan(7)), FRAGMENT);
            let service = tagged(eth().service_tag(7).vlan(8));
            rows.add(name("later-fragment-1ad-1q"), &service, FRAGMENT);
            let cut = service.cut(contents + 8 - 1);
            rows.add(name("later-fragment-1ad-1q-cut"), &cut, MALFORMED);
        }
        let later = || eth().ip(family.scanner).fragment(100, false);
        let name = |what: &str| format!("later-fragment-{}-{what}", family.name);
        rows.add(name("of-icmp"), &later().icmp(), FRAGMENT);
        rows.add(name("of-esp"), &later().esp(), FRAGMENT);
        rows.add(name("cut-in-header"), &later().udp(5060).cut(contents - 1), MALFORMED);
        let first = eth().ip(family.scanner).fragment(0, true).icmp();
        rows.add(format!("first-fragment-{}-of-icmp", family.name), &first, UNGUARDED);
    }
    let v4 = || eth().ip(V4.scanner).fragment(100, false);
    rows.add("later-fragment-ipv4-behind-options", &v4().options(40).udp(5060), FRAGMENT);
    rows.add("later-fragment-ipv4-cut-in-options", &v4().options(40).udp(5060).cut(14 + 59), MALFORMED);
    rows.add("later-fragment-ipv4-ihl-4", &v4().ihl(4).udp(5060), MALFORMED);
    rows.add("later-fragment-ipv4-as-version-6", &v4().version(6).udp(5060), MALFORMED);
    rows.add("later-fragment-ipv4-dont-fragment", &v4().udp(5060).patch(14 + 6, &[0x40, 0x64]), FRAGMENT);
    rows.add("later-fragment-ipv4-bare", &bare().ip(V4.scanner).fragment(100, true).udp(5060), FRAGMENT);
    // Not one bit of the offset is overlooked.
    for bit in 0..13 {
        let offset = 1 << bit;
        let frame = eth().ip(V4.scanner).fragment(offset, true).udp(5060);
        rows.add(format!("later-fragment-ipv4-at-{offset}"), &frame, FRAGMENT);
        let frame = eth().ip(V6.scanner).fragment(offset, true).udp(5060);
        rows.add(format!("later-fragment-ipv6-at-{offset}"), &frame, FRAGMENT);
    }
    let v6 = || eth().ip(V6.scanner);
    rows.add("fragment-ipv6-reserved-bits-are-no-offset", &v6().fragment(0, false).udp(5060).patch(14 + 40 + 3, &[0x06]), UNLISTED);
    rows.add("fragment-ipv6-reserved-byte-is-no-length", &v6().fragment(0, false).udp(5060).patch(14 + 40 + 1, &[0xff]), UNLISTED);
    rows.add("fragment-ipv6-behind-other-headers", &v6().hop_by_hop(8).routing(24).fragment(9, false).udp(5060), FRAGMENT);
    rows.add("fragment-ipv6-first-with-headers-behind", &v6().fragment(0, true).destination(8).udp(5060), UNLISTED);
    rows.add("fragment-ipv6-first-chain-cut", &v6().fragment(0, true).destination(24).udp(5060).cut(14 + 40 + 8 + 16), MALFORMED);
    rows.add("fragment-ipv6-first-nested-first", &v6().fragment(0, true).fragment(0, true).udp(5060), UNLISTED);
    rows.add("fragment-ipv6-first-nested-later", &v6().fragment(0, true).fragment(7, true).udp(5060), FRAGMENT);
    rows.add("fragment-ipv6-atomic-nested-atomic", &v6().fragment(0, false).fragment(0, false).udp(5060), UNLISTED);
    rows.add("fragment-ipv6-later-names-an-extension", &v6().fragment(9, true).destination(8).udp(5060).cut(14 + 48), FRAGMENT);
    rows.add("fragment-ipv6-later-names-no-next-header", &v6().fragment(9, true).no_next_header(), FRAGMENT);
    rows.add("fragment-ipv6-8-atomic", &(0..8).fold(v6(), |it, _| it.fragment(0, false)).udp(5060), UNLISTED);
    rows.add("fragment-ipv6-9-atomic", &(0..9).fold(v6(), |it, _| it.fragment(0, false)).udp(5060), TOO_DEEP);
    rows.add("fragment-ipv6-later-as-the-eighth", &(0..7).fold(v6(), |it, _| it.destination(8)).fragment(9, true).udp(5060), FRAGMENT);
    rows.add("fragment-ipv6-later-as-the-ninth", &(0..8).fold(v6(), |it, _| it.destination(8)).fragment(9, true).udp(5060), TOO_DEEP);
    rows.add("fragment-header-in-ipv4", &eth().ip(V4.scanner).raw(0, 44, &[17, 0, 0, 0, 0, 0, 0, 1]).payload(&LOOKS_LIKE_SIP), UNGUARDED);
}

/// Connection tracking takes the fragment header out of a packet as soon as it is put together, atomic fragments at once, and leaves the
/// stack to read on behind it with the number that the IPv6 header has, or the hop-by-hop options in front (`nf_ct_frag6_reasm` sets the
/// transport header to what the fragment carries, `nhoff` stays). Where other headers come between, that is their number and not the one
/// in the fragment header. And it keeps their place in one byte, which 256 bytes of options overflow (`find_prev_fhdr`).
#[rustfmt::skip]
fn misread_fragments(rows: &mut Rows) {
    type Begin = fn() -> Frame;
    let links: [(&str, Begin); 4] = [
        ("ethernet", eth), ("bare", bare), ("vlan", || eth().vlan(7)), ("pppoe", || eth().pppoe()),
    ];
    // Options that are carried, and a UDP header behind them.
    let carried = [&[17, 0, 0x1e, 4, 0, 0, 0, 0][..], &40_000_u16.to_be_bytes(), &5060_u16.to_be_bytes(), &[0, 8, 0, 0]].concat();
    for (link, begin) in links {
        let name = |what: &str| format!("misread-fragment-{link}-{what}");
        let v6 = || begin().ip(V6.scanner);
        let says = |frame: Frame, number, flags| frame.raw(0, 44, &[number, 0, 0, flags, 0, 0, 0, 1]).payload(&carried);
        for (what, frame) in [
            ("options", v6().destination(8)),
            ("routing", v6().routing(8)),
            ("two-options", v6().destination(8).destination(8)),
            ("hop-by-hop-options", v6().hop_by_hop(8).destination(8)),
            ("two-hop-by-hop", v6().hop_by_hop(8).hop_by_hop(8)),
            ("options-hop-by-hop", v6().destination(8).hop_by_hop(8)),
        ] {
            rows.add(name(&format!("{what}-atomic-icmp")), &says(frame.clone(), 58, 0), MALFORMED);
            rows.add(name(&format!("{what}-atomic-no-next-header")), &says(frame.clone(), 59, 0), MALFORMED);
            // To port 7684.
            rows.add(name(&format!("{what}-atomic-unguarded")), &says(frame.clone(), 17, 0), MALFORMED);
            rows.add(name(&format!("{what}-first-icmp")), &says(frame.clone(), 58, 1), MALFORMED);
            rows.add(name(&format!("{what}-atomic-later")), &says(frame.clone(), 44, 0), MALFORMED);
            rows.add(name(&format!("{what}-first-later")), &says(frame, 44, 1), MALFORMED);
        }
        rows.add(name("long-options"), &v6().destination(256).destination(8).fragment(0, false).udp(22), MALFORMED);
        // The two numbers are the same place here.
        rows.add(name("nothing-in-front"), &v6().fragment(0, false).udp(22), UNGUARDED);
        rows.add(name("hop-by-hop-in-front"), &v6().hop_by_hop(8).fragment(0, false).udp(22), UNGUARDED);
        rows.add(name("long-hop-by-hop-in-front"), &v6().hop_by_hop(264).fragment(0, true).udp(22), UNGUARDED);
        rows.add(name("later"), &v6().destination(8).fragment(9, false).udp(22), FRAGMENT);
    }
}

/// First fragments with bytes behind the packet, where its headers seem to go on. Linux cuts those off; it takes an IPv6 first fragment that
/// ends where an extension header begins (before 5.11: anywhere), and an IPv4 one inside of AH, and reads on in the next fragment.
#[rustfmt::skip]
fn false_tails(rows: &mut Rows) {
    type Begin = fn() -> Frame;
    // Behind the link header: where the length is, and up to where it says that the packet goes.
    let ends = |frame: Frame, ip: usize, at: usize, length: u8| frame.patch(ip + at, &[0, length]);
    let links: [(&str, Begin, usize); 4] = [
        ("ethernet", eth, 14), ("bare", bare, 0), ("vlan", || eth().vlan(7), 18), ("pppoe", || eth().pppoe(), 22),
    ];
    for (link, begin, ip) in links {
        let name = |what: &str| format!("false-tail-{link}-{what}");
        let first = || begin().ip(V6.scanner).fragment(0, true);
        let v6 = |frame, length| ends(frame, ip, 4, length);
        rows.add(name("options-then-icmp"), &v6(first().destination(8).destination(8).icmp_v6(), 16), MALFORMED);
        rows.add(name("options-then-unguarded"), &v6(first().destination(8).destination(8).udp(22), 16), MALFORMED);
        rows.add(name("options-then-no-next-header"), &v6(first().destination(8).destination(8).no_next_header(), 16), MALFORMED);
        rows.add(name("options-then-later-fragment"), &v6(first().destination(8).fragment(9, false).udp(22), 16), MALFORMED);
        rows.add(name("in-a-later-fragment"), &v6(first().destination(8).fragment(9, false).udp(22), 23), MALFORMED);
        rows.add(name("behind-a-later-fragment"), &v6(first().destination(8).fragment(9, false).udp(22), 24), FRAGMENT);
        rows.add(name("options-that-are-longer"), &v6(first().destination(24).icmp_v6(), 16), MALFORMED);
        rows.add(name("routing"), &v6(first().routing(8).icmp_v6(), 8), MALFORMED);
        rows.add(name("nested-fragment"), &v6(first().fragment(0, true).destination(8).udp(22), 16), MALFORMED);
        rows.add(name("ah"), &v6(first().ah(24).udp(22), 24), MALFORMED);
        rows.add(name("ports"), &v6(first().destination(8).udp(22), 16), MALFORMED);
        rows.add(name("half-the-ports"), &v6(first().destination(8).udp(22), 19), MALFORMED);
        rows.add(name("behind-the-ports"), &v6(first().destination(8).udp(22), 20), UNGUARDED);
        rows.add(name("behind-guarded-ports"), &v6(first().destination(8).udp(5060), 24), UNLISTED);
        rows.add(name("icmp"), &v6(first().destination(8).icmp_v6(), 16), MALFORMED);
        rows.add(name("in-icmp"), &v6(first().destination(8).icmp_v6(), 19), MALFORMED);
        rows.add(name("behind-icmp"), &v6(first().destination(8).icmp_v6(), 20), UNGUARDED);
        rows.add(name("length-of-zero"), &v6(first().destination(8).udp(5060), 0), UNLISTED);
        // What is whole ends where its frame does.
        let atomic = begin().ip(V6.scanner).fragment(0, false).destination(8).udp(5060);
        rows.add(name("atomic-fragment"), &v6(atomic, 8), UNLISTED);
        let behind_hop_by_hop = begin().ip(V6.scanner).hop_by_hop(8).fragment(0, false).udp(5060);
        rows.add(name("atomic-fragment-behind-hop-by-hop"), &v6(behind_hop_by_hop, 16), UNLISTED);
        // In other headers the bit that says that more follow stands for something else.
        let options = begin().ip(V6.scanner).destination(8).no_next_header().patch(ip + 40 + 3, &[1]);
        rows.add(name("options-with-a-fragment-s-bit"), &v6(options, 8), UNGUARDED);
        let first = || begin().ip(V4.scanner).fragment(0, true);
        let v4 = |frame, length| ends(frame, ip, 2, length);
        rows.add(name("ipv4-ah"), &v4(first().ah(24).udp(22), 28), MALFORMED);
        rows.add(name("ipv4-ports"), &v4(first().udp(22), 20), MALFORMED);
        rows.add(name("ipv4-half-the-ports"), &v4(first().udp(22), 23), MALFORMED);
        rows.add(name("ipv4-icmp"), &v4(first().icmp(), 20), MALFORMED);
        rows.add(name("ipv4-in-icmp"), &v4(first().icmp(), 23), MALFORMED);
        rows.add(name("ipv4-behind-icmp"), &v4(first().icmp(), 24), UNGUARDED);
        rows.add(name("ipv4-behind-the-ports"), &v4(first().udp(22), 24), UNGUARDED);
        rows.add(name("ipv4-behind-guarded-ports"), &v4(first().udp(5060), 28), UNLISTED);
        rows.add(name("ipv4-length-of-zero"), &v4(first().udp(5060), 0), UNLISTED);
        rows.add(name("ipv4-whole"), &v4(begin().ip(V4.scanner).ah(24).udp(5060), 28), UNLISTED);
        let ah = begin().ip(V4.scanner).ah(24).udp(5060).patch(ip + 20 + 3, &[1]);
        rows.add(name("ipv4-ah-with-a-fragment-s-bit"), &v4(ah, 28), UNLISTED);
    }
}

/// Protocols that no service guards, whole and cut short, with contents that look like SIP.
#[rustfmt::skip]
fn unguarded_protocols(rows: &mut Rows) {
    for family in FAMILIES {
        let scanner = || eth().ip(family.scanner);
        let name = |what: &str| format!("{what}-{}", family.name);
        rows.add(name("icmp"), &scanner().icmp(), UNGUARDED);
        rows.add(name("icmpv6"), &scanner().icmp_v6(), UNGUARDED);
        rows.add(name("esp"), &scanner().esp(), UNGUARDED);
        rows.add(name("gre"), &scanner().gre().ip(V4.scanner).udp(5060), UNGUARDED);
        rows.add(name("ipip"), &scanner().ip(V4.scanner).udp(5060), UNGUARDED);
        rows.add(name("ip-in-ipv6"), &scanner().ip(V6.scanner).tcp(5060), UNGUARDED);
        rows.add(name("no-next-header"), &scanner().no_next_header(), UNGUARDED);
        rows.add(name("sctp"), &scanner().sctp(5060), UNGUARDED);
        rows.add(name("udplite"), &scanner().udp_lite(5060), UNGUARDED);
        // Every number next to a guarded or followed one, and the last.
        for protocol in [2, 5, 7, 16, 18, 42, 45, 49, 52, 61, 131, 133, 137, 255] {
            let frame = scanner().raw(0, protocol, &LOOKS_LIKE_SIP);
            rows.add(name(&format!("protocol-{protocol}")), &frame, UNGUARDED);
        }
        let ip = 14 + family.header;
        rows.add(name("icmp-nothing-behind-ip"), &scanner().icmp().cut(ip), UNGUARDED);
        rows.add(name("esp-nothing-behind-ip"), &scanner().esp().cut(ip), UNGUARDED);
        rows.add(name("sctp-cut-in-ports"), &scanner().sctp(5060).cut(ip + 3), UNGUARDED);
        rows.add(name("udplite-cut-in-ports"), &scanner().udp_lite(5060).cut(ip + 3), UNGUARDED);
        rows.add(name("icmp-cut-in-ip"), &scanner().icmp().cut(ip - 1), MALFORMED);
        rows.add(name("vxlan"), &scanner().udp(4789).payload(&eth().ip(V4.scanner).udp(5060).bytes()), UNGUARDED);
    }
}

/// SCTP and UDP-Lite where a service guards them.
fn wide(rows: &mut Rows) {
    let headers: [Header; 2] = [("sctp", Frame::sctp), ("udplite", Frame::udp_lite)];
    for family in FAMILIES {
        let (provider, length) = family.provider;
        for (protocol, header) in headers {
            let mut add = |what: &str, frame: &Frame, expected| {
                let name = format!("wide-{}-{protocol}-{what}", family.name);
                rows.add_for(Config::Wide, name, frame, expected);
            };
            let frame = |source, port| header(eth().ip(source), port);
            let (scanner, ip) = (family.scanner, 14 + family.header);
            add("unlisted", &frame(scanner, 5060), unlisted("signalling"));
            add(
                "allowed",
                &frame(provider, 5060),
                allowed("signalling", length),
            );
            add("unguarded", &frame(scanner, 5061), UNGUARDED);
            add("cut-in-ports", &frame(scanner, 5060).cut(ip + 3), MALFORMED);
            add(
                "cut-behind-ports",
                &frame(scanner, 5060).cut(ip + 4),
                unlisted("signalling"),
            );
            add(
                "later-fragment",
                &header(eth().ip(scanner).fragment(9, false), 5060),
                FRAGMENT,
            );
            add(
                "tagged",
                &header(eth().vlan(7).ip(scanner), 5060),
                unlisted("signalling"),
            );
            add(
                "bare",
                &header(bare().ip(scanner), 5060),
                unlisted("signalling"),
            );
        }
        let (scanner, name) = (family.scanner, family.name);
        let mut add = |what: &str, frame: &Frame, expected| {
            rows.add_for(Config::Wide, format!("wide-{name}-{what}"), frame, expected);
        };
        add(
            "sctp-2905",
            &eth().ip(scanner).sctp(2905),
            unlisted("signalling"),
        );
        add("udplite-2905", &eth().ip(scanner).udp_lite(2905), UNGUARDED);
        // The same port by another protocol is another service's.
        add("udp", &eth().ip(scanner).udp(5060), UNLISTED);
        add("tcp", &eth().ip(scanner).tcp(2905), UNGUARDED);
        let excepted = ["203.0.113.66", "2001:db8:100:6::66"][usize::from(family.header == 40)];
        let host = [32, 128][usize::from(family.header == 40)];
        add(
            "denied-there-allowed-here-sctp",
            &eth().ip(excepted).sctp(5060),
            denied("signalling", host),
        );
        add(
            "denied-there-allowed-here-udp",
            &eth().ip(excepted).udp(5060),
            allowed("sip", host),
        );
    }
}

/// A frame to a guarded port and one to an unguarded port, cut at and around each header's end.
fn truncated(rows: &mut Rows) {
    for family in FAMILIES {
        for (protocol, header) in HEADERS {
            let frame = |port| header(eth().vlan(7).ip(family.scanner), port);
            let ip = 14 + 4;
            let ports = ip + family.header;
            let whole = frame(5060).bytes().len();
            let lengths = [
                13,
                14,
                15,
                17,
                ip,
                ip + 1,
                ports - 1,
                ports,
                ports + 1,
                ports + 2,
            ]
            .into_iter()
            .chain([
                ports + 3,
                ports + 4,
                ports + 5,
                ports + 7,
                ports + 8,
                whole - 1,
            ])
            // UDP's header is shorter than TCP's.
            .filter(|&length| length < whole)
            .chain(iter::once(whole));
            let mut last = 0;
            for length in lengths {
                if length == last {
                    continue;
                }
                last = length;
                let (guarded, unguarded) = match length {
                    length if length < ip => (UNGUARDED, UNGUARDED),
                    length if length < ports + 4 => (MALFORMED, MALFORMED),
                    _ => (UNLISTED, UNGUARDED),
                };
                let name =
                    |what: &str| format!("cut-{}-{protocol}-{what}-to-{length}", family.name);
                rows.add(name("guarded"), &frame(5060).cut(length), guarded);
                rows.add(name("unguarded"), &frame(22).cut(length), unguarded);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_in_kebab_case() {
        let mut seen = HashSet::new();
        for Row { name, .. } in rows() {
            let word = |word: &str| {
                let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
                !word.is_empty() && word.bytes().all(allowed)
            };
            assert!(name.split('-').all(word), "{name}");
            assert!(seen.insert(name.clone()), "{name} is there twice");
        }
    }

    /// The reasons that do not need a certain service.
    const WHATEVER_THE_SERVICE: [Reason; 6] = [
        Reason::None,
        Reason::TooDeep,
        Reason::Malformed,
        Reason::Fragment,
        Reason::Allowed,
        Reason::Unlisted,
    ];

    /// Every reason, in both families, for both protocols, tagged and not, as far as the reason can have that.
    #[test]
    fn every_row_of_the_verdict_table_is_covered() {
        let rows = rows();
        assert!(rows.len() >= 160, "only {} rows", rows.len());
        // A frame alone is never an orphan: that is one by what came before it (`tests/orphans.rs`).
        let reasons = Reason::COUNTED.into_iter().chain([Reason::None]);
        for reason in reasons.filter(|reason| *reason != Reason::Orphan) {
            for family in ["ipv4", "ipv6"] {
                for protocol in [17, 6] {
                    let covered = rows.iter().any(|row| {
                        row.expected.reason == reason && shape(row) == Some((family, protocol))
                    });
                    assert!(
                        covered,
                        "no row for {reason:?}, {family}, protocol {protocol}"
                    );
                }
            }
        }
        for reason in WHATEVER_THE_SERVICE {
            for ether_type in [0x8100_u16, 0x88a8] {
                let covered = rows.iter().any(|row| {
                    row.expected.reason == reason
                        && row.link == LinkKind::Ethernet
                        && row.frame.get(12..14) == Some(&ether_type.to_be_bytes()[..])
                });
                assert!(covered, "no row for {reason:?} behind {ether_type:04x}");
            }
        }
        for link in [LinkKind::Ethernet, LinkKind::Ip] {
            for reason in WHATEVER_THE_SERVICE {
                let covered = rows
                    .iter()
                    .any(|row| row.link == link && row.expected.reason == reason);
                assert!(covered, "no row for {reason:?} on {link:?}");
            }
        }
    }

    /// Family and protocol of frames whose IP header is where it is without tags or sessions, or behind 802.1Q tags, and names its
    /// protocol itself or behind one kind of extension header.
    fn shape(row: &Row) -> Option<(&'static str, u8)> {
        let mut ip = match row.link {
            LinkKind::Ethernet => 14,
            LinkKind::Ip => 0,
        };
        while ip > 0
            && [[0x81, 0], [0x88, 0xa8]].contains(&row.frame.get(ip - 2..ip)?.try_into().ok()?)
        {
            ip += 4;
        }
        let (family, mut at, mut number) = match row.frame.get(ip)? >> 4 {
            4 => ("ipv4", ip + 20, *row.frame.get(ip + 9)?),
            6 => ("ipv6", ip + 40, *row.frame.get(ip + 6)?),
            _ => return None,
        };
        while [0, 43, 44, 60].contains(&number) && family == "ipv6" {
            let length = if number == 44 {
                0
            } else {
                *row.frame.get(at + 1)?
            };
            number = *row.frame.get(at)?;
            at += (usize::from(length) + 1) * 8;
        }
        Some((family, number))
    }
}
