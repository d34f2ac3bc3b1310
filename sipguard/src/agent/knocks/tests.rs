use std::{fs, net::Ipv4Addr, os::unix::fs::PermissionsExt as _};

use compact_str::CompactString;
use proptest::prelude::*;
use sipguard_ebpf::abi::{Protocol, Reason};

use super::{file::read_within, *};
use crate::sip::Summary;

const BEGIN: Timestamp = Timestamp::constant(1_780_000_000, 0);

fn at(seconds: i64) -> Timestamp {
    BEGIN + SignedDuration::from_secs(seconds)
}

/// A drop of a packet of this source, `seconds` after the beginning.
fn event(source: impl Into<IpAddr>, seconds: i64, sip: Option<Summary>) -> Event {
    Event {
        time: at(seconds),
        interface: "eth0".to_owned(),
        service: Some("sip".to_owned()),
        reason: Reason::Unlisted,
        action: Reason::Unlisted.action(),
        enforced: true,
        source: Some(source.into()),
        source_port: Some(5071),
        destination: Some([192, 0, 2, 1].into()),
        port: Some(5060),
        protocol: Some(Protocol::Udp),
        length: 400,
        left_out: 2,
        sip,
        bytes: Vec::new(),
    }
}

fn invite(user: &str, number: &str) -> Summary {
    Summary {
        method: Some("INVITE".to_owned()),
        user: Some(user.to_owned()),
        from: Some("100".to_owned()),
        user_agent: Some("friendly-scanner".to_owned()),
        number: Some(number.to_owned()),
        country: Some("IL".to_owned()),
        ..Summary::default()
    }
}

fn source(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0xc633_6400 + number).into()
}

fn order(knocks: &Knocks) -> Vec<IpAddr> {
    knocks.order.of(..).collect()
}

#[test]
fn what_a_source_says_is_kept() {
    let mut knocks = Knocks::default();
    knocks.note(&event(source(7), 0, None), Hide::default());
    knocks.note(
        &event(
            source(7),
            30,
            Some(invite("00972595123456", "+972595123456")),
        ),
        Hide::default(),
    );
    knocks.note(
        &event(
            source(7),
            90,
            Some(invite("00972595123456", "+972595123456")),
        ),
        Hide::default(),
    );
    // They were told of sooner than they are counted.
    assert_eq!(knocks.left_out(), 0);
    knocks.dropped(9);
    assert_eq!(knocks.left_out(), 6);
    let knock = knocks.get(source(7)).unwrap();
    assert_eq!((knock.first, knock.last), (BEGIN, at(90)));
    assert_eq!((knock.told, knock.minutes), (3, 3));
    let words = |few: &Few<CompactString, 6>| {
        let all = few.iter().map(|seen| (seen.what.to_string(), seen.times));
        all.collect::<Vec<_>>()
    };
    assert_eq!(words(&knock.methods), [("INVITE".to_owned(), 2)]);
    assert_eq!(words(&knock.users), [("100".to_owned(), 2)]);
    assert_eq!(
        knock.user_agents.most().unwrap().as_str(),
        "friendly-scanner"
    );
    let number = knock.numbers.most().unwrap();
    assert_eq!(number.number.as_deref(), Some("+972595123456"));
    assert_eq!(number.country.as_deref(), Some("IL"));
    assert_eq!(knocks.len(), 1);
}

#[test]
fn what_passes_is_not_kept() {
    let mut knocks = Knocks::default();
    for reason in [Reason::Allowed, Reason::Open, Reason::Fragment] {
        let passed = Event {
            reason,
            action: reason.action(),
            ..event(source(7), 0, None)
        };
        assert!(knocks.note(&passed, Hide::default()).is_none());
    }
    assert!(knocks.is_empty());
}

