use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr},
    os::{
        fd::AsRawFd as _,
        unix::{fs::symlink, net::UnixListener},
    },
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use sipguard_lists::{
    found::{Family, Lookup, MAX_BYTES, Writer},
    task::{Countries, CrowdSec, Etcd, Kind, Names, Url, Widest},
};
use tempfile::TempDir;

use super::*;

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn task() -> Task {
    Task {
        source: "trunk".to_owned(),
        kind: Kind::Names(Names {
            names: ["sip.provider.example", "sip:provider.example"]
                .map(|name| name.parse().unwrap())
                .into(),
            hold: Names::HOLD,
            private: false,
        }),
    }
}

fn head() -> Head {
    Head {
        answered: Some(at(NOW - 10)),
        changed: Some(at(NOW - 1000)),
        lookups: vec![Lookup {
            name: "sip.provider.example".parse().unwrap(),
            family: Family::Ipv4,
            answered: Some(at(NOW - 10)),
            said: None,
        }],
        ..Head::new("trunk", at(NOW - 10), at(NOW + 50))
    }
}

fn entry(prefix: &str) -> Entry {
    Entry {
        prefix: prefix.parse().unwrap(),
        first: at(NOW - 1000),
        last: at(NOW - 10),
        end: None,
        comment: Some("sip.provider.example".to_owned()),
    }
}

/// Both folders, and the last good copy.
struct Both {
    task: Task,
    fetcher: TempDir,
    own: TempDir,
}

impl Both {
    fn empty(task: Task) -> Self {
        Self {
            task,
            fetcher: TempDir::new().unwrap(),
            own: TempDir::new().unwrap(),
        }
    }

    fn new() -> Self {
        let both = Self::empty(task());
        both.find(&head(), &[entry("203.0.113.7/32")]);
        assert_eq!(both.take().unwrap(), ["203.0.113.7/32"]);
        both
    }

    fn file(&self) -> PathBuf {
        self.fetcher.path().join("trunk.json")
    }

    fn copies(&self) -> Copies {
        Copies::at(self.own.path().join("sources"))
    }

    /// The fetcher writes a file.
    fn find(&self, head: &Head, entries: &[Entry]) {
        let mut writer = Writer::new(File::create(self.file()).unwrap(), head).unwrap();
        for entry in entries {
            writer.entry(entry).unwrap();
        }
        writer.finish().unwrap();
    }

    fn take(&self) -> Result<Vec<String>, String> {
        self.take_at(NOW)
    }

    fn take_at(&self, now: i64) -> Result<Vec<String>, String> {
        self.take_as(Accept::Alike, now)
    }

