//! The product against the naive model: over the verdict table's frames cut and mutated, and over random policies and frames built
//! from structure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use proptest::{collection::vec, prelude::*};
use sipguard::policy::{Action, Entry, Mode, Origin, Policy, Ports, Service, least_specific_ban};
use sipguard_ebpf::abi::{LinkKind, Protocol};
use sipguard_tests::{
    byte_code::ByteCode,
    compiled::{Compiled, NOW},
    frame::{Frame, Link, TAG_9100, bare, eth},
    random::Random,
    reference::{Banned, Own, expected},
    verdict_table::{Config, rows},
};

fn agree(compiled: &Compiled, frame: &[u8], link: LinkKind, boot_ns: u64) {
    let model = compiled.model(boot_ns);
    let verdict = compiled.judge(frame, link, boot_ns);
    assert_eq!(
        verdict,
        expected(frame, link, &model),
        "{link:?} {frame:02x?}"
    );
}

#[test]
fn rows_and_their_truncations() {
    for config in Config::ALL {
        let compiled = config.compiled();
        for row in rows() {
            for length in 0..=row.frame.len() {
                agree(&compiled, &row.frame[..length], row.link, NOW.boot_ns);
            }
        }
    }
}

#[test]
fn mutated_rows() {
    let compiled = Config::ALL.map(Config::compiled);
    let rows = rows();
    let mut random = Random::seeded();
    for _ in 0..300_000 {
        let row = random.choose(&rows);
        let mut frame = row.frame.clone();
        random.mutate(&mut frame);
        agree(random.choose(&compiled), &frame, row.link, NOW.boot_ns);
    }
}

/// The rows' own verdicts are the model's, too: a wrong model would otherwise go unnoticed as long as the product errs alike.
#[test]
fn the_model_knows_the_table() {
    for config in Config::ALL {
        let compiled = config.compiled();
        let model = compiled.model(NOW.boot_ns);
        for row in rows().into_iter().filter(|row| row.config == config) {
            let verdict = expected(&row.frame, row.link, &model);
            let found = (
                verdict.action,
                verdict.reason,
                verdict.length,
                verdict.layer,
            );
            let wanted = (
                row.expected.action,
                row.expected.reason,
                row.expected.length,
                row.expected.layer,
            );
            assert_eq!(found, wanted, "{}", row.name);
        }
    }
}

/// Prefixes of all lengths around one address, and for each of them a source that no longer one covers.
fn all_lengths(address: &str) -> (Vec<IpNet>, Vec<(IpAddr, u8)>) {
    let address: IpNet = IpNet::from(address.parse::<IpAddr>().expect("an address"));
    let longest = address.max_prefix_len();
    let prefixes = (0..=longest).map(|length| {
        let prefix = IpNet::new(address.addr(), length).expect("not too long");
        prefix.trunc()
    });
    let sources = (0..=longest).map(|length| {
        let source = match address.addr() {
            IpAddr::V4(address) => {
                let other = 1_u32.checked_shl(31_u32.wrapping_sub(length.into()));
                IpAddr::V4((address.to_bits() ^ other.unwrap_or(0)).into())
            }
            IpAddr::V6(address) => {
                let other = 1_u128.checked_shl(127_u32.wrapping_sub(length.into()));
                IpAddr::V6((address.to_bits() ^ other.unwrap_or(0)).into())
            }
        };
        (source, length)
    });
    (prefixes.collect(), sources.collect())
}