#[test]
fn what_is_hidden_is_kept_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let say = |knocks: &mut Knocks, hide: Hide| {
        for prefix in ["00", "900", "011"] {
            let dialled = format!("{prefix}972595123456");
            let invite = event(source(7), 0, Some(invite(&dialled, &dialled)));
            knocks.note(&invite, hide);
        }
        let register = Summary {
            method: Some("REGISTER".to_owned()),
            from: Some("+4930123456".to_owned()),
            ..Summary::default()
        };
        knocks.note(&event(source(7), 0, Some(register)), hide);
    };
    let written = |knocks: &mut Knocks| {
        knocks.write(folder.path()).unwrap();
        fs::read_to_string(folder.path().join(FILE)).unwrap()
    };
    let all = Hide::default();
    let number = Hide {
        number: true,
        ..all
    };
    let user = Hide { user: true, ..all };
    let both = Hide::EVERYTHING;
    for (hide, numbers, users, telephones) in [
        (all, true, true, true),
        (number, false, true, false),
        (user, true, false, false),
        (both, false, false, false),
    ] {
        let has = |text: &str| {
            assert_eq!(text.contains("595123456"), numbers, "{hide:?}: {text}");
            assert_eq!(text.contains("\"100\""), users, "{hide:?}: {text}");
            assert_eq!(text.contains("4930123456"), telephones, "{hide:?}: {text}");
        };
        let mut knocks = Knocks::default();
        knocks.hide(hide);
        say(&mut knocks, all);
        has(&written(&mut knocks));
        // The generation that an event is from may be newer than what was looked at last.
        let mut newer = Knocks::default();
        say(&mut newer, hide);
        has(&written(&mut newer));
        // What it was is known without the numbers.
        let dialling = knocks.get(source(7)).unwrap().dialling.clone().unwrap();
        assert_eq!((dialling.prefixes(), dialling.numbers()), (3, 1));

        // What was kept before is hidden, too, where the file is read and where the config changes.
        let mut open = Knocks::default();
        say(&mut open, all);
        written(&mut open);
        let mut later = read(folder.path()).knocks;
        later.hide(hide);
        has(&written(&mut later));
        open.hide(hide);
        has(&written(&mut open));
    }
}

#[test]
fn who_does_not_knock_any_more_is_forgotten() {
    let mut knocks = Knocks::default();
    knocks.note(&event(source(1), 0, None), Hide::default());
    knocks.note(&event(source(2), 3600, None), Hide::default());
    knocks.forget_old(BEGIN + KEPT);
    assert_eq!(knocks.len(), 2);
    knocks.forget_old(BEGIN + KEPT + SignedDuration::from_secs(1));
    assert!(knocks.get(source(1)).is_none() && knocks.get(source(2)).is_some());
    // A clock before the beginning of time, or one that was put back, forgets nobody.
    knocks.forget_old(Timestamp::MIN);
    assert_eq!(knocks.len(), 1);
}

#[test]
fn a_flood_of_forged_sources_pushes_nobody_out_who_comes_again() {
    let mut knocks = Knocks::default();
    let mut forged = 0x0b00_0000_u32;
    // An hour of it. Some who are known already knock every ten minutes, and one begins in the middle.
    for second in -1200..3600 {
        if second % 600 == 0 {
            for known in 0..50 {
                knocks.note(&event(source(known), second, None), Hide::default());
            }
        }
        if second < 0 {
            continue;
        }
        if second > 1800 && second % 2 == 0 {
            knocks.note(&event(source(99), second, None), Hide::default());
        }
        for _ in 0..100 {
            forged += 1;
            let source = Ipv4Addr::from_bits(forged);
            knocks.note(
                &event(
                    source,
                    second,
                    Some(invite("00972595123456", "+972595123456")),
                ),
                Hide::default(),
            );
        }
    }
    assert!(knocks.len() > 2 * NEWCOMERS && knocks.len() <= MOST);
    assert!(knocks.bytes <= ROOM);
    for known in (0..50).chain([99]) {
        let knock = knocks.get(source(known));
        assert!(knock.is_some_and(|knock| knock.told > 5), "{known}");
    }
}

#[test]
fn whatever_they_say_it_stays_within_its_room() {
    let mut knocks = Knocks::default();
    let long = "€".repeat(500);
    // 4,000 sources that say something else each time.
    for round in 0..16 {
        for number in 0..4_000 {
            let say = format!("{round}-{number}-{long}");
            let digits = "7".repeat(500);
            let sip = Summary {
                method: Some(if round % 2 == 0 {
                    "INVITE".to_owned()
                } else {
                    say.clone()
                }),
                user: Some(format!("{round}{digits}")),
                from: Some(say.clone()),
                user_agent: Some(say.clone()),
                call_id: Some(say.clone()),
                number: Some(format!("+{round}{digits}")),
                country: Some(say),
                ..Summary::default()
            };
            knocks.note(
                &event(source(number), i64::from(round) * 60, Some(sip)),
                Hide::default(),
            );
        }
    }
    let counted: usize = knocks.iter().map(Knock::bytes).sum();
    assert_eq!(knocks.bytes, counted);
    assert!(knocks.bytes <= ROOM && knocks.bytes > ROOM / 2);
    let most = knocks.iter().map(Knock::bytes).max();
    assert!(most.is_some_and(|most| most <= 7 << 9), "{most:?}");
}

