//! Lists that are kept in etcd, in real servers of the versions that clusters have, as sipguard reads what was found.

use std::{
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use sipguard_lists::task::{Etcd as Fleet, Kind, Task, Tasks, User, Widest};
use sipguard_tests::{
    certificates::certify,
    etcd::{Etcd, RELEASES},
    fetcher::{Fetcher, SERVER, SOURCE, gateway_and_server, memory},
    netns::{Finished, Host, Process, sandbox, until},
};
use tempfile::TempDir;

const KEY: &str = "/sipguard/providers";
/// Nobody is asked again as soon who does not tell of a change.
const SOON: Duration = Duration::from_secs(20);

/// A gateway with the fetcher, and a host with etcd.
struct World {
    gateway: Host,
    etcd: Etcd,
    /// The server's files.
    files: TempDir,
    fetcher: Fetcher,
    fleet: Fleet,
}

/// In a world for each version of etcd.
fn with_each(test: impl Fn(World) + Sync) {
    for release in RELEASES {
        sandbox(|sandbox| {
            println!("etcd of Debian {release}");
            let (gateway, server) = gateway_and_server(sandbox);
            let files = TempDir::new().expect("a temporary folder");
            certify(files.path(), SERVER);
            let etcd = Etcd::new(release, server, files.path(), SERVER);
            let fleet = Fleet {
                endpoints: vec![etcd.endpoint()],
                key: KEY.to_owned(),
                insecure: false,
                ca_file: Some(files.path().join("ca.pem")),
                user: None,
                widest: Widest::default(),
            };
            test(World {
                gateway,
                etcd,
                files,
                fetcher: Fetcher::new(),
                fleet,
            });
        });
    }
}

impl World {
    fn tasks(&self) -> Tasks {
        let task = Task {
            source: SOURCE.to_owned(),
            kind: Kind::Etcd(self.fleet.clone()),
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

    /// What sipguard takes of it.
    fn prefixes(&self) -> Vec<String> {
        let taken = self.fetcher.taken(&self.tasks().sources[0]);
        let prefixes = taken.iter().map(|entry| entry.prefix.to_string());
        prefixes.collect()
    }

    /// Waits until sipguard takes these, and tells for how long.
    fn wait_for(&self, prefixes: &[&str]) -> Duration {
        let begin = Instant::now();
        until(&format!("{prefixes:?} are there"), || {
            self.fetcher.file().exists() && self.prefixes() == prefixes
        });
        begin.elapsed()
    }

    /// Wants it to fail so, and to leave what was there.
    fn fails(&self, wanted: &str) {
        let before = self.prefixes();
        let finished = self.fetch().exited(1);
        assert!(
            finished.stdout.contains(wanted),
            "{}\n{wanted}",
            finished.stdout
        );
        assert_eq!(self.prefixes(), before);
    }

    /// A file on the gateway.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.files.path().join(name);
        fs::write(&file, text).expect("a folder of ours");
        file
    }
}

#[test]
fn lists_are_read_of_a_key_and_of_all_below_one() {
    with_each(|mut world| {
        let _server = world.etcd.start(&[]);
        let put = |world: &World, key: &str, value: &str| world.etcd.put(key, value);
        put(
            &world,
            KEY,
            "# providers\n203.0.113.0/24\n198.51.100.7 ; a trunk\n2001:db8::/32",
        );
        put(&world, "/sipguard/providers2", "192.0.2.66");
        put(&world, "/sipguard/zones/a", "192.0.2.7");
        put(&world, "/sipguard/zones/b", "192.0.2.7\n192.0.2.8");
        put(&world, "/sipguard/zones0", "192.0.2.66");
        world.fetch().succeeded();
        assert_eq!(
            world.prefixes(),
            ["198.51.100.7/32", "203.0.113.0/24", "2001:db8::/32"]
        );
        let head = world.fetcher.head();
        assert_eq!(head.url.as_deref(), Some("etcd:/sipguard/providers"));
        assert_eq!(head.changed, Some(head.asked));

        world.fleet.key = "/sipguard/zones/".to_owned();
        world.fetch().succeeded();
        assert_eq!(world.prefixes(), ["192.0.2.7/32", "192.0.2.8/32"]);
        world.etcd.ctl("del /sipguard/zones/b");
        world.fetch().succeeded();
        assert_eq!(world.prefixes(), ["192.0.2.7/32"]);
        // A key that is gone takes nothing along: it may be gone by mistake, and a list may be empty.
        world.etcd.ctl("del /sipguard/zones/a");
        world.fails("it has no key /sipguard/zones/");
        put(&world, "/sipguard/zones/a", "");
        world.fetch().succeeded();
        assert!(world.prefixes().is_empty());
        world.fleet.key = "/sipguard/nothing".to_owned();
        world.fails("live: 0 entries; it has no key /sipguard/nothing");

        // More keys than are read at once, and more bytes than fit into one message of gRPC.
        let comment = "# more\n".repeat(20_000);
        for number in 0..40 {
            let address = Ipv4Addr::from(0xc612_0000 + number);
            put(
                &world,
                &format!("/sipguard/many/{number}"),
                &format!("{comment}{address}"),
            );
        }
        world.fleet.key = "/sipguard/many/".to_owned();
        world.fetch().succeeded();
        assert_eq!(world.prefixes().len(), 40);
    });
}

#[test]
fn what_is_wrong_is_told_and_changes_nothing() {
    with_each(|mut world| {
        let server = world.etcd.start(&[]);
        world.etcd.put("/sipguard/a", "203.0.113.7");
        world.fleet.key = "/sipguard/".to_owned();
        world.fetch().succeeded();

        world.etcd.put("/sipguard/b", "203.0.113.8\n10.0.0.0/33");
        world.fails("live: 1 entry; /sipguard/b, line 2 is no prefix: 10.0.0.0/33");
        world.etcd.put("/sipguard/b", "128.0.0.0/2");
        world.fails("/sipguard/b, line 1 has 128.0.0.0/2, which is wider than this source may be");
        world.etcd.put("/sipguard/b", "203.0.113.8");

        let good = world.fleet.clone();
        world.fleet.endpoints = vec![format!("http://{SERVER}:2379")];
        world.fails("http://192.0.2.53:2379: it leads to http, where everybody on the way may change it; insecure allows that");
        world.fleet.insecure = true;
        // Each version says something else of that.
        world.fails("live: 1 entry; http://192.0.2.53:2379: ");
        world.fleet = good.clone();
        world.fleet.ca_file = Some(world.files.path().join("another.pem"));
        world.fails("https://192.0.2.53:2379: io: invalid peer certificate: UnknownIssuer");
        world.fleet.ca_file = Some(world.files.path().join("nowhere.pem"));
        world.fails("nowhere.pem: No such file or directory (os error 2)");

        // Nobody listens on the port; there is no such host. The last one is told of.
        let [refuses, silent] = ["https://192.0.2.53:2378", "https://192.0.2.99:2379"];
        world.fleet = good.clone();
        world.fleet.endpoints = vec![silent.to_owned(), refuses.to_owned()];
        world.fails("https://192.0.2.53:2378: io: Connection refused");
        world.fleet.endpoints.extend(good.endpoints);
        world.fetch().succeeded();
        assert_eq!(world.prefixes(), ["203.0.113.7/32", "203.0.113.8/32"]);
        server.stop();
        world.fails("https://192.0.2.53:2379: io: Connection refused");
    });
}

#[test]
fn changes_are_there_soon_whatever_became_of_the_way() {
    with_each(|world| {
        let server = world.etcd.start(&[]);
        world.etcd.put(KEY, "203.0.113.1");
        let service = world.service();
        world.wait_for(&["203.0.113.1/32"]);
        let copy = world.files.path().join("copy");
        world.etcd.ctl(&format!("snapshot save {}", copy.display()));
        for host in 2..12 {
            let list = format!("203.0.113.{host}");
            world.etcd.put(KEY, &list);
            let took = world.wait_for(&[&format!("{list}/32")]);
            println!("{} ms", took.as_millis());
            assert!(took < SOON, "{took:?}");
        }

        // What happened while the cable was cut, and is forgotten since.
        world.gateway.ip("link set eth0 down");
        for host in 20..30 {
            world.etcd.put(KEY, &format!("203.0.113.{host}"));
        }
        world.etcd.ctl("compact 20");
        assert_eq!(world.prefixes(), ["203.0.113.11/32"]);
        world.gateway.ip("link set eth0 up");
        world.wait_for(&["203.0.113.29/32"]);

        // Another server has an older copy; its time goes on where that ended.
        server.stop();
        world.etcd.restore(&copy);
        let server = world.etcd.start(&[]);
        world.wait_for(&["203.0.113.1/32"]);
        world.etcd.put(KEY, "203.0.113.40");
        let took = world.wait_for(&["203.0.113.40/32"]);
        assert!(took < SOON, "{took:?}");

        // A wrong list is told of; its successor is taken as soon.
        world.etcd.put(KEY, "203.0.113.41\nsip");
        service.wait_for_error("live: 1 entry; /sipguard/providers, line 2 is no prefix: sip");
        world.etcd.put(KEY, "203.0.113.42");
        let took = world.wait_for(&["203.0.113.42/32"]);
        assert!(took < SOON, "{took:?}");

        let kilobytes = memory(&service, "VmRSS");
        println!("{kilobytes} kB");
        assert!(kilobytes <= 15 << 10, "{kilobytes} kB");
        drop(server);
    });
}

#[test]
fn whoever_may_read_no_more_than_the_lists_reads_them() {
    with_each(|mut world| {
        // As short as can be: it ends while it is needed.
        let _server = world.etcd.start(&["--auth-token-ttl=1", "--bcrypt-cost=4"]);
        for words in [
            "user add root:secret",
            "user grant-role root root",
            "role add gateway",
            "role grant-permission gateway read --prefix=true /sipguard/",
            "user add gateway:word",
            "user grant-role gateway gateway",
            "auth enable",
        ] {
            world.etcd.ctl(words);
        }
        let put = |world: &World, key: &str, value: &str| {
            world.etcd.put_as("root:secret", key, value);
        };
        put(&world, KEY, "203.0.113.1");
        put(&world, "/other", "203.0.113.66");
        world.fails(
            "https://192.0.2.53:2379: the server answers 400: etcdserver: user name is empty",
        );
        let mut user = User {
            name: "gateway".to_owned(),
            password_file: world.file("wrong", "words\n"),
        };
        world.fleet.user = Some(user.clone());
        world
            .fails("the server answers 400: etcdserver: authentication failed, invalid user ID or");
        user.password_file = world.files.path().join("nothing");
        world.fleet.user = Some(user.clone());
        world.fails("nothing: No such file or directory (os error 2)");
        user.password_file = world.file("password", "word\n");
        world.fleet.user = Some(user);
        world.fleet.key = "/other".to_owned();
        world.fails("the server answers 403: etcdserver: permission denied");
        world.fleet.key = KEY.to_owned();

        let service = world.service();
        world.wait_for(&["203.0.113.1/32"]);
        for host in 2..5 {
            // So long a token that was not used is good no more.
            thread::sleep(Duration::from_secs(3));
            put(&world, KEY, &format!("203.0.113.{host}"));
            let took = world.wait_for(&[&format!("203.0.113.{host}/32")]);
            assert!(took < SOON, "{took:?}");
        }
        // It writes the file first.
        let told = "live: 1 entry\n".repeat(4);
        service.wait_for_error(&told);
        assert_eq!(service.stderr(), told);
    });
}

#[test]
fn a_million_entries_take_little_memory_and_one_more_is_refused() {
    with_each(|mut world| {
        let _server = world.etcd.start(&[]);
        world.fleet.key = "/sipguard/".to_owned();
        for key in 0..10 {
            let mut list = String::new();
            for number in 0..100_000_u32 {
                // In no order.
                let number = 0x0100_0000 + (key * 100_000 + number * 7_919 % 100_000) * 37;
                writeln!(list, "{}", Ipv4Addr::from(number)).expect("memory");
            }
            world.etcd.put(&format!("/sipguard/{key}"), &list);
        }
        let service = world.service();
        service.wait_for_error("live: 1000000 entries");
        let peak = memory(&service, "VmHWM");
        assert!(peak <= 60 << 10, "{peak} kB");
        let idle = memory(&service, "VmRSS");
        println!("{peak} kB at most, {idle} kB behind it");
        assert_eq!(world.prefixes().len(), 1_000_000);

        world.etcd.put("/sipguard/more", "203.0.113.1");
        service.wait_for_error("live: 1000000 entries; it has more than 1000000 entries");
        service.stop();
        // As many bytes as are read of all, and some.
        let comment = "#".repeat(1_000) + "\n";
        for key in 0..37 {
            world
                .etcd
                .put(&format!("/sipguard/{key}"), &comment.repeat(1_400));
        }
        world.fails("https://192.0.2.53:2379: it has more than 64 MiB");
    });
}
