use sipguard_lists::task::Widest;

use super::*;
use crate::kinds::crowdsec::answer;

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// What is banned and for how long, and what is said of it.
fn listed(decisions: &Decisions) -> Vec<String> {
    let entry = |ending: Ending| {
        let prefix = prefix::format(ending.prefix);
        format!("{prefix} {} {}", ending.end - NOW, ending.comment)
    };
    let networks = [
        ("DE", vec!["203.0.113.0/28", "203.0.113.7/32"]),
        ("US", vec!["16.0.0.0/8"]),
    ];
    let networks = networks.map(|(country, networks)| {
        let networks = networks.iter().map(|network| network.parse().unwrap());
        (country.parse().unwrap(), networks.collect())
    });
    let entries = decisions.entries(&networks.into(), now()).unwrap();
    let entries = entries.into_iter().map(entry);
    entries.chain([decisions.said()]).collect()
}

fn told(decisions: &mut Decisions, text: &str) -> Result<bool, String> {
    let mut ended = Vec::new();
    let take = |told| decisions.take(&told, now());
    answer::read(text.as_bytes(), take, Some(&mut ended))?;
    Ok(decisions.settle(ended))
}

fn decision(id: u64, value: &str, duration: &str) -> String {
    format!(
        r#"{{"duration":"{duration}","id":{id},"origin":"cscli","scenario":"s{id}","scope":"Ip","type":"ban","value":"{value}"}}"#
    )
}

fn answer(new: &[String], deleted: &[String]) -> String {
    format!(
        r#"{{"deleted":[{}],"new":[{}]}}"#,
        deleted.join(","),
        new.join(",")
    )
}

#[test]
fn a_net_is_banned_until_the_last_of_its_decisions_ends() {
    let mut decisions = Decisions::new(Widest::default(), true);
    let new = [
        decision(1, "203.0.113.7", "1h"),
        decision(2, "203.0.113.7/32", "3h59m58.9s"),
        decision(3, "::ffff:203.0.113.7", "-5m"),
        decision(4, "198.51.100.7/24", "1.5s"),
        decision(5, "2001:db8::1", "876000h0m0s"),
    ];
    assert_eq!(told(&mut decisions, &answer(&new, &[])), Ok(true));
    let rest = [
        "198.51.100.0/24 1 s4",
        "2001:db8::1 3153600000 s5",
        "5 decisions",
    ];
    assert_eq!(
        listed(&decisions),
        [rest[0], "203.0.113.7 14398 s2", rest[1], rest[2]]
    );
    // Told again, or of one that nobody knows: nothing changes.
    let text = answer(&[], &[decision(9, "203.0.113.7", "-1s")]);
    assert_eq!(told(&mut decisions, &text), Ok(false));
    let text = r#"{"deleted":null,"new":null}"#;
    assert_eq!(told(&mut decisions, text), Ok(false));

    let text = answer(&[], &[decision(2, "203.0.113.7/32", "-1s")]);
    assert_eq!(told(&mut decisions, &text), Ok(true));
    assert_eq!(listed(&decisions)[1], "203.0.113.7 3600 s1");
    let ended = [
        decision(1, "203.0.113.7", "-1s"),
        decision(3, "203.0.113.7", "-1s"),
    ];
    // In one answer: what began and ended since is in force no more.
    let text = answer(&[decision(6, "203.0.113.9", "1h")], &ended);
    assert_eq!(told(&mut decisions, &text), Ok(true));
    assert_eq!(listed(&decisions)[1], "203.0.113.9 3600 s6");
    assert_eq!(listed(&decisions).len(), 4);
}

#[test]
fn countries_are_banned_as_their_networks() {
    let of_country = |text: String| text.replace("\"Ip\"", "\"Country\"");
    let mut decisions = Decisions::new(Widest::default(), true);
    let new = [
        of_country(decision(1, "DE", "1h")),
        of_country(decision(2, "DE", "2h")),
        of_country(decision(3, "US", "1h")),
        // Nobody knows its networks.
        of_country(decision(4, "AT", "1h")),
        of_country(decision(5, "UK", "1h")),
        decision(6, "203.0.113.7", "3h"),
    ];
    assert_eq!(told(&mut decisions, &answer(&new, &[])), Ok(true));
    let countries: Vec<_> = decisions
        .countries()
        .iter()
        .map(Country::to_string)
        .collect();
    assert_eq!(countries, ["AT", "DE", "US"]);
    assert_eq!(
        listed(&decisions),
        [
            "16.0.0.0/8 3600 s3",
            "203.0.113.0/28 7200 s2",
            "203.0.113.7 10800 s6",
            "6 decisions, 1 of them left out: UK is no country"
        ]
    );
    let ended = [decision(2, "DE", "-1s"), decision(6, "203.0.113.7", "-1s")];
    assert_eq!(told(&mut decisions, &answer(&[], &ended)), Ok(true));
    assert_eq!(
        listed(&decisions)[1..3],
        ["203.0.113.0/28 3600 s1", "203.0.113.7 3600 s1"]
    );
    // Where nobody asked for them, a country is no prefix.
    let mut decisions = Decisions::new(Widest::default(), false);
    assert_eq!(told(&mut decisions, &answer(&new[..1], &[])), Ok(true));
    assert_eq!(
        listed(&decisions),
        ["1 decision, 1 of them left out: DE is no prefix"]
    );
}

