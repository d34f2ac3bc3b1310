//! Names of which only what DNSSEC proves is an answer, with a root and zones of our own, as sipguard reads what was found.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sipguard_lists::task::{Dns, Kind, Names, Task, Tasks};
use sipguard_tests::{
    fetcher::{Fetcher, SERVER, SOURCE, gateway_and_server},
    netns::{Finished, Host, sandbox},
    nsd::nsd,
};
use tempfile::TempDir;

/// What keys sign with; in the second case it is told that there is no such name by hashes of the names that there are.
const ALGORITHMS: [(&str, &[&str]); 2] =
    [("ECDSAP256SHA256", &[]), ("RSASHA256", &["-n", "-t", "1"])];

/// Runs a tool in a folder.
fn run(folder: &Path, program: &str, words: &[&str]) -> String {
    let mut command = Command::new(program);
    let done = command.current_dir(folder).args(words).output();
    let done = done.expect("it is declared");
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).expect("names of files")
}

/// Zones with their keys.
struct Signer {
    files: TempDir,
    algorithm: &'static str,
    options: &'static [&'static str],
}

impl Signer {
    /// A zone, signed by a key of its own for as long as that is good; and the DS record of that key.
    fn sign(&self, name: &str, records: &str, times: [&str; 2]) -> (String, String) {
        let folder = self.files.path();
        let words = ["-a", self.algorithm, "-b", "2048", "-k", name];
        let key = run(folder, "ldns-keygen", &words);
        let key = key.trim_end();
        fs::write(folder.join("zone"), zone(name, records)).expect("a folder of ours");
        let [from, until] = times;
        let words = ["-o", name, "-f", "signed", "-i", from, "-e", until];
        let words = [&words, self.options, &["zone", key]].concat();
        run(folder, "ldns-signzone", &words);
        let read = |name: &str| fs::read_to_string(folder.join(name)).expect("it was written");
        (read("signed"), read(&format!("{key}.ds")))
    }

    /// A root, and zones below it, each with what is wrong with it; and what it takes to trust the root.
    fn tree(&self) -> (Vec<(&'static str, String)>, String) {
        let now = ["20260101", "20380101"];
        let records = "sip IN A 203.0.113.1\nsip IN AAAA 2001:db8::1\n_sip._udp IN SRV 1 0 5060 sip\nalias IN CNAME sip\n\
                       out IN CNAME sip.open.example.\n*.wild IN A 203.0.113.2\n";
        let (good, good_ds) = self.sign("good.example.", records, now);
        let (forged, forged_ds) = self.sign("forged.example.", records, now);
        let forged = forged.replace("203.0.113.1\n", "203.0.113.66\n");
        let forged = forged.replace("2001:db8::1\n", "2001:db8::66\n");
        let (old, old_ds) = self.sign("old.example.", records, ["20200101", "20210101"]);
        // Its parent says that it is signed.
        let (_, stripped_ds) = self.sign("stripped.example.", records, now);
        let (stolen, _) = self.sign("stolen.example.", records, now);
        let (_, stolen_ds) = self.sign("stolen.example.", records, now);
        let mut delegations = "ns IN A 192.0.2.53\n".to_owned();
        for name in ["good", "forged", "old", "stripped", "stolen", "open"] {
            writeln!(delegations, "{name} IN NS ns.example.").expect("memory");
        }
        delegations += &[good_ds, forged_ds, old_ds, stripped_ds, stolen_ds].concat();
        let (example, example_ds) = self.sign("example.", &delegations, now);
        let (root, root_ds) = self.sign(
            ".",
            &format!("example. IN NS ns.example.\n{example_ds}"),
            now,
        );
        let zones = vec![
            (".", root),
            ("example.", example),
            ("good.example.", good),
            ("forged.example.", forged),
            ("old.example.", old),
            ("stripped.example.", zone("stripped.example.", records)),
            ("stolen.example.", stolen),
            ("open.example.", zone("open.example.", records)),
        ];
        (zones, root_ds)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.files.path().join(name);
        fs::write(&file, text).expect("a folder of ours");
        file
    }
}

fn zone(name: &str, records: &str) -> String {
    format!(
        "$ORIGIN {name}\n$TTL 60\n@ IN SOA ns.example. hostmaster.example. 1 3600 600 86400 45\n@ IN NS ns.example.\n{records}"
    )
}

/// A gateway with the fetcher.
struct World {
    gateway: Host,
    fetcher: Fetcher,
    dns: Dns,
}

impl World {
    fn fetch(&self, name: &str) -> (Finished, Vec<String>) {
        let task = Task {
            source: SOURCE.to_owned(),
            kind: Kind::Names(Names {
                names: [name.parse().expect("a name")].into(),
                hold: Names::HOLD,
                private: false,
            }),
        };
        let tasks = Tasks {
            dns: self.dns.clone(),
            sources: vec![task],
            ..Tasks::none()
        };
        let finished = self.fetcher.run(&self.gateway, &tasks);
        let taken = self.fetcher.taken(&tasks.sources[0]);
        let taken = taken.iter().map(|entry| entry.prefix.addr().to_string());
        (finished, taken.collect())
    }

