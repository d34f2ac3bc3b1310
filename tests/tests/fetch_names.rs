//! Names that are looked up by the fetcher, from real servers, as sipguard reads what it found.

use std::{
    fmt::Write as _,
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use sipguard_lists::task::{Dns, Kind, Names, Task, Tasks};
use sipguard_tests::{
    dnsmasq::dnsmasq,
    fetcher::{Fetcher, SOURCE, memory},
    netns::{End, Finished, Host, Process, Sandbox, join, sandbox, sipguard_fetch, until},
    nsd::nsd,
};
use tempfile::TempDir;

const SERVER: &str = "192.0.2.53";
/// Where a server refuses, where nobody listens on the port, and where no host is.
const OTHERS: [&str; 3] = ["192.0.2.54", "192.0.2.55", "192.0.2.56"];

/// A gateway with the fetcher, and a host with name servers.
struct World {
    gateway: Host,
    servers: Host,
    /// Configuration of the servers.
    files: TempDir,
    fetcher: Fetcher,
    names: Names,
    dns: Dns,
}

impl World {
    fn new(sandbox: &Sandbox, names: &[&str]) -> Self {
        let (gateway, servers) = (sandbox.host(), sandbox.host());
        join(
            End {
                host: &gateway,
                interface: "eth0",
                addresses: &["192.0.2.1/24", "2001:db8:53::1/64"],
            },
            End {
                host: &servers,
                interface: "eth0",
                addresses: &[
                    "192.0.2.53/24",
                    "192.0.2.54/24",
                    "192.0.2.55/24",
                    "2001:db8:53::53/64",
                ],
            },
        );
        let mut world = Self {
            gateway,
            servers,
            files: TempDir::new().expect("a temporary folder"),
            fetcher: Fetcher::new(),
            names: Names {
                names: [].into(),
                hold: Names::HOLD,
                private: false,
            },
            dns: Dns::default(),
        };
        world.name(names);
        world.ask(&[SERVER]);
        world
    }

    fn name(&mut self, names: &[&str]) {
        self.names.names = names
            .iter()
            .map(|name| name.parse().expect("a name"))
            .collect();
    }

    fn ask(&mut self, servers: &[&str]) {
        self.dns.servers = servers
            .iter()
            .map(|server| server.parse().expect("an address"))
            .collect();
    }

    fn tasks(&self) -> Tasks {
        let task = Task {
            source: SOURCE.to_owned(),
            kind: Kind::Names(self.names.clone()),
        };
        Tasks {
            dns: self.dns.clone(),
            guarded_ports: [5060].into(),
            sources: vec![task],
            ..Tasks::none()
        }
    }

    fn fetch(&self) -> Finished {
        self.fetcher.run(&self.gateway, &self.tasks())
    }

    /// What sipguard takes of it: addresses with their names, in order.
    fn taken(&self) -> Vec<String> {
        let taken = self.fetcher.taken(&self.tasks().sources[0]).into_iter();
        let told = taken.map(|entry| {
            let name = entry.comment.unwrap_or_default();
            format!("{} {name}", entry.prefix.addr())
        });
        told.collect()
    }

    /// What was said of each name, where anything was.
    fn said(&self) -> Vec<String> {
        let head = self.fetcher.head();
        let said = head.lookups.iter().filter_map(|lookup| {
            let said = lookup.said.as_ref()?;
            Some(format!("{} {:?}: {said}", lookup.name, lookup.family))
        });
        said.collect()
    }

    /// A server for a few records, which are its options.
    fn dnsmasq(&self, records: &[&str]) -> Process {
        dnsmasq(&self.servers, SERVER, records)
    }

    /// A server for the zone `provider.example`; it refuses all else.
    fn nsd(&self, address: &str, records: &str) -> Process {
        let zone = format!(
            "$ORIGIN provider.example.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 45\n@ NS ns\nns A {SERVER}\n{records}"
        );
        let folder = self.files.path().join(address);
        nsd(
            &self.servers,
            &folder,
            address,
            &[("provider.example", zone)],
        )
    }
}

/// Names of a provider as they are in the field, with whatever is wrong with some of them.
const ZONE: &str = r#"
@ NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp
@ NAPTR 20 10 "S" "sips+d2t" "" _sips._tcp
@ NAPTR 30 10 "a" "SIP+D2T" "" gw3
@ NAPTR 40 10 "u" "E2U+sip" "!^.*$!sip:info@provider.example!" .
_sip._udp SRV 10 0 5060 gw1
_sip._udp SRV 20 0 5062 gw2
_sips._tcp CNAME srv.alias
srv.alias SRV 10 0 5061 gw4
_none._udp SRV 0 0 0 .
gw1 A 203.0.113.1
gw2 A 203.0.113.2
gw2 AAAA 2001:db8::2
gw3 A 203.0.113.3
gw4 CNAME gw4.alias
gw4.alias A 203.0.113.4
_sip._udp.plain SRV 10 0 5060 gw1
_sips._tcp.plain SRV 10 0 5060 gw3
plain A 203.0.113.99
bare A 203.0.113.5
seldom 604800 A 203.0.113.7
seldom 604800 AAAA 2001:db8::7
wrong A 127.0.0.1
wrong A 192.0.2.1
wrong A 203.0.113.6
wrong AAAA ::ffff:203.0.113.6
office A 192.168.1.1
sub NS ns.elsewhere.example.
half SRV 10 0 5060 gw1
_sip._udp.half SRV 10 0 5060 gw1
_sip._udp.half SRV 20 0 5060 gw.sub
"#;

/// The zone, with names that have a great many of something.
fn zone() -> String {
    let mut zone = ZONE.to_owned();
    for number in 1..=65 {
        writeln!(zone, "toomany A 198.18.0.{number}").expect("memory");
    }
    for number in 1..=64 {
        writeln!(zone, "many AAAA 2001:db8:1::{number:x}").expect("memory");
    }
    for (name, hosts) in [("hosts", 64), ("toomanyhosts", 65)] {
        for number in 1..=hosts {
            let srv = format!("_sip._udp.{name} SRV 1 0 5060 h{number}.{name}");
            let host = format!("h{number}.{name} A 198.18.{}.{number}", hosts - 64);
            writeln!(zone, "{srv}\n{host}").expect("memory");
        }
    }
    for number in 1..=9 {
        writeln!(zone, "c{number} CNAME c{}", number + 1).expect("memory");
    }
    writeln!(zone, "c10 A 203.0.113.10").expect("memory");
    zone
}

#[test]
fn names_are_looked_up_as_providers_have_them() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox, &[]);
        let _server = world.nsd(SERVER, &zone());

        // One after another, so that each has its own.
        for (name, addresses) in [
            ("gw2.provider.example", &["203.0.113.2", "2001:db8::2"][..]),
            ("gw4.provider.example", &["203.0.113.4"]),
            (
                "_sip._udp.provider.example",
                &["203.0.113.1", "203.0.113.2", "2001:db8::2"],
            ),
            ("_sips._tcp.provider.example", &["203.0.113.4"]),
            // By NAPTR, SRV and A.
            (
                "sip:provider.example",
                &[
                    "203.0.113.1",
                    "203.0.113.2",
                    "203.0.113.3",
                    "203.0.113.4",
                    "2001:db8::2",
                ],
            ),
            // By SRV alone.
            (
                "sip:plain.provider.example",
                &["203.0.113.1", "203.0.113.3"],
            ),
            ("sip:bare.provider.example", &["203.0.113.5"]),
            ("c2.provider.example", &["203.0.113.10"]),
            ("wrong.provider.example", &["203.0.113.6"]),
        ] {
            world.name(&[name]);
            world.fetch().succeeded();
            let wanted: Vec<_> = addresses
                .iter()
                .map(|address| format!("{address} {name}"))
                .collect();
            assert_eq!(world.taken(), wanted);
        }

        // More than one datagram holds.
        world.name(&["many.provider.example"]);
        world.fetch().succeeded();
        assert_eq!(world.taken().len(), 64);
        world.name(&["_sip._udp.hosts.provider.example"]);
        world.fetch().succeeded();
        assert_eq!(world.taken().len(), 64);

        // However long an answer is good, the name is asked for again within an hour, less a tenth.
        world.name(&["seldom.provider.example"]);
        world.fetch().succeeded();
        let head = world.fetcher.head();
        let again = head.next.duration_since(head.asked).as_secs();
        assert!((3_240..=3_600).contains(&again), "{again} s");
    });
}

