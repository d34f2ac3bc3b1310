use super::*;

/// By the clocks of Berlin.
fn local(moment: &str) -> Zoned {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    utc(moment).to_zoned(zone)
}

/// 17:30, and the summer ends in the coming night.
fn now() -> Zoned {
    local("2026-10-24T15:30:00Z")
}

fn utc(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn durations() {
    for (text, seconds) in [
        ("1s", 1),
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2 hours", 7200),
        ("7d", 7 * 86_400),
        ("2w", 14 * 86_400),
        (" 5min ", 300),
        ("PT90S", 90),
        ("3650d", 3650 * 86_400),
    ] {
        assert_eq!(
            duration(text),
            Ok(SignedDuration::from_secs(seconds)),
            "{text}"
        );
    }
}

#[test]
fn wrong_durations_say_what_to_write() {
    for (text, message) in [
        (
            "",
            "\"\" is not a duration; write for example 90s, 15m, 2h, 1h30m or 7d",
        ),
        (
            "soon",
            "\"soon\" is not a duration; write for example 90s, 15m, 2h, 1h30m or 7d",
        ),
        (
            "2 fortnights",
            "\"2 fortnights\" is not a duration; write for example 90s, 15m, 2h, 1h30m or 7d",
        ),
        (
            "2h and a bit",
            "\"2h and a bit\" is not a duration; write for example 90s, 15m, 2h, 1h30m or 7d",
        ),
        (
            "18:00",
            "\"18:00\" is not a duration; write for example 90s, 15m, 2h, 1h30m or 7d",
        ),
        (
            "90",
            "90 has no unit; write 90s, 90m, 90h or 90d for seconds, minutes, hours or days",
        ),
        (
            "0s",
            "\"0s\" is less than a second; write for example 90s, 2h or 7d",
        ),
        (
            "0d",
            "\"0d\" is less than a second; write for example 90s, 2h or 7d",
        ),
        (
            "-5m",
            "\"-5m\" is less than a second; write for example 90s, 2h or 7d",
        ),
        (
            "5m ago",
            "\"5m ago\" is less than a second; write for example 90s, 2h or 7d",
        ),
        (
            "20ms",
            "\"20ms\" is less than a second; write for example 90s, 2h or 7d",
        ),
        (
            "2mo",
            "\"2mo\" has no fixed length; write days, such as 30d or 365d",
        ),
        (
            "1y",
            "\"1y\" has no fixed length; write days, such as 30d or 365d",
        ),
        (
            "3651d",
            "\"3651d\" is more than 10 years away; what is to last so long needs no end, so leave it out",
        ),
        (
            "99999999999999999999h",
            "\"99999999999999999999h\" is more than 10 years away; what is to last so long needs no end, so leave it out",
        ),
        (
            "9223372036854775807s",
            "\"9223372036854775807s\" is more than 10 years away; what is to last so long needs no end, so leave it out",
        ),
    ] {
        assert_eq!(duration(text).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn moments() {
    for (text, wanted) in [
        ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00Z"),
        ("2026-12-24T18:00:00+01:00", "2026-12-24T17:00:00Z"),
        ("2026-12-24 18:00Z", "2026-12-24T18:00:00Z"),
        ("2026-12-24 18:00", "2026-12-24T17:00:00Z"),
        ("2026-12-24T18:00", "2026-12-24T17:00:00Z"),
        ("2026-12-24 18:00:30", "2026-12-24T17:00:30Z"),
        // Today, and tomorrow, when there is winter time.
        ("18:00", "2026-10-24T16:00:00Z"),
        ("17:30:01", "2026-10-24T15:30:01Z"),
        ("17:30", "2026-10-25T16:30:00Z"),
        ("06:00", "2026-10-25T05:00:00Z"),
    ] {
        assert_eq!(moment(text, &now()), Ok(utc(wanted)), "{text}");
    }
    let spring = local("2026-03-28T22:00:00Z");
    assert_eq!(moment("02:30", &spring), Ok(utc("2026-03-29T01:30:00Z")));
}

#[test]
fn wrong_moments_say_what_to_write() {
    let not_a_time = |text: &str| {
        format!(
            "\"{text}\" is not a time; write for example 18:00, '2026-12-24 18:00' (by the clock of this host) or 2026-12-24T18:00:00Z"
        )
    };
    for text in [
        "",
        "tomorrow",
        "25:00",
        "18",
        "2h",
        "2026-13-01 10:00",
        "2026-12-24 18:61",
        "24.12.2026 18:00",
        "1798131600",
    ] {
        assert_eq!(
            moment(text, &now()).unwrap_err().to_string(),
            not_a_time(text)
        );
    }
    for (text, message) in [
        (
            "2026-12-24",
            "2026-12-24 is a whole day; write the time, too: '2026-12-24 18:00'",
        ),
        (
            "2026-10-24 17:30",
            "\"2026-10-24 17:30\" is in the past: it is 2026-10-24 17:30 now; write a later time, or how long with --for",
        ),
        (
            "1999-12-31T23:59:59Z",
            "\"1999-12-31T23:59:59Z\" is in the past: it is 2026-10-24 17:30 now; write a later time, or how long with --for",
        ),
        (
            "2037-01-01 00:00",
            "\"2037-01-01 00:00\" is more than 10 years away; what is to last so long needs no end, so leave it out",
        ),
        (
            "9999-12-31 23:59",
            "\"9999-12-31 23:59\" is more than 10 years away; what is to last so long needs no end, so leave it out",
        ),
    ] {
        assert_eq!(moment(text, &now()).unwrap_err().to_string(), message);
    }
}

#[test]
fn ends_are_counted_from_now() {
    let end = after(
        SignedDuration::from_secs(90),
        utc("2026-10-24T15:30:00.1234567Z"),
    );
    assert_eq!(end, utc("2026-10-24T15:31:30.123Z"));
    assert_eq!(
        after(SignedDuration::MAX, Timestamp::MAX),
        Timestamp::MAX
            .round(Unit::Millisecond)
            .unwrap_or(Timestamp::MAX)
    );
}
