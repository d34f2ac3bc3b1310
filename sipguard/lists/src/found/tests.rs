use std::{
    io::{self, Read, Write},
    net::IpAddr,
};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn head() -> Head {
    Head {
        answered: Some(at(1_764_365_253)),
        changed: Some(at(1_764_300_000)),
        error: Some("no answer from 192.0.2.53".to_owned()),
        lookups: vec![Lookup {
            name: "sip.provider.example".parse().unwrap(),
            family: Family::Ipv6,
            answered: None,
            said: Some("SERVFAIL".to_owned()),
        }],
        ..Head::new("trunk", at(1_764_365_300), at(1_764_365_553))
    }
}

fn entry(prefix: &str) -> Entry {
    Entry {
        prefix: prefix.parse().unwrap(),
        first: at(1_764_300_000),
        last: at(1_764_365_253),
        end: None,
        comment: None,
    }
}

fn entries() -> Vec<Entry> {
    vec![
        Entry {
            comment: Some("sip.provider.example".to_owned()),
            ..entry("203.0.113.7/32")
        },
        Entry {
            last: at(1_764_365_000),
            end: Some(at(1_764_400_000)),
            comment: Some("\"\u{1b}\n]}".to_owned()),
            ..entry("203.0.113.8/32")
        },
        entry("203.0.113.64/26"),
        entry("2001:db8::/32"),
    ]
}

fn written(head: &Head, entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, head)?;
    for entry in entries {
        writer.entry(entry)?;
    }
    writer.finish()?;
    Ok(bytes)
}

fn read(bytes: impl Read) -> Result<(Head, Vec<Entry>), ReadError> {
    let mut reader = Reader::new(bytes)?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    Ok((reader.head().clone(), entries))
}

#[test]
fn what_is_written_is_read_back_and_is_json() {
    for entries in [entries(), entries()[..1].to_vec(), Vec::new()] {
        let bytes = written(&head(), &entries).unwrap();
        let lines = bytes.split(|&byte| byte == b'\n').count();
        assert_eq!(
            lines,
            entries.len() + 3,
            "one a line, and the newline at the end"
        );
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["entries"].as_array().unwrap().len(), entries.len());
        assert_eq!(read(&*bytes).unwrap(), (head(), entries));
    }
}

#[test]
fn a_line_changes_only_when_its_entry_does() {
    let later = Head {
        asked: at(1_764_370_000),
        answered: Some(at(1_764_370_000)),
        ..head()
    };
    let seen_again = |entry: Entry| Entry {
        last: at(1_764_370_000),
        ..entry
    };
    let text = |head: &Head, entries: &[Entry]| {
        String::from_utf8(written(head, entries).unwrap()).unwrap()
    };
    let before = text(&head(), &[entry("203.0.113.7/32"), entry("203.0.113.8/32")]);
    let after = text(
        &later,
        &[
            seen_again(entry("203.0.113.7/32")),
            seen_again(entry("203.0.113.8/32")),
        ],
    );
    assert_eq!(
        before.split_once('\n').unwrap().1,
        after.split_once('\n').unwrap().1
    );
}

/// Wherever that is.
#[test]
fn nothing_is_read_of_a_file_that_was_cut_off() {
    let bytes = written(&head(), &entries()).unwrap();
    for end in 0..bytes.len() {
        let error = read(&bytes[..end]).unwrap_err();
        assert!(matches!(error, ReadError::CutOff(_)), "{end}: {error}");
    }
}

/// Changes a good file once, and wants it to be refused so.
fn refused(from: &str, to: &str, wanted: &str) {
    let good = String::from_utf8(written(&head(), &entries()).unwrap()).unwrap();
    let bad = good.replacen(from, to, 1);
    assert_ne!(bad, good, "{from}");
    let error = read(bad.as_bytes()).unwrap_err().to_string();
    assert!(error.contains(wanted), "{to}\n{error}\n{wanted}");
    assert!(
        error.chars().all(|letter| !letter.is_control()),
        "{error:?}"
    );
}

