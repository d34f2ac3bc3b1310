//! The messages of RFC 4475, and what is read of them. Whether they are right is nothing that a filter has to judge.

use super::*;

/// Each with its name there, method or status, user of the request's URI, and user of From.
#[rustfmt::skip]
const WANTED: [(&str, &str, Option<&str>, Option<&str>); 49] = [
    ("wsinv", "INVITE", Some("vivekg"), Some("jdrosen")),
    ("intmeth", "!interesting-Method0123456789_*+`.%indeed'~", Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"), Some("mundane")),
    ("esc01", "INVITE", Some("sips%3Auser%40example.com"), Some("I%20have%20spaces")),
    ("escnull", "REGISTER", None, Some("null-%00-null")),
    ("esc02", "RE%47IST%45R", None, Some("resource")),
    ("lwsdisp", "OPTIONS", Some("user"), Some("caller")),
    ("longreq", "INVITE", Some("user"), Some("amazinglylongcallernameamazinglylongcallernameamazinglylongcallernameamazinglylongcallernameamazinglylongcallername")),
    ("dblreq", "REGISTER", None, Some("j.user")),
    ("semiuri", "OPTIONS", Some("user;par=u%40example.net"), Some("caller")),
    ("transports", "OPTIONS", Some("user"), Some("caller")),
    ("mpart01", "MESSAGE", Some("kumiko"), Some("fluffy")),
    ("unreason", "200", None, Some("user")),
    ("noreason", "100", None, Some("user")),
    ("badinv01", "INVITE", Some("user"), Some("caller")),
    ("clerr", "INVITE", Some("user"), Some("caller")),
    ("ncl", "INVITE", Some("user"), Some("caller")),
    ("scalar02", "REGISTER", None, Some("user")),
    ("scalarlg", "503", None, Some("other")),
    ("quotbal", "INVITE", Some("user"), Some("caller")),
    ("ltgtruri", "INVITE", Some("user"), Some("caller")),
    ("lwsruri", "INVITE", Some("user"), Some("caller")),
    ("lwsstart", "INVITE", Some("user"), Some("caller")),
    ("trws", "OPTIONS", Some("remote-target"), Some("local-resource")),
    ("escruri", "INVITE", Some("user"), Some("caller")),
    ("baddate", "INVITE", Some("user"), Some("caller")),
    ("regbadct", "REGISTER", None, Some("user")),
    ("badaspec", "OPTIONS", Some("user"), Some("a.g.bell")),
    ("baddn", "OPTIONS", Some("t.watson"), Some("a.g.bell")),
    ("badvers", "OPTIONS", Some("t.watson"), Some("a.g.bell")),
    ("mismatch01", "OPTIONS", Some("user"), Some("caller")),
    ("mismatch02", "NEWMETHOD", Some("user"), Some("caller")),
    // An answer that is none: its status has ten digits.
    ("bigcode", "", None, None),
    ("badbranch", "OPTIONS", Some("user"), Some("caller")),
    ("insuf", "INVITE", Some("user"), None),
    ("unkscm", "OPTIONS", None, Some("caller")),
    ("novelsc", "OPTIONS", None, Some("caller")),
    ("unksm2", "REGISTER", None, None),
    ("bext01", "OPTIONS", Some("user"), Some("caller")),
    ("invut", "INVITE", Some("user"), Some("caller")),
    ("regaut01", "REGISTER", None, Some("j.user")),
    ("multi01", "INVITE", Some("user"), Some("caller")),
    ("mcl01", "OPTIONS", Some("user"), Some("other")),
    ("bcast", "200", None, Some("user")),
    ("zeromf", "OPTIONS", Some("user"), Some("caller")),
    ("cparam01", "REGISTER", None, Some("watson")),
    ("cparam02", "REGISTER", None, Some("watson")),
    ("regescrt", "REGISTER", None, Some("user")),
    ("sdp01", "INVITE", Some("user"), Some("caller")),
    ("inv2543", "INVITE", Some("UserB"), Some("+13035551111")),
];

/// Name and bytes of each.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let text = include_str!("rfc4475.txt");
    let messages = text.split("\n== ").skip(1);
    let read = |message: &'static str| {
        let (name, lines) = message.split_once('\n').unwrap();
        let mut bytes = Vec::new();
        for line in lines.lines().filter(|line| !line.is_empty()) {
            bytes.extend(unescaped(line));
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"\r\n");
        (name, bytes)
    };
    messages.map(read).collect()
}

fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend(before.bytes());
        let length = if escape.starts_with('x') {
            bytes.push(u8::from_str_radix(&escape[1..3], 16).unwrap());
            3
        } else if let Some(repeat) = escape.strip_prefix('{') {
            let (count, text) = repeat.split_once('*').unwrap();
            let (text, _) = text.split_once('}').unwrap();
            bytes.extend(text.repeat(count.parse().unwrap()).bytes());
            count.len() + text.len() + 3
        } else {
            bytes.push(b'\\');
            1
        };
        rest = &escape[length..];
    }
    bytes.extend(rest.bytes());
    bytes
}

#[test]
fn torture_messages_are_read() {
    let messages = messages();
    assert_eq!(messages.len(), WANTED.len());
    for ((name, message), (wanted, start, user, from)) in messages.iter().zip(WANTED) {
        assert_eq!(*name, wanted);
        let Some(summary) = read(message) else {
            assert_eq!(start, "", "{name}");
            continue;
        };
        let status = summary.status.map(|status| status.to_string());
        assert_eq!(summary.method.or(status).as_deref(), Some(start), "{name}");
        assert_eq!(summary.user.as_deref(), user, "{name}");
        assert_eq!(summary.from.as_deref(), from, "{name}");
        let agent = (*name == "mpart01").then_some("SIPimp.org/0.2.5 (curses)");
        assert_eq!(summary.user_agent.as_deref(), agent, "{name}");
        // Nearly all have their name there; one has no Call-ID.
        let call_id = summary.call_id.unwrap_or_default();
        let begin = match *name {
            "mpart01" => "3d9485ad",
            "insuf" => "",
            name => name,
        };
        assert!(call_id.starts_with(begin), "{name}: {call_id}");
        assert_eq!(call_id.is_empty(), *name == "insuf");
        assert_eq!((summary.number, summary.country), (None, None), "{name}");
    }
}

#[test]
fn torture_messages_cut_off_anywhere_say_nothing_else() {
    for (name, message) in messages() {
        let whole = read(&message).unwrap_or_default();
        for length in 0..message.len() {
            let cut = read(&message[..length]).unwrap_or_default();
            for (part, whole) in [
                (&cut.method, &whole.method),
                (&cut.user, &whole.user),
                (&cut.from, &whole.from),
                (&cut.call_id, &whole.call_id),
            ] {
                assert!(
                    part.is_none() || part == whole,
                    "{name}, {length}: {part:?}"
                );
            }
        }
    }
}
