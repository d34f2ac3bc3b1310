use std::net::IpAddr;

use sipguard_ebpf::abi::LinkKind;

use super::*;
use crate::config;

const GATEWAY: &str = "192.0.2.1";
const PROVIDER: &str = "203.0.113.5";
const PHONE: &str = "198.51.100.50";
const STRANGER: &str = "198.51.100.7";

/// What was said, with others so that nobody doubts which one is the gateway.
struct Story(Learner);

impl Story {
    fn new() -> Self {
        let mut story = Self(Learner::new(&[]));
        for last in 1..=2 {
            let other = format!("10.9.{last}.1");
            story.says(&other, GATEWAY, "OPTIONS", "sip:x@192.0.2.1", "other", "");
        }
        story
    }

    fn packet(&mut self, from: &str, to: &str, text: &str) {
        let packet = Packet {
            source: from.parse().unwrap(),
            destination: to.parse().unwrap(),
            payload: text.as_bytes(),
        };
        self.0.note(&packet, None);
    }

    fn says(&mut self, from: &str, to: &str, method: &str, uri: &str, call: &str, more: &str) {
        let user = uri.split([':', '@']).nth(1).unwrap_or_default();
        let text = format!(
            "{method} {uri} SIP/2.0\r\nFrom: <sip:{user}@x>\r\nTo: <sip:{user}@x>\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n{more}\r\n"
        );
        self.packet(from, to, &text);
    }

    fn answers(&mut self, from: &str, to: &str, status: u16, method: &str, user: &str, call: &str) {
        let text = format!(
            "SIP/2.0 {status} x\r\nFrom: <sip:{user}@x>\r\nTo: <sip:{user}@x>;tag=1\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\nContact: <sip:{user}@10.0.0.9>\r\n\r\n"
        );
        self.packet(from, to, &text);
    }

    /// Someone registers with someone, as often as it takes.
    fn registers(&mut self, from: &str, at: &str, user: &str, statuses: &[u16]) {
        let call = format!("{from}-{user}");
        for status in statuses {
            self.says(
                from,
                at,
                "REGISTER",
                &format!("sip:{user}@gateway"),
                &call,
                "",
            );
            self.answers(at, from, *status, "REGISTER", user, &call);
        }
    }

    fn calls(&mut self, from: &str, to: &str, number: &str, call: &str, status: u16) {
        self.says(from, to, "INVITE", &format!("sip:{number}@x"), call, "");
        self.answers(to, from, status, "INVITE", number, call);
    }

    /// Whom it would let in.
    fn let_in(self) -> Vec<(Source, String)> {
        let findings = self.0.findings();
        assert_eq!(findings.own, [GATEWAY.parse::<IpAddr>().unwrap()]);
        let proposals = findings.proposals.into_iter();
        proposals
            .map(|proposal| (proposal.source, proposal.entry))
            .collect()
    }

    fn provider(self, entry: &str) {
        assert_eq!(self.let_in(), [(Source::Providers, entry.to_owned())]);
    }

    fn nobody(self) {
        assert_eq!(self.let_in(), []);
    }
}

#[test]
fn who_answers_is_a_provider_and_who_registers_a_phone() {
    let mut story = Story::new();
    story.registers(GATEWAY, PROVIDER, "4711", &[401, 200]);
    story.registers(PHONE, GATEWAY, "100", &[401, 200]);
    let wanted = [
        (Source::Providers, PROVIDER.to_owned()),
        (Source::Phones, PHONE.to_owned()),
    ];
    assert_eq!(story.let_in(), wanted);
}

#[test]
fn calls_count_where_they_came_to_somebody() {
    for (status, counts) in [
        (200, true),
        (180, true),
        (486, true),
        (100, false),
        (403, false),
        (407, false),
        (503, false),
    ] {
        for (from, to) in [(GATEWAY, PROVIDER), (PROVIDER, GATEWAY)] {
            let mut story = Story::new();
            story.calls(from, to, "4930123456", "call", status);
            if counts {
                story.provider(PROVIDER);
            } else {
                story.nobody();
            }
        }
    }
}

