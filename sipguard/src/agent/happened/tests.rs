use super::*;

/// One of each, in the order of [`Kind::all`], with a text of somebody else's wherever there can be one: what writers are tested with.
#[expect(clippy::too_many_lines, reason = "one row a case")]
pub(crate) fn samples(text: &str) -> Vec<Happened> {
    let text = text.to_owned();
    let at = Timestamp::from_second(1_772_366_400).unwrap();
    let who = Attempt {
        source: [198, 51, 100, 7].into(),
        others: 0,
        packets: 12_345,
        since: at,
        passed: false,
    };
    vec![
        Happened::GenerationCame {
            generation: 7,
            entries: 12,
        },
        Happened::TakenBack { generation: 8 },
        Happened::NothingInForce,
        Happened::InForceAgain {
            generation: 9,
            entries: 1,
        },
        Happened::Monitoring {
            services: vec!["sip".to_owned(), text.clone()],
        },
        Happened::Enforcing,
        Happened::InterfaceUnfiltered {
            interface: text.clone(),
            why: Some("its program is gone".to_owned()),
        },
        Happened::InterfaceFiltered {
            interface: text.clone(),
            mode: "native".to_owned(),
        },
        Happened::SourceChanged {
            source: text.clone(),
            entries: 3,
        },
        Happened::SourceRefused {
            source: text.clone(),
            why: "what the fetcher found has 7 entries instead of 70".to_owned(),
        },
        Happened::SourceUnanswered {
            source: "trunk".to_owned(),
            since: Some(at),
            why: text.clone(),
        },
        Happened::SourceStale {
            source: text.clone(),
            since: at,
        },
        Happened::SourceWell {
            source: text.clone(),
        },
        Happened::BanOverruled {
            prefix: "203.0.113.7/32".parse().unwrap(),
            by: text.clone(),
            others: 1,
        },
        Happened::SourceOverruled {
            source: text.clone(),
            prefix: "203.0.113.9/32".parse().unwrap(),
            action: Action::Deny,
            by: "203.0.113.0/24".parse().unwrap(),
            others: 2,
        },
        Happened::FloodBegan {
            interface: text.clone(),
            packets_per_second: 1_500_000,
        },
        Happened::FloodEnded {
            interface: text.clone(),
            packets: 90_000_000,
            seconds: 60,
        },
        Happened::ScanTried {
            who: who.clone(),
            user_agent: Some(text.clone()),
        },
        Happened::BruteForceTried {
            who: who.clone(),
            user: Some(text.clone()),
        },
        Happened::TollFraudTried {
            who: Attempt { others: 3, ..who },
            number: Some(text.clone()),
            country: Some(text.clone()),
        },
        Happened::ProviderMoved(Moved {
            provider: text.clone(),
            address: [198, 51, 100, 9].into(),
            others: 2,
            service: text.clone(),
            method: Some(text.clone()),
            since: at,
            tie: Tie::Neighbour {
                of: "198.51.100.7/32".parse().unwrap(),
            },
        }),
        Happened::EventsLost { lost: 1 },
        Happened::SpoolFull { lost: 2 },
        Happened::KernelDiffered { entries: 1 },
        Happened::NotKept {
            file: "/var/lib/sipguard/knocks.json".to_owned(),
            why: "No space left on device (os error 28)".to_owned(),
        },
        Happened::Failed {
            what: "looking at what is in force".to_owned(),
            why: "the kernel refused".to_owned(),
        },
    ]
}

#[test]
fn the_table_has_a_row_for_each_case_in_their_order() {
    for (place, row) in Kind::TABLE.iter().enumerate() {
        assert_eq!(row.0 as usize, place);
        assert_eq!(serde_json::to_value(row.0).unwrap(), row.1);
    }
    let samples = samples("x").into_iter().map(|happened| happened.kind());
    assert!(samples.eq(Kind::all()));
}

#[test]
fn each_has_a_sentence_and_fields_that_nobody_can_spoil() {
    let hostile = "\u{1b}[2J\n0=x\r\n<b>`rm` \"'\\ \u{202e}{{x}} *y* |z|\0";
    for happened in samples(hostile) {
        let kind = happened.kind();
        let fields = happened.fields();
        assert_eq!(fields[0], ("HAPPENED", kind.name().to_owned()));
        let sentence = happened.sentence();
        assert!(
            sentence.len() > 20 && !sentence.ends_with('.'),
            "{sentence}"
        );
        for (name, value) in fields.into_iter().chain([("MESSAGE", sentence)]) {
            let is_name = |it: char| it.is_ascii_uppercase() || it == '_';
            assert!(name.chars().all(is_name), "{name}");
            assert!(value.chars().all(|it| (' '..='~').contains(&it)), "{value}");
            for bad in ["<b>", "`rm`", "{{", "*y*", "|z|", "\""] {
                assert!(!value.contains(bad), "{kind:?}: {name} is {value}");
            }
        }
    }
}

#[test]
fn who_has_moved_is_told_with_the_command_that_lets_him_in() {
    let moved = Moved {
        provider: "trunk".to_owned(),
        address: [198, 51, 100, 9].into(),
        others: 0,
        service: "sip".to_owned(),
        method: Some("INVITE".to_owned()),
        since: Timestamp::UNIX_EPOCH,
        tie: Tie::Neighbour {
            of: "198.51.100.7/32".parse().unwrap(),
        },
    };
    let sentence = Happened::ProviderMoved(moved).sentence();
    assert!(sentence.starts_with(
        "trunk seems to have moved: 198.51.100.9, next to 198.51.100.7, has knocked with INVITE since "
    ));
    assert!(sentence.ends_with("; `sipguard allow 198.51.100.9 --service sip` lets it in"));
}