    fn finds(&self, name: &str, wanted: &[&str]) {
        let (finished, taken) = self.fetch(name);
        finished.succeeded();
        assert_eq!(taken, wanted, "{name}");
    }

    fn refuses(&self, name: &str, wanted: &str) {
        let (finished, taken) = self.fetch(name);
        let told = finished.exited(1).stdout;
        let wanted = format!("live: 0 entries; {name} A: {wanted}");
        assert!(told.starts_with(&wanted), "{told}\n{wanted}");
        assert!(taken.is_empty());
    }
}

fn with_zones((algorithm, options): (&'static str, &'static [&'static str])) {
    sandbox(|sandbox| {
        println!("{algorithm}");
        let (gateway, server) = gateway_and_server(sandbox);
        let signer = Signer {
            files: TempDir::new().expect("a temporary folder"),
            algorithm,
            options,
        };
        let (zones, root_ds) = signer.tree();
        let folder = signer.files.path().join("nsd");
        let _server = nsd(&server, &folder, SERVER, &zones);

        let mut world = World {
            gateway,
            fetcher: Fetcher::new(),
            dns: Dns {
                servers: vec![SERVER.parse().expect("an address")],
                dnssec: true,
                trust_anchor: None,
            },
        };
        world.dns.trust_anchor = Some(signer.file("root.ds", &root_ds));
        let both = ["203.0.113.1", "2001:db8::1"];
        world.finds("sip.good.example", &both);
        world.finds("_sip._udp.good.example", &both);
        world.finds("sip:good.example", &both);
        world.finds("alias.good.example", &both);
        world.finds("any.wild.good.example", &["203.0.113.2"]);
        // That there is none is proven, too.
        world.finds("nobody.good.example", &[]);
        world.finds("_sip._tcp.good.example", &[]);

        let [wrong, open] = [
            "192.0.2.53: the answer is not proven: its proof is wrong",
            "192.0.2.53: the answer is not proven: the name is in a zone that is not signed",
        ];
        for name in [
            "sip.forged.example",
            "sip.old.example",
            "nobody.old.example",
            "sip.stripped.example",
            "sip.stolen.example",
        ] {
            world.refuses(name, wrong);
        }
        for name in [
            "sip.open.example",
            "nobody.open.example",
            "out.good.example",
        ] {
            world.refuses(name, open);
        }
        // Nothing is signed by the root's own keys here.
        world.dns.trust_anchor = None;
        world.refuses("sip.good.example", wrong);
        let file = signer.file("wrong", "no record\n");
        let told = format!(
            "{} has something else than DS and DNSKEY records",
            file.display()
        );
        world.dns.trust_anchor = Some(file);
        world.refuses("sip.good.example", &told);
        world.dns.dnssec = false;
        world.finds("sip.open.example", &both);
    });
}

#[test]
fn only_what_is_proven_is_an_answer() {
    ALGORITHMS.into_iter().for_each(with_zones);
}