#[test]
fn names_come_from_what_the_gateway_sends() {
    for (uri, entry) in [
        ("sip:provider.example", "sip:provider.example"),
        ("sip:4930@sip.provider.example:5060", "sip.provider.example"),
        ("sip:PROVIDER.example;transport=udp", "sip:provider.example"),
    ] {
        let mut story = Story::new();
        story.says(GATEWAY, PROVIDER, "REGISTER", uri, "call", "");
        story.answers(PROVIDER, GATEWAY, 200, "REGISTER", "4711", "call");
        let wanted = [entry, PROVIDER].map(|entry| (Source::Providers, entry.to_owned()));
        assert_eq!(story.let_in(), wanted, "{uri}");
    }
    // Addresses, and what is no name, are none.
    for uri in [
        "sip:203.0.113.5",
        "sip:localhost",
        "sip:[2001:db8::7]",
        "sip:a@\"]\n",
    ] {
        let mut story = Story::new();
        story.says(GATEWAY, PROVIDER, "REGISTER", uri, "call", "");
        story.answers(PROVIDER, GATEWAY, 200, "REGISTER", "4711", "call");
        assert!(story.let_in().len() < 2, "{uri}");
    }
}

#[test]
fn a_refusal_is_no_registration_however_often_it_comes() {
    let mut story = Story::new();
    story.registers(PHONE, GATEWAY, "100", &[401; 16]);
    story.registers(STRANGER, GATEWAY, "100", &[403, 404, 400, 503]);
    story.nobody();
}

#[test]
fn a_mistyped_password_keeps_no_office_out_but_guessing_does() {
    let mut story = Story::new();
    story.registers(PHONE, GATEWAY, "100", &[401, 200]);
    story.registers(PHONE, GATEWAY, "101", &[401; 16]);
    assert_eq!(story.let_in(), [(Source::Phones, PHONE.to_owned())]);
    // One password was found in the end.
    let mut story = Story::new();
    for user in 100..120 {
        story.registers(STRANGER, GATEWAY, &user.to_string(), &[401]);
    }
    story.registers(STRANGER, GATEWAY, "120", &[401, 200]);
    story.nobody();
}

#[test]
fn answers_that_nobody_asked_for_count_for_nothing() {
    let mut story = Story::new();
    story.answers(STRANGER, GATEWAY, 200, "REGISTER", "4711", "made-up");
    story.answers(STRANGER, GATEWAY, 200, "INVITE", "4711", "made-up");
    story.says(GATEWAY, STRANGER, "OPTIONS", "sip:x@y", "asked", "");
    story.answers(STRANGER, GATEWAY, 200, "REGISTER", "4711", "another");
    story.nobody();
}

#[test]
fn whom_a_strangers_packet_has_the_gateway_call_is_a_stranger() {
    let relayed = |from: &str| {
        let mut story = Story::new();
        story.registers(PHONE, GATEWAY, "100", &[401, 200]);
        // A proxy sends it on to where its Route says.
        story.says(from, GATEWAY, "INVITE", "sip:1@friend.example", "call", "");
        story.says(
            GATEWAY,
            "203.0.113.99",
            "INVITE",
            "sip:1@friend.example",
            "call",
            "",
        );
        story.answers("203.0.113.99", GATEWAY, 200, "INVITE", "1", "call");
        story.let_in()
    };
    let phone = (Source::Phones, PHONE.to_owned());
    assert_eq!(relayed(STRANGER), std::slice::from_ref(&phone));
    let provider = (Source::Providers, "203.0.113.99".to_owned());
    assert_eq!(relayed(PHONE), [provider, phone]);
}

#[test]
fn a_forged_scan_shuts_no_provider_out() {
    let mut story = Story::new();
    story.registers(GATEWAY, PROVIDER, "4711", &[401, 200]);
    story.says(
        PROVIDER,
        GATEWAY,
        "OPTIONS",
        "sip:100@x",
        "scan",
        "User-Agent: friendly-scanner\r\n",
    );
    story.provider(PROVIDER);
    // But nobody else comes in with such a name.
    let mut story = Story::new();
    story.says(
        STRANGER,
        GATEWAY,
        "INVITE",
        "sip:1@x",
        "call",
        "User-Agent: Friendly-Scanner\r\n",
    );
    story.answers(GATEWAY, STRANGER, 200, "INVITE", "1", "call");
    story.nobody();
}