#[test]
fn what_is_wrong_with_the_first_line_is_told() {
    for (from, to, wanted) in [
        (
            "\"version\":1",
            "\"version\":2,\"more\":3",
            "has version 2, and this program reads 1",
        ),
        (
            "\"version\":1",
            "\"version\":-1",
            "is damaged in line 1: invalid value: integer -1, expected u32",
        ),
        (
            "\"asked\"",
            "\"esked\"",
            "is damaged in line 1: unknown field esked",
        ),
        (
            "\"source\":\"trunk\"",
            "\"source\":7",
            "is damaged in line 1: invalid type: integer 7, expected a string",
        ),
        ("1764365553", "99999999999999", "is damaged in line 1"),
        (
            "\"answered\":1764365253,\"changed\"",
            "\"answered\":1764365301,\"changed\"",
            "is damaged in line 1: it was answered before it was asked",
        ),
        (
            "\"changed\":1764300000",
            "\"changed\":1764365254",
            "is damaged in line 1: it changed after it was answered",
        ),
        (
            "sip.provider.example\",\"family",
            "sip\",\"family",
            "is damaged in line 1: \\u{22}sip\\u{22} is no whole name",
        ),
        (
            ",\"entries\":[\n",
            ",\"entries\":[],\"x\":[\n",
            "is damaged in line 1: it does not begin as such a file does",
        ),
    ] {
        refused(from, to, wanted);
    }
    let answered = "\"answered\":1764365253,\"changed\":1764300000,";
    refused(
        answered,
        "",
        "is damaged in line 2: it was never answered, and has entries",
    );
}

#[test]
fn what_is_wrong_with_an_entry_is_told() {
    let first = "{\"prefix\":\"203.0.113.7\"";
    for (from, to, wanted) in [
        (
            first,
            "{\"prefix\":\"203.0.113.300\"",
            "is damaged in line 2: 203.0.113.300 is no prefix",
        ),
        (
            first,
            "{\"prefix\":\"203.0.113.7/24\"",
            "is damaged in line 2: 203.0.113.7/24 is no prefix",
        ),
        (
            first,
            "{\"prefix\":\"::ffff:203.0.113.7\"",
            "is damaged in line 2: ::ffff:203.0.113.7 is no prefix",
        ),
        (
            first,
            "{\"prefix\":\"203.0.113.8\"",
            "is damaged in line 3: 203.0.113.8 is not in its place",
        ),
        (
            first,
            "{\"prefix\":\"203.0.113.9\"",
            "is damaged in line 3: 203.0.113.8 is not in its place",
        ),
        (
            first,
            "{\"\\u001b[31m\":1,\"prefix\":\"203.0.113.7\"",
            "is damaged in line 2: unknown field \\u{1b}\\u{5b}31m",
        ),
        (first, "[[[[", "is damaged in line 2"),
        (
            first,
            "\u{feff}{\"prefix\":\"203.0.113.7\"",
            "is damaged in line 2",
        ),
        (
            "\"last\":1764365000",
            "\"last\":1764365254",
            "is damaged in line 3: 203.0.113.8 was seen at times that can't be",
        ),
        (
            "\"last\":1764365000",
            "\"last\":1764299999",
            "is damaged in line 3: 203.0.113.8 was seen at times that can't be",
        ),
        (
            "\"end\":1764400000",
            "\"end\":1e400",
            "is damaged in line 3",
        ),
        (
            "\"end\":1764400000",
            "\"end\":999999999999",
            "is damaged in line 3: 999999999999 is no time",
        ),
        (
            "\"comment\":\"sip.provider.example\"}",
            &format!("\"comment\":\"{}\"}}", "x".repeat(256)),
            "is damaged in line 2: a comment has more than 255 characters",
        ),
        (
            "\"comment\":\"sip.provider.example\"}",
            &format!("\"comment\":\"{}\"}}", "x".repeat(1024)),
            "is damaged in line 2: it has more than 1024 bytes",
        ),
        ("},\n", "}\n", "is damaged in line 3: the end is missing"),
        ("}\n]}\n", "},\n]}\n", "is damaged in line 6"),
        ("}\n]}\n", "}\n]}", "is cut off in line 6"),
        (
            "}\n]}\n",
            "}\n]}\n ",
            "is damaged in line 7: something comes behind the end",
        ),
        (
            "}\n]}\n",
            "}\n\n]}\n",
            "is damaged in line 6: the end is missing",
        ),
    ] {
        refused(from, to, wanted);
    }
}

