use std::collections::BTreeSet;

use super::*;

const DAY: Duration = Duration::from_hours(24);

/// A source as the world has it: how long it takes, how long its answers are good, and when it gives none.
struct Source {
    name: String,
    takes: Duration,
    good: Duration,
    dead: Option<(Moment, Moment)>,
    asked: Vec<Moment>,
}

/// Numbers that look like chance and are the same in each run.
struct Chance(u32);

impl Chance {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }
}

/// Thirty days of a loop as `main` has it, in which nothing passes but the handed-in time.
fn thirty_days(sources: &mut [Source]) {
    let mut schedule = Schedule::default();
    let mut chance = Chance(1);
    let mut now = Duration::ZERO;
    // What is being asked, and when that is over.
    let mut running: Vec<(Moment, usize, u32)> = Vec::new();
    for source in &mut *sources {
        schedule.set(&source.name, now);
    }
    while now < 30 * DAY {
        for due in schedule.due(now) {
            let place = sources
                .iter()
                .position(|source| source.name == due.source)
                .unwrap();
            sources[place].asked.push(now);
            running.push((now + sources[place].takes, place, due.failures));
        }
        assert!(running.len() <= AT_A_TIME);
        let over = running.iter().map(|&(end, ..)| end).min();
        let next = over
            .into_iter()
            .chain(schedule.next().filter(|_| running.len() < AT_A_TIME))
            .min();
        // Somebody is always due.
        now = next.unwrap().max(now);
        for (end, place, failures) in running.extract_if(.., |&mut (end, ..)| end <= now) {
            let source = &sources[place];
            let failed = source
                .dead
                .is_some_and(|(begin, until)| (begin..until).contains(&end));
            let pause = if failed {
                after_failure(failures + 1, chance.next())
            } else {
                after_answer(source.good, SHORTEST, chance.next())
            };
            schedule.asked(&source.name, failed, now + pause);
        }
    }
}

fn source(number: u64, good: u64, dead: Option<(u64, u64)>) -> Source {
    Source {
        name: format!("source-{number}"),
        takes: Duration::from_millis(20 + number * 7),
        good: Duration::from_secs(good),
        dead: dead.map(|(begin, until)| (Duration::from_hours(begin), Duration::from_hours(until))),
        asked: Vec::new(),
    }
}

/// How many seconds passed between one question and the next.
fn pauses(source: &Source) -> Vec<u64> {
    let begun = source.asked.iter();
    let next = source.asked.iter().skip(1);
    begun
        .zip(next)
        .map(|(begun, next)| next.saturating_sub(*begun).as_secs())
        .collect()
}

#[test]
fn in_thirty_days_each_is_asked_as_often_as_its_answers_end() {
    let goods = [0, 1, 30, 60, 300, 3600, 86_400, 1 << 40];
    let mut sources: Vec<_> = (0..)
        .zip(goods)
        .map(|(number, good)| source(number, good, None))
        .collect();
    thirty_days(&mut sources);
    for source in &sources {
        let good = source.good.as_secs();
        let shortest = good.clamp(30, 30 * 86_400);
        let longest = shortest + 1;
        for pause in pauses(source) {
            assert!(
                pause >= 30 && pause >= shortest * 9 / 10 && pause <= longest,
                "{}: {pause}",
                source.name
            );
        }
        // One whose answer is good for a month may never be asked again.
        if source.asked.len() < 10 {
            continue;
        }
        let times = 30 * 86_400 / source.asked.len() as u64;
        assert!(
            (shortest * 9 / 10..=longest).contains(&times),
            "{}: every {times} s",
            source.name
        );
        let different: BTreeSet<_> = pauses(source).into_iter().collect();
        assert!(
            different.len() > 2 || shortest == 30,
            "{}: {different:?}",
            source.name
        );
    }
}

#[test]
fn whoever_is_dead_is_asked_less_and_less_and_comes_back_within_the_hour() {
    let mut sources = vec![
        source(0, 60, Some((24, 25))),
        source(1, 60, Some((24, 24 * 20))),
        source(2, 60, Some((0, 24 * 31))),
        source(3, 60, None),
    ];
    thirty_days(&mut sources);
    for source in &sources[..2] {
        let (begin, until) = source.dead.unwrap();
        let during = source
            .asked
            .iter()
            .filter(|asked| (begin..until).contains(*asked))
            .count() as u64;
        let hours = until.saturating_sub(begin).as_secs() / 3600;
        assert!(
            (6..=8 + hours * 10 / 9).contains(&during),
            "{}: {during}",
            source.name
        );
        let back = source.asked.iter().find(|asked| **asked >= until).unwrap();
        assert!(
            back.saturating_sub(until) <= LONGEST_SILENT,
            "{}",
            source.name
        );
        // And is asked as often as before from then on.
        let behind = source.asked.iter().filter(|asked| *asked > back).count() as u64;
        let rest = (30 * DAY).saturating_sub(*back).as_secs();
        assert!(
            (rest / 61..=rest / 54 + 1).contains(&behind),
            "{}: {behind} in {rest} s",
            source.name
        );
    }
    let growing = pauses(&sources[2]);
    for (pause, longest) in growing
        .iter()
        .zip([40, 80, 160, 320, 640, 1280, 2560, 3600, 3600])
    {
        assert!(
            (longest * 9 / 10..=longest + 1).contains(pause),
            "{growing:?}"
        );
    }
    // One that is dead is no harm to others.
    let alone = pauses(&sources[3]);
    assert!(alone.iter().all(|pause| (54..=61).contains(pause)));
}

