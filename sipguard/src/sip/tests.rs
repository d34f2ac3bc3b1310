use proptest::prelude::*;

use super::*;

mod torture;

/// One that svmap's relatives send, with a number as they dial it.
const INVITE: &str = "INVITE sip:9011441904911054@203.0.113.7:5060;transport=udp SIP/2.0\r\n\
    Via: SIP/2.0/UDP 198.51.100.7:5071;branch=z9hG4bK-1;rport\r\n\
    From: \"a \\\"quoted\\\" <name>\" <sip:100@203.0.113.7>;tag=1\r\n\
    To: <sip:9011441904911054@203.0.113.7>\r\n\
    Call-ID: 1@198.51.100.7\r\n\
    CSeq: 1 INVITE\r\n\
    User-Agent: friendly-scanner\r\n\
    Content-Length: 0\r\n\r\n";

#[test]
fn a_call_is_read() {
    let wanted = Summary {
        method: Some("INVITE".to_owned()),
        status: None,
        user: Some("9011441904911054".to_owned()),
        from: Some("100".to_owned()),
        user_agent: Some("friendly-scanner".to_owned()),
        call_id: Some("1@198.51.100.7".to_owned()),
        number: Some("+441904911054".to_owned()),
        country: Some("GB".to_owned()),
        high_risk: false,
    };
    assert_eq!(read(INVITE.as_bytes()), Some(wanted));
}

#[test]
fn json_is_what_events_say() {
    let summary = read(INVITE.as_bytes()).unwrap();
    let json = serde_json::to_string(&summary).unwrap();
    assert_eq!(
        json,
        r#"{"method":"INVITE","status":null,"user":"9011441904911054","from":"100","user_agent":"friendly-scanner","call_id":"1@198.51.100.7","number":"+441904911054","country":"GB","high_risk":false}"#
    );
    assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), summary);
}

#[test]
fn an_answer_is_read() {
    let answer = "SIP/2.0 401 Unauthorized\r\nv: SIP/2.0/UDP 198.51.100.7\r\nf: sip:100@203.0.113.7;tag=1\r\ni: x\r\nCSeq: 7 REGISTER\r\nServer: kamailio (5.6.3)\r\n\r\n";
    let wanted = Summary {
        status: Some(401),
        from: Some("100".to_owned()),
        user_agent: Some("kamailio (5.6.3)".to_owned()),
        call_id: Some("x".to_owned()),
        ..Summary::default()
    };
    assert_eq!(read(answer.as_bytes()), Some(wanted));
    let message = Message::read(answer.as_bytes()).unwrap();
    assert_eq!(message.method, Some(&b"REGISTER"[..]));
}

#[test]
fn what_is_cut_off_is_left_out_from_the_first_byte_on() {
    let whole = read(INVITE.as_bytes()).unwrap();
    for length in 0..INVITE.len() {
        let Some(cut) = read(&INVITE.as_bytes()[..length]) else {
            assert!(length < "INVITE sip:".len(), "{length}");
            continue;
        };
        let pairs = [
            (&cut.method, &whole.method),
            (&cut.user, &whole.user),
            (&cut.from, &whole.from),
            (&cut.user_agent, &whole.user_agent),
            (&cut.call_id, &whole.call_id),
            (&cut.number, &whole.number),
        ];
        for (part, whole) in pairs {
            assert!(part.is_none() || part == whole, "{length}: {part:?}");
        }
    }
    // What is left of it in the first 128 bytes of an Ethernet frame.
    let cut = read(&INVITE.as_bytes()[..86]).unwrap();
    assert_eq!(cut.country, Some("GB".to_owned()));
}

/// More of it may be anything: another word, another bracket.
#[test]
fn what_is_cut_off_says_nothing_that_more_of_it_takes_back() {
    for text in [
        "INVITE sip:1@h SIP/2.0\r\nf: sip:100@h;tag=1 <tel:+12>\r\n\r\n",
        "INVITE tel:+12;a SIP/2.0 b;c SIP/2.0\r\n\r\n",
        "INVITE tel:+12 3 SIP/2.0;b SIP/2.0\r\n\r\n",
    ] {
        let whole = read(text.as_bytes()).unwrap();
        let cuts = (0..text.len()).filter_map(|length| read(&text.as_bytes()[..length]));
        for cut in cuts {
            assert!(cut.user.is_none() || cut.user == whole.user, "{cut:?}");
            assert!(cut.from.is_none() || cut.from == whole.from, "{cut:?}");
        }
    }
}

