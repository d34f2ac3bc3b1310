use super::*;
use crate::policy::Action;
use crate::state::OwnEntry;

const HOUR: i64 = 3600;

/// Both clocks, in seconds.
fn at(boot: u64, wall: i64) -> Now {
    Now {
        boot_ns: boot * 1_000_000_000,
        wall: Timestamp::from_second(wall).unwrap(),
    }
}

fn seconds(clock: &Reckoning, boot: u64) -> i64 {
    clock.time(boot * 1_000_000_000).as_second()
}

/// Sure of 10,000,000 at 4,000 s in the boot `a`.
fn sure() -> Reckoning {
    let mut clock = Reckoning::default();
    clock.look(at(0, 10_000_000 - 4_000), "a");
    clock.look(at(4_000, 10_000_000), "a");
    assert!(clock.sure);
    clock
}

#[test]
fn a_clock_behind_is_not_believed() {
    let mut clock = sure();
    assert_eq!(clock.look(at(4_010, 9_000_000), "a"), None);
    assert_eq!(seconds(&clock, 4_010), 10_000_010);
    // At boot, neither; what passed since then is known.
    assert_eq!(clock.look(at(20, 0), "b"), None);
    assert_eq!(seconds(&clock, 20), 10_000_030);
    assert_eq!(clock.look(at(50, 31), "b"), None);
    assert_eq!(seconds(&clock, 50), 10_000_060);
    // Until it is put right.
    let moved = clock.look(at(60, 10_500_000), "b").unwrap();
    assert_eq!(moved.by.as_secs(), 499_930);
    assert_eq!(seconds(&clock, 70), 10_500_010);
}

#[test]
fn a_clock_that_jumps_ahead_counts_when_it_stays() {
    let mut clock = sure();
    assert_eq!(clock.look(at(4_100, 99_000_000), "a"), None);
    assert_eq!(seconds(&clock, 4_100), 10_000_100);
    // It went back.
    assert_eq!(clock.look(at(4_200, 10_000_200), "a"), None);
    assert_eq!(clock.look(at(4_300, 99_000_000), "a"), None);
    assert_eq!(clock.look(at(7_800, 99_003_500), "a"), None);
    assert_eq!(seconds(&clock, 7_800), 10_003_800);
    assert!(clock.look(at(7_900, 99_003_600), "a").is_some());
    assert_eq!(seconds(&clock, 7_900), 99_003_600);
}

#[test]
fn the_first_clock_of_a_boot_counts_until_it_is_put_right() {
    let mut clock = sure();
    clock.look(at(10, 50_000_000), "b");
    assert_eq!(seconds(&clock, 10), 50_000_000);
    assert_eq!(clock.least(10_000_000_000).as_second(), 10_000_010);
    let moved = clock.look(at(100, 11_000_000), "b").unwrap();
    assert_eq!(moved.by.as_secs(), -39_000_090);
    assert_eq!(seconds(&clock, 110), 11_000_010);
    let moved = clock.look(at(200, 12_000_000), "b").unwrap();
    assert_eq!(moved.by.as_secs(), 999_900);
    clock.look(at(4_000, 12_003_800), "b");
    assert!(clock.sure);
}

#[test]
fn what_is_over() {
    let entry = |added: i64, until: i64, lasts_in: Option<&str>| OwnEntry {
        prefix: "192.0.2.0/24".parse().unwrap(),
        service: "sip".to_owned(),
        action: Action::Deny,
        until: Some(Timestamp::from_second(until).unwrap()),
        lasts_in: lasts_in.map(str::to_owned),
        comment: None,
        added: Timestamp::from_second(added).unwrap(),
    };
    let over = |clock: &Reckoning, entry: &OwnEntry, boot: u64| {
        clock.is_over(entry.until, entry.added, boot * 1_000_000_000)
    };
    let before = entry(9_000_000, 10_000_000 + HOUR, None);
    let mut clock = sure();
    assert!(!over(&clock, &before, 4_000));
    assert!(over(&clock, &before, 4_000 + HOUR.unsigned_abs()));
    // It has ended by a clock that is ahead, and not for good.
    clock.look(at(10, 50_000_000), "b");
    assert!(!over(&clock, &before, 10));
    // What was said by that clock ends by it.
    let brief = entry(50_000_010, 50_000_030, Some("b"));
    assert!(!over(&clock, &brief, 39));
    assert!(over(&clock, &brief, 40));
    // And goes on so when it is put right.
    let mut moving = entry(50_000_010, 50_000_000 + HOUR, Some("b"));
    let moved = clock.look(at(100, 11_000_000), "b").unwrap();
    clock.move_with(
        &mut moving.until,
        &mut moving.lasts_in,
        &mut moving.added,
        &moved,
    );
    assert_eq!(
        moving.until.map(Timestamp::as_second),
        Some(10_999_910 + HOUR)
    );
    let mut fixed = before.clone();
    clock.move_with(
        &mut fixed.until,
        &mut fixed.lasts_in,
        &mut fixed.added,
        &moved,
    );
    assert_eq!(fixed, before);
}