#[test]
fn many_sources_do_not_stay_in_step_and_none_is_forgotten() {
    let mut sources: Vec<_> = (0..200)
        .map(|number| source(number % 9 + number * 10, 3600, None))
        .collect();
    thirty_days(&mut sources);
    let mut at_once: BTreeMap<u64, usize> = BTreeMap::new();
    for source in &sources {
        assert!(
            source.asked.len() >= 700,
            "{}: {}",
            source.name,
            source.asked.len()
        );
        for asked in source.asked.iter().filter(|asked| **asked > 10 * DAY) {
            *at_once.entry(asked.as_secs() / 60).or_default() += 1;
        }
    }
    let most = at_once.values().max().unwrap();
    assert!(*most <= 20, "{most} of 200 in one minute");
}

#[test]
fn what_is_not_asked_for_any_more_is_forgotten() {
    let mut schedule = Schedule::default();
    let second = Duration::from_secs;
    schedule.set("a", second(0));
    schedule.set("b", second(5));
    assert_eq!(schedule.next(), Some(second(0)));
    assert_eq!(
        schedule.due(second(4)),
        [Due {
            source: "a".to_owned(),
            failures: 0
        }]
    );
    assert_eq!(schedule.due(second(4)), [], "it is being asked");
    schedule.asked("a", true, second(40));
    assert_eq!(schedule.due(second(40)).len(), 2);
    schedule.asked("a", true, second(120));
    schedule.keep_only(|source| source == "a");
    schedule.asked("b", false, second(50));
    assert_eq!(schedule.next(), Some(second(120)));
    assert_eq!(
        schedule.due(second(120)),
        [Due {
            source: "a".to_owned(),
            failures: 2
        }]
    );
    // It is asked something else.
    schedule.set("a", second(121));
    assert_eq!(
        schedule.due(second(121)),
        [Due {
            source: "a".to_owned(),
            failures: 0
        }]
    );
    schedule.keep_only(|_| false);
    assert_eq!(schedule.next(), None);
}

#[test]
fn whoever_tells_of_a_change_is_asked_soon_and_not_all_the_time() {
    let mut schedule = Schedule::default();
    let milli = Duration::from_millis;
    schedule.set("a", milli(0));
    schedule.changed("nobody", milli(0));
    let mut asked = 0;
    // It is asked for an hour, tells of a change each millisecond, and answers at once.
    for now in (0..3_600_000).map(milli) {
        for due in schedule.due(now) {
            schedule.changed(&due.source, now);
            schedule.asked(&due.source, false, now + Duration::from_mins(1));
            asked += 1;
        }
        schedule.changed("a", now);
    }
    assert_eq!(asked, 3_600_000 / 100);
    // What it told before it was asked is in the answer.
    let begin = milli(4_000_000);
    assert_eq!(schedule.due(begin).len(), 1);
    schedule.changed("a", begin);
    schedule.asked("a", false, begin + Duration::from_mins(1));
    assert_eq!(schedule.next(), Some(begin + Duration::from_mins(1)));
    schedule.changed("a", begin + milli(1));
    schedule.changed("a", begin + milli(99));
    assert_eq!(schedule.next(), Some(begin + milli(101)));
    // Word of a change puts nothing off.
    schedule.changed("a", begin + Duration::from_hours(1));
    assert_eq!(schedule.next(), Some(begin + milli(101)));
}

#[test]
fn pauses_have_their_bounds_whatever_chance_says() {
    for chance in (0..u32::MAX).step_by(9_999_991) {
        for good in [0, 29, 30, 33, 600, 3600, 1 << 40] {
            for soonest in [1, 10, 30].map(Duration::from_secs) {
                let pause = after_answer(Duration::from_secs(good), soonest, chance);
                assert!((soonest..=LONGEST).contains(&pause), "{good}: {pause:?}");
            }
        }
        for failures in [0, 1, 2, 7, 8, 31, 32, 33, u32::MAX] {
            let pause = after_failure(failures, chance);
            assert!(
                (SHORTEST..=LONGEST).contains(&pause),
                "{failures}: {pause:?}"
            );
        }
    }
}