#[test]
fn several_neighbours_are_a_network_unless_one_of_them_was_refused() {
    let mut story = Story::new();
    for last in [5, 6, 7] {
        let provider = format!("203.0.113.{last}");
        story.calls(&provider, GATEWAY, "4930123456", &provider, 200);
    }
    story.provider("203.0.113.4/30");
    let mut story = Story::new();
    for last in [5, 6, 7] {
        let provider = format!("203.0.113.{last}");
        story.calls(&provider, GATEWAY, "4930123456", &provider, 200);
    }
    story.calls("203.0.113.4", GATEWAY, "1", "refused", 403);
    assert_eq!(story.let_in().len(), 3);
}

#[test]
fn fragments_and_streams_are_read_as_far_as_they_go() {
    let text = b"SIP/2.0 200 OK\r\nCall-ID: x\r\n\r\n";
    let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0x20, 0, 64, 17, 0, 0];
    ip.extend([192, 0, 2, 1, 198, 51, 100, 50]);
    ip.extend([0x13, 0xc4, 0x13, 0xc4, 0xff, 0, 0, 0]);
    ip.extend(text);
    let length = u16::try_from(ip.len()).unwrap().to_be_bytes();
    ip[2..4].copy_from_slice(&length);
    let packet = Packet::read(&ip, LinkKind::Ip).unwrap();
    assert_eq!(packet.payload, text);
    assert_eq!(packet.source, IpAddr::from([192, 0, 2, 1]));
    // The fragment behind it has no ports.
    ip[6..8].copy_from_slice(&[0x20, 0x10]);
    assert_eq!(Packet::read(&ip, LinkKind::Ip), None);
    // On a PPPoE session, on Ethernet.
    ip[6..8].copy_from_slice(&[0, 0]);
    let mut frame = vec![0; 12];
    frame.extend([0x88, 0x64, 0x11, 0, 0, 1, 0, 0, 0, 0x21]);
    frame.extend(&ip);
    assert_eq!(
        Packet::read(&frame, LinkKind::Ethernet).unwrap().payload,
        text
    );

    let mut story = Story::new();
    let before = story.0.messages();
    story.packet(STRANGER, GATEWAY, "l-ID: x\r\nCSeq: 1 INVITE\r\n\r\n");
    assert_eq!(story.0.messages(), before);
}

#[test]
fn a_flood_of_strangers_pushes_out_nobody_who_registered() {
    let mut story = Story::new();
    story.registers(GATEWAY, PROVIDER, "4711", &[401, 200]);
    for number in 0..3 * evidence::PAIRS {
        let [.., a, b, c] = number.to_be_bytes();
        let stranger = format!("10.{a}.{b}.{c}");
        story.says(&stranger, GATEWAY, "OPTIONS", "sip:1@x", &stranger, "");
        story.answers(GATEWAY, &stranger, 200, "OPTIONS", "1", &stranger);
    }
    assert!(story.0.pairs.len() <= evidence::PAIRS + 1);
    story.provider(PROVIDER);
}

#[test]
fn the_config_is_one_and_hostile_texts_are_harmless_in_it() {
    let evil = "\u{1b}[31m\"]\u{202e}'''";
    let mut story = Story::new();
    story.registers(GATEWAY, PROVIDER, evil, &[401, 200]);
    story.registers(PHONE, GATEWAY, evil, &[401, 200]);
    let agent = format!("User-Agent: sipcli {evil}\r\n ]\r\n");
    story.says(
        STRANGER,
        GATEWAY,
        "INVITE",
        "sip:0044190491105@x",
        "z",
        &agent,
    );
    let mut text = Vec::new();
    let findings = story.0.findings();
    findings
        .write_config(&mut text, "a test", Some("eth0"))
        .unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.bytes()
            .all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)),
        "{text}"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, &text).unwrap();
    let policy = config::load(file.path()).unwrap();
    assert_eq!(policy.entries.len(), 2, "{text}");
    // Where there is nobody to let in, the file lets nobody in, and guards nothing.
    let mut text = Vec::new();
    Story::new()
        .0
        .findings()
        .write_config(&mut text, "a test", None)
        .unwrap();
    std::fs::write(&file, &text).unwrap();
    assert!(config::load(file.path()).unwrap().entries.is_empty());
}