/// What is handed out piece by piece and never ends: nothing but what was asked for is read of it.
struct Endless<'a> {
    begin: &'a [u8],
    piece: &'a [u8],
    given: usize,
}

impl Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        for byte in buffer {
            let place = self.given;
            *byte = match self.begin.get(place) {
                Some(&byte) => byte,
                None => self.piece[(place - self.begin.len()) % self.piece.len()],
            };
            self.given += 1;
            count += 1;
        }
        Ok(count)
    }
}

#[test]
fn lines_that_do_not_end_are_not_kept() {
    let begin = written(&head(), &entries()).unwrap();
    let line = begin.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    for (begin, limit) in [(&b""[..], MAX_HEAD), (&begin[..line], MAX_LINE)] {
        let mut endless = Endless {
            begin,
            piece: b"x",
            given: 0,
        };
        let error = read(&mut endless).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with(&format!("it has more than {limit} bytes")),
            "{error}"
        );
        assert!(endless.given <= MAX_HEAD + (1 << 17));
    }
}

fn nth(number: u32) -> Entry {
    Entry {
        prefix: IpNet::from(IpAddr::from((0x0100_0000 + number).to_be_bytes())),
        ..entry("0.0.0.0/32")
    }
}

fn write_many(count: u32, out: impl Write) -> io::Result<()> {
    let mut writer = Writer::new(out, &head())?;
    (0..count).try_for_each(|number| writer.entry(&nth(number)))?;
    writer.finish()
}

#[test]
fn a_million_entries_are_the_most() {
    let mut bytes = Vec::new();
    write_many(1_000_000, &mut bytes).unwrap();
    let mut reader = Reader::new(&*bytes).unwrap();
    let mut count = 0;
    while let Some(entry) = reader.next_entry().unwrap() {
        assert_eq!(entry, nth(count));
        count += 1;
    }
    assert_eq!(count, 1_000_000);

    let error = write_many(1_000_001, io::sink()).unwrap_err();
    assert_eq!(error.to_string(), "there are more than 1000000 entries");
    // As somebody else would write it.
    bytes.truncate(bytes.len() - "\n]}\n".len());
    bytes.extend(b",\n{\"prefix\":\"2001:db8::\",\"first\":1764300000}\n]}\n");
    assert!(matches!(read(&*bytes).unwrap_err(), ReadError::TooMany));
}

#[test]
fn sixty_four_mebibytes_are_the_most() {
    let long = |number: u32| Entry {
        comment: Some("x".repeat(MAX_COMMENT)),
        ..nth(number)
    };
    let mut writer = Writer::new(io::sink(), &head()).unwrap();
    let error = (0..)
        .try_for_each(|number| writer.entry(&long(number)))
        .unwrap_err();
    assert_eq!(error.to_string(), "the entries take more than 64 MiB");

    let mut bytes = written(&head(), &[]).unwrap();
    bytes.truncate(bytes.len() - "]}\n".len());
    for number in 0..300_000 {
        let prefix = long(number).prefix.addr();
        let comment = "x".repeat(MAX_COMMENT);
        writeln!(
            bytes,
            "{{\"prefix\":\"{prefix}\",\"first\":1764300000,\"comment\":\"{comment}\"}},"
        )
        .unwrap();
    }
    assert!(matches!(read(&*bytes).unwrap_err(), ReadError::TooLong));
}
