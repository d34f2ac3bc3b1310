//! What is sent: one notice, or several of a kind together.

use rustix::system::uname;
use serde_json::{Value, json};
use sipguard_lists::{
    notice::{Notice, Spool},
    said::Said,
};

/// The most notices of which all is told in one message; of those before them, the number.
const MOST: usize = 50;
/// The most characters of a subject.
const SUBJECT: usize = 120;

/// See the module. At least one notice, in their order.
#[derive(Clone, Debug)]
pub(super) struct Message<'s> {
    pub(super) spool: &'s Spool,
    pub(super) kind: &'s str,
    pub(super) notices: Vec<&'s Notice>,
    /// How many are gone that were to be sent before.
    pub(super) lost: u64,
    /// Whether it is a while ago, so that who reads it has to know when.
    pub(super) is_late: bool,
}

impl Message<'_> {
    /// By it a receiver knows what he has already.
    pub(super) fn id(&self) -> String {
        self.spool
            .id(self.notices.last().map_or(0, |last| last.number))
    }

    /// In one line that is not too long.
    pub(super) fn subject(&self) -> String {
        shortened(&self.headline())
    }

    fn headline(&self) -> String {
        let host = host();
        let last = self.notices.last();
        let text = match last {
            Some(last) if self.is_late => line(last),
            last => plain(last.map_or("", |last| &last.text)),
        };
        match self.notices.len() {
            0 | 1 => format!("{host}: {text}"),
            count => {
                let kind = plain(&self.kind.replace('_', " "));
                format!("{host}: {count} times {kind}: {text}")
            }
        }
    }

    /// In as many lines as it takes.
    pub(super) fn text(&self) -> String {
        let mut lines = Vec::new();
        if self.notices.len() > MOST {
            lines.push(format!("{} more before these", self.notices.len() - MOST));
        }
        for notice in self.told() {
            lines.push(line(notice));
        }
        if self.lost > 0 {
            lines.push(format!(
                "{} before this were lost: they could not be sent for too long",
                self.lost
            ));
        }
        lines.join("\n")
    }

    /// For programs; docs/notices.md has the form.
    pub(super) fn json(&self) -> Value {
        let text = match (self.notices.len(), self.lost) {
            (0 | 1, 0) => self.headline(),
            _ => format!("{}\n{}", self.headline(), self.text()),
        };
        // Some chats call everybody who is named so, whoever named him.
        let text = text.replace('@', "\\u{40}");
        let notices = self.told().map(|notice| {
            json!({
                "id": self.spool.id(notice.number), "time": notice.time, "kind": notice.kind, "severity": notice.severity,
                "text": plain(&notice.text), "fields": notice.fields,
            })
        });
        json!({
            "text": text, "id": self.id(), "host": host(), "kind": self.kind, "count": self.notices.len(), "lost": self.lost,
            "notices": notices.collect::<Vec<_>>(),
        })
    }

    /// The last ones.
    fn told(&self) -> impl Iterator<Item = &Notice> {
        let before = self.notices.len().saturating_sub(MOST);
        self.notices.iter().skip(before).copied()
    }
}

/// What this host calls itself.
pub(super) fn host() -> String {
    Said(&uname().nodename().to_string_lossy()).to_string()
}

/// A notice, and when it was.
fn line(notice: &Notice) -> String {
    let time = notice.time.strftime("%Y-%m-%d %H:%M:%SZ");
    format!("{time} {}", plain(&notice.text))
}

/// The agent has made harmless what others said. Whatever it is, it stays on its line.
fn plain(text: &str) -> String {
    text.chars()
        .map(|it| {
            if it == ' ' || it.is_ascii_graphic() {
                it
            } else {
                '?'
            }
        })
        .collect()
}

fn shortened(text: &str) -> String {
    if text.len() <= SUBJECT {
        return text.to_owned();
    }
    // It is ASCII, but for what can't be.
    let cut: String = text.chars().take(SUBJECT).collect();
    format!("{cut}...")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;

    fn spool(count: u64) -> Spool {
        let mut spool = Spool::new("18b".to_owned());
        spool.notices.extend((1..=count).map(|number| Notice {
            number,
            time: Timestamp::UNIX_EPOCH,
            kind: "provider_moved".to_owned(),
            severity: "error".to_owned(),
            text: format!("provider number {number}\nSubject: moved\u{1b}"),
            fields: BTreeMap::from([("address".to_owned(), "198.51.100.9".to_owned())]),
            wanted_by: Vec::new(),
        }));
        spool
    }

    fn message(spool: &Spool, lost: u64) -> Message<'_> {
        Message {
            spool,
            kind: "provider_moved",
            notices: spool.notices.iter().collect(),
            lost,
            is_late: false,
        }
    }

    #[test]
    fn one_that_waited_says_when_it_was_and_none_calls_anybody() {
        let mut spool = spool(1);
        spool.notices[0].text = "@channel banned 198.51.100.9".to_owned();
        let message = Message {
            is_late: true,
            ..message(&spool, 0)
        };
        let said = "1970-01-01 00:00:00Z @channel banned 198.51.100.9";
        assert_eq!(message.subject(), format!("{}: {said}", host()));
        let json = message.json();
        let text = json["text"].as_str().unwrap();
        assert_eq!(text, message.subject().replace('@', "\\u{40}"));
    }

    #[test]
    fn one_notice_is_a_sentence() {
        let spool = spool(1);
        let message = message(&spool, 0);
        let host = host();
        assert_eq!(
            message.subject(),
            format!("{host}: provider number 1?Subject: moved?")
        );
        assert_eq!(
            message.text(),
            "1970-01-01 00:00:00Z provider number 1?Subject: moved?"
        );
        assert_eq!(
            message.json(),
            json!({
                "text": message.subject(), "id": "18b-1", "host": host, "kind": "provider_moved", "count": 1, "lost": 0,
                "notices": [{
                    "id": "18b-1", "time": "1970-01-01T00:00:00Z", "kind": "provider_moved", "severity": "error",
                    "text": "provider number 1?Subject: moved?", "fields": { "address": "198.51.100.9" },
                }],
            })
        );
    }

    #[test]
    fn of_many_the_last_ones_are_told_and_how_many_there_are() {
        let spool = spool(100);
        let message = message(&spool, 7);
        assert!(
            message
                .subject()
                .contains(": 100 times provider moved: provider number 100?")
        );
        assert_eq!(message.id(), "18b-100");
        let text = message.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), MOST + 2);
        assert_eq!(lines[0], "50 more before these");
        assert!(lines[1].contains("number 51?"), "{text}");
        assert!(text.ends_with("7 before this were lost: they could not be sent for too long"));
        let json = message.json();
        assert_eq!(json["notices"].as_array().map(Vec::len), Some(MOST));
        assert_eq!((&json["count"], &json["lost"]), (&json!(100), &json!(7)));
        assert!(json["text"].as_str().unwrap().ends_with(&text));
    }
}
