//! Decisions of Debian's CrowdSec, as sipguard reads what was found.

use std::{
    cell::RefCell,
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Instant,
};

use ipnet::IpNet;
use sipguard_lists::{
    found::Entry,
    task::{self, Countries, Kind, Task, Tasks, Widest},
};
use sipguard_tests::{
    country_database::{Layout, database},
    crowdsec::{self, CrowdSec},
    fetcher::{Fetcher, SOURCE, memory},
    netns::{Finished, Host, Process, SCRATCH, Sandbox, sandbox, until},
};

const KEY: &str = crowdsec::KEYS[0];

/// A gateway with CrowdSec and the fetcher.
struct World {
    gateway: Host,
    folder: PathBuf,
    crowdsec: CrowdSec,
    lapi: RefCell<Option<Process>>,
    fetcher: Fetcher,
    task: task::CrowdSec,
}

impl World {
    fn new(sandbox: &Sandbox) -> Self {
        let folder = Path::new(SCRATCH).join("crowdsec");
        fs::create_dir(&folder).expect("it is empty");
        fs::write(folder.join("key"), KEY).expect("it is ours");
        let gateway = sandbox.host();
        Self {
            crowdsec: CrowdSec::new(&gateway, &folder),
            gateway,
            lapi: RefCell::default(),
            fetcher: Fetcher::new(),
            task: task::CrowdSec {
                url: crowdsec::URL.to_owned(),
                key_file: folder.join("key"),
                every: 1,
                insecure: false,
                ca_file: None,
                widest: Widest::default(),
                database: None,
            },
            folder,
        }
    }

    fn cscli(&self, words: &str) -> Finished {
        self.crowdsec.cscli(&self.gateway, words)
    }

    fn begin(&self) {
        *self.lapi.borrow_mut() = Some(self.crowdsec.start(&self.gateway));
    }

    fn end(&self) {
        self.lapi.borrow_mut().take();
    }

    /// How often it was asked so since it began.
    fn asked(&self, how: &str) -> usize {
        let lapi = self.lapi.borrow();
        let lapi = lapi.as_ref().expect("it was begun");
        (lapi.stdout() + &lapi.stderr()).matches(how).count()
    }

    fn tasks(&self) -> Tasks {
        let task = Task {
            source: SOURCE.to_owned(),
            kind: Kind::CrowdSec(self.task.clone()),
        };
        Tasks {
            sources: vec![task],
            ..Tasks::none()
        }
    }

    fn fetch(&self) -> Finished {
        self.fetcher.run(&self.gateway, &self.tasks())
    }

    fn service(&self) -> Process {
        self.fetcher.order(&self.tasks());
        self.fetcher.service(&self.gateway)
    }

    fn taken(&self) -> Vec<Entry> {
        self.fetcher.taken(&self.tasks().sources[0])
    }

    fn prefixes(&self) -> Vec<String> {
        let taken = self.taken().into_iter();
        taken.map(|entry| entry.prefix.to_string()).collect()
    }

    /// Waits until exactly these are banned.
    fn bans(&self, wanted: &[&str]) {
        until(&format!("{wanted:?} are banned"), || {
            self.fetcher.file().exists() && self.prefixes() == wanted
        });
    }

    /// Wants one question to fail so, and to leave what was there.
    fn fails(&self, wanted: &str) {
        let before = self.prefixes();
        let finished = self.fetch().exited(1);
        assert!(
            finished.stdout.trim_end().ends_with(wanted),
            "{}\n{wanted}",
            finished.stdout
        );
        assert_eq!(self.prefixes(), before);
    }
}

const ALL: &str = "stream?startup=true";
const CHANGES: &str = "stream?startup=false";