#[test]
fn the_file_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = read(folder.path());
    assert!(!nothing.is_there && nothing.trouble.is_none() && nothing.knocks.is_empty());
    let mut knocks = Knocks::default();
    for number in 0..100 {
        let sip = invite(&format!("0{number}972595123456"), "+972595123456");
        knocks.note(
            &event(source(number % 30), i64::from(number), Some(sip)),
            Hide::default(),
        );
    }
    knocks.write(folder.path()).unwrap();
    let file = folder.path().join(FILE);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = read(folder.path());
    assert!(again.is_there && again.trouble.is_none());
    let sorted = |knocks: &Knocks| {
        let mut all: Vec<_> = knocks.iter().cloned().collect();
        all.sort_by_key(|knock| knock.source);
        // What is of this minute alone is not written.
        for knock in &mut all {
            knock.dialling = None;
        }
        all
    };
    assert_eq!(sorted(&again.knocks), sorted(&knocks));
    assert_eq!(again.knocks.bytes, knocks.bytes);
    assert_eq!(order(&again.knocks), order(&knocks));

    // What has not changed is not written.
    fs::remove_file(&file).unwrap();
    knocks.write(folder.path()).unwrap();
    assert!(!file.exists());
}

#[test]
fn a_damaged_file_loses_nothing_but_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    let mut knocks = Knocks::default();
    for number in 0..3 {
        knocks.note(
            &event(source(number), 0, Some(invite("1", "2"))),
            Hide::default(),
        );
    }
    knocks.write(folder.path()).unwrap();
    let whole = fs::read(&file).unwrap();
    let damage = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let found = read(folder.path());
        (
            found.knocks,
            found.trouble.map(|trouble| trouble.to_string()),
        )
    };
    let lines: Vec<_> = whole.split_inclusive(|&byte| byte == b'\n').collect();
    let (knocks, trouble) = damage(&[lines[0], lines[1], b"{}\n", lines[3]].concat());
    assert_eq!(knocks.len(), 2);
    assert!(
        trouble
            .unwrap()
            .ends_with("is damaged: what is known of one who knocked is lost; nothing else is")
    );
    let (knocks, trouble) = damage(b"");
    assert!(knocks.is_empty());
    assert!(
        trouble
            .unwrap()
            .ends_with("what is known of all who knocked is lost; nothing else is")
    );
    let (knocks, trouble) = damage(b"{\"sipguard_knocks\":2}\n{}\n");
    assert!(
        knocks.is_empty()
            && trouble
                .unwrap()
                .ends_with("of a newer sipguard; who knocked is kept anew")
    );
    // A line without an end.
    let (knocks, trouble) = damage(&[lines[0], &b"x".repeat(1 << 20)].concat());
    assert!(knocks.is_empty() && trouble.is_some());
    // Cut off, or changed, at any place: never a panic, and never more than there was.
    for place in 0..whole.len() {
        let (knocks, trouble) = damage(&whole[..place]);
        assert!(knocks.len() <= 3);
        // Whole lines that are not there can't be missed.
        let is_whole = place > 0 && (whole[place - 1] == b'\n' || whole[place] == b'\n');
        assert!(is_whole || trouble.is_some(), "{place}");
        let mut changed = whole.clone();
        changed[place] ^= 1;
        assert!(damage(&changed).0.len() <= 3);
    }
    // It is said once: the next one to write has a whole file again.
    let (mut knocks, trouble) = damage(&whole[..whole.len() - 9]);
    assert!(trouble.is_some());
    knocks.write(folder.path()).unwrap();
    let found = read(folder.path());
    assert!(found.trouble.is_none() && found.knocks.len() == 2);
    // One that can't be read.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let found = read(folder.path());
    assert!(
        found
            .trouble
            .unwrap()
            .to_string()
            .starts_with("cannot read ")
    );
}

