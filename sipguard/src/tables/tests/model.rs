//! Compiled tables against a model that knows nothing of tables: it reads through all entries for every question.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// Few addresses and many lengths, so that prefixes nest, coincide and miss each other narrowly.
fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = select(vec![
        "203.0.113.66",
        "203.0.113.67",
        "203.0.112.1",
        "10.1.2.3",
        "0.0.0.0",
        "255.255.255.255",
    ]);
    let v6 = select(vec![
        "2001:db8::66",
        "2001:db8::67",
        "2001:db8:1::1",
        "2001:db9::",
        "::",
        "::203.0.113.66",
    ]);
    prop_oneof![
        4 => prop_oneof![v4, v6].prop_map(|text| text.parse().unwrap()),
        1 => any::<IpAddr>(),
    ]
}

fn prefix() -> impl Strategy<Value = IpNet> {
    let v4 = select(vec![0u8, 9, 16, 23, 24, 25, 31, 32]);
    let v6 = select(vec![0u8, 16, 31, 32, 33, 48, 63, 64, 65, 127, 128]);
    (address(), v4, v6).prop_map(|(address, v4, v6)| {
        let length = if address.is_ipv4() { v4 } else { v6 };
        IpNet::new(address, length).unwrap().trunc()
    })
}

fn action() -> impl Strategy<Value = Action> {
    select(vec![Action::Allow, Action::Deny])
}

fn config_entry() -> impl Strategy<Value = Entry> {
    (prefix(), 0..2u8, action(), 0..4u16).prop_map(|(prefix, service, action, origin)| Entry {
        prefix,
        service,
        action,
        origin,
    })
}

fn own_entry() -> impl Strategy<Value = OwnEntry> {
    let end = prop::option::of(-3..6i64);
    (prefix(), select(vec!["sip", "web", "gone"]), action(), end).prop_map(
        |(prefix, service, action, end)| OwnEntry {
            prefix,
            service: service.to_owned(),
            ..own("::/0", action, end)
        },
    )
}

/// What the entries in force at a second after [`NOW`] say of an address in a service.
fn model(
    policy: &Policy,
    own: &[OwnEntry],
    second: i64,
    address: IpAddr,
    service: u8,
) -> (Reason, u8) {
    let name = &policy.services[usize::from(service)].name;
    let own: Vec<_> = own.iter().filter(|entry| entry.service == *name).collect();
    // A word counts unless a newer one on the same prefix replaces it, and until its end.
    let own = own.iter().enumerate().filter(|&(place, entry)| {
        own[place + 1..].iter().all(|newer| {
            newer.prefix != entry.prefix || newer.until.is_some() && entry.until.is_none()
        }) && entry.until.is_none_or(|until| until.as_second() > second)
    });
    let own = own.map(|(_, entry)| {
        let rank = if entry.until.is_some() { 2 } else { 1 };
        (entry.prefix, rank, entry.action)
    });
    let config = policy
        .entries
        .iter()
        .filter(|entry| entry.service == service);
    let config = config.map(|entry| (entry.prefix, 0, entry.action));
    let best = own
        .chain(config)
        .filter(|(prefix, ..)| prefix.contains(&address))
        .max_by_key(|&(prefix, rank, action)| (prefix.prefix_len(), rank, action));
    match (best, policy.services[usize::from(service)].default) {
        (Some((prefix, _, Action::Allow)), _) => (Reason::Allowed, prefix.prefix_len()),
        (Some((prefix, _, Action::Deny)), _) => (Reason::Denied, prefix.prefix_len()),
        (None, Action::Allow) => (Reason::Open, 0),
        (None, Action::Deny) => (Reason::Unlisted, 0),
    }
}

/// What the state keeps of words that are said one after the other.
fn kept(said: &[OwnEntry]) -> Vec<OwnEntry> {
    let mut state = State::default();
    for entry in said {
        state.add([entry.clone()]);
    }
    state.entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn tables_say_what_a_reading_of_all_entries_says(
        config in vec(config_entry(), 0..24),
        own_entries in vec(own_entry(), 0..12),
        default in action(),
        addresses in vec(address(), 1..12),
    ) {
        let mut policy = with_entries(config);
        policy.services[1].default = default;
        let tables = compile(&policy, &kept(&own_entries));
        for second in [0, 1, 3, 9] {
            let boot_ns = NOW.boot_ns + u64::try_from(second).unwrap() * 1_000_000_000;
            for &address in &addresses {
                for (service, port) in [(0, 5060), (1, 80)] {
                    let verdict = ask(&tables, boot_ns, &address.to_string(), port);
                    let wanted = model(&policy, &own_entries, second, address, service);
                    prop_assert_eq!((verdict.reason, verdict.length), wanted, "{} {} {}", address, port, second);
                }
            }
        }
    }

    #[test]
    fn a_change_in_place_is_a_compilation(
        config in vec(config_entry(), 0..8),
        own_entries in vec(own_entry(), 0..8),
        prefix in prefix(),
    ) {
        let policy = with_entries(config);
        let own_entries = kept(&own_entries);
        let of_prefix: Vec<_> = own_entries
            .iter()
            .filter(|entry| entry.prefix == prefix && entry.service == "sip")
            .collect();
        let others: Vec<_> = own_entries
            .iter()
            .filter(|entry| !(entry.prefix == prefix && entry.service == "sip"))
            .cloned()
            .collect();
        let value = |tables: &Tables| match PrefixKey::new(prefix, 0, Layer::Hand) {
            PrefixKey::V4(key) => tables.entries4.get(&key),
            PrefixKey::V6(key) => tables.entries6.get(&key),
        };
        let without = value(&compile(&policy, &others));
        let with = value(&compile(&policy, &own_entries));
        prop_assert_eq!(with_own(without, of_prefix, NOW), with);
        prop_assert_eq!(with_own(with, [], NOW), without);
    }
}