#[test]
fn what_a_name_has_not_is_told() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox, &[]);
        let _server = world.nsd(SERVER, &zone());

        // Empty answers are answers.
        world.name(&[
            "nowhere.provider.example",
            "_none._udp.provider.example",
            "_sip._tcp.provider.example",
            "sip:nowhere.provider.example",
        ]);
        world.fetch().succeeded();
        assert!(world.taken().is_empty());
        let said = world.said();
        assert!(
            said.contains(&"nowhere.provider.example Ipv4: there is no such name".to_owned()),
            "{said:?}"
        );
        assert!(
            said.contains(&"_none._udp.provider.example Ipv6: it has no SRV records".to_owned()),
            "{said:?}"
        );
        assert!(
            said.contains(&"_sip._tcp.provider.example Ipv4: there is no such name".to_owned()),
            "{said:?}"
        );
        assert!(
            said.contains(&"sip:nowhere.provider.example Ipv4: there is no such name".to_owned()),
            "{said:?}"
        );

        for (name, wanted) in [
            ("toomany.provider.example", "it has more than 64 addresses"),
            (
                "_sip._udp.toomanyhosts.provider.example",
                "it leads to more than 64 hosts",
            ),
            (
                "c1.provider.example",
                "more than 8 aliases lead from one to the next",
            ),
            (
                "gw.sub.provider.example",
                "192.0.2.53: refers to other servers; it is not one that answers for all names",
            ),
            ("elsewhere.example", "192.0.2.53: REFUSED"),
        ] {
            world.name(&[name]);
            let finished = world.fetch().exited(1);
            let told = format!("live: 0 entries; {name} A: {wanted}");
            assert!(
                finished.stdout.starts_with(&told),
                "{}\n{told}",
                finished.stdout
            );
            assert!(world.taken().is_empty());
        }
        // What could be found of a name is found, and the rest is told of.
        world.name(&["_sip._udp.half.provider.example"]);
        world.fetch().exited(1);
        assert_eq!(
            world.taken(),
            ["203.0.113.1 _sip._udp.half.provider.example"]
        );

        world.name(&["office.provider.example"]);
        world.fetch().succeeded();
        assert!(world.taken().is_empty());
        assert_eq!(
            world.said()[0],
            "office.provider.example Ipv4: 192.168.1.1 is left out, a private address, and the source does not say `private = true`"
        );
        world.names.private = true;
        world.fetch().succeeded();
        assert_eq!(world.taken(), ["192.168.1.1 office.provider.example"]);
    });
}