/// More sources than there are places, one behind the other, again and again: most of those that are kept are there when they come again.
#[test]
fn who_comes_again_and_again_stays() {
    let bounds = Bounds {
        most: 100,
        newcomers: 20,
        ..Bounds::default()
    };
    let mut knocks = Knocks::within(bounds);
    let (mut again, mut scanner) = (0, 0);
    for second in 0..50 {
        for number in 0..164 {
            let known = knocks.get(source(number)).is_some();
            again += usize::from(second >= 10 && known);
            knocks.note(&event(source(number), second, None), Hide::default());
        }
        // What is said is looked at, whether or not it is kept.
        let sip = invite("00972595123456", "+972595123456");
        let knock = knocks.note(&event(source(999), second, Some(sip)), Hide::default());
        scanner += usize::from(knock.is_some());
    }
    assert_eq!(knocks.len(), 100);
    assert!(again > 40 * 164 / 3, "{again}");
    assert!(scanner > 0 && knocks.order.of(..).count() == 100);
}

/// The same rules, written down as simply as can be.
#[derive(Default)]
struct Model(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    minutes: u32,
    /// The number of the event.
    told: usize,
    last: i64,
    source: IpAddr,
}

impl Model {
    fn note(&mut self, source: IpAddr, told: usize, second: i64, most: usize, newcomers: usize) {
        match self.0.iter_mut().find(|entry| entry.source == source) {
            Some(entry) => {
                let minute = |second: i64| at(second).as_second() / 60;
                entry.minutes += u32::from(minute(entry.last) != minute(second));
                entry.told = told;
                entry.last = second;
            }
            None => self.0.push(Entry {
                minutes: 1,
                told,
                last: second,
                source,
            }),
        }
        if self.0.len() <= most {
            return;
        }
        self.0.sort();
        let new = self.0.iter().filter(|entry| entry.minutes == 1).count();
        let from = if new > newcomers { 0 } else { new };
        let mut order = (from..self.0.len()).chain(0..from);
        let victim = order.find(|&place| self.0[place].source != source);
        self.0.remove(victim.unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn who_stays_is_who_should(
        steps in prop::collection::vec((0_u32..40, 0_i64..50), 1..300),
        most in 1_usize..20,
        share in 0_usize..20,
    ) {
        let newcomers = share.min(most);
        let bounds = Bounds { most, room: usize::MAX, newcomers, chance: 1 };
        let mut knocks = Knocks::within(bounds);
        let mut model = Model::default();
        let mut now = 0;
        for (told, (number, pause)) in steps.into_iter().enumerate() {
            now += pause;
            knocks.note(&event(source(number), now, None), Hide::default());
            model.note(source(number), told, now, most, newcomers);
            model.0.sort();
            let modelled = model.0.iter().map(|entry| (entry.source, entry.minutes, entry.last));
            let kept = order(&knocks).into_iter().map(|source| {
                let knock = knocks.get(source).unwrap();
                (source, knock.minutes, knock.last.as_second() - BEGIN.as_second())
            });
            prop_assert_eq!(kept.collect::<Vec<_>>(), modelled.collect::<Vec<_>>());
            prop_assert_eq!(knocks.len(), model.0.len());
        }
        // Read back with less room, the highest ranks are left.
        let folder = tempfile::tempdir().unwrap();
        knocks.write(folder.path()).unwrap();
        let again = read_within(folder.path(), bounds);
        prop_assert_eq!(order(&again.knocks), order(&knocks));
    }
}

/// RFC 3966, section 3, and RFC 4694: what stands behind the number is none of it.
#[test]
fn parameters_are_not_dialled() {
    let mut knocks = Knocks::default();
    for (second, number) in (0..).zip(["1234", "2222", "3333", "4444"]) {
        let dialled = format!("+1404555{number};npdi;rn=+14045550000");
        let dialled = invite(&dialled, &format!("+1404555{number}"));
        knocks.note(&event(source(9), second, Some(dialled)), Hide::default());
    }
    let knock = knocks.get(source(9)).unwrap();
    let dialling = knock.dialling.clone().unwrap();
    assert_eq!((dialling.prefixes(), dialling.numbers()), (1, 4));
    let number = knock.numbers.most().unwrap();
    assert_eq!(number.dialled.as_deref(), Some("+14045551234"));
}

#[test]
fn a_user_that_is_both_from_and_wanted_comes_once() {
    let mut knocks = Knocks::default();
    let options = Summary {
        method: Some("OPTIONS".to_owned()),
        from: Some("100".to_owned()),
        user: Some("100".to_owned()),
        ..Summary::default()
    };
    knocks.note(&event(source(9), 0, Some(options)), Hide::default());
    let users = &knocks.get(source(9)).unwrap().users;
    let times: Vec<_> = users.iter().map(|seen| seen.times).collect();
    assert_eq!(times, [1]);
}