/// The most there can be to look up.
#[test]
fn every_length_at_once() {
    let all = ["203.0.113.66", "2001:db8:100:6::66"].map(all_lengths);
    let entry = |prefix: IpNet| Entry {
        prefix,
        service: 0,
        action: if prefix.prefix_len().is_multiple_of(2) {
            Action::Allow
        } else {
            Action::Deny
        },
        origin: 0,
    };
    let prefixes = all.iter().flat_map(|(prefixes, _)| prefixes);
    let policy = Policy {
        origins: vec![Origin {
            source: "all".to_owned(),
            file: None,
            prefixes: None,
        }],
        entries: prefixes.map(|&prefix| entry(prefix)).collect(),
        ..Policy::default()
    };
    let compiled = Compiled::new(policy, &[]);
    let mut loaded = compiled.loaded(LinkKind::Ethernet);
    for (source, length) in all.iter().flat_map(|(_, sources)| sources) {
        let frame = eth().ip(&source.to_string()).udp(5060).bytes();
        agree(&compiled, &frame, LinkKind::Ethernet, NOW.boot_ns);
        let verdict = compiled.judge(&frame, LinkKind::Ethernet, NOW.boot_ns);
        assert_eq!(verdict.length, Some(*length), "{source}");
        assert_eq!(loaded.judge(&frame), verdict, "{source}");
    }
}

/// Few addresses, near each other, so that prefixes nest and collide.
fn address() -> impl Strategy<Value = IpAddr> {
    let bits = prop_oneof![3 => Just(0_u128), 3 => (0..8_u32).prop_map(|bit| 1 << bit), 2 => (0..128_u32).prop_map(|bit| 1 << bit)];
    let base = prop::sample::select(vec![
        IpAddr::from([203, 0, 113, 66]),
        IpAddr::from([198, 51, 100, 7]),
        IpAddr::from([0x2001, 0xdb8, 0x100, 6, 0, 0, 0, 0x66]),
        IpAddr::from([0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 7]),
    ]);
    (base, bits).prop_map(|(base, bits)| match base {
        IpAddr::V4(base) => {
            let bits = u32::try_from(bits & 0xffff_ffff).expect("masked");
            IpAddr::V4((base.to_bits() ^ bits).into())
        }
        IpAddr::V6(base) => IpAddr::V6((base.to_bits() ^ bits).into()),
    })
}

fn prefix() -> impl Strategy<Value = IpNet> {
    let length = prop_oneof![
        4 => prop::sample::select(vec![0, 8, 16, 23, 24, 25, 31, 32, 33, 47, 48, 63, 64, 65, 96, 127, 128]),
        1 => 0..=128_u8,
    ];
    (address(), length).prop_map(|(address, length)| {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new_assert(address, length.min(longest)).trunc()
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Allow), Just(Action::Deny)]
}

/// Of the ports that frames go to, so that most are guarded by something.
const PORTS: [u16; 8] = [5060, 5061, 50_600, 80, 5316, 5059, 0, 65_535];

fn services() -> impl Strategy<Value = Vec<Service>> {
    let guarded = vec(
        (
            prop::sample::select(Protocol::ALL.to_vec()),
            prop::sample::select(PORTS.to_vec()),
        ),
        1..8,
    );
    vec((guarded, action()), 1..=16).prop_map(|drafts| {
        let mut taken = BTreeSet::new();
        let numbered = drafts.into_iter().enumerate();
        numbered
            .map(|(number, (guarded, default))| {
                let mut ports = Ports::new();
                for (protocol, port) in guarded {
                    if taken.insert((protocol, port)) {
                        ports.entry(protocol).or_default().insert(port);
                    }
                }
                Service {
                    name: format!("s{number}"),
                    ports,
                    default,
                    mode: Mode::Enforce,
                }
            })
            .collect()
    })
}

#[derive(Clone, Debug)]
struct World {
    policy: Policy,
    own: Vec<Own>,
    bans: Vec<Banned>,
}

