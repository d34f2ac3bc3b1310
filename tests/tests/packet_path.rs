//! What a packet may cost, in figures that no noise changes: look-ups in maps by class of packet, and how large the programs are.
//!
//! Times are `cargo xtask bench`'s. A change that fails here makes the packet path dearer: it needs a reason, and new figures from there.

use std::cell::Cell;

use ipnet::IpNet;
use sipguard::{
    datapath::program_sizes,
    policy::{Action, Entry, Origin, Policy},
    tables::HostTables,
};
use sipguard_ebpf::{
    abi::{Guard, Key, Lengths, LinkKind, Protocol, Reason, Value},
    parse::parse,
    prefix::Prefix,
    verdict::{Entries, Tables, judge},
};
use sipguard_tests::{
    compiled::{Compiled, NOW},
    frame::{Frame, eth},
    reference::Banned,
};

/// The kernel verifies a million instructions of a program and no more; an eighth of that leaves room for what compilers do.
const VERIFIED_MOST: u32 = 125_000;
/// Bytes of the verified program; instructions are eight bytes each.
const TRANSLATED_MOST: u32 = 12_288;
/// What more `check` may have, which writes the whole verdict down.
const ANSWER_MOST: u32 = 2_048;
/// What more a filter may have, which judges what is not plain in a function of its own.
const GENERAL_MOST: u32 = 8_192;

/// Bytes of the programs that tell: they only run where somebody listens, and have a budget of their own.
const TELLER_MOST: u32 = 14_336;

/// What was looked up for one packet. The prefilter and the lengths are arrays, which the kernel reads in line; entries are in a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LookUps {
    prefilter: Cell<u32>,
    lengths: Cell<u32>,
    entries: Cell<u32>,
    clock: Cell<u32>,
}

/// Counts what the packet path asks for.
struct Counted<'t> {
    tables: HostTables<'t>,
    made: LookUps,
}

fn count(cell: &Cell<u32>) {
    cell.set(cell.get() + 1);
}

impl<A: Prefix> Entries<A> for Counted<'_>
where
    for<'t> HostTables<'t>: Entries<A>,
{
    fn entry(&self, key: &Key<A>) -> Option<Value> {
        count(&self.made.entries);
        self.tables.entry(key)
    }
}

impl Tables for Counted<'_> {
    fn link(&self) -> LinkKind {
        self.tables.link()
    }

    fn protocols(&self) -> u32 {
        self.tables.protocols()
    }

    fn guard(&self, protocol: Protocol, port: u16) -> Option<Guard> {
        self.tables.guard(protocol, port)
    }

    fn prefilter_shift(&self) -> u32 {
        self.tables.prefilter_shift()
    }

    fn prefilter(&self, bit: u64) -> bool {
        count(&self.made.prefilter);
        self.tables.prefilter(bit)
    }

    fn lengths(&self, service: u8) -> Option<&Lengths> {
        count(&self.made.lengths);
        self.tables.lengths(service)
    }

    fn now(&self) -> u64 {
        count(&self.made.clock);
        self.tables.now()
    }
}

/// SIP is open to sources by prefixes of three lengths in each family; nothing is timed.
fn compiled() -> Compiled {
    let entry = |prefix: &str| Entry {
        prefix: prefix.parse::<IpNet>().expect("a prefix"),
        service: 0,
        action: Action::Allow,
        origin: 0,
    };
    let prefixes = [
        "198.51.100.7/32",
        "198.18.0.8/29",
        "203.0.113.0/24",
        "2001:db8:7::7/128",
        "2001:db9:8::/64",
        "2001:dba:9::/48",
    ];
    let policy = Policy {
        origins: vec![Origin {
            source: "listed".to_owned(),
            file: None,
            prefixes: None,
        }],
        entries: prefixes.map(entry).into(),
        ..Policy::default()
    };
    Compiled::new(policy, &[])
}

/// The reason for a frame's verdict, and the look-ups that it took: prefilter, lengths, entries, clock.
fn judged(compiled: &Compiled, frame: &Frame) -> (Reason, [u32; 4]) {
    let counted = Counted {
        tables: HostTables::new(&compiled.tables, NOW.boot_ns),
        made: LookUps::default(),
    };
    let (_, verdict) = judge(frame.bytes().as_slice(), &counted);
    let LookUps {
        prefilter,
        lengths,
        entries,
        clock,
    } = counted.made;
    let made = [prefilter, lengths, entries, clock].map(Cell::into_inner);
    (verdict.reason, made)
}

