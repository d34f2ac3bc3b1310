use std::net::IpAddr;

use ipnet::Ipv6Net;
use jiff::Timestamp;
use sipguard_ebpf::{
    abi::{ALLOW_CONFIG, ALLOW_OWN, DENY_CONFIG, DENY_OWN, Layer, Protocol, Reason, Value},
    parse::{Packet, Source},
    prefix::{HALF_MAX, HALF_MIN, Prefix},
    verdict::{Tables as _, Verdict, decide},
};

use super::*;
use crate::{
    policy::{Action, Entry, Mode, Service},
    state::{Ban, BanLine, Bans, State},
};

mod model;

const NOW: Now = Now {
    boot_ns: 5_000_000_000,
    wall: Timestamp::UNIX_EPOCH,
};

fn slots(policy: &Policy) -> Slots {
    let mut slots = Slots::default();
    let names = policy.services.iter().map(|service| service.name.as_str());
    slots.assign(names).unwrap();
    slots
}

fn net(prefix: &str) -> IpNet {
    prefix.parse().unwrap()
}

fn entry(prefix: &str, service: u8, action: Action, origin: u16) -> Entry {
    Entry {
        prefix: net(prefix),
        service,
        action,
        origin,
    }
}

/// An own entry of `sip` that ends `seconds` after [`NOW`].
fn own(prefix: &str, action: Action, seconds: Option<i64>) -> OwnEntry {
    OwnEntry {
        prefix: net(prefix),
        service: "sip".to_owned(),
        action,
        until: seconds.map(|seconds| Timestamp::from_second(seconds).unwrap()),
        lasts_in: None,
        comment: None,
        added: Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn a_region_made_anew_is_what_a_compilation_makes() {
    let sip = [
        entry("203.0.113.0/24", 0, Action::Allow, 0),
        entry("198.51.100.7/32", 0, Action::Deny, 0),
        entry("10.0.0.0/8", 0, Action::Allow, 0),
        entry("2001:db8::/32", 0, Action::Allow, 0),
        entry("2001:db8:1::7/128", 0, Action::Allow, 0),
    ];
    let tables = compile(&with_entries(sip.to_vec()), &[]);
    let shift = tables.constants.prefilter_shift;
    let mut region = Region::new(shift);
    for key in tables.entries4.keys() {
        region.add(key);
    }
    for key in tables.entries6.keys() {
        region.add(key);
    }
    assert_eq!(region.words, tables.prefilter[..region.words.len()]);
    assert_eq!(region.lengths, tables.lengths[0]);
    assert!(region.words.iter().any(|&word| word != u64::MAX));
    for (prefix, fills) in [
        ("0.0.0.0/0", true),
        ("::/0", true),
        ("203.0.113.0/24", false),
    ] {
        assert_eq!(fills_cells(net(prefix), shift), fills, "{prefix}");
    }
}

fn with_entries(entries: Vec<Entry>) -> Policy {
    Policy {
        entries,
        ..Policy::default()
    }
}

fn compile(policy: &Policy, own: &[OwnEntry]) -> Tables {
    Tables::compile(policy, &slots(policy), own, Vec::new(), NOW).unwrap()
}

fn source(address: IpAddr) -> Source {
    match address {
        IpAddr::V4(address) => V4(address.to_bits()).into(),
        IpAddr::V6(address) => V6::from(address.to_bits()).into(),
    }
}

fn ask(tables: &Tables, boot_ns: u64, address: &str, port: u16) -> Verdict {
    let packet = Packet {
        source: source(address.parse().unwrap()),
        protocol: Protocol::Udp,
        port: port.to_be(),
        last: usize::MAX,
    };
    decide(&packet, &HostTables::new(tables, boot_ns))
}

fn reason(tables: &Tables, address: &str) -> Reason {
    ask(tables, NOW.boot_ns, address, 5060).reason
}

#[test]
fn the_most_specific_entry_wins() {
    let tables = compile(
        &with_entries(vec![
            entry("203.0.113.0/24", 0, Action::Allow, 0),
            entry("203.0.113.66/32", 0, Action::Deny, 0),
            entry("0.0.0.0/1", 0, Action::Deny, 0),
            entry("10.0.0.0/8", 0, Action::Allow, 0),
            entry("2001:d00::/24", 0, Action::Allow, 0),
            entry("2001:db8:1::/64", 0, Action::Deny, 0),
        ]),
        &[],
    );
    for (address, wanted) in [
        ("203.0.113.65", Reason::Allowed),
        ("203.0.113.66", Reason::Denied),
        ("203.0.114.1", Reason::Unlisted),
        ("10.9.8.7", Reason::Allowed),
        ("11.0.0.1", Reason::Denied),
        ("2001:dff:ffff::1", Reason::Allowed),
        ("2001:db8:1::1", Reason::Denied),
        ("2001:db8:1:1::1", Reason::Allowed),
        ("3001::1", Reason::Unlisted),
    ] {
        assert_eq!(reason(&tables, address), wanted, "{address}");
    }
    let verdict = ask(&tables, 0, "203.0.113.66", 80);
    assert_eq!((verdict.reason, verdict.service), (Reason::Unlisted, 1));
    assert_eq!(ask(&tables, 0, "203.0.113.66", 81).reason, Reason::None);
    assert_eq!(ask(&tables, 0, "203.0.113.66", 5061).length, 32);
}

#[test]
fn everything_can_be_listed() {
    let tables = compile(
        &with_entries(vec![entry("::/0", 0, Action::Allow, 0)]),
        &[own("0.0.0.0/0", Action::Allow, None)],
    );
    assert_eq!(tables.constants.prefilter_shift, 32 - HALF_MIN);
    for address in ["1.2.3.4", "255.255.255.255", "::1", "ffff::"] {
        assert_eq!(reason(&tables, address), Reason::Allowed, "{address}");
    }
    assert_eq!(ask(&tables, 0, "1.2.3.4", 80).reason, Reason::Unlisted);
}

#[test]
fn words_on_one_prefix_become_one_value_whatever_their_order() {
    let mut config = vec![
        entry("203.0.113.0/24", 0, Action::Allow, 0),
        entry("203.0.113.0/24", 0, Action::Deny, 3),
        entry("203.0.113.0/24", 0, Action::Deny, 2),
        entry("203.0.113.0/24", 0, Action::Allow, 1),
        entry("203.0.113.0/25", 0, Action::Allow, 5),
        entry("203.0.113.0/25", 0, Action::Allow, 4),
        entry("203.0.113.0/24", 1, Action::Allow, 6),
    ];
    let mut own = vec![
        own("203.0.113.0/24", Action::Allow, Some(10)),
        own("203.0.113.0/24", Action::Deny, None),
        own("203.0.113.128/25", Action::Allow, None),
    ];
    let tables = compile(&with_entries(config.clone()), &own);
    config.reverse();
    own.reverse();
    assert_eq!(compile(&with_entries(config), &own), tables);

    let value = |prefix: &str, service| match PrefixKey::new(net(prefix), service, Layer::Hand) {
        PrefixKey::V4(key) => tables.entries4.get(&key),
        PrefixKey::V6(key) => tables.entries6.get(&key),
    };
    assert_eq!(
        value("203.0.113.0/24", 0),
        Some(Value {
            allow_until: 15_000_000_000,
            permanent: DENY_OWN,
            overruled: DENY_CONFIG,
            origin: 2,
            ..Value::default()
        })
    );
    assert_eq!(value("203.0.113.0/25", 0).unwrap().origin, 4);
    assert_eq!(value("203.0.113.0/24", 1).unwrap().permanent, ALLOW_CONFIG);
    assert_eq!(value("203.0.113.128/25", 0).unwrap().permanent, ALLOW_OWN);
    assert_eq!(value("203.0.113.128/25", 1), None);
    assert_eq!(value("2001:db8::/32", 0), None);
    assert_eq!(tables.entries4.said.len(), 4);
    assert!(tables.entries4.keys().is_sorted());
}

#[test]
fn timed_entries_end_by_the_boot_clock() {
    let policy = with_entries(vec![entry("203.0.113.0/24", 0, Action::Deny, 0)]);
    let tables = compile(&policy, &[own("203.0.113.9/32", Action::Allow, Some(2))]);
    let at = |boot_ns| ask(&tables, boot_ns, "203.0.113.9", 5060).reason;
    assert_eq!(at(NOW.boot_ns), Reason::Allowed);
    assert_eq!(at(6_999_999_999), Reason::Allowed);
    assert_eq!(at(7_000_000_000), Reason::Denied);
}

#[test]
fn ended_entries_and_those_of_unknown_services_are_left_out() {
    let mut elsewhere = own("203.0.113.1/32", Action::Allow, None);
    elsewhere.service = "gone".to_owned();
    let tables = compile(
        &Policy::default(),
        &[
            own("203.0.113.2/32", Action::Allow, Some(0)),
            own("203.0.113.3/32", Action::Deny, Some(-10)),
            elsewhere,
        ],
    );
    assert_eq!(tables, compile(&Policy::default(), &[]));
}

#[test]
fn the_farthest_end_does_not_overflow() {
    let mut entry = own("203.0.113.1/32", Action::Allow, None);
    entry.until = Some(Timestamp::MAX);
    let tables = compile(&Policy::default(), &[entry]);
    assert_eq!(tables.entries4.said[0].1.allow_until, u64::MAX);
}

#[test]
fn services_are_known_by_their_slots() {
    let mut policy = with_entries(vec![entry("203.0.113.1/32", 1, Action::Allow, 0)]);
    policy.mode = Mode::Monitor;
    policy.services[1].default = Action::Allow;
    policy.services[0].mode = Mode::Monitor;
    let mut slots = Slots::default();
    slots.assign(["a", "b", "web"]).unwrap();
    let error = Tables::compile(&policy, &slots, &[], Vec::new(), NOW).unwrap_err();
    assert_eq!(error.to_string(), "the service sip has no counter slot");
    slots.assign(["sip"]).unwrap();
    let tables = Tables::compile(&policy, &slots, &[], Vec::new(), NOW).unwrap();
    let constants = &tables.constants;
    assert_eq!(constants.monitor, 1 << 3 | 1 << 16);
    assert_eq!(constants.protocols, 0b11);
    assert_eq!(tables.prefilter.len(), 4 << (HALF_MIN - 5));
    let verdict = ask(&tables, 0, "203.0.113.1", 80);
    assert_eq!((verdict.service, verdict.reason), (2, Reason::Allowed));
    let verdict = ask(&tables, 0, "203.0.113.2", 80);
    assert_eq!((verdict.service, verdict.reason), (2, Reason::Open));
    assert_eq!(ask(&tables, 0, "203.0.113.2", 5060).service, 3);
}

#[test]
fn every_guarded_port_finds_its_service_and_no_other_does() {
    let mut policy = Policy::default();
    let sctp = policy.services[1].ports.entry(Protocol::Sctp).or_default();
    sctp.extend([5060, 65535, 1, 256]);
    let tables = compile(&policy, &[]);
    let host = HostTables::new(&tables, 0);
    for protocol in Protocol::ALL {
        for port in 0..=u16::MAX {
            let guards = |service: &Service| {
                service
                    .ports
                    .get(&protocol)
                    .is_some_and(|ports| ports.contains(&port))
            };
            let wanted = policy.services.iter().position(guards);
            let guard = host.guard(protocol, port.to_be());
            let got = guard.map(|guard| usize::from(guard.service()));
            assert_eq!(got, wanted, "{protocol:?} {port}");
        }
    }
    assert_eq!(tables.constants.protocols, 0b111);
}

#[test]
fn nothing_guarded_is_a_policy_too() {
    let mut policy = Policy::default();
    policy.services.clear();
    let tables = compile(&policy, &[]);
    assert_eq!((tables.prefilter.len(), tables.constants.protocols), (0, 0));
    assert_eq!(reason(&tables, "203.0.113.1"), Reason::None);
}

#[test]
fn the_prefilter_grows_with_the_largest_service() {
    let size = |entries: Vec<Entry>| {
        32 - compile(&with_entries(entries), &[])
            .constants
            .prefilter_shift
    };
    let hosts = |count: u32, step: u32| -> Vec<_> {
        (0..count)
            .map(|host| {
                let address = V4(host * step);
                let prefix = V4::net(&Key::new(0, Layer::Hand, address, 32)).into();
                Entry {
                    prefix,
                    service: 0,
                    action: Action::Allow,
                    origin: 0,
                }
            })
            .collect()
    };
    assert_eq!(size(vec![]), HALF_MIN);
    assert_eq!(
        size(vec![entry("0.0.0.0/0", 0, Action::Allow, 0)]),
        HALF_MIN
    );
    // Small halves have more room: 16 markers and one cell, 1,000 markers and 4 cells.
    assert_eq!(size(hosts(16, 1)), 10);
    assert_eq!(size(hosts(1000, 1)), 16);
    // 4,096 markers and 16 cells.
    assert_eq!(size(hosts(4096, 1)), 16);
    // 4,096 markers and as many cells.
    assert_eq!(size(hosts(4096, 256)), 16);
    assert_eq!(size(hosts(4097, 256)), 17);
    // 65,536 cells.
    assert_eq!(size(vec![entry("10.0.0.0/8", 0, Action::Allow, 0)]), 20);
    assert_eq!(
        size(vec![entry("128.0.0.0/1", 1, Action::Allow, 0)]),
        HALF_MAX
    );
    assert_eq!(
        size(vec![entry("2001:db8::/32", 0, Action::Allow, 0)]),
        HALF_MIN
    );
}

/// Bans of these hosts, which are as many addresses far from each other.
fn bans(hosts: impl Iterator<Item = u32>) -> Bans {
    let mut bans = Bans::default();
    for host in hosts {
        bans.say(BanLine::Ban(Ban {
            prefix: host_net(host),
            by: None,
            until: None,
            lasts_in: String::new(),
            added: NOW.wall,
        }));
    }
    bans
}

fn host_net(host: u32) -> IpNet {
    V4::net(&host_key(host)).into()
}

fn host_key(host: u32) -> Key<V4> {
    // One to one, as the multiplier is odd.
    Key::new(0, Layer::Live, V4(host.wrapping_mul(0x9E37_79B1)), 32)
}

/// Five entries by hand in one service.
fn five_entries() -> Policy {
    let prefixes = [
        "203.0.113.0/24",
        "198.51.100.10/32",
        "192.0.2.0/25",
        "2001:db8::/48",
        "10.1.0.0/24",
    ];
    with_entries(
        prefixes
            .map(|prefix| entry(prefix, 0, Action::Allow, 0))
            .into(),
    )
}

/// The share of a service's cells that are set, which is the share of unlisted random sources that are looked up for nothing.
fn share(tables: &Tables, slot: usize) -> f64 {
    let words = region_words(tables.constants.prefilter_shift);
    let region = &tables.prefilter[slot * words as usize..][..words as usize / 2];
    let set: u32 = region.iter().map(|word| word.count_ones()).sum();
    f64::from(set) / f64::from(words / 2 * 64)
}

fn crowded(tables: &Tables, slot: u8) -> bool {
    let shift = tables.constants.prefilter_shift;
    samples(slot, shift).iter().any(|sample| {
        is_crowded(
            &tables.prefilter[sample.start as usize..sample.end as usize],
            shift,
        )
    })
}

/// As a change in place does: what leads to the entry is set, and nothing is ever unset.
fn put_in_place(tables: &mut Tables, key: Key<V4>) {
    for (word, bits) in prefilter_words(&key, tables.constants.prefilter_shift) {
        tables.prefilter[word as usize] |= bits;
    }
}

#[test]
fn live_entries_have_room_for_more_of_them() {
    let policy = five_entries();
    let compiled = |bans: &Bans| {
        Tables::compile(&policy, &slots(&policy), &[], banned(bans, NOW), NOW).unwrap()
    };
    // Who has none pays for none.
    let by_hand = compiled(&Bans::default());
    assert_eq!(32 - by_hand.constants.prefilter_shift, 9);

    let mut live = compiled(&bans(0..1));
    assert_eq!(32 - live.constants.prefilter_shift, 16);
    (1..=1_000).for_each(|host| put_in_place(&mut live, host_key(host)));
    assert!(share(&live, 0) < 0.125, "{}", share(&live, 0));
    assert!(!crowded(&live, 0));

    // The first ones find their place in a region without room for them, too; then it is made anew, with room.
    let mut small = by_hand;
    let fit = (0..1_000).take_while(|&host| {
        put_in_place(&mut small, host_key(host));
        !crowded(&small, 0)
    });
    let fit = fit.count();
    assert!((30..100).contains(&fit), "{fit}");

    // Four times as many fill an eighth.
    let mut large = compiled(&bans(0..50_000));
    assert_eq!(32 - large.constants.prefilter_shift, 21);
    (50_000..200_000).for_each(|host| put_in_place(&mut large, host_key(host)));
    assert!(share(&large, 0) < 0.125, "{}", share(&large, 0));
    // More of them are looked for in what as many by hand would have.
    let larger = compiled(&bans(0..100_000));
    assert_eq!(32 - larger.constants.prefilter_shift, 21);
}

/// A hundred times half of a source of 100,000 goes and another half comes, a thousand at once, each in place until another generation is needed.
#[test]
fn what_comes_and_goes_wears_out_no_prefilter() {
    const HOSTS: u32 = 100_000;
    const AT_ONCE: u32 = 1_000;
    let policy = five_entries();
    let slots = slots(&policy);
    let compiled = |first: u32| {
        let bans = bans(first..first + HOSTS);
        Tables::compile(&policy, &slots, &[], banned(&bans, NOW), NOW).unwrap()
    };
    let mut tables = compiled(0);
    let (mut generations, mut worst) = (1, share(&tables, 0));
    for first in (0..100 * HOSTS / 2).step_by(AT_ONCE as usize) {
        // New ones come before old ones go, of which the prefilter takes no notice.
        let new = first + HOSTS;
        (new..new + AT_ONCE).for_each(|host| put_in_place(&mut tables, host_key(host)));
        if crowded(&tables, 0) {
            worst = worst.max(share(&tables, 0));
            tables = compiled(first + AT_ONCE);
            generations += 1;
        }
    }
    worst = worst.max(share(&tables, 0));
    println!("{generations} generations, at most {worst:.4} set");
    assert!(worst <= 0.125, "{worst}");
    assert!((5..60).contains(&generations), "{generations}");
}

#[test]
fn half_of_everything_leaves_the_other_half_unset() {
    let policy = with_entries(vec![entry("128.0.0.0/1", 0, Action::Allow, 0)]);
    let tables = compile(&policy, &[]);
    let set: u32 = tables.prefilter.iter().map(|word| word.count_ones()).sum();
    // The cells and the marker.
    assert_eq!(set, (1 << 23) + 1);
}

#[test]
fn a_region_that_short_prefixes_fill_is_filled_at_once() {
    // Each half as large as the largest region; setting their bits one by one would take half a minute.
    let prefixes = (0..512u128).map(|place| Ipv6Net::new_assert((place << 119).into(), 9));
    let mut entries: Vec<_> = prefixes
        .map(|prefix| Entry {
            prefix: prefix.into(),
            ..entry("::/0", 0, Action::Allow, 0)
        })
        .collect();
    entries.push(entry("203.0.113.1/32", 1, Action::Allow, 0));
    let tables = compile(&with_entries(entries), &[]);
    assert_eq!(reason(&tables, "2001:db8::1"), Reason::Allowed);
    assert_eq!(ask(&tables, 0, "2001:db8::1", 80).reason, Reason::Unlisted);
    let (sip, web) = tables.prefilter.split_at(2 << (HALF_MAX - 6));
    let (cells, markers) = sip.split_at(1 << (HALF_MAX - 6));
    assert!(cells.iter().all(|&word| word == u64::MAX));
    assert_eq!(
        markers.iter().map(|word| word.count_ones()).sum::<u32>(),
        512
    );
    assert_eq!(web.iter().map(|word| word.count_ones()).sum::<u32>(), 2);
}

#[test]
fn a_prefix_changed_in_place_is_found() {
    let tables = compile(&Policy::default(), &[]);
    for prefix in [
        "203.0.113.1/32",
        "203.0.113.0/24",
        "0.0.0.0/0",
        "10.0.0.0/8",
        "198.51.100.0/22",
    ] {
        let mut tables = tables.clone();
        let PrefixKey::V4(key) = PrefixKey::new(net(prefix), 1, Layer::Hand) else {
            panic!("it is IPv4");
        };
        let shift = tables.constants.prefilter_shift;
        for (word, bits) in prefilter_words(&key, shift) {
            assert_eq!(word / region_words(shift), 1, "a word of its own region");
            tables.prefilter[word as usize] |= bits;
        }
        V4::mark_length(&mut tables.lengths[1], &key);
        let entry = own(prefix, Action::Allow, None);
        let value = with_own(None, [&entry], NOW).unwrap();
        tables.entries4.said.push((key, value));
        let address = key.address.masked(key.length()).0;
        let address = std::net::Ipv4Addr::from_bits(address).to_string();
        let verdict = ask(&tables, 0, &address, 80);
        assert_eq!(
            (verdict.reason, verdict.length),
            (Reason::Allowed, key.length())
        );
    }
}

#[test]
fn what_the_config_file_says_stays_when_own_entries_change() {
    let config = Value {
        permanent: ALLOW_CONFIG,
        origin: 7,
        ..Value::default()
    };
    let deny = own("203.0.113.1/32", Action::Deny, None);
    let brief = own("203.0.113.1/32", Action::Deny, Some(1));
    let both = with_own(Some(config), [&deny, &brief], NOW).unwrap();
    assert_eq!(
        both,
        Value {
            deny_until: 6_000_000_000,
            permanent: DENY_OWN,
            overruled: ALLOW_CONFIG,
            ..config
        }
    );
    assert_eq!(
        with_own(Some(both), [&brief], NOW).unwrap().permanent,
        ALLOW_CONFIG
    );
    assert_eq!(with_own(Some(both), [], NOW), Some(config));
    let alone = with_own(None, [&deny], NOW);
    assert_eq!(alone.unwrap().permanent, DENY_OWN);
    assert_eq!(with_own(alone, [], NOW), None);
    assert_eq!(
        with_own(None, [&own("::/0", Action::Allow, Some(0))], NOW),
        None
    );
}

#[test]
fn host_bits_of_an_edited_state_file_do_no_harm() {
    let policy = Policy::default();
    let entries = [
        own("203.0.113.9/24", Action::Allow, None),
        own("2001:db8::9/64", Action::Allow, None),
    ];
    let tables = compile(&policy, &entries);
    assert_eq!(reason(&tables, "203.0.113.1"), Reason::Allowed);
    assert_eq!(reason(&tables, "2001:db8::1"), Reason::Allowed);
}

#[test]
fn keys_give_their_prefixes_back() {
    for prefix in [
        "0.0.0.0/0",
        "203.0.113.0/24",
        "::/0",
        "2001:db8:1:2:3:4:5:6/128",
    ] {
        let back: IpNet = match PrefixKey::new(net(prefix), 3, Layer::Hand) {
            PrefixKey::V4(key) => V4::net(&key).into(),
            PrefixKey::V6(key) => V6::net(&key).into(),
        };
        assert_eq!(back, net(prefix));
    }
}