/// Services need ports of their own, so there are at most as many as remain; entries name any of them.
fn world() -> impl Strategy<Value = World> {
    let own = (
        prefix(),
        any::<prop::sample::Index>(),
        action(),
        prop::option::of(0..6_u64),
    );
    let entry = (prefix(), any::<prop::sample::Index>(), action());
    let ban = (prefix(), prop::option::of(1..4_u64)).prop_filter("wide", |(prefix, _)| {
        prefix.prefix_len() >= least_specific_ban(*prefix)
    });
    (
        services(),
        vec(entry, 0..40),
        vec(own, 0..20),
        vec(ban, 0..20),
    )
        .prop_map(|(services, entries, own, bans)| {
            let entries = entries.into_iter().map(|(prefix, service, action)| Entry {
                prefix,
                service: u8::try_from(service.index(services.len())).expect("at most 16"),
                action,
                origin: 0,
            });
            let own = own.into_iter().map(|(prefix, service, action, until)| Own {
                prefix,
                service: service.index(services.len()),
                action,
                // An even number of seconds, so that no moment asked about is the very end.
                until: until.map(|turns| NOW.boot_ns + turns * 2_000_000_000),
            });
            let (entries, own) = (entries.collect(), own.collect());
            let policy = Policy {
                services,
                entries,
                origins: vec![Origin {
                    source: "all".to_owned(),
                    file: None,
                    prefixes: None,
                }],
                ..Policy::default()
            };
            // The newest of one prefix counts, as they are all the same one's.
            let mut newest = BTreeMap::new();
            for (prefix, until) in bans {
                newest.insert(
                    prefix,
                    until.map(|turns| NOW.boot_ns + turns * 2_000_000_000),
                );
            }
            let bans = newest.into_iter();
            let bans = bans
                .map(|(prefix, until)| Banned { prefix, until })
                .collect();
            World { policy, own, bans }
        })
}

impl World {
    fn compiled(&self) -> Compiled {
        Compiled::said(self.policy.clone(), self.own.clone(), self.bans.clone())
    }
}

#[derive(Clone, Copy, Debug)]
enum Header {
    HopByHop(usize),
    Routing(usize),
    Destination(usize),
    Authentication(usize),
    Fragment(u16, bool),
}

fn headers() -> impl Strategy<Value = Vec<Header>> {
    let eights = || prop_oneof![9 => Just(8), 3 => Just(24), 1 => (1..=256_usize).prop_map(|units| units * 8)];
    let header = prop_oneof![
        eights().prop_map(Header::HopByHop),
        eights().prop_map(Header::Routing),
        eights().prop_map(Header::Destination),
        (2..=257_usize).prop_map(|words| Header::Authentication(words * 4)),
        (prop_oneof![4 => Just(0), 1 => 0..0x2000_u16], any::<bool>())
            .prop_map(|(offset, more)| Header::Fragment(offset, more)),
    ];
    prop_oneof![3 => Just(Vec::new()), 2 => vec(header, 0..=10)]
}

