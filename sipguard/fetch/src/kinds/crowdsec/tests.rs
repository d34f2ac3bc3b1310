//! When all is asked for, over hours that nobody waits for: what answers is no CrowdSec, for that has a clock of its own.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    sync::mpsc::{self, Receiver},
    thread,
};

use sipguard_lists::{
    found::{Head, file_name},
    task::Widest,
};
use tempfile::TempDir;

use super::*;
use crate::{ask::ask, keep::Folder};

/// Asks at moments of a test.
struct World {
    bouncer: Bouncer,
    folder: TempDir,
    asked: Receiver<String>,
}

impl World {
    fn new() -> Self {
        Self::with_news("null")
    }

    /// One whose decisions of this kind are new each time that it is asked what changed.
    fn with_news(news: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (send, asked) = mpsc::channel();
        let answer = move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let line = lines.next().unwrap().unwrap();
                let body = if line.contains("startup=true") {
                    let one = r#"{"id":1,"type":"ban","value":"203.0.113.7","duration":"9h"}"#;
                    format!("{{\"deleted\":null,\"new\":[{one}]}}")
                } else {
                    format!("{{\"deleted\":null,\"new\":{news}}}")
                };
                let length = body.len();
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
                write!(stream, "{head} {length}\r\n\r\n{body}").unwrap();
                // Whoever asked for metrics, too, is answered the same.
                if line.starts_with("GET") && send.send(line).is_err() {
                    break;
                }
            }
        };
        thread::spawn(answer);
        let folder = TempDir::new().unwrap();
        let key_file = folder.path().join("key");
        fs::write(&key_file, "key").unwrap();
        let lapi = CrowdSec {
            url: format!("http://{address}"),
            key_file,
            every: CrowdSec::EVERY,
            insecure: false,
            ca_file: None,
            widest: Widest::default(),
            database: None,
        };
        let bouncer = Bouncer::new(&lapi, &Tasks::none());
        Self {
            bouncer,
            folder,
            asked,
        }
    }

    /// Asks at a second, and tells whether it asked for all.
    fn asks_for_all(&mut self, second: i64) -> bool {
        let folder = Folder::at(self.folder.path());
        let now = Timestamp::from_second(1_800_000_000 + second).unwrap();
        let asked = ask("live", &mut self.bouncer, &folder, 0, now).unwrap();
        assert!(!asked.failed, "{}", asked.told);
        assert!(asked.pause <= Duration::from_secs(10) && asked.pause >= Duration::from_secs(9));
        self.asked.recv().unwrap().contains("startup=true")
    }

    /// Since when the file is as it is.
    fn written(&self) -> i64 {
        self.head().asked.as_second() - 1_800_000_000
    }

    fn head(&self) -> Head {
        let before = Folder::at(self.folder.path()).before("live");
        before.head().unwrap().clone()
    }
}

/// Times have whole seconds.
#[test]
fn what_changes_within_a_second_is_listed_once() {
    let news = r#"[{"id":2,"type":"ban","value":"203.0.113.8","duration":"9h"}]"#;
    let mut world = World::with_news(news);
    assert!(world.asks_for_all(0));
    assert!(!world.asks_for_all(0));
    let before = Folder::at(world.folder.path()).before("live");
    let entries = before.entries().unwrap().into_iter();
    let prefixes: Vec<_> = entries.map(|entry| entry.prefix.to_string()).collect();
    assert_eq!(prefixes, ["203.0.113.7/32", "203.0.113.8/32"]);
}

#[test]
fn all_is_asked_for_every_hour_and_after_gaps() {
    let mut world = World::new();
    assert!(world.asks_for_all(0));
    let changed = world.head().changed;
    for second in (10..3_600).step_by(10) {
        assert!(!world.asks_for_all(second), "{second}");
        // Nothing changes, so that little is written.
        assert_eq!(world.written(), second / 300 * 300);
        let next = world.head().next.as_second() - 1_800_000_000;
        assert!(next >= second, "{second}");
    }
    assert!(world.asks_for_all(3_600));
    assert!(!world.asks_for_all(3_610));
    // The machine slept.
    assert!(!world.asks_for_all(3_909));
    assert!(world.asks_for_all(4_209));
    // The clock was set back.
    assert!(world.asks_for_all(4_000));
    assert!(!world.asks_for_all(4_010));
    let file = world.folder.path().join(file_name("live"));
    // Somebody else took the file away, or wrote it.
    fs::remove_file(&file).unwrap();
    assert!(world.asks_for_all(4_020));
    assert!(!world.asks_for_all(4_030));
    fs::write(&file, "{}").unwrap();
    assert!(world.asks_for_all(4_040));
    let head = world.head();
    assert_eq!(head.said.as_deref(), Some("1 decision"));
    assert!(head.changed > changed);
}
