use super::*;

const NOW: i64 = 1_800_000_000;
const HOST: &str = "sip.provider.example";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn names() -> Names {
    Names {
        names: [HOST, "other.provider.example"]
            .map(|name| name.parse().unwrap())
            .into(),
        hold: 3600,
        private: false,
    }
}

fn entry(address: &str, first: i64, last: i64) -> Entry {
    let address: std::net::IpAddr = address.parse().unwrap();
    Entry {
        prefix: address.into(),
        first: at(NOW + first),
        last: at(NOW + last),
        end: None,
        comment: Some(HOST.to_owned()),
    }
}

fn of(name: &str, entry: &Entry) -> Entry {
    Entry {
        comment: Some(name.to_owned()),
        ..entry.clone()
    }
}

fn found(family: Family, addresses: &[&str]) -> Found {
    Found {
        addresses: addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect(),
        failed: None,
        ..Found::failed(&HOST.parse().unwrap(), family, String::new())
    }
}

fn failed(family: Family, addresses: &[&str]) -> Found {
    Found {
        failed: Some("SERVFAIL".to_owned()),
        ..found(family, addresses)
    }
}

fn merged(before: &[Entry], found: &[Found]) -> Vec<Entry> {
    merge(&names(), before, found, at(NOW))
}

#[test]
fn what_is_seen_again_keeps_its_first_time() {
    let before = [
        entry("203.0.113.7", -100, -30),
        entry("203.0.113.9", -50, -30),
    ];
    let now = merged(
        &before,
        &[found(Family::Ipv4, &["203.0.113.7", "203.0.113.8"])],
    );
    assert_eq!(
        now,
        [
            entry("203.0.113.7", -100, 0),
            entry("203.0.113.8", 0, 0),
            // Answers rotate.
            entry("203.0.113.9", -50, -30),
        ]
    );
}

#[test]
fn what_is_not_in_the_answers_any_more_stays_for_a_while() {
    let before = [
        entry("203.0.113.7", -9000, -3600),
        entry("203.0.113.8", -9000, -3601),
    ];
    // An empty answer is an answer.
    for answer in [&["203.0.113.9"][..], &[]] {
        let now = merged(&before, &[found(Family::Ipv4, answer)]);
        assert_eq!(now.len(), 1 + answer.len());
        assert_eq!(now[0], before[0]);
    }
}

#[test]
fn no_answer_keeps_all_without_limit_and_each_family_for_itself() {
    let before = [
        entry("203.0.113.7", -9_000_000, -8_000_000),
        entry("2001:db8::7", -9_000_000, -8_000_000),
    ];
    assert_eq!(
        merged(
            &before,
            &[failed(Family::Ipv4, &[]), failed(Family::Ipv6, &[])]
        ),
        before
    );
    assert_eq!(
        merged(
            &before,
            &[failed(Family::Ipv4, &[]), found(Family::Ipv6, &[])]
        ),
        before[..1]
    );
    assert_eq!(
        merged(
            &before,
            &[found(Family::Ipv4, &[]), failed(Family::Ipv6, &[])]
        ),
        before[1..]
    );
    // Half an answer adds, and takes nothing away.
    let now = merged(
        &before,
        &[
            failed(Family::Ipv4, &["203.0.113.8"]),
            failed(Family::Ipv6, &[]),
        ],
    );
    assert_eq!(
        now,
        [
            before[0].clone(),
            entry("203.0.113.8", 0, 0),
            before[1].clone()
        ]
    );
}

#[test]
fn each_name_ages_for_itself_and_goes_with_its_task() {
    let other = of(
        "other.provider.example",
        &entry("203.0.113.8", -9000, -8000),
    );
    let gone = of("gone.provider.example", &entry("203.0.113.9", -9000, -10));
    let nobodys = Entry {
        comment: None,
        ..entry("203.0.113.10", -9000, -10)
    };
    let before = [
        entry("203.0.113.7", -9000, -10),
        other.clone(),
        gone,
        nobodys,
    ];
    // Nothing was heard of the other name.
    assert_eq!(
        merged(&before, &[found(Family::Ipv4, &[])]),
        [before[0].clone(), other]
    );
    // An address that two names have is kept as long as one of them has it.
    let second = Found {
        name: "other.provider.example".parse().unwrap(),
        ..found(Family::Ipv4, &["203.0.113.7"])
    };
    let now = merged(&before[..1], &[found(Family::Ipv4, &[]), second]);
    assert_eq!(
        now,
        [of(
            "other.provider.example",
            &entry("203.0.113.7", -9000, 0)
        )]
    );
}

#[test]
fn of_more_than_are_held_the_longest_unseen_go() {
    let address = |number: u32| std::net::Ipv4Addr::from(0xcb00_7100 + number).to_string();
    let before: Vec<_> = (0..512)
        .map(|number| entry(&address(number), -3000, -3000 + i64::from(number)))
        .collect();
    let fresh: Vec<_> = (600..664).map(address).collect();
    let fresh: Vec<_> = fresh.iter().map(String::as_str).collect();
    let six = entry("2001:db8::7", -3000, -3000);
    let before = [before, vec![six.clone()]].concat();
    let now = merged(
        &before,
        &[found(Family::Ipv4, &fresh), found(Family::Ipv6, &[])],
    );
    assert_eq!(now.len(), 513);
    assert_eq!(now[0], before[64], "the first 64 were unseen for longest");
    assert!(fresh.iter().all(|fresh| {
        now.iter()
            .any(|entry| entry.prefix.addr().to_string() == *fresh)
    }));
    assert_eq!(now[512], six, "the other family has room of its own");
}

#[test]
fn a_clock_that_was_set_back_leaves_nothing_in_the_future() {
    let before = [
        entry("203.0.113.7", 100, 5000),
        entry("203.0.113.8", -100, 5000),
    ];
    let now = merged(&before, &[found(Family::Ipv4, &["203.0.113.7"])]);
    assert_eq!(
        now,
        [entry("203.0.113.7", 0, 0), entry("203.0.113.8", -100, 0)]
    );
}