#[test]
fn bans_come_and_go() {
    sandbox(|sandbox| {
        let world = World::new(sandbox);
        world.begin();
        let service = world.service();
        // There is nobody to ban, which CrowdSec calls `null`.
        service.wait_for_error("live: 0 entries");
        assert_eq!(world.fetcher.head().said.as_deref(), Some("0 decisions"));
        assert_eq!(world.fetcher.head().error, None);

        world.cscli("decisions add --ip 203.0.113.7 --duration 1h --reason scan");
        world.bans(&["203.0.113.7/32"]);
        let [entry] = &world.taken()[..] else {
            panic!("there is one")
        };
        let left = entry.end.expect("bans end").duration_since(entry.first);
        assert!((3_590..=3_600).contains(&left.as_secs()), "{left}");
        assert_eq!(entry.comment.as_deref(), Some("scan"));

        // As a person writes it, who then bans all and everybody.
        world.cscli("decisions add --range 198.51.100.7/24");
        world.cscli("decisions add --ip 2001:db8::7");
        world.cscli("decisions add --range 0.0.0.0/0");
        world.cscli("decisions add --ip 203.0.113.9 --type captcha");
        let net = "198.51.100.0/24";
        world.bans(&[net, "203.0.113.7/32", "2001:db8::7/128"]);
        until("what is left out is told", || {
            let said = world.fetcher.head().said;
            said.as_deref()
                == Some("5 decisions, 2 of them left out: 203.0.113.9 is no ban but captcha")
        });

        // Another ban of the same, and one in another spelling: the last one counts.
        world.cscli("decisions add --ip 203.0.113.7 --duration 2h");
        world.cscli("decisions add --range 203.0.113.7/32 --duration 3h");
        let end = || {
            let taken = world.taken();
            let entry = &taken[1];
            let end = entry.end.expect("bans end");
            end.duration_since(entry.first).as_secs() / 3_500
        };
        until("the longest ban counts", || end() == 3);
        world.cscli("decisions delete --id 7");
        until("the next one counts", || end() == 2);
        world.cscli("decisions delete --id 6");
        until("the first one counts", || end() == 1);
        world.cscli("decisions delete --id 1");
        world.bans(&[net, "2001:db8::7/128"]);
        world.cscli("decisions delete --all");
        world.bans(&[]);
        assert_eq!(world.fetcher.head().said.as_deref(), Some("0 decisions"));

        // Something else is asked for, too: what is known here stays known.
        let mut tasks = world.tasks();
        tasks.sources.push(Task {
            source: "other".to_owned(),
            kind: Kind::Countries(Countries {
                countries: ["DE".parse().expect("a code")].into(),
                database: "/nowhere".into(),
            }),
        });
        world.fetcher.order(&tasks);
        service.wait_for_error("other: 0 entries; cannot read /nowhere: No such file");

        // A ban that ends by itself.
        world.cscli("decisions add --ip 203.0.113.8 --duration 3s");
        world.bans(&["203.0.113.8/32"]);
        world.bans(&[]);
        assert_eq!(world.asked(ALL), 1);
        // This one has no place for metrics, and is not asked again.
        assert_eq!(world.asked("POST /v1/usage-metrics"), 1);
        let idle = memory(&service, "VmRSS");
        assert!(idle <= 15 << 10, "{idle} kB");
        service.stop();
    });
}

#[test]
fn all_is_asked_for_again_after_whatever_failed() {
    sandbox(|sandbox| {
        let world = World::new(sandbox);
        world.begin();
        world.cscli("decisions add --ip 203.0.113.7");
        let service = world.service();
        world.bans(&["203.0.113.7/32"]);
        until("it is asked for changes", || world.asked(CHANGES) > 0);
        // With the same key: what is told of changes there is told here no more.
        world.fetch().succeeded();
        until("all is asked for again", || world.asked(ALL) == 3);
        let changes = world.asked(CHANGES);
        until("and changes then", || world.asked(CHANGES) > changes);
        assert_eq!(world.asked(ALL), 3);

        world.end();
        service.wait_for_error("Connection refused");
        assert_eq!(world.prefixes(), ["203.0.113.7/32"]);
        let head = world.fetcher.head();
        assert!(head.error.is_some() && head.said.as_deref() == Some("1 decision"));
        world.begin();
        world.cscli("decisions add --ip 203.0.113.8");
        world.bans(&["203.0.113.7/32", "203.0.113.8/32"]);
        assert!(world.asked(ALL) > 0);
        let first = world.taken()[0].first;
        assert!(world.taken()[1].first > first);

        // A new key, as somebody makes who lost one.
        let key = world.folder.join("key");
        fs::write(&key, "another").expect("it is ours");
        service.wait_for_error("the LAPI refuses the key in ");
        world.cscli("bouncers add third -k another");
        world.cscli("decisions delete --ip 203.0.113.7");
        world.bans(&["203.0.113.8/32"]);
        service.stop();
    });
}