#[test]
fn what_is_no_message_is_none() {
    for payload in [
        &b""[..],
        b"\0",
        b"\r\n\r\n",
        b"\r\n",
        b"    ",
        // STUN's binding request.
        b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl",
        // The middle of a TCP stream.
        b"v: SIP/2.0/TCP host\r\nFrom: <sip:a@b>\r\n\r\n",
        b"Via: SIP/2.0/TCP host;branch=1\r\n\r\n",
        b"=audio 49217 RTP/AVP 0 12\r\na=rtpmap:31 LPC\r\n",
        b"P/2.0 200 OK\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://sip:1@x/ HTTP/1.1\r\n\r\n",
        b"GET http://sip:1@",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"SIP/2.0 OK\r\n\r\n",
        b"SIP/2.0 99 Early\r\n\r\n",
        b"SIP/2.0 2000 Much\r\n\r\n",
        b"SIP/2.0 20",
        b"INVITE sip:1@x",
        b" INVITE sip:1@x SIP/2.0\r\n\r\n",
        b"INVITE\r\n\r\n",
        b"IN VITE\r\n",
        b"INVITE sip:1@x\r\n\r\n",
    ] {
        let is_cut = payload == b"INVITE sip:1@x";
        assert_eq!(
            read(payload).is_some(),
            is_cut,
            "{:?}",
            payload.escape_ascii()
        );
    }
}

#[test]
fn line_breaks_in_front_of_a_message_are_passed_over() {
    let payload = format!("\r\n\r\n{INVITE}");
    assert_eq!(read(payload.as_bytes()), read(INVITE.as_bytes()));
}

#[test]
fn users_are_found_in_every_form_of_address() {
    for (header, user, host) in [
        ("<sip:1000@h>", Some("1000"), Some("h")),
        (
            "<sips:1000:secret@h:5061;transport=tls>;tag=1",
            Some("1000"),
            Some("h"),
        ),
        ("sip:1000@h;tag=1", Some("1000"), Some("h")),
        (
            "Anna <sip:1000@[2001:db8::7]:5060>",
            Some("1000"),
            Some("2001:db8::7"),
        ),
        ("\"<sip:no@h>\" <sip:1000@h>", Some("1000"), Some("h")),
        ("\"\\\"<sip:no@h>\" <SIP:1000@h>", Some("1000"), Some("h")),
        ("\"no end <sip:1000@h>", None, None),
        (
            "tel:+49-30-123456;phone-context=x",
            Some("+49-30-123456"),
            None,
        ),
        ("<tel:7042;phone-context=example.com>", Some("7042"), None),
        ("<sip:h>", None, Some("h")),
        ("<sip:@h>", None, Some("h")),
        ("<sip:%2B4930@h>", Some("%2B4930"), Some("h")),
        ("<sip:a;par=u%40e@h>", Some("a;par=u%40e"), Some("h")),
        ("<http:a@h>", None, None),
        ("", None, None),
        ("<", None, None),
        (":", None, None),
    ] {
        let uri = Uri::of_header(header.as_bytes(), true);
        assert_eq!(uri.user, user.map(str::as_bytes), "{header}");
        assert_eq!(uri.host, host.map(str::as_bytes), "{header}");
    }
}

#[test]
fn numbers_have_a_country_only_where_it_is_certain() {
    for (user, number, country) in [
        // As telephones write them.
        ("+441904911054", Some("+441904911054"), Some("GB")),
        ("+44(1904)911-054", Some("+441904911054"), Some("GB")),
        ("%2B44.1904.911054;ext=1", Some("+441904911054"), Some("GB")),
        ("+390116601", Some("+390116601"), Some("IT")),
        ("+12125550123", Some("+12125550123"), Some("US")),
        ("+14165550123", Some("+14165550123"), Some("CA")),
        ("+18765550123", Some("+18765550123"), Some("JM")),
        ("+18005550123", Some("+18005550123"), None),
        ("+74951234567", Some("+74951234567"), Some("RU")),
        ("+77272345678", Some("+77272345678"), Some("KZ")),
        ("+76001234567", Some("+76001234567"), Some("KZ")),
        ("+75001234567", Some("+75001234567"), None),
        ("+881612345678", Some("+881612345678"), None),
        ("+2471234567", Some("+2471234567"), Some("SH")),
        ("+6834000", Some("+6834000"), Some("NU")),
        // As they are dialled.
        ("00441904911054", Some("+441904911054"), Some("GB")),
        ("000441904911054", Some("+441904911054"), Some("GB")),
        ("0000441904911054", Some("+441904911054"), Some("GB")),
        ("011441904911054", Some("+441904911054"), Some("GB")),
        ("0011441904911054", Some("+441904911054"), Some("GB")),
        ("9011441904911054", Some("+441904911054"), Some("GB")),
        ("900441904911054", Some("+441904911054"), Some("GB")),
        ("9000441904911054", Some("+441904911054"), Some("GB")),
        ("01112125550123", Some("+12125550123"), Some("US")),
        // Not certain: no prefix, or one that nobody knows.
        ("441904911054", Some("441904911054"), None),
        ("8441904911054", Some("8441904911054"), None),
        ("810441904911054", Some("810441904911054"), None),
        ("1011441904911054", Some("1011441904911054"), None),
        // National numbers that begin like a prefix: Turin, Delhi, Sheffield, a premium number, São Paulo.
        ("01155123456", Some("01155123456"), None),
        ("01123456789", Some("01123456789"), None),
        ("01144960000", Some("01144960000"), None),
        ("9005550123", Some("9005550123"), None),
        ("011912345678", Some("011912345678"), None),
        // Codes that nobody has, too few digits, too many.
        ("00999123456789", Some("00999123456789"), None),
        ("+999123456789", Some("+999123456789"), None),
        ("00441", Some("00441"), None),
        ("+441", Some("+441"), None),
        ("+4419049110541234", Some("+4419049110541234"), None),
        ("100", Some("100"), None),
        ("0", Some("0"), None),
        // No numbers.
        ("anna", None, None),
        ("", None, None),
        ("+", None, None),
        ("1+2", None, None),
        ("++1", None, None),
        ("*97", None, None),
        ("1%", None, None),
        ("1%zz", None, None),
        ("1%00", None, None),
    ] {
        let found = number::Number::dialled(user.as_bytes());
        let shown = found.as_ref().map(ToString::to_string);
        assert_eq!(shown.as_deref(), number, "{user}");
        assert_eq!(found.and_then(|found| found.country()), country, "{user}");
    }
    assert_eq!(number::Number::dialled(&[b'1'; 10_000]), None);
}