fn link() -> impl Strategy<Value = Frame> {
    let tag = prop_oneof![4 => Just(0x8100_u16), 4 => Just(0x88a8), 1 => Just(TAG_9100)];
    let tags = prop_oneof![4 => Just(Vec::new()), 3 => vec(tag, 0..=6)];
    let session = prop_oneof![4 => Just(None), 1 => any::<bool>().prop_map(Some)];
    (any::<bool>(), tags, session).prop_map(|(ethernet, tags, session)| {
        if !ethernet {
            return bare();
        }
        let frame = tags.into_iter().fold(eth(), |frame, tag| frame.tag(tag, 7));
        match session {
            None => frame,
            Some(false) => frame.pppoe(),
            Some(true) => frame.pppoe_compressed(),
        }
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let words = prop_oneof![3 => Just(0_usize), 1 => 0..=10_usize];
    let number = prop_oneof![
        4 => Just(17_u8), 4 => Just(6), 2 => Just(132), 2 => Just(136), 1 => Just(1), 1 => any::<u8>(),
    ];
    let port = prop_oneof![8 => prop::sample::select(PORTS.to_vec()), 1 => any::<u16>()];
    let cut = prop_oneof![3 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    let patch = prop_oneof![4 => Just(None), 1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(Some)];
    (
        link(),
        address(),
        words,
        headers(),
        number,
        port,
        cut,
        patch,
    )
        .prop_map(|(link, source, words, headers, number, port, cut, patch)| {
            let mut frame = link.ip(&source.to_string());
            if source.is_ipv4() {
                frame = frame.options(words * 4);
            }
            for header in headers {
                frame = match header {
                    Header::HopByHop(bytes) => frame.hop_by_hop(bytes),
                    Header::Routing(bytes) => frame.routing(bytes),
                    Header::Destination(bytes) => frame.destination(bytes),
                    Header::Authentication(bytes) => frame.ah(bytes),
                    Header::Fragment(offset, more) => frame.fragment(offset, more),
                };
            }
            frame = match number {
                17 => frame.udp(port),
                6 => frame.tcp(port),
                132 => frame.sctp(port),
                136 => frame.udp_lite(port),
                1 => frame.icmp(),
                other => frame.raw(0, other, &[0x9c, 0x40, 0x13, 0xc4, 0, 8, 0, 0]),
            };
            let length = frame.bytes().len();
            if let Some((place, byte)) = patch {
                frame = frame.patch(place.index(length), &[byte]);
            }
            match cut {
                Some(place) => frame.cut(place.index(length)),
                None => frame,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_policies_and_frames(world in world(), frames in vec(frame(), 64)) {
        let compiled = world.compiled();
        for frame in frames {
            let link = match frame.link() {
                Link::Ethernet => LinkKind::Ethernet,
                Link::Bare => LinkKind::Ip,
            };
            // While all timed entries last, after some, after all; and at the very end of some.
            for seconds in [0, 1, 2, 5, 60] {
                let boot_ns = NOW.boot_ns + seconds * 1_000_000_000;
                agree(&compiled, &frame.bytes(), link, boot_ns);
            }
        }
    }
}

proptest! {
    // Every case loads two programs.
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_policies_in_the_kernel(mut world in world(), frames in vec(frame(), 512)) {
        // The kernel's clock can't be chosen: what ends has ended when the machine started, or lasts for years.
        let moved = |until: Option<u64>| {
            until.map(|until| if until / 2_000_000_000 % 2 == 0 { 2 } else { NOW.boot_ns * 1_000_000 })
        };
        for own in &mut world.own {
            own.until = moved(own.until);
        }
        for ban in &mut world.bans {
            ban.until = moved(ban.until);
        }
        let compiled = world.compiled();
        let model = compiled.model(NOW.boot_ns);
        for (begins, link) in [(Link::Ethernet, LinkKind::Ethernet), (Link::Bare, LinkKind::Ip)] {
            let mut loaded = compiled.loaded(link);
            for frame in frames.iter().filter(|frame| frame.link() == begins) {
                let frame = frame.bytes();
                let wanted = expected(&frame, link, &model);
                prop_assert_eq!(loaded.judge(&frame), wanted, "{:?} {:02x?}", link, frame);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    /// Like the kernel, and at any time.
    #[test]
    fn random_policies_in_byte_code(world in world(), frames in vec(frame(), 512)) {
        let compiled = world.compiled();
        for (begins, link) in [(Link::Ethernet, LinkKind::Ethernet), (Link::Bare, LinkKind::Ip)] {
            let mut program = ByteCode::new(&compiled, "check_frags", link);
            for (turn, frame) in frames.iter().filter(|frame| frame.link() == begins).enumerate() {
                let frame = frame.bytes();
                let model = compiled.model(NOW.boot_ns + [0, 1, 2, 5, 60][turn % 5] * 1_000_000_000);
                program.set_clock(model.now);
                let wanted = expected(&frame, link, &model);
                let verdict = program.check(&frame, frame.len());
                prop_assert_eq!(verdict, wanted, "{:?} {} {:02x?}", link, model.now, frame);
            }
        }
    }
}