#[test]
fn countries_are_banned_by_a_database() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        let file = world.folder.join("country.mmdb");
        let networks = [
            ("16.0.0.0/8", "US"),
            ("80.1.0.0/16", "DE"),
            ("2a00:1::/32", "DE"),
        ];
        let networks = networks.map(|(network, country)| {
            let network: IpNet = network.parse().expect("a network");
            (network, country)
        });
        fs::write(&file, database(Layout::Nested, networks)).expect("it is ours");
        world.begin();
        world.task.database = Some(file.clone());
        let service = world.service();
        service.wait_for_error("live: 0 entries");
        world.cscli("decisions add --scope Country --value DE --reason many");
        world.cscli("decisions add --ip 80.1.0.7 --duration 9h");
        world.bans(&["80.1.0.0/16", "80.1.0.7/32", "2a00:1::/32"]);
        let [net, ..] = &world.taken()[..] else {
            panic!("there are some")
        };
        assert!(net.end.is_some() && net.comment.as_deref() == Some("many"));
        // Wider than a decision of its own may be.
        world.cscli("decisions add --scope Country --value US");
        world.bans(&["16.0.0.0/8", "80.1.0.0/16", "80.1.0.7/32", "2a00:1::/32"]);
        world.cscli("decisions add --scope Country --value AT");
        service.wait_for_error("country.mmdb has no network of AT");
        world.cscli("decisions delete --id 1");
        world.bans(&["16.0.0.0/8", "80.1.0.7/32"]);
        assert_eq!(world.asked(ALL), 1);
        // Another database.
        let network: IpNet = "80.2.0.0/16".parse().expect("a network");
        fs::write(&file, database(Layout::Flat, [(network, "AT")])).expect("it is ours");
        world.bans(&["80.1.0.7/32", "80.2.0.0/16"]);
        service.wait_for_error("country.mmdb has no network of US");
        // Nobody needs one that is not there.
        fs::remove_file(&file).expect("it is ours");
        service.wait_for_error("cannot read /var/lib/crowdsec/country.mmdb");
        assert_eq!(world.prefixes(), ["80.1.0.7/32", "80.2.0.0/16"]);
        world.cscli("decisions delete --all");
        world.bans(&[]);
        assert_eq!(world.fetcher.head().error, None);
        service.stop();
    });
}

#[test]
fn what_is_wrong_is_told() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        let finished = world.fetch().exited(1);
        assert!(
            finished.stdout.contains("Connection refused"),
            "{finished:?}"
        );
        world.begin();
        world.cscli("decisions add --ip 203.0.113.7");
        world.fetch().succeeded();
        assert_eq!(world.prefixes(), ["203.0.113.7/32"]);
        let key = world.folder.join("key");
        let at = key.display();
        for (text, wanted) in [
            (
                "wrong",
                format!("the LAPI refuses the key in {at}; `cscli bouncers add NAME` makes one"),
            ),
            ("", format!("{at} has no key in its first line")),
            ("\n", format!("{at} has no key in its first line")),
            ("a\u{e4}", format!("{at} has no key in its first line")),
        ] {
            fs::write(&key, text).expect("it is ours");
            world.fails(&wanted);
        }
        fs::remove_file(&key).expect("it is ours");
        world.fails(&format!(
            "cannot read {at}: No such file or directory (os error 2)"
        ));
        // As systemd hands it over.
        let folder = world.folder.join("credentials");
        fs::create_dir(&folder).expect("it is ours");
        fs::write(folder.join("key"), format!("{KEY}\nno more")).expect("it is ours");
        let mut command = Command::new(sipguard_tests::netns::sipguard_fetch());
        command.env("CREDENTIALS_DIRECTORY", &folder);
        world.gateway.run(&mut command).succeeded();

        fs::write(&key, KEY).expect("it is ours");
        let url = world.task.url.clone();
        world.task.url = format!("{url}/elsewhere");
        world.fails("the LAPI answers 404");
        world.task.url = "http://192.0.2.1:8080".to_owned();
        world.fails(
            "it leads to http, where everybody on the way may change it; insecure allows that",
        );
        world.task.url = format!("{url}/");
        world.fetch().succeeded();
    });
}

