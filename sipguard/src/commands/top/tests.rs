//! The screen as people see it, and what keys make of it.

use jiff::Timestamp;
use ratatui::{Terminal, backend::TestBackend, style::Modifier};
use sipguard::{
    events::Event,
    policy::{Action, Hide, Mode},
    report::{CounterReport, CountersReport, PacketsAndBytes, Totals},
    sip::Summary,
};
use sipguard_ebpf::abi::{Protocol, Reason};

use super::{
    draw::{Colours, draw},
    keys::Key,
    view::{Do, Page, Prompt, Say, View},
};

const BEGIN: i64 = 1_780_000_000;
/// When it is drawn.
const NOW: i64 = BEGIN + 600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A packet that was dropped, so many seconds before now.
fn knock(view: &mut View, source: &str, ago: i64, port: u16, sip: Option<Summary>) {
    view.knocks.note(
        &Event {
            time: at(NOW - ago),
            interface: "eth0".to_owned(),
            service: Some(if port == 80 { "web" } else { "sip" }.to_owned()),
            reason: Reason::Unlisted,
            action: Reason::Unlisted.action(),
            enforced: true,
            source: Some(source.parse().unwrap()),
            source_port: Some(5071),
            destination: Some([192, 0, 2, 1].into()),
            port: Some(port),
            protocol: Some(Protocol::Udp),
            length: 400,
            left_out: 0,
            sip,
            bytes: Vec::new(),
        },
        Hide::default(),
    );
}

fn request(method: &str, from: &str, agent: &str) -> Summary {
    Summary {
        method: Some(method.to_owned()),
        from: Some(from.to_owned()),
        user_agent: Some(agent.to_owned()),
        ..Summary::default()
    }
}

/// Somebody who scans, one who tries toll fraud, one who guesses, one who says nothing, a provider that has moved and one with a long address.
fn view() -> View {
    let mut view = View::new();
    for ago in [500, 300, 7] {
        let scan = request("OPTIONS", "100", "friendly-scanner");
        knock(&mut view, "198.51.100.7", ago, 5060, Some(scan));
    }
    for (ago, prefix) in [(95, "00"), (94, "900"), (93, "011"), (2, "+")] {
        let dialled = format!("{prefix}88213123456");
        let fraud = Summary {
            number: Some("+88213123456".to_owned()),
            user: Some(dialled),
            high_risk: true,
            ..request("INVITE", "1000", "sipcli/v1.8")
        };
        knock(&mut view, "203.0.113.200", ago, 5060, Some(fraud));
    }
    for user in 100..130 {
        let guess = request("REGISTER", &user.to_string(), "eyeBeam release 3007n");
        knock(
            &mut view,
            "192.0.2.77",
            130 - i64::from(user) + 1,
            5061,
            Some(guess),
        );
    }
    knock(&mut view, "198.51.100.99", 599, 80, None);
    let provider = Summary {
        user: Some("+4930123456".to_owned()),
        number: Some("+4930123456".to_owned()),
        country: Some("DE".to_owned()),
        ..request("INVITE", "+498912345678", "Asterisk PBX 20.5.0")
    };
    knock(&mut view, "203.0.113.9", 1, 5060, Some(provider));
    let hostile = request(
        "OPTIONS\x1b[2J",
        "\u{202e}abc",
        "<script>\r\n\x1b]0;owned\x07",
    );
    knock(
        &mut view,
        "2001:db8:1234:5678:9abc:def0:1234:5678",
        4,
        5060,
        Some(hostile),
    );
    for second in 0..70 {
        view.rates.add(&report(second));
    }
    view
}

fn report(second: u64) -> CountersReport {
    let counter =
        |interface: &str, service: Option<&str>, reason: Reason, rate: u64| CounterReport {
            interface: interface.to_owned(),
            service: service.map(str::to_owned),
            reason,
            action: "drop",
            enforced: true,
            mode: Mode::Enforce,
            packets: 0,
            bytes: 0,
            packets_per_second: Some(rate),
            bytes_per_second: Some(rate * 400),
        };
    CountersReport {
        time: at(NOW),
        generation: Some(1),
        interfaces: Vec::new(),
        counters: vec![
            counter("eth0", Some("sip"), Reason::Unlisted, (second % 10) * 1_234),
            counter("eth0", Some("sip"), Reason::Allowed, 50),
            counter("eth0", None, Reason::Malformed, 1),
            counter("eth1", Some("web"), Reason::Unlisted, 0),
            counter("eth1", Some("sip"), Reason::Denied, second),
        ],
        totals: Totals {
            pass: PacketsAndBytes::default(),
            drop: PacketsAndBytes::default(),
            dropped: PacketsAndBytes::default(),
            passed_in_monitor: PacketsAndBytes::default(),
        },
    }
}