#[test]
fn look_ups_by_class_of_packet() {
    let compiled = compiled();
    for tagged in [false, true] {
        let begin = || if tagged { eth().vlan(7) } else { eth() };
        let unlisted = ["192.0.2.7", "2001:dbb::7"];
        for source in unlisted {
            for frame in [
                begin().ip(source).udp(16_384),
                begin().ip(source).tcp(22),
                begin().ip(source).icmp(),
            ] {
                assert_eq!(
                    judged(&compiled, &frame),
                    (Reason::None, [0; 4]),
                    "{frame:?}"
                );
            }
            let frame = begin().ip(source).udp(5060);
            let expected = (Reason::Unlisted, [1, 0, 0, 0]);
            assert_eq!(judged(&compiled, &frame), expected, "{frame:?}");
        }
        // Longest first: an entry by the second length has been asked for by one marker more. Only its own is in the hash.
        for (source, markers) in [
            ("198.51.100.7", 1),
            ("198.18.0.9", 2),
            ("203.0.113.7", 3),
            ("2001:db8:7::7", 1),
            ("2001:db9:8::7", 2),
            ("2001:dba:9::7", 3),
        ] {
            let frame = begin().ip(source).tcp(5061);
            let expected = (Reason::Allowed, [1 + markers, 1, 1, 0]);
            assert_eq!(judged(&compiled, &frame), expected, "{frame:?}");
        }
    }
    let arp = eth().arp();
    assert_eq!(judged(&compiled, &arp), (Reason::None, [0; 4]));
}

/// What moves by itself costs nothing where nobody is listed, or where a person has spoken; lengths are looked up for it once more.
#[test]
fn look_ups_beside_live_entries() {
    let bans = [
        "198.51.100.7/32",
        "203.0.112.0/23",
        "198.19.3.0/24",
        "2001:dbd::9/128",
        "2001:dba::/44",
    ]
    .map(|prefix| Banned {
        prefix: prefix.parse().expect("a prefix"),
        until: None,
    });
    let Compiled { policy, .. } = compiled();
    let compiled = Compiled::said(policy, Vec::new(), bans.into());
    for (source, reason, made) in [
        ("192.0.2.7", Reason::Unlisted, [1, 0, 0, 0]),
        ("2001:dbb::7", Reason::Unlisted, [1, 0, 0, 0]),
        ("198.51.100.7", Reason::Allowed, [2, 1, 1, 0]),
        ("203.0.113.7", Reason::Allowed, [4, 1, 1, 0]),
        ("2001:dba:9::7", Reason::Allowed, [4, 1, 1, 0]),
        // Three markers by hand; of the live ones as many as are longer, and its own. Lengths once by each layer.
        ("198.19.3.9", Reason::Denied, [6, 2, 1, 0]),
        ("203.0.112.9", Reason::Denied, [7, 2, 1, 0]),
        ("2001:dbd::9", Reason::Denied, [5, 2, 1, 0]),
        ("2001:dba:8::9", Reason::Denied, [6, 2, 1, 0]),
    ] {
        let frame = eth().ip(source).udp(5060);
        assert_eq!(judged(&compiled, &frame), (reason, made), "{frame:?}");
    }
}

/// A packet that ends in a frame's first piece is taken to be the whole frame, so that its length need not be asked for.
#[test]
fn the_packet_s_last_byte_is_where_the_ip_header_says() {
    let last = |frame: &Frame| {
        let packet = parse(&*frame.bytes(), LinkKind::Ethernet, Protocol::Udp.bit());
        packet.expect("a packet with ports").last
    };
    for source in ["192.0.2.7", "2001:db8::7"] {
        for begin in [eth(), eth().vlan(7), eth().service_tag(7).vlan(8)] {
            let frame = begin.ip(source).udp(5060);
            let end = frame.bytes().len();
            assert_eq!(last(&frame), end - 1, "{frame:?}");
            let padded = frame.clone().payload(&[0; 18]);
            assert_eq!(last(&padded), end + 18 - 1, "{frame:?}");
        }
        // No length at all: what follows has to be asked for.
        let at = if source.contains(':') { 14 + 4 } else { 14 + 2 };
        let endless = eth().ip(source).udp(5060).patch(at, &[0, 0]);
        assert!(last(&endless) > 0xffff, "{endless:?}");
    }
    // Padding behind the packet is not part of it.
    let frame = eth().ip("192.0.2.7").udp(5060).payload(&[0; 18]);
    let padded = frame.patch(14 + 2, &[0, 28]);
    assert_eq!(last(&padded), 14 + 28 - 1);
}

#[test]
fn the_program_stays_within_its_budget() {
    let compiled = compiled();
    let mut beyond = Vec::new();
    for link in [LinkKind::Ethernet, LinkKind::Ip] {
        let sizes = program_sizes(&compiled.tables, compiled.description(), link);
        let sizes = sizes.unwrap_or_else(|error| panic!("these tests need root: {error}"));
        assert!(sizes.len() >= 2, "{sizes:?}");
        for (name, size) in sizes {
            println!("{link:?} {name}: {size:?}");
            let most = if name.starts_with("tell") {
                TELLER_MOST
            } else if name.starts_with("check") {
                TRANSLATED_MOST + ANSWER_MOST
            } else {
                TRANSLATED_MOST + GENERAL_MOST
            };
            // Kernels before 5.16 do not say how many were verified.
            if size.translated > most || size.verified.is_some_and(|it| it > VERIFIED_MOST) {
                beyond.push(format!("{link:?} {name}: {size:?}, at most {most}"));
            }
        }
    }
    assert!(beyond.is_empty(), "beyond its budget: {beyond:#?}");
}