#[test]
fn what_fraudsters_call_is_marked() {
    for (user, wanted) in [
        ("+5371234567", true),
        ("00252612345678", true),
        ("900881612345678", true),
        ("+18765550123", true),
        ("+441904911054", false),
        ("5371234567", false),
        // No number is that short.
        ("+53", false),
        ("+1876555", false),
    ] {
        let number = number::Number::dialled(user.as_bytes()).unwrap();
        assert_eq!(number.is_high_risk(), wanted, "{user}");
    }
}

#[test]
fn only_invites_dial() {
    let options = INVITE.replace("INVITE", "OPTIONS");
    let summary = read(options.as_bytes()).unwrap();
    assert_eq!(summary.user, Some("9011441904911054".to_owned()));
    assert_eq!((summary.number, summary.country), (None, None));
}

#[test]
fn strangers_texts_come_out_escaped() {
    use sipguard_lists::said::Said;
    let payload = b"OPTIONS sip:\x1b[31m@h SIP/2.0\r\nFrom: <sip:\xe2\x80\xae\"'<b@h>\r\nUser-Agent: a\r\n \x07b\xff\r\nCall-ID: {x}\\\r\n\r\n";
    let summary = read(payload).unwrap();
    let said = |text: Option<String>| Said(&text.unwrap()).to_string();
    assert_eq!(said(summary.user), "\\u{1b}\\u{5b}31m");
    assert_eq!(said(summary.from), "\\u{202e}\\u{22}\\u{27}\\u{3c}b");
    assert_eq!(said(summary.user_agent), "a\\u{d}\\u{a} \\u{7}b\\u{fffd}");
    assert_eq!(said(summary.call_id), "\\u{7b}x\\u{7d}\\u{5c}");
}

#[test]
fn long_messages_are_read_to_a_bound() {
    let mut payload = INVITE.as_bytes().to_vec();
    payload.truncate(payload.len() - 2);
    payload.extend(b"X: ");
    payload.extend(vec![b' '; 1 << 20]);
    payload.extend(b"\r\nServer: x\r\n\r\n");
    let summary = read(&payload).unwrap();
    assert_eq!(summary, read(INVITE.as_bytes()).unwrap());
    assert_eq!(Message::read(&payload).unwrap().headers().count(), 8);
}

/// Messages, mostly: pieces of them in any order.
fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"INVITE "[..],
        b"sip:",
        b"tel:",
        b"0044",
        b"@",
        b"%2B",
        b" SIP/2.0",
        b"SIP/2.0 200 OK",
        b"\r\n",
        b"\n ",
        b"\r\n\r\n",
        b"f: ",
        b"From: \"",
        b"<",
        b">",
        b"\\\"",
        b"User-Agent:",
        b"Call-ID :",
        b"\xff\x00",
        b";[",
    ]);
    let pieces = prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat());
    let whole = Just(INVITE.as_bytes().to_vec());
    let changed = (whole, any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut payload, place, byte)| {
            let place = place.index(payload.len());
            payload[place] = byte;
            payload
        },
    );
    prop_oneof![
        pieces,
        changed,
        prop::collection::vec(any::<u8>(), 0..2_000)
    ]
}

proptest! {
    #[test]
    fn texts_are_those_of_the_payload(payload in payloads()) {
        let payload = &payload[..];
        let there = String::from_utf8_lossy(&payload[..payload.len().min(MOST)]).into_owned();
        let Some(summary) = read(payload) else { return Ok(()) };
        prop_assert_ne!(summary.method.is_some(), summary.status.is_some());
        let Summary { method, user, from, user_agent, call_id, number, .. } = summary;
        for text in [&method, &user, &from, &user_agent, &call_id].into_iter().flatten() {
            prop_assert!(there.contains(text.as_str()), "{text:?}");
        }
        // A number is what is left of the user's digits.
        let digits: String = user.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        let number = number.unwrap_or_default();
        let is_escaped = payload.contains(&b'%');
        prop_assert!(is_escaped || digits.contains(number.trim_start_matches('+')), "{number} {digits}");
    }
}