/// What stands on a screen of this size, without blanks at the ends of lines. Times of the day are as many zeros.
fn shown(view: &mut View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(frame, view, at(NOW), Colours::default()))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let lines = (0..height).map(|y| {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        timeless(line.trim_end())
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// This host's time zone may be any.
fn timeless(line: &str) -> String {
    let mut line = line.to_owned();
    for form in ["0000-00-00 00:00:00", "00:00:00"] {
        let mut place = 0;
        while let Some(part) = line.get(place..place + form.len()) {
            let fits = part.chars().zip(form.chars()).all(|(letter, wanted)| {
                letter == wanted || (wanted == '0' && letter.is_ascii_digit())
            });
            if fits {
                line.replace_range(place..place + form.len(), form);
            }
            place += 1;
            while !line.is_char_boundary(place) {
                place += 1;
            }
        }
    }
    line
}

fn press(view: &mut View, keys: &str) -> Option<Do> {
    let mut done = None;
    for letter in keys.chars() {
        done = view.press(Key::Letter(letter));
    }
    done
}

/// 80 columns, 24 lines.
const WIDE: &str = r"sipguard top  dropped 11,176/s (35.8 Mbit/s)  passed 50/s               00:00:00
DROPPED BY INTERFACE       BY SERVICE                  BY REASON
eth0      ▂▃▄▅▆▇█  11,107  -         ████████       1  allowed   ███████      50
eth1      ▇▇▇▇▇▇█      69  sip       ▁▂▃▄▅▆▇█  11,175  denied    ▇▇▇▇▇▇█      69
                           web                      0  malformed ███████       1
                                                       unlisted  ▂▃▄▅▆▇█  11,106
SOURCE                  TOLD  LAST  TRIES        FIRST  SAYS
192.0.2.77              30    2s    brute force  31s    REGISTER  124  eyeBeam r
203.0.113.200           4     2s    toll fraud   95s    INVITE  +88213123456  si
198.51.100.7            3     7s    scan         8m     OPTIONS  100  friendly-s
198.51.100.99           1     9m                 9m     no SIP, port 80
203.0.113.9             1     1s                 1s     INVITE  +4930123456 (DE)
2001:db8:1234:5678:9ab  1     4s                 4s     OPTIONS\u{1b}\u{5b}2J  \










6 sources by knocks  ? help  q leave";

/// 40 columns, 10 lines.
const NARROW: &str = r"sipguard top  dropped 11,176/s  00:00:00
dropped   ▇▇  ▁▂▃▄▅▆▇▇  ▁▂▃▄▅▆▇█  11,176
SOURCE           TOLD  LAST  TRIES
192.0.2.77       30    2s    brute force
203.0.113.200    4     2s    toll fraud
198.51.100.7     3     7s    scan
198.51.100.99    1     9m
203.0.113.9      1     1s
2001:db8:1234:5  1     4s
6 sources by knocks  ? help";

/// All that is known of one source.
const ONE: &str = r"sipguard top  dropped 11,176/s (35.8 Mbit/s)  passed 50/s               00:00:00
DROPPED BY INTERFACE       BY SERVICE                  BY REASON
eth0      ▂▃▄▅▆▇█  11,107  -         ████████       1  allowed   ███████      50
eth1      ▇▇▇▇▇▇█      69  sip       ▁▂▃▄▅▆▇█  11,175  denied    ▇▇▇▇▇▇█      69
                           web                      0  malformed ███████       1
                                                       unlisted  ▂▃▄▅▆▇█  11,106
203.0.113.200
first      0000-00-00 00:00:00 (95s ago)
last       0000-00-00 00:00:00 (2s ago)
knocks     4 told of, in 2 minutes
tries      toll fraud: +88213123456 in 4 ways, high-risk
tries      scan: User-Agent sipcli/v1.8
services   sip ×4
ports      5060 ×4
methods    INVITE ×4
User-Agent sipcli/v1.8 ×4
users      1000 ×4
number     +88213123456, high-risk
  as       0088213123456, 90088213123456, 01188213123456, +88213123456




6 sources by what they try  ? help  q leave";

/// A question that needs two lines.
const ASKED: &str = r"sipguard top  dropped 11,176/s  00:00:00
dropped   ▇▇  ▁▂▃▄▅▆▇▇  ▁▂▃▄▅▆▇█  11,176
203.0.113.200
first      0000-00-00 00:00:00 (95s ago)
last       0000-00-00 00:00:00 (2s ago)
knocks     4 told of, in 2 minutes
tries      toll fraud: +88213123456 in 4
sipguard allow 203.0.113.200 --service
sip? y/n
";

/// Help that has no room, from its third line on.
const HELP: &str = r"sipguard top  dropped 11,176/s  00:00:00
dropped   ▇▇  ▁▂▃▄▅▆▇▇  ▁▂▃▄▅▆▇█  11,176
Enter      all that is known of it
s          sort by knocks, last seen,
first seen, what they try, address
/          only sources with this in
them: an address, a number, a
User-Agent, a country, scan, ...
Esc        back, or all sources again
6 sources by knocks  ? help";

#[test]
fn it_fits_on_80_by_24_and_on_40_by_10() {
    let mut view = view();
    assert_eq!(shown(&mut view, 80, 24), WIDE);
    assert_eq!(shown(&mut view, 40, 10), NARROW);
    // And is drawn on whatever there is.
    for width in [0, 1, 2, 14, 15, 16, 17, 39, 40, 41, 71, 72, 73, 79, 81, 200] {
        for height in [0, 1, 2, 3, 5, 9, 15, 16, 30] {
            for page in [
                Page::Sources,
                Page::Help,
                Page::Source([192, 0, 2, 77].into()),
            ] {
                view.page = page;
                shown(&mut view, width, height);
            }
        }
    }
}

#[test]
fn one_source_is_shown_whole() {
    let mut view = view();
    press(&mut view, "sss");
    view.press(Key::Enter);
    assert_eq!(shown(&mut view, 80, 24), ONE);
    assert_eq!(press(&mut view, "a"), None);
    assert_eq!(shown(&mut view, 40, 10), ASKED);
    assert_eq!(press(&mut view, "n"), None);
    assert_eq!(
        view.prompt,
        Prompt::Message("nothing was changed".to_owned())
    );
    view.press(Key::Escape);
    assert_eq!((view.page, &view.prompt), (Page::Sources, &Prompt::None));
    // One that gave way to others.
    view.page = Page::Source([192, 0, 2, 1].into());
    assert!(shown(&mut view, 80, 24).contains("192.0.2.1 is forgotten: others knock more"));
}

#[test]
fn help_goes_up_and_down_where_it_has_no_room() {
    let mut view = view();
    press(&mut view, "?");
    for key in [Key::Down, Key::Down, Key::Down, Key::Up] {
        view.press(key);
    }
    assert_eq!(shown(&mut view, 40, 10), HELP);
    for _ in 0..100 {
        view.press(Key::PageDown);
    }
    let last = shown(&mut view, 40, 10);
    assert!(last.contains("\nThe graphs have every packet"), "{last}");
    view.press(Key::Home);
    assert!(shown(&mut view, 40, 10).contains("\nq          leave"));
    press(&mut view, "?");
    assert_eq!(shown(&mut view, 40, 10), NARROW);
}

/// The sources that are shown, from above.
fn order(view: &View) -> Vec<String> {
    let rows = view.sources().into_iter();
    rows.map(|row| row.knock.source.to_string()).collect()
}

/// The source that stands out.
fn marked(view: &mut View) -> String {
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal
        .draw(|frame| draw(frame, view, at(NOW), Colours::default()))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let marked: Vec<_> = (0..24)
        .filter(|&y| buffer[(0, y)].modifier.contains(Modifier::REVERSED))
        .collect();
    let [y] = marked[..] else {
        panic!("{marked:?}");
    };
    let line: String = (0..80).map(|x| buffer[(x, y)].symbol()).collect();
    line.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn sources_are_sorted_and_the_mark_stays_with_its_source() {
    let mut view = view();
    assert_eq!(marked(&mut view), "192.0.2.77");
    view.press(Key::Down);
    view.press(Key::Down);
    assert_eq!(marked(&mut view), "198.51.100.7");
    for (name, first) in [
        ("last seen", "203.0.113.9"),
        ("first seen", "203.0.113.9"),
        ("what they try", "203.0.113.200"),
        ("address", "192.0.2.77"),
        ("knocks", "192.0.2.77"),
    ] {
        press(&mut view, "s");
        assert_eq!((view.sort.name(), &*order(&view)[0]), (name, first));
        assert_eq!(marked(&mut view), "198.51.100.7");
    }
    // While others come.
    for _ in 0..50 {
        knock(&mut view, "192.0.2.99", 0, 5060, None);
    }
    assert_eq!(order(&view)[0], "192.0.2.99");
    assert_eq!(marked(&mut view), "198.51.100.7");
    view.press(Key::Home);
    assert_eq!(marked(&mut view), "192.0.2.99");
    view.press(Key::End);
    view.press(Key::Down);
    assert_eq!(marked(&mut view), "2001:db8:1234:5678:9ab");
    view.press(Key::PageUp);
    assert_eq!(marked(&mut view), "192.0.2.99");
    // The mark is on the screen, however many there are.
    for last in 0..200 {
        knock(&mut view, &format!("198.18.0.{last}"), 0, 5060, None);
    }
    view.press(Key::End);
    let last = order(&view).pop().unwrap();
    assert!(last.starts_with(&marked(&mut view)), "{last}");
}

#[test]
fn a_filter_shows_those_with_something_in_them() {
    let mut view = view();
    for (typed, wanted) in [
        ("asterisk", &["203.0.113.9"][..]),
        ("+4930", &["203.0.113.9"]),
        ("8821312", &["203.0.113.200"]),
        ("toll", &["203.0.113.200"]),
        ("web", &["198.51.100.99"]),
        ("198.51.100.", &["198.51.100.7", "198.51.100.99"]),
        ("script", &["2001:db8:1234:5678:9abc:def0:1234:5678"]),
        ("nobody", &[]),
    ] {
        press(&mut view, "/");
        // Letters that are commands otherwise are letters.
        press(&mut view, typed);
        view.press(Key::Enter);
        assert_eq!(order(&view), wanted, "{typed}");
        view.press(Key::Escape);
        assert_eq!(order(&view).len(), 6);
    }
    press(&mut view, "/qq");
    view.press(Key::Backspace);
    assert_eq!(view.filter, "q");
    assert!(shown(&mut view, 40, 10).contains("nobody with \"q\" has knocked"));
    view.press(Key::Escape);
    assert_eq!(shown(&mut view, 40, 10), NARROW);
}

#[test]
fn nothing_is_changed_without_a_yes() {
    let mut view = view();
    press(&mut view, "s");
    let allow = Say {
        action: Action::Allow,
        source: [203, 0, 113, 9].into(),
        service: Some("sip".to_owned()),
    };
    assert_eq!(press(&mut view, "a"), None);
    assert_eq!(view.prompt, Prompt::Ask(allow.clone()));
    // Whoever comes first meanwhile is not whom the question is about.
    knock(&mut view, "192.0.2.99", 0, 5060, None);
    assert_eq!(press(&mut view, "y"), Some(Do::Say(allow)));
    assert_eq!(press(&mut view, "y"), None);
    for no in [
        Key::Enter,
        Key::Escape,
        Key::Letter('n'),
        Key::Letter('a'),
        Key::Up,
    ] {
        press(&mut view, "d");
        let Prompt::Ask(say) = &view.prompt else {
            panic!("{:?}", view.prompt);
        };
        assert_eq!(say.command(), "sipguard deny 203.0.113.9");
        assert_eq!(view.press(no), None);
        view.press(Key::Escape);
    }
    press(&mut view, "d");
    assert_eq!(view.press(Key::Interrupt), Some(Do::Leave));
    // Nobody is there to be let in.
    assert_eq!(press(&mut View::new(), "ady"), None);
}

#[test]
fn nothing_that_strangers_say_reaches_the_screen() {
    let mut view = view();
    view.page = Page::Source("2001:db8:1234:5678:9abc:def0:1234:5678".parse().unwrap());
    let one = shown(&mut view, 200, 40);
    assert!(one.contains(r"\u{3c}script\u{3e}\u{d}\u{a}"), "{one}");
    view.page = Page::Sources;
    for shown in [one, shown(&mut view, 200, 40)] {
        let known = "▁▂▃▄▅▆▇█×\n";
        let plain = |letter: char| (' '..='~').contains(&letter) || known.contains(letter);
        assert!(shown.chars().all(plain), "{shown}");
        assert!(!shown.contains('<'));
    }
}

#[test]
fn where_nothing_is_in_force_that_is_said() {
    let mut view = View::new();
    view.in_force = false;
    view.deaf = Some("somebody else listens".to_owned());
    let shown = shown(&mut view, 80, 24);
    assert!(shown.contains("NOTHING IS IN FORCE"), "{shown}");
    assert!(
        shown.contains("\nno events: somebody else listens"),
        "{shown}"
    );
}

/// What stands there gets old, and nobody could tell.
#[test]
fn where_no_events_come_any_more_that_is_said_beside_those_that_came() {
    let mut view = view();
    view.deaf = Some("somebody else listens".to_owned());
    let shown = shown(&mut view, 80, 24);
    assert!(shown.contains("198.51.100.7"), "{shown}");
    assert!(
        shown.contains("\nno events: somebody else listens"),
        "{shown}"
    );
}

/// The one that was reversed when it was drawn, whoever has come in front of it since.
#[test]
fn keys_are_about_the_source_that_is_shown() {
    let mut view = View::new();
    knock(&mut view, "198.51.100.7", 9, 5060, None);
    assert!(shown(&mut view, 80, 24).contains("198.51.100.7"));
    for ago in [8, 7] {
        knock(&mut view, "198.51.100.8", ago, 5060, None);
    }
    assert_eq!(view.press(Key::Letter('d')), None);
    let Prompt::Ask(say) = &view.prompt else {
        panic!("{:?}", view.prompt);
    };
    assert_eq!(say.source.to_string(), "198.51.100.7");
    assert!(view.asks());
}