/// Answers one request on this host with a head, and then with a piece of text again and again, as long as somebody reads.
fn endless(host: &Host, head: &'static str, piece: &'static str) -> u16 {
    let listener = host.enter(|| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody asks");
        let _ = stream.read(&mut [0; 4_096]);
        let _ = stream.write_all(head.as_bytes());
        let piece = piece.repeat(10_000);
        while stream.write_all(piece.as_bytes()).is_ok() {}
    });
    port
}

/// CrowdSec itself does nothing like that.
#[test]
fn answers_that_never_end_end() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox);
        for (head, piece, wanted) in [
            (
                "HTTP/1.1 200 OK\r\n\r\n{\"deleted\":[",
                "{\"id\":1},",
                "it has more than 64 MiB",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n{\"new\":[",
                "{\"id\":1,\"type\":\"ban\",\"value\":\"192.0.2.1\",\"duration\":\"1h\"},",
                "it has more than 1000000 decisions",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\n{\"new\":[{\"id\":1,\"value\":\"",
                "203.0.113.7",
                "it has more than 64 MiB",
            ),
            (
                "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:8080/\r\nContent-Length: 0\r\n\r\n",
                "",
                "the LAPI answers 302",
            ),
        ] {
            let port = endless(&world.gateway, head, piece);
            world.task.url = format!("http://127.0.0.1:{port}");
            world.fails(wanted);
        }
    });
}

#[test]
fn a_hundred_thousand_decisions_take_little_memory() {
    sandbox(|sandbox| {
        let world = World::new(sandbox);
        world.begin();
        let mut list = String::new();
        for number in 0..100_000_u32 {
            let address = Ipv4Addr::from(0x0100_0000 + number * 7_919 % 100_000 * 37);
            writeln!(list, "{address},4h,crowdsecurity/ssh-bf").expect("memory");
        }
        world.crowdsec.import(&world.gateway, &list);
        let service = world.service();
        service.wait_for_error("live: 100000 entries");
        let peak = memory(&service, "VmHWM");
        assert!(peak <= 45 << 10, "{peak} kB");
        let taken = world.taken();
        assert_eq!(taken.len(), 100_000);

        // One more and one less, each with one question.
        let begin = Instant::now();
        world.cscli("decisions add --ip 203.0.113.7");
        service.wait_for_error("live: 100001 entries");
        let more = begin.elapsed();
        let begin = Instant::now();
        world.cscli("decisions delete --ip 203.0.113.7");
        until("it is gone", || {
            service.stderr().matches("live: 100000 entries").count() == 2
        });
        let less = begin.elapsed();
        assert_eq!(world.asked(ALL), 1);
        let again: Vec<IpNet> = world.taken().iter().map(|entry| entry.prefix).collect();
        let before: Vec<IpNet> = taken.iter().map(|entry| entry.prefix).collect();
        assert_eq!(again, before);
        let (peak, idle) = (memory(&service, "VmHWM"), memory(&service, "VmRSS"));
        assert!(peak <= 45 << 10, "{peak} kB");
        println!("{peak} kB at most, {idle} kB behind it; one more {more:?}, one less {less:?}");
        service.stop();
    });
}
