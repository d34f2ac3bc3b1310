//! Countries in databases of several layouts, as sipguard reads what was found.

use std::{
    fs::{self, File},
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

use ipnet::{IpNet, Ipv6Net};
use sipguard_lists::task::{Countries, Kind, Task, Tasks};
use sipguard_tests::{
    country_database::{Layout, database},
    fetcher::{Fetcher, SOURCE, memory},
    netns::{Finished, Host, SCRATCH, Sandbox, sandbox, until},
};

const LAYOUTS: [Layout; 3] = [Layout::Nested, Layout::Flat, Layout::FlatCode];

/// A gateway with a database and the fetcher.
struct World {
    gateway: Host,
    file: PathBuf,
    fetcher: Fetcher,
    some: Countries,
}

impl World {
    fn new(sandbox: &Sandbox, countries: &[&str]) -> Self {
        let file = Path::new(SCRATCH).join("country.mmdb");
        let countries = countries.iter().map(|code| code.parse().expect("a code"));
        Self {
            gateway: sandbox.host(),
            fetcher: Fetcher::new(),
            some: Countries {
                countries: countries.collect(),
                database: file.clone(),
            },
            file,
        }
    }

    fn write(&self, layout: Layout, networks: &[(&str, &'static str)]) {
        let networks = networks
            .iter()
            .map(|(network, country)| (network.parse().expect("a network"), *country));
        self.put(&database(layout, networks));
    }

    /// Puts another one there, as packages do.
    fn put(&self, database: &[u8]) {
        let new = self.file.with_extension("new");
        fs::write(&new, database).expect("it is ours");
        fs::rename(new, &self.file).expect("it is ours");
    }

    fn tasks(&self) -> Tasks {
        let task = Task {
            source: SOURCE.to_owned(),
            kind: Kind::Countries(self.some.clone()),
        };
        Tasks {
            sources: vec![task],
            ..Tasks::none()
        }
    }

    fn fetch(&self) -> Finished {
        self.fetcher.run(&self.gateway, &self.tasks())
    }

    fn prefixes(&self) -> Vec<String> {
        let taken = self.fetcher.taken(&self.tasks().sources[0]).into_iter();
        taken.map(|entry| entry.prefix.to_string()).collect()
    }

    /// Wants it to fail so, and to leave what was there.
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

#[test]
fn all_layouts_say_the_same() {
    sandbox(|sandbox| {
        let world = World::new(sandbox, &["DE", "AT"]);
        let networks = [
            ("80.1.0.0/16", "DE"),
            ("80.2.0.0/15", "AT"),
            ("80.4.0.0/14", "US"),
            // Databases say of networks where they are that nobody is in.
            ("10.0.0.0/8", "DE"),
            ("192.0.0.0/22", "DE"),
            ("64:ff9b::/96", "AT"),
            ("2001:db8::/31", "DE"),
            ("2a00:1::/32", "DE"),
            ("fc00::/7", "DE"),
        ];
        for layout in LAYOUTS {
            world.write(layout, &networks);
            world.fetch().succeeded();
            assert_eq!(
                world.prefixes(),
                [
                    "80.1.0.0/16",
                    "80.2.0.0/15",
                    "192.0.1.0/24",
                    "192.0.3.0/24",
                    "2001:db9::/32",
                    "2a00:1::/32"
                ],
                "{layout:?}"
            );
        }
    });
}

#[test]
fn another_database_is_read_when_it_comes() {
    sandbox(|sandbox| {
        let world = World::new(sandbox, &["DE"]);
        world.write(Layout::Nested, &[("80.1.0.0/16", "DE")]);
        world.fetcher.order(&world.tasks());
        let service = world.fetcher.service(&world.gateway);
        service.wait_for_error("live: 1 entry");
        let asked = world.fetcher.head().asked;
        world.write(
            Layout::Flat,
            &[("80.1.0.0/16", "DE"), ("80.3.0.0/16", "DE")],
        );
        service.wait_for_error("live: 2 entries");
        let head = world.fetcher.head();
        assert!(head.asked > asked && head.changed == Some(head.asked));
        fs::remove_file(&world.file).expect("it is ours");
        service.wait_for_error("country.mmdb: No such file or directory (os error 2)");
        assert_eq!(world.prefixes(), ["80.1.0.0/16", "80.3.0.0/16"]);
        let idle = memory(&service, "VmRSS");
        assert!(idle <= 15 << 10, "{idle} kB");
        service.stop();
    });
}

#[test]
fn what_is_wrong_is_told() {
    sandbox(|sandbox| {
        let world = World::new(sandbox, &["DE"]);
        let file = world.file.display();
        world.write(Layout::Nested, &[("80.1.0.0/16", "DE")]);
        world.fetch().succeeded();

        world.write(Layout::Nested, &[("80.1.0.0/16", "AT")]);
        world.fails(&format!("{file} has no network of DE"));
        world.write(Layout::Flat, &[("80.1.0.0/16", "Germany")]);
        world.fails(&format!("{file} says of no network in which country it is"));
        world.write(Layout::Flat, &[("64.0.0.0/5", "DE")]);
        world.fails(&format!("{file} has 64.0.0.0/5 for DE, which can't be"));
        world.write(Layout::Flat, &[("2800::/9", "DE")]);
        world.fails(&format!("{file} has 2800::/9 for DE, which can't be"));
        world.put(b"<!DOCTYPE html>");
        world.fails("is no database, or a damaged one: invalid database: could not find MaxMind DB metadata in file");
        // Half of it, with an end.
        let whole = database(
            Layout::Nested,
            [("80.1.0.0/16".parse().expect("a network"), "DE")],
        );
        world.put(&whole[whole.len() / 2..]);
        let finished = world.fetch().exited(1);
        assert!(finished.stdout.contains("or a damaged one"), "{finished:?}");
        fs::remove_file(&world.file).expect("it is ours");
        fs::create_dir(&world.file).expect("it is ours");
        world.fails(&format!("{file} is no file"));
        fs::remove_dir(&world.file).expect("it is ours");
        world.fails(&format!(
            "cannot read {file}: No such file or directory (os error 2)"
        ));
        let large = File::create(&world.file).expect("it is ours");
        // A hole.
        large.set_len((256 << 20) + 1).expect("it is ours");
        world.fails(&format!("{file} has more than 256 MiB"));
        assert_eq!(world.prefixes(), ["80.1.0.0/16"]);
    });
}

#[test]
fn a_million_networks_take_little_memory_and_one_more_is_too_much() {
    sandbox(|sandbox| {
        let world = World::new(sandbox, &["DE"]);
        let networks = |count: u128| {
            let network = |number: u128| {
                let address = Ipv6Addr::from(0x2a00 << 112 | number << 64);
                (IpNet::V6(Ipv6Net::new_assert(address, 64)), "DE")
            };
            database(Layout::Nested, (0..count).map(network))
        };
        world.put(&networks(1_000_000));
        world.fetcher.order(&world.tasks());
        let service = world.fetcher.service(&world.gateway);
        service.wait_for_error("live: 1000000 entries");
        let peak = memory(&service, "VmHWM");
        assert!(peak <= 60 << 10, "{peak} kB");
        until("its memory is given back", || {
            memory(&service, "VmRSS") <= 15 << 10
        });
        let idle = memory(&service, "VmRSS");
        println!("{peak} kB at most, {idle} kB behind it");
        world.put(&networks(1_000_001));
        service.wait_for_error("country.mmdb has more than 1000000 networks of these countries");
        service.stop();
    });
}