#[test]
fn a_name_that_changes_is_followed_and_what_it_was_stays_for_a_while() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox, &["sip.provider.example"]);
        let server =
            world.dnsmasq(&["host-record=sip.provider.example,203.0.113.7,2001:db8::7,30"]);
        world.fetch().succeeded();
        let [old, six] =
            ["203.0.113.7", "2001:db8::7"].map(|address| format!("{address} sip.provider.example"));
        assert_eq!(world.taken(), [old.clone(), six.clone()]);
        let first = world.fetcher.head();
        let pause = first.next.duration_since(first.asked).as_secs();
        assert_eq!(pause, 30, "the record's time");
        assert_eq!(first.changed, Some(first.asked));

        server.stop();
        let server =
            world.dnsmasq(&["host-record=sip.provider.example,203.0.113.8,2001:db8::7,3000"]);
        world.fetch().succeeded();
        let new = "203.0.113.8 sip.provider.example".to_owned();
        assert_eq!(world.taken(), [old, new.clone(), six.clone()]);
        let second = world.fetcher.head();
        let pause = second.next.duration_since(second.asked).as_secs();
        assert!((2700..=3000).contains(&pause), "{pause}");

        // The whole answer has it no more, and its time is over.
        world.names.hold = 0;
        until("the clock is past the second in which it was seen", || {
            world.fetch().succeeded();
            world.fetcher.head().asked > first.asked
        });
        assert_eq!(world.taken(), [new, six]);

        // Servers that are gone take nothing along.
        server.stop();
        let before = (world.taken(), world.fetcher.head());
        let finished = world.fetch().exited(1);
        assert_eq!(
            finished.stdout,
            "live: 2 entries; sip.provider.example A: 192.0.2.53: reading response failed: Connection refused (os error 111) (and 1 more)\n"
        );
        assert_eq!(world.taken(), before.0);
        let head = world.fetcher.head();
        assert_eq!(
            (head.answered, head.changed),
            (before.1.answered, before.1.changed)
        );
    });
}