    fn take_as(&self, accept: Accept, now: i64) -> Result<Vec<String>, String> {
        let circumstances = Circumstances {
            now: at(now),
            own: &["198.51.100.1".parse().unwrap()],
        };
        let outcome = take(
            self.fetcher.path(),
            &self.copies(),
            &self.task,
            accept,
            circumstances,
        );
        match outcome {
            Ok(outcome) => {
                let outcome = outcome.ok_or("nothing was found")?;
                let before = self.last_good();
                outcome.copy.unwrap().keep().unwrap();
                let taken = self.last_good();
                assert_eq!(outcome.entries, taken.len());
                let is_new = |prefix: &&String| !before.contains(prefix);
                let new = outcome
                    .changes
                    .new
                    .iter()
                    .map(|(prefix, _)| prefix.to_string());
                assert!(new.eq(taken.iter().filter(is_new).cloned()));
                let is_gone = |prefix: &&String| !taken.contains(prefix);
                let gone = outcome.changes.gone.iter().map(ToString::to_string);
                assert!(gone.eq(before.iter().filter(is_gone).cloned()));
                Ok(taken)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn last_good(&self) -> Vec<String> {
        let mut read = Vec::new();
        let circumstances = Circumstances {
            now: at(0),
            own: &[],
        };
        self.copies()
            .read(&self.task, circumstances, |entry| {
                read.push(entry.prefix.to_string());
            })
            .unwrap();
        read
    }

    /// Whatever stands there is refused with these words, and the last good copy stays.
    fn refuses(&self, wanted: &str) {
        let error = self.take().unwrap_err();
        let wanted = format!(
            "what the fetcher found for trunk is refused: {} {wanted}",
            self.file().display()
        );
        assert_eq!(error, wanted);
        assert_eq!(self.last_good(), ["203.0.113.7/32"]);
        assert_eq!(
            fs::read_dir(self.own.path().join("sources"))
                .unwrap()
                .count(),
            1
        );
    }

    fn refuses_entry(&self, entry: Entry, wanted: &str) {
        // Where only the last one is wrong, nothing is taken either.
        self.find(&head(), &[self::entry("1.2.3.4/32"), entry]);
        self.refuses(wanted);
    }
}

#[test]
fn what_was_found_is_taken_and_kept() {
    let both = Both::new();
    both.find(
        &head(),
        &[
            entry("203.0.113.7/32"),
            entry("203.0.113.8/32"),
            entry("2001:db8::7/128"),
        ],
    );
    assert_eq!(
        both.take().unwrap(),
        ["203.0.113.7/32", "203.0.113.8/32", "2001:db8::7/128"]
    );
    // An empty answer is an answer.
    both.find(&head(), &[]);
    assert!(both.take().unwrap().is_empty());
    fs::remove_file(both.file()).unwrap();
    assert_eq!(both.take().unwrap_err(), "nothing was found");
    let elsewhere = Both::empty(task());
    fs::remove_dir(elsewhere.fetcher.path()).unwrap();
    assert_eq!(elsewhere.take().unwrap_err(), "nothing was found");
    assert!(elsewhere.last_good().is_empty());
}

#[test]
fn names_that_are_not_asked_for_any_more_are_left_out() {
    let both = Both::new();
    let old = Entry {
        comment: Some("old.provider.example".to_owned()),
        ..entry("203.0.113.8/32")
    };
    both.find(&head(), &[entry("203.0.113.7/32"), old]);
    assert_eq!(both.take().unwrap(), ["203.0.113.7/32"]);
}

#[test]
fn copies_go_with_their_sources() {
    let both = Both::new();
    both.copies().keep_only(&[task()]).unwrap();
    assert_eq!(both.last_good(), ["203.0.113.7/32"]);
    both.copies().keep_only(&[]).unwrap();
    assert!(both.last_good().is_empty());
}

/// What is in force does not wait for the disk.
#[test]
fn what_can_not_be_copied_is_read_all_the_same() {
    for target in ["/dev/full", "/nowhere/at/all"] {
        let both = Both::new();
        let sources = both.own.path().join("sources");
        let copy = fs::read_dir(&sources).unwrap().next().unwrap().unwrap();
        let mut new = copy.path().into_os_string();
        new.push(".new");
        symlink(target, new).unwrap();
        both.find(&head(), &[entry("203.0.113.8/32")]);
        let circumstances = Circumstances {
            now: at(NOW),
            own: &[],
        };
        let outcome = take(
            both.fetcher.path(),
            &both.copies(),
            &task(),
            Accept::Alike,
            circumstances,
        );
        let outcome = outcome.unwrap().unwrap();
        assert_eq!(outcome.entries, 1);
        let unsaved = outcome.copy.unwrap_err().to_string();
        assert!(unsaved.starts_with("cannot write "), "{unsaved}");
        assert_eq!(both.last_good(), ["203.0.113.7/32"]);
    }
}

#[test]
fn nothing_but_plain_files_is_opened() {
    let both = Both::new();
    let elsewhere = both.own.path().join("elsewhere");
    both.find(&head(), &[entry("203.0.113.8/32")]);
    fs::rename(both.file(), &elsewhere).unwrap();
    for target in [&*elsewhere, Path::new("/dev/zero"), Path::new("/nowhere")] {
        symlink(target, both.file()).unwrap();
        both.refuses("is not a plain file but a link");
        fs::remove_file(both.file()).unwrap();
    }
    mknodat(CWD, both.file(), FileType::Fifo, Mode::RWXU, 0).unwrap();
    both.refuses("is not a plain file but a FIFO");
    fs::remove_file(both.file()).unwrap();
    let socket = UnixListener::bind(both.file()).unwrap();
    both.refuses("is not a plain file but a socket");
    drop(socket);
    fs::remove_file(both.file()).unwrap();
    fs::create_dir(both.file()).unwrap();
    both.refuses("is not a plain file but a folder");

    let linked = both.own.path().join("fetcher");
    symlink(both.fetcher.path(), &linked).unwrap();
    let error = open(&linked, "trunk").unwrap_err().to_string();
    assert_eq!(
        error,
        "is in a folder that can't be opened: Not a directory (os error 20)"
    );
}

/// Whoever opens a file that has a lease on it waits until its owner lets go of that, 45 seconds at most.
#[test]
fn nothing_is_waited_for() {
    /// include/uapi/asm-generic/fcntl.h
    const F_SETSIG: i32 = 10;

    let both = Both::new();
    let file = File::options().write(true).open(both.file()).unwrap();
    let set = |command, value: i32| {
        // SAFETY: neither command takes a pointer.
        let outcome = unsafe { libc::fcntl(file.as_raw_fd(), command, value) };
        assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
    };
    // The signal that somebody waits is to be one that does nothing.
    set(F_SETSIG, libc::SIGURG);
    set(libc::F_SETLEASE, libc::F_WRLCK);
    both.refuses("is held by another process");
}

#[test]
fn sizes_that_are_refused() {
    let both = Both::new();
    let file = File::create(both.file()).unwrap();
    // A hole of this size takes no room on the disk.
    file.set_len(MAX_BYTES + 1).unwrap();
    both.refuses("has more than 64 MiB");
    file.set_len(1 << 40).unwrap();
    both.refuses("has more than 64 MiB");
    file.set_len(MAX_BYTES).unwrap();
    both.refuses("is damaged in line 1: it has more than 1048576 bytes");
    file.set_len(0).unwrap();
    both.refuses("is cut off in line 1");

    // Ten million of the shortest lines that could be entries.
    both.find(&head(), &[]);
    let mut file = File::options().append(true).open(both.file()).unwrap();
    file.write_all(&b"{},\n".repeat(10_000_000)).unwrap();
    both.refuses("is damaged in line 3: something comes behind the end");
    let text = fs::read_to_string(both.file()).unwrap();
    fs::write(both.file(), text.replacen("\n]}\n", "\n", 1)).unwrap();
    both.refuses("is damaged in line 2: missing field prefix");

    // Half a line.
    both.find(&head(), &[entry("1.2.3.4/32"), entry("203.0.113.8/32")]);
    let text = fs::read_to_string(both.file()).unwrap();
    fs::write(both.file(), &text[..text.len() - 20]).unwrap();
    both.refuses("is cut off in line 3");
}

#[test]
fn what_the_first_line_may_not_say() {
    let both = Both::new();
    let refuses = |head: &Head, wanted: &str| {
        both.find(head, &[entry("203.0.113.8/32")]);
        both.refuses(wanted);
    };
    refuses(
        &Head {
            version: 2,
            ..head()
        },
        "has version 2, and this program reads 1",
    );
    refuses(
        &Head {
            source: "providers\u{1b}".to_owned(),
            ..head()
        },
        "is of the source providers\\u{1b}",
    );
    refuses(
        &Head {
            asked: at(NOW + 3601),
            ..head()
        },
        "says that it was asked for at 2027-01-15T09:00:01Z, and it is 2027-01-15T08:00:00Z now",
    );
    // Year 9999 and 1970, as clocks that were never set have them.
    let end = Timestamp::MAX.as_second();
    refuses(
        &Head {
            asked: at(end),
            answered: Some(at(end)),
            changed: Some(at(end)),
            next: at(end),
            ..head()
        },
        "says that it was asked for at 9999-12-30T22:00:00Z, and it is 2027-01-15T08:00:00Z now",
    );
    refuses(
        &Head {
            asked: at(0),
            answered: None,
            changed: None,
            next: at(60),
            ..head()
        },
        "says that it was asked for at 1970-01-01T00:00:00Z, and it is 2027-01-15T08:00:00Z now",
    );
    refuses(
        &Head {
            changed: Some(at(-99)),
            ..head()
        },
        "says that it changed at 1969-12-31T23:58:21Z, and it is 2027-01-15T08:00:00Z now",
    );
    refuses(
        &Head {
            next: at(NOW + 40 * 86_400),
            ..head()
        },
        "says that it was asked for at 2027-01-15T07:59:50Z, and will be again at 2027-02-24T08:00:00Z",
    );
    refuses(
        &Head {
            next: at(NOW - 11),
            ..head()
        },
        "says that it was asked for at 2027-01-15T07:59:50Z, and will be again at 2027-01-15T07:59:49Z",
    );
    refuses(
        &Head {
            error: Some("x".repeat(501)),
            ..head()
        },
        "has a message of more than 500 characters",
    );
    let [lookup] = &head().lookups[..] else {
        panic!("there is one")
    };
    refuses(
        &Head {
            lookups: vec![lookup.clone(), lookup.clone()],
            ..head()
        },
        "says twice what became of sip.provider.example",
    );
    let late = Lookup {
        answered: Some(at(NOW + 9999)),
        ..lookup.clone()
    };
    refuses(
        &Head {
            lookups: vec![late],
            ..head()
        },
        "says that a name was answered at 2027-01-15T10:46:39Z, and it is 2027-01-15T08:00:00Z now",
    );
    // What never was answered has no entries.
    let text = "{\"version\":1,\"source\":\"trunk\",\"asked\":1799999990,\"next\":1799999990,\"entries\":[\n{\"prefix\":\"203.0.113.8\",\"first\":1799999990}\n]}\n";
    fs::write(both.file(), text).unwrap();
    both.refuses("is damaged in line 2: it was never answered, and has entries");
}

#[test]
fn clocks_that_differ_a_little_do_no_harm() {
    let both = Both::new();
    both.find(&head(), &[entry("203.0.113.7/32")]);
    assert!(both.take_at(NOW - 3600).is_ok());
    assert!(
        both.take_at(NOW + 365 * 86_400).is_ok(),
        "an old answer is an answer"
    );
    assert!(both.take_at(Timestamp::MAX.as_second()).is_ok());
}

#[test]
fn what_an_entry_may_not_say() {
    let both = Both::new();
    for (prefix, wanted) in [
        (
            "128.0.0.0/1",
            "has 128.0.0.0/1, and a name has single addresses only",
        ),
        (
            "203.0.113.8/31",
            "has 203.0.113.8/31, and a name has single addresses only",
        ),
        ("::/0", "has ::/0, and a name has single addresses only"),
        (
            "2001:db8::/127",
            "has 2001:db8::/127, and a name has single addresses only",
        ),
        ("127.0.0.1/32", "has 127.0.0.1, a loopback address"),
        ("224.0.0.1/32", "has 224.0.0.1, a multicast address"),
        (
            "192.168.0.1/32",
            "has 192.168.0.1, a private address, and the source does not say `private = true`",
        ),
        (
            "64:ff9b::1/128",
            "has 64:ff9b::1, a translated IPv4 address",
        ),
        (
            "198.51.100.1/32",
            "has 198.51.100.1, an address of this host",
        ),
    ] {
        both.refuses_entry(entry(prefix), wanted);
    }
    both.find(&head(), &[entry("0.0.0.0/0")]);
    both.refuses("has 0.0.0.0/0, and a name has single addresses only");
    both.refuses_entry(
        Entry {
            comment: None,
            ..entry("203.0.113.8/32")
        },
        "has 203.0.113.8, and does not say of which name",
    );
    both.refuses_entry(
        Entry {
            comment: Some("anything\u{1b}".to_owned()),
            ..entry("203.0.113.8/32")
        },
        "has 203.0.113.8, and does not say of which name",
    );
    both.refuses_entry(
        Entry {
            end: Some(at(NOW + 10)),
            ..entry("203.0.113.8/32")
        },
        "has 203.0.113.8 with an end, and entries of this kind have none",
    );
    both.refuses_entry(
        Entry {
            first: at(0),
            ..entry("203.0.113.8/32")
        },
        "says that an entry was seen at 1970-01-01T00:00:00Z, and it is 2027-01-15T08:00:00Z now",
    );
}

#[test]
fn more_addresses_than_are_kept_are_refused() {
    let both = Both::new();
    let many = |count: u32| -> Vec<Entry> {
        let first = u32::from(Ipv4Addr::new(203, 0, 113, 0));
        (first..first + count)
            .map(|number| Entry {
                prefix: IpAddr::from(number.to_be_bytes()).into(),
                ..entry("0.0.0.0/32")
            })
            .collect()
    };
    both.find(&head(), &many(513));
    both.refuses("has more than 512 addresses of one kind for sip.provider.example");
    // Each name, and each family, for itself.
    let mut all = many(512);
    let other = Entry {
        comment: Some("sip:provider.example".to_owned()),
        ..entry("203.0.119.0/32")
    };
    all.extend([other, entry("2001:db8::7/128")]);
    both.find(&head(), &all);
    assert_eq!(both.take().unwrap().len(), 514);
}

const URL: &str = "https://feeds.example/voip.txt";

fn list() -> Task {
    Task {
        source: "trunk".to_owned(),
        kind: Kind::Url(Url {
            url: URL.to_owned(),
            every: Url::EVERY,
            insecure: false,
            ca_file: None,
            path: None,
            tolerate: 0,
            widest: Widest::default(),
        }),
    }
}

fn fleet() -> Task {
    Task {
        source: "trunk".to_owned(),
        kind: Kind::Etcd(Etcd {
            endpoints: vec!["https://etcd1.example:2379".to_owned()],
            key: "/sipguard/providers".to_owned(),
            insecure: false,
            ca_file: None,
            user: None,
            widest: Widest::default(),
        }),
    }
}

fn list_head(task: &Task) -> Head {
    Head {
        url: task.kind.url().map(Cow::into_owned),
        lookups: Vec::new(),
        ..head()
    }
}

fn listed(prefixes: &[&str]) -> Vec<Entry> {
    let listed = |prefix: &&str| Entry {
        comment: None,
        ..entry(prefix)
    };
    prefixes.iter().map(listed).collect()
}

#[test]
fn what_a_list_may_not_have() {
    for task in [list(), fleet()] {
        refuses_of_a_list(&task);
    }
}

fn refuses_of_a_list(task: &Task) {
    let list_head = || list_head(task);
    let both = Both::empty(task.clone());
    both.find(&list_head(), &listed(&["203.0.112.0/20", "2001:db8::/32"]));
    assert_eq!(both.take().unwrap().len(), 2);
    let refuses = |head: &Head, entries: &[Entry], wanted: &str| {
        both.find(head, entries);
        let error = both.take().unwrap_err();
        assert!(error.ends_with(wanted), "{error}\n{wanted}");
        assert_eq!(both.last_good(), ["203.0.112.0/20", "2001:db8::/32"]);
    };
    let wide =
        "which is wider than this source may be; `widest` in the config says how wide that is";
    for (prefix, why) in [
        ("0.0.0.0/0", wide),
        ("128.0.0.0/1", wide),
        ("203.0.0.0/11", wide),
        ("2001:d80::/27", wide),
        (
            "198.51.100.0/24",
            "which holds this host's own address 198.51.100.1",
        ),
    ] {
        let prefix: ipnet::IpNet = prefix.parse().unwrap();
        let entries = listed(&[&prefix.trunc().to_string()]);
        refuses(
            &list_head(),
            &entries,
            &format!("has {}, {why}", prefix.trunc()),
        );
    }
    let ends = Entry {
        end: Some(at(NOW + 10)),
        ..listed(&["203.0.112.0/20"]).remove(0)
    };
    refuses(
        &list_head(),
        &[ends],
        "has 203.0.112.0/20 with an end, and entries of this kind have none",
    );
    // Another list's says nothing of this one.
    for url in [None, Some("https://feeds.example/other.txt".to_owned())] {
        let other = Head { url, ..list_head() };
        both.find(&other, &listed(&["203.0.112.0/20"]));
        assert_eq!(both.take(), Err("nothing was found".to_owned()));
    }
    refuses(
        &Head {
            etag: Some("x".repeat(501)),
            ..list_head()
        },
        &[],
        "has a message of more than 500 characters",
    );
}

#[test]
fn what_somebody_keeps_in_etcd_may_become_anything_at_once() {
    let both = Both::empty(fleet());
    for count in [1, 200, 2, 0, 10] {
        let hosts = (0..count).map(|host| format!("203.0.113.{host}/32"));
        let hosts: Vec<_> = hosts.collect();
        let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
        both.find(&list_head(&both.task), &listed(&hosts));
        assert_eq!(both.take().unwrap().len(), count);
    }
}

#[test]
fn a_list_that_halved_or_doubled_waits_for_somebody_to_look_at_it() {
    let both = Both::empty(list());
    let hosts = |count: u8| -> Vec<String> {
        (0..count)
            .map(|host| format!("203.0.113.{host}/32"))
            .collect()
    };
    let find = |prefixes: &[String]| {
        let prefixes: Vec<_> = prefixes.iter().map(String::as_str).collect();
        both.find(&list_head(&both.task), &listed(&prefixes));
    };
    find(&hosts(10));
    assert_eq!(
        both.take().unwrap().len(),
        10,
        "the first one is taken whatever it has"
    );
    for (count, taken) in [
        (0, false),
        (5, false),
        (6, true),
        (10, true),
        (19, true),
        (20, false),
        (200, false),
    ] {
        find(&hosts(10));
        both.take_as(Accept::Any, NOW).unwrap();
        find(&hosts(count));
        assert_eq!(both.take().is_ok(), taken, "{count}");
    }
    find(&hosts(0));
    let error = both.take().unwrap_err();
    let wanted = "has 0 entries, and had 10 entries, 10 IPv4 addresses; if that is right, `sipguard refresh trunk --accept` takes it";
    assert!(error.ends_with(wanted), "{error}");
    // As many entries as before, which cover more.
    let mut wider = hosts(10);
    wider[9] = "203.0.113.64/26".to_owned();
    find(&wider);
    assert!(
        both.take()
            .unwrap_err()
            .contains("has 10 entries, 73 IPv4 addresses")
    );
    let mut inside = hosts(10);
    inside[0] = "203.0.113.0/29".to_owned();
    find(&inside);
    assert_eq!(both.take().unwrap().len(), 10);
    // The other family may come, and not go.
    let with_ipv6 = [hosts(10), vec!["2001:db8::/48".to_owned()]].concat();
    find(&with_ipv6);
    assert_eq!(both.take().unwrap().len(), 11);
    find(&hosts(11));
    assert!(both.take().is_err());
    assert_eq!(both.take_as(Accept::Any, NOW).unwrap().len(), 11);
    // A copy of another list says nothing about this one.
    let mut other = both.task.clone();
    match &mut other.kind {
        Kind::Url(list) => "https://feeds.example/other.txt".clone_into(&mut list.url),
        Kind::Etcd(fleet) => "/sipguard/".clone_into(&mut fleet.key),
        Kind::Names(_) | Kind::CrowdSec(_) | Kind::Countries(_) => panic!("it is a list"),
    }
    let both = Both {
        task: other,
        ..both
    };
    assert!(both.last_good().is_empty());
}

const LAPI: &str = "http://127.0.0.1:8080";

/// One wrong decision, which anybody who reports to the same LAPI may bring about, keeps no other out of force.
#[test]
fn what_decisions_may_be() {
    let both = Both::empty(Task {
        source: "trunk".to_owned(),
        kind: Kind::CrowdSec(CrowdSec {
            url: LAPI.to_owned(),
            key_file: "/etc/sipguard/crowdsec.key".into(),
            every: CrowdSec::EVERY,
            insecure: false,
            ca_file: None,
            widest: Widest::default(),
            database: None,
        }),
    });
    let head = list_head(&both.task);
    let ban = |prefix: &str, end| Entry {
        end: Some(at(end)),
        comment: Some("crowdsecurity/ssh-bf\u{1b}".to_owned()),
        ..entry(prefix)
    };
    let good = ["203.0.112.0/20", "203.0.113.7/32", "2001:db8::7/128"];
    // One that is over, and one that ends with time itself.
    let ends = [NOW - 5, Timestamp::MAX.as_second(), NOW + 60];
    let bans = || good.iter().zip(ends).map(|(prefix, end)| ban(prefix, end));
    let own = ["198.51.100.0/24", "198.51.100.1/32"];
    let own = own.iter().map(|prefix| ban(prefix, NOW));
    both.find(&head, &own.chain(bans()).collect::<Vec<_>>());
    assert_eq!(both.take().unwrap(), good);
    let circumstances = Circumstances {
        now: at(NOW),
        own: &["198.51.100.1".parse().unwrap()],
    };
    let taken = take(
        both.fetcher.path(),
        &both.copies(),
        &both.task,
        Accept::Alike,
        circumstances,
    );
    let left_out = taken.unwrap().unwrap().left_out.unwrap();
    assert_eq!(left_out.entries, 2);
    assert_eq!(
        left_out.why.to_string(),
        "has 198.51.100.0/24, which holds this host's own address 198.51.100.1"
    );

    for prefix in ["0.0.0.0/0", "128.0.0.0/1", "16.0.0.0/11", "2001:da0::/27"] {
        both.find(&head, &[ban(prefix, NOW)]);
        let error = both.take().unwrap_err();
        let wanted = format!("has {prefix}, which is wider than this source may be");
        assert!(error.contains(&wanted), "{error}");
        assert_eq!(both.last_good(), good);
    }
    // Where a database says what a country is, no more than a country can be.
    let mut task = both.task.clone();
    let Kind::CrowdSec(lapi) = &mut task.kind else {
        panic!("it is one")
    };
    lapi.database = Some("/usr/share/GeoIP/country.mmdb".into());
    let with_database = Both::empty(task);
    for (prefix, is_taken) in [
        ("16.0.0.0/6", true),
        ("16.0.0.0/5", false),
        ("2a00::/9", false),
    ] {
        with_database.find(&head, &[ban(prefix, NOW)]);
        assert_eq!(with_database.take().is_ok(), is_taken, "{prefix}");
    }
    // All of them may end at any time, and come back.
    both.find(&head, &[]);
    assert!(both.take().unwrap().is_empty());
    both.find(&head, &bans().collect::<Vec<_>>());
    assert_eq!(both.take().unwrap(), good);
    let elsewhere = Head {
        url: Some("http://192.0.2.1:8080".to_owned()),
        ..head
    };
    both.find(&elsewhere, &[]);
    assert_eq!(both.take(), Err("nothing was found".to_owned()));
}

#[test]
fn what_networks_of_countries_may_be() {
    let task = Task {
        source: "trunk".to_owned(),
        kind: Kind::Countries(Countries {
            countries: ["DE", "AT"].map(|code| code.parse().unwrap()).into(),
            database: "/usr/share/GeoIP/country.mmdb".into(),
        }),
    };
    let url = task.kind.url();
    assert_eq!(
        url.as_deref(),
        Some("file:/usr/share/GeoIP/country.mmdb#AT,DE")
    );
    let both = Both::empty(task);
    let head = list_head(&both.task);
    // This host's own address is in a country, too.
    let good = ["4.0.0.0/6", "16.0.0.0/12", "2a00::/12"];
    both.find(&head, &listed(&good));
    let own: IpAddr = "16.0.0.1".parse().unwrap();
    let circumstances = Circumstances {
        now: at(NOW),
        own: &[own],
    };
    let (folder, copies) = (both.fetcher.path(), both.copies());
    let outcome = take(folder, &copies, &both.task, Accept::Any, circumstances);
    let taken = outcome.unwrap().unwrap();
    assert!(taken.left_out.is_none());
    assert_eq!(taken.entries, 3);
    taken.copy.unwrap().keep().unwrap();
    let ends = Entry {
        end: Some(at(NOW + 10)),
        ..listed(&["16.0.0.0/12"]).remove(0)
    };
    for (entries, wanted) in [
        (
            listed(&["16.0.0.0/5"]),
            "has 16.0.0.0/5, which is wider than",
        ),
        (listed(&["2a00::/9"]), "has 2a00::/9, which is wider than"),
        (
            listed(&["0.0.0.0/0"]),
            "has 0.0.0.0/0, and 0.0.0.0/8 is in no country",
        ),
        (
            listed(&["203.0.112.0/20"]),
            "has 203.0.112.0/20, and 203.0.113.0/24 is in no country",
        ),
        (
            listed(&["10.1.0.0/16"]),
            "has 10.1.0.0/16, and 10.0.0.0/8 is in no country",
        ),
        (
            listed(&["fe80::/64"]),
            "has fe80::/64, and 8000::/1 is in no country",
        ),
        (vec![ends], "has 16.0.0.0/12 with an end"),
        (
            listed(&["16.0.0.0/12"]),
            "has 1 entries, 1048576 IPv4 addresses, and had 3 entries",
        ),
    ] {
        both.find(&head, &entries);
        let error = both.take().unwrap_err();
        assert!(error.contains(wanted), "{error}\n{wanted}");
        assert_eq!(both.last_good(), good);
    }
}