#[test]
fn what_can_not_be_meant_is_left_out_and_told_of() {
    for (value, what, duration, wanted) in [
        (
            "0.0.0.0/0",
            "ban",
            "1h",
            "0.0.0.0/0 is wider than this source may be",
        ),
        (
            "16.0.0.1/11",
            "ban",
            "1h",
            "16.0.0.0/11 is wider than this source may be",
        ),
        (
            "2001:db8::/27",
            "ban",
            "1h",
            "2001:da0::/27 is wider than this source may be",
        ),
        ("::/0", "ban", "1h", "::/0 is wider than this source may be"),
        (
            "::ffff:0:0/96",
            "ban",
            "1h",
            "0.0.0.0/0 is wider than this source may be",
        ),
        (
            "scanner.example",
            "ban",
            "1h",
            "scanner.example is no prefix",
        ),
        ("203.0.113.7/33", "ban", "1h", "203.0.113.7/33 is no prefix"),
        (
            "fe80::1%eth0",
            "ban",
            "1h",
            "fe80::1\\u{25}eth0 is no prefix",
        ),
        ("", "ban", "1h", " is no prefix"),
        (
            "203.0.113.7",
            "captcha",
            "1h",
            "203.0.113.7 is no ban but captcha",
        ),
        (
            "203.0.113.7",
            "ban",
            "for ever",
            "203.0.113.7 is banned for for ever, which is no time",
        ),
    ] {
        let mut decisions = Decisions::new(Widest::default(), true);
        let wrong = decision(2, value, duration).replace("\"ban\"", &format!("{what:?}"));
        let right = decision(1, "203.0.113.8", "1h");
        assert_eq!(
            told(&mut decisions, &answer(&[right, wrong], &[])),
            Ok(true)
        );
        assert_eq!(
            listed(&decisions),
            [
                "203.0.113.8 3600 s1".to_owned(),
                format!("2 decisions, 1 of them left out: {wanted}")
            ]
        );
        // Until it ends.
        let text = answer(&[], &[decision(2, value, "-1s")]);
        assert_eq!(told(&mut decisions, &text), Ok(true));
        assert_eq!(decisions.said(), "1 decision");
    }
}

#[test]
fn only_what_a_lapi_answers_is_an_answer() {
    for (text, wanted) in [
        ("", "EOF while parsing a value"),
        ("<!DOCTYPE html>", "expected value"),
        ("null", "invalid type: null"),
        ("[]", "invalid type: sequence"),
        ("{}", "it is no answer of a LAPI"),
        (r#"{"new":null}"#, "it is no answer of a LAPI"),
        (
            r#"{"message":"no","deleted":null}"#,
            "it is no answer of a LAPI",
        ),
        (r#"{"deleted":null,"new":7}"#, "invalid type: integer"),
        (r#"{"deleted":null,"new":[{"id":1}]}"#, "missing field"),
        (r#"{"deleted":null,"new":[{"id":-1}]}"#, "invalid value"),
        (r#"{"deleted":[{}],"new":[]}"#, "missing field"),
        (r#"{"deleted":null,"new":[]"#, "EOF while parsing an object"),
        (r#"{"deleted":null,"new":[]} more"#, "trailing characters"),
    ] {
        let mut decisions = Decisions::new(Widest::default(), true);
        let error = told(&mut decisions, text).unwrap_err();
        assert!(error.starts_with(wanted), "{text}: {error}");
    }
}

#[test]
fn there_are_so_many_and_no_more() {
    let mut decisions = Decisions::new(Widest::default(), true);
    let mut one: Told = serde_json::from_str(&decision(0, "203.0.113.7", "1h")).unwrap();
    for id in 0..MAX_ENTRIES as u64 {
        one.id = id;
        // Those that are left out count, too.
        one.value = if id % 2 == 0 { "203.0.113.7" } else { "x" }.to_owned();
        decisions.take(&one, now()).unwrap();
    }
    assert_eq!(
        decisions.take(&one, now()),
        Err("it has more than 1000000 decisions".to_owned())
    );
}