#[test]
fn servers_are_asked_in_turn() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox, &["sip.other.example"]);
        let _good = world.dnsmasq(&["host-record=sip.other.example,203.0.113.7,60"]);
        let [refuses, nobody_listens, no_host] = OTHERS;
        // It knows another zone only.
        let _refuses = world.nsd(refuses, "sip A 203.0.113.66\n");
        for first in [refuses, nobody_listens, no_host] {
            world.ask(&[first, SERVER]);
            let begin = Instant::now();
            world.fetch().succeeded();
            assert_eq!(world.taken(), ["203.0.113.7 sip.other.example"], "{first}");
            assert!(begin.elapsed() < Duration::from_secs(10), "{first}");
            fs::remove_file(world.fetcher.file()).expect("it was written");
        }
        // The last one is told of.
        for (last, wanted) in [
            (refuses, "192.0.2.54: REFUSED"),
            (
                nobody_listens,
                "192.0.2.55: reading response failed: Connection refused (os error 111)",
            ),
            (no_host, "192.0.2.56: "),
        ] {
            world.ask(&[refuses, last]);
            let finished = world.fetch().exited(1);
            assert!(finished.stdout.contains(wanted), "{}", finished.stdout);
            assert!(world.taken().is_empty());
        }
    });
}

#[test]
fn no_question_comes_from_a_guarded_port() {
    sandbox(|sandbox| {
        let world = World::new(sandbox, &["sip.provider.example"]);
        world.gateway.enter(|| {
            fs::write("/proc/sys/net/ipv4/ip_local_port_range", "5060 5061")
                .expect("a namespace of its own");
        });
        let server = world.dnsmasq(&["host-record=sip.provider.example,203.0.113.7,60"]);
        for _ in 0..10 {
            world.fetch().succeeded();
        }
        let log = server.stop().stderr;
        assert!(
            log.contains(" 192.0.2.1/5061 query[A] sip.provider.example"),
            "{log}"
        );
        assert!(!log.contains("192.0.2.1/5060"), "{log}");
    });
}

#[test]
fn whatever_kills_it_leaves_what_was_found() {
    sandbox(|sandbox| {
        let world = World::new(sandbox, &["sip.provider.example"]);
        let _server = world.dnsmasq(&["host-record=sip.provider.example,203.0.113.7,60"]);
        world.fetch().succeeded();
        let begin = Instant::now();
        world.fetch().succeeded();
        let takes = begin.elapsed();
        for part in 1..=30 {
            let process = world.gateway.spawn(&mut Command::new(sipguard_fetch()));
            thread::sleep(takes * part / 20);
            drop(process);
            assert_eq!(world.taken(), ["203.0.113.7 sip.provider.example"]);
        }
        world.fetch().succeeded();
        assert_eq!(world.fetcher.files(), 1, "what a killed one left is gone");
    });
}

#[test]
fn the_service_follows_names_and_tasks_by_itself() {
    sandbox(|sandbox| {
        let mut world = World::new(sandbox, &["sip.provider.example"]);
        let record = |address| format!("host-record=sip.provider.example,{address},30");
        let other = "host-record=other.provider.example,203.0.113.20,3000";
        let server = world.dnsmasq(&[&record("203.0.113.7"), other]);
        let service = world.fetcher.service(&world.gateway);
        // It waits for something to do.
        world.fetcher.order(&world.tasks());
        let listed = |world: &World, address: &str| {
            world.taken().iter().any(|taken| taken.starts_with(address))
        };
        until("the name is looked up", || listed(&world, "203.0.113.7"));
        world.name(&["sip.provider.example", "other.provider.example"]);
        world.fetcher.order(&world.tasks());
        until("the other name is looked up", || {
            listed(&world, "203.0.113.20")
        });
        server.stop();
        let _server = world.dnsmasq(&[&record("203.0.113.8"), other]);
        until("the change is noticed", || listed(&world, "203.0.113.8"));
        assert!(listed(&world, "203.0.113.7") && listed(&world, "203.0.113.20"));

        let kilobytes = memory(&service, "VmRSS");
        assert!(kilobytes <= 15 << 10, "{kilobytes} kB");
        service.signal(Signal::TERM);
        let finished = service.wait();
        assert_eq!(finished.stderr.lines().next(), Some("live: 1 entry"));
    });
}
