//! Live sources, from what the fetcher found to what packets meet.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
};

use ipnet::IpNet;
use rustix::process::Signal;
use serde_json::Value;
use sipguard::datapath::Generation;
use sipguard_ebpf::abi::Layer;
use sipguard_tests::{
    dnsmasq::dnsmasq,
    found::Found,
    installed::Installed,
    netns::{End, Finished, STATE, join, sandbox},
    scene::{PROVIDER, SCANNER, Scene},
};

const NAMES: &str = r#"
interfaces = ["eth0"]
[sources]
trunk = ["sip.provider.example"]
[services.sip]
udp = [5060]
allow = ["trunk"]
"#;

const URL: &str = r#"
interfaces = ["eth0"]
[sources]
known   = ["192.0.2.0/24"]
blocked = { url = "https://feeds.example/voip.txt" }
[services.sip]
udp = [5060]
default = "allow"
allow = ["known"]
deny = ["blocked"]
[services.web]
udp = [5061]
allow = ["blocked"]
"#;

fn refresh(scene: &Scene) -> Finished {
    scene.sipguard(["refresh", "--offline"]).succeeded()
}

fn status(scene: &Scene) -> Value {
    let status = scene.sipguard(["--json", "status"]).succeeded();
    serde_json::from_str(&status.stdout).expect("it is JSON")
}

fn kernel_and_list(scene: &Scene) -> (u64, u64) {
    let status = status(scene);
    let source = &status["sources"][0];
    let number = |field: &str| source[field].as_u64().expect("it was found");
    (number("in_kernel"), number("entries"))
}

fn generation(scene: &Scene) -> u64 {
    status(scene)["generation"]
        .as_u64()
        .expect("one is in force")
}

fn nth(place: u32) -> IpNet {
    IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + place)).into()
}

#[test]
fn addresses_of_a_name_come_and_go_in_place() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(NAMES);
        let applied = scene.sipguard(["apply", "--offline"]).succeeded();
        assert!(applied.stderr.contains("trunk is empty"), "{applied:?}");
        let number = generation(&scene);
        assert!(!scene.passes("eth0", PROVIDER, 5060));
        let nothing = scene.sipguard(["refresh", "--offline"]).exited(1);
        assert!(
            nothing.stderr.contains("trunk: nothing was found yet"),
            "{nothing:?}"
        );

        let mut found = Found::name("trunk", "sip.provider.example");
        found.are([PROVIDER, "203.0.113.6"]);
        let refreshed = refresh(&scene);
        assert_eq!(refreshed.stdout, "trunk: 2 entries, 2 new, 0 gone\n");
        assert!(scene.passes("eth0", PROVIDER, 5060));
        assert!(!scene.passes("eth0", SCANNER, 5060));
        assert_eq!(kernel_and_list(&scene), (2, 2));
        let again = refresh(&scene);
        assert_eq!(again.stdout, "trunk: unchanged\n");

        let checked = scene
            .sipguard(["check", "--live", PROVIDER, "--service", "sip"])
            .succeeded();
        assert!(
            checked
                .stdout
                .contains("allowed by 203.0.113.5 (live: trunk: sip.provider.example)"),
            "{checked:?}"
        );
        let listed = scene.sipguard(["list"]).succeeded();
        assert!(
            listed.stdout.contains("live: trunk: sip.provider.example"),
            "{listed:?}"
        );

        // An address that the provider had given up is dropped with its next packet.
        found.are(["203.0.113.6"]);
        let refreshed = refresh(&scene);
        assert_eq!(refreshed.stdout, "trunk: 1 entry, 0 new, 1 gone\n");
        assert!(!scene.passes("eth0", PROVIDER, 5060));
        assert!(scene.passes("eth0", "203.0.113.6", 5060));
        assert_eq!(generation(&scene), number, "all of it in place");
    });
}

#[test]
fn a_name_comes_before_a_ban_and_a_person_before_both() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(NAMES);
        let mut found = Found::name("trunk", "sip.provider.example");
        found.are([PROVIDER]);
        scene.sipguard(["apply", "--offline"]).succeeded();
        assert!(scene.passes("eth0", PROVIDER, 5060));
        let say = |line: &str| scene.sipguard(line.split_whitespace()).succeeded();
        // Somebody forges the provider's address until fail2ban bans it.
        say(&format!("ban {PROVIDER} --for 600 --by fail2ban"));
        assert!(
            scene.passes("eth0", PROVIDER, 5060),
            "the provider keeps calling"
        );
        let listed = say("list --json").stdout;
        let listed: Vec<Value> = listed
            .lines()
            .map(|line| serde_json::from_str(line).expect("it is JSON"))
            .collect();
        let said: Vec<_> = listed
            .iter()
            .map(|it| (it["origin"].as_str(), it["overruled"].as_bool()))
            .collect();
        assert_eq!(said, [(Some("live"), None), (Some("ban"), Some(true))]);

        say(&format!("deny {PROVIDER}"));
        assert!(!scene.passes("eth0", PROVIDER, 5060));
        say(&format!("remove {PROVIDER}"));
        assert!(scene.passes("eth0", PROVIDER, 5060));
        // Where the name has let go of it, the ban counts; and `any` by hand comes behind both.
        found.are(["203.0.113.6"]);
        refresh(&scene);
        say("allow any --service sip --for 60s");
        assert!(!scene.passes("eth0", PROVIDER, 5060));
        assert!(scene.passes("eth0", SCANNER, 5060));
        say(&format!("unban {PROVIDER}"));
        assert!(scene.passes("eth0", PROVIDER, 5060));
    });
}

#[test]
fn many_changes_become_a_generation_and_few_do_not() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(URL);
        let mut found = Found::url("blocked", "https://feeds.example/voip.txt");
        found.all((0..5_000).map(nth));
        scene.sipguard(["apply", "--offline"]).succeeded();
        let number = generation(&scene);
        assert_eq!(kernel_and_list(&scene), (5_000, 5_000));
        assert!(!scene.passes("eth0", "10.0.0.7", 5060));
        // What one service denies another may allow.
        assert!(scene.passes("eth0", "10.0.0.7", 5061));
        assert!(scene.passes("eth0", SCANNER, 5060));

        found.all((500..5_500).map(nth));
        refresh(&scene);
        assert_eq!(generation(&scene), number);
        assert_eq!(kernel_and_list(&scene), (5_000, 5_000));
        assert!(scene.passes("eth0", "10.0.0.7", 5060));
        assert!(!scene.passes("eth0", "10.0.21.0", 5060));

        found.all((0..8_000).map(nth));
        let refreshed = refresh(&scene);
        assert_eq!(
            refreshed.stdout,
            "blocked: 8,000 entries, many of them new\n"
        );
        assert!(generation(&scene) > number);
        assert_eq!(kernel_and_list(&scene), (8_000, 8_000));
        assert!(!scene.passes("eth0", "10.0.0.7", 5060));

        // Less than half of it is another list.
        found.all((0..1_000).map(nth));
        let refused = scene.sipguard(["refresh", "--offline"]).exited(1);
        assert!(refused.stderr.contains("--accept"), "{refused:?}");
        assert_eq!(kernel_and_list(&scene), (8_000, 8_000));
        let why = status(&scene)["sources"][0]["refused"].clone();
        assert!(
            why.as_str().is_some_and(|why| why.contains("--accept")),
            "{why}"
        );
        scene
            .sipguard(["refresh", "blocked", "--offline", "--accept"])
            .succeeded();
        assert_eq!(kernel_and_list(&scene), (1_000, 1_000));
        assert!(status(&scene)["sources"][0]["refused"].is_null());
    });
}

/// What two lists say has one entry in the kernel, which names one of them.
#[test]
fn lists_that_say_the_same_are_in_force_both() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(
            r#"
interfaces = ["eth0"]
[sources]
feed1 = { url = "https://feeds.example/1.txt" }
feed2 = { url = "https://feeds.example/2.txt" }
[services.sip]
udp = [5060]
default = "allow"
deny = ["feed1", "feed2"]
"#,
        );
        let mut feed1 = Found::url("feed1", "https://feeds.example/1.txt");
        let mut feed2 = Found::url("feed2", "https://feeds.example/2.txt");
        feed1.all((0..100).map(nth));
        feed2.all((40..140).map(nth));
        scene.sipguard(["apply", "--offline"]).succeeded();
        let all_are = |wanted: [(u64, u64); 2]| {
            let status = status(&scene);
            let counted = [0, 1].map(|place| {
                let source = &status["sources"][place];
                let number = |field: &str| source[field].as_u64().expect("it was found");
                (number("in_kernel"), number("entries"))
            });
            assert_eq!(counted, wanted, "{status}");
            let metrics = ["stats", "--format", "prometheus"];
            let told = scene.sipguard(metrics).succeeded().stdout;
            for (source, (in_kernel, entries)) in ["feed1", "feed2"].iter().zip(wanted) {
                for (what, number) in [("entries_in_kernel", in_kernel), ("entries", entries)] {
                    let sample = format!("sipguard_source_{what}{{source=\"{source}\"}} {number}");
                    assert!(told.lines().any(|line| line == sample), "{sample}\n{told}");
                }
            }
        };
        all_are([(100, 100), (100, 100)]);
        // In place it is the same.
        feed1.all((0..90).map(nth));
        feed2.all((35..140).map(nth));
        refresh(&scene);
        all_are([(90, 90), (105, 105)]);
        // What is in force of neither is told of.
        let generation = scene.gateway.enter(|| {
            let number = *Generation::all().expect("pins").last().expect("one");
            Generation::open(number).expect("it is pinned")
        });
        let slot = generation.description.services[0].slot;
        scene.gateway.enter(|| {
            for place in 30..40 {
                let removed = generation.set(slot, Layer::Live, nth(place), None);
                removed.expect("the kernel takes it");
            }
        });
        all_are([(80, 90), (100, 105)]);
    });
}

/// Single changes of a list are in force before there is a copy of them.
#[test]
fn what_no_copy_can_be_made_of_does_not_stay_in_force() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(URL);
        let mut found = Found::url("blocked", "https://feeds.example/voip.txt");
        found.all((1..100).map(nth));
        scene.sipguard(["apply", "--offline"]).succeeded();
        let number = generation(&scene);
        let remount = |options: &str| {
            let mut command = Command::new("mount");
            command.args(["-o", &format!("remount,{options}"), STATE]);
            scene.gateway.run(&mut command).succeeded();
        };

        found.all((2..101).map(nth));
        remount("ro");
        let refused = scene.sipguard(["refresh", "--offline"]);
        assert!(refused.stderr.contains("cannot write"), "{refused:?}");
        assert!(!scene.passes("eth0", "10.0.0.1", 5060));
        assert!(scene.passes("eth0", "10.0.0.100", 5060));
        assert_eq!(kernel_and_list(&scene), (99, 99));

        remount("rw");
        let refreshed = refresh(&scene);
        assert_eq!(refreshed.stdout, "blocked: 99 entries, 1 new, 1 gone\n");
        assert!(scene.passes("eth0", "10.0.0.1", 5060));
        assert!(!scene.passes("eth0", "10.0.0.100", 5060));
        assert_eq!(kernel_and_list(&scene), (99, 99));
        assert_eq!(generation(&scene), number, "all in place");
    });
}

#[test]
fn prefixes_of_many_lengths_are_split_up_and_judged_as_they_are() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(URL);
        let mut found = Found::url("blocked", "https://feeds.example/voip.txt");
        let lengths: Vec<String> = (13..=30)
            .map(|length| format!("10.{length}.0.0/{length}"))
            .collect();
        let all: Vec<IpNet> = (13..=30)
            .map(|length| {
                let address = IpAddr::from(Ipv4Addr::new(length, 64, 0, 0));
                IpNet::new(address, length).expect("a length").trunc()
            })
            .collect();
        assert_eq!(lengths.len(), all.len());
        found.all(all.clone());
        scene.sipguard(["apply", "--offline"]).succeeded();
        let judged = |prefixes: &[IpNet], dropped: bool| {
            for prefix in prefixes {
                let hosts = prefix.hosts();
                for host in [prefix.network(), hosts.last().expect("more than one")] {
                    assert_eq!(
                        scene.passes("eth0", &host.to_string(), 5060),
                        !dropped,
                        "{host}"
                    );
                }
            }
        };
        judged(&all, true);
        // Each by itself, in place.
        let number = generation(&scene);
        let (first, rest) = all.split_at(9);
        found.all(rest.to_vec());
        scene
            .sipguard(["refresh", "blocked", "--offline", "--accept"])
            .succeeded();
        judged(first, false);
        judged(rest, true);
        found.all(all.clone());
        scene
            .sipguard(["refresh", "blocked", "--offline", "--accept"])
            .succeeded();
        judged(&all, true);
        assert_eq!(generation(&scene), number);
    });
}

#[test]
fn after_a_reboot_the_last_good_copies_are_in_force_whatever_the_fetcher_says() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(NAMES);
        let mut found = Found::name("trunk", "sip.provider.example");
        found.are([PROVIDER]);
        scene.sipguard(["apply", "--offline"]).succeeded();
        let tasks = Path::new(STATE).join("tasks.json");
        let ordered = fs::read_to_string(&tasks).expect("it is to be asked for");
        assert!(ordered.contains("sip.provider.example"), "{ordered}");

        fs::write(found.file(), "{").expect("a file");
        scene.reboot(sandbox);
        scene.sipguard(["apply", "--offline"]).succeeded();
        assert!(scene.passes("eth0", PROVIDER, 5060));
        assert!(!scene.passes("eth0", SCANNER, 5060));
        let why = status(&scene)["sources"][0]["refused"].clone();
        assert!(
            why.as_str().is_some_and(|why| why.contains("trunk.json")),
            "{why}"
        );

        scene.sipguard(["down"]).succeeded();
        assert!(!tasks.exists(), "nothing is asked for any more");
    });
}

#[test]
fn what_cannot_be_read_leaves_in_force_what_is() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(&format!(
            "{}deny = [\"other\"]\n[services.web]\nudp = [5061]\ndefault = \"allow\"\n",
            NAMES.replace("[sources]", "[sources]\nother = [\"sip.other.example\"]")
        ));
        let mut trunk = Found::name("trunk", "sip.provider.example");
        trunk.are([PROVIDER, "203.0.113.6"]);
        let mut other = Found::name("other", "sip.other.example");
        other.are(["203.0.113.6"]);
        scene.sipguard(["apply", "--offline"]).succeeded();
        let say = |line: &str| scene.sipguard(line.split_whitespace()).succeeded();
        say("ban 203.0.113.9 --for 600 --by fail2ban");
        assert!(!scene.passes("eth0", "203.0.113.9", 5061));
        let in_kernel = |name: &str| {
            let status = status(&scene);
            let mut sources = status["sources"].as_array().expect("they are told").iter();
            let source = sources.find(|source| source["source"] == name);
            source.expect("it is asked for")["in_kernel"].clone()
        };

        let folder = Path::new(STATE).join("sources");
        let copy_of = |name: &str| {
            let files = fs::read_dir(&folder).expect("there are copies");
            let mut files = files.map(|file| file.expect("a file").path());
            let is_its = |file: &PathBuf| {
                let file = file.file_name().expect("a name").to_string_lossy();
                file.starts_with(name)
            };
            files.find(is_its).expect("there is a copy of it")
        };
        let whole = fs::read_to_string(copy_of("trunk")).expect("readable");
        let (first, entries) = whole.split_once('\n').expect("lines");
        // Without what it was made of it can't be made anew.
        fs::remove_file(trunk.file()).expect("it was found");
        for damaged in [
            String::new(),
            first.to_owned(),
            format!("{first}\n{}", &entries[..entries.len() / 2]),
        ] {
            fs::write(copy_of("trunk"), damaged).expect("writable");
            let repaired = say("repair");
            assert!(repaired.stderr.contains("trunk"), "{repaired:?}");
            assert!(scene.passes("eth0", PROVIDER, 5060), "{repaired:?}");
            // What others say is followed all the same.
            other.are(["203.0.113.7"]);
            say("refresh other --offline");
            other.are(["203.0.113.6", "203.0.113.7"]);
            say("refresh other --offline");
            assert_eq!(in_kernel("other"), 2);
            assert!(scene.passes("eth0", PROVIDER, 5060));
        }

        // What has gone meanwhile goes with the next copy that can be read.
        fs::write(copy_of("trunk"), "").expect("writable");
        say("repair");
        trunk.are(["203.0.113.8"]);
        refresh(&scene);
        assert!(!scene.passes("eth0", PROVIDER, 5060));
        assert!(scene.passes("eth0", "203.0.113.8", 5060));

        // The log of bans, and what has all compared with it.
        let log = Path::new(STATE).join("bans.jsonl");
        fs::remove_file(&log).expect("there is one");
        fs::create_dir(&log).expect("a folder");
        let forgotten = scene.sipguard(["refresh", "--forget", "other"]).exited(1);
        assert!(forgotten.stderr.contains("bans.jsonl"), "{forgotten:?}");
        assert!(!scene.passes("eth0", "203.0.113.9", 5061));
        // Another generation has its bans from the one before.
        let number = generation(&scene);
        let config = fs::read_to_string(scene.config()).expect("a config");
        scene.configure(&config.replace("[5060]", "[5060, 5062]"));
        let applied = scene.sipguard(["apply", "--offline"]);
        assert!(applied.stderr.contains("bans.jsonl"), "{applied:?}");
        assert!(generation(&scene) > number, "{applied:?}");
        assert!(!scene.passes("eth0", "203.0.113.9", 5061));
        assert!(scene.passes("eth0", SCANNER, 5061));
    });
}

/// At boot, too: what the fetcher has found is there still.
#[test]
fn a_copy_that_is_damaged_is_made_anew() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(NAMES);
        let mut found = Found::name("trunk", "sip.provider.example");
        found.are([PROVIDER, "203.0.113.6"]);
        scene.sipguard(["apply", "--offline"]).succeeded();
        let folder = Path::new(STATE).join("sources");
        let mut files = fs::read_dir(&folder).expect("there are copies");
        let copy = files.next().expect("one").expect("a file").path();
        let whole = fs::read_to_string(&copy).expect("readable");
        let (first, entries) = whole.split_once('\n').expect("lines");
        let second = entries.lines().next().expect("an entry");
        for damaged in [
            first.to_owned(),
            format!("{first}\n{second}\n"),
            whole.replace("203.0.113.6", "203.0.113.600"),
        ] {
            fs::write(&copy, damaged).expect("writable");
            scene.reboot(sandbox);
            let applied = scene.sipguard(["apply", "--offline"]).succeeded();
            assert!(!applied.stderr.contains("trunk"), "{applied:?}");
            assert_eq!(kernel_and_list(&scene), (2, 2));
            assert!(scene.passes("eth0", "203.0.113.6", 5060));
            assert_eq!(fs::read_to_string(&copy).expect("readable"), whole);
        }
    });
}

#[test]
fn what_waits_to_be_confirmed_asks_and_what_is_taken_back_does_not() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(NAMES);
        let mut found = Found::name("trunk", "sip.provider.example");
        found.are([PROVIDER]);
        scene.sipguard(["apply", "--offline"]).succeeded();
        let ordered = || {
            let file = fs::read_to_string(Path::new(STATE).join("tasks.json"));
            file.expect("it is to be asked for")
        };
        scene.configure(
            &NAMES
                .replace("trunk", "other")
                .replace("sip.provider", "sip.other"),
        );
        scene
            .sipguard(["apply", "--offline", "--confirm", "60s"])
            .succeeded();
        assert!(
            ordered().contains("sip.other.example") && ordered().contains("sip.provider.example")
        );
        let mut other = Found::name("other", "sip.other.example");
        other.are([SCANNER]);
        // Both go on: the one that is on trial, and the one that may come back.
        found.are([PROVIDER, "203.0.113.6"]);
        refresh(&scene);
        assert!(scene.passes("eth0", SCANNER, 5060) && !scene.passes("eth0", PROVIDER, 5060));
        scene.sipguard(["rollback"]).succeeded();
        assert!(!scene.passes("eth0", SCANNER, 5060));
        assert!(scene.passes("eth0", PROVIDER, 5060) && scene.passes("eth0", "203.0.113.6", 5060));
        assert!(!ordered().contains("sip.other.example"));
    });
}

#[test]
fn apply_asks_for_what_was_never_asked_for_and_refresh_asks_again() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let installed = Installed::new();
        let servers = sandbox.host();
        let end = |host, addresses| End {
            host,
            interface: "dns",
            addresses,
        };
        join(
            end(&scene.gateway, &["192.0.2.9/24"]),
            end(&servers, &["192.0.2.53/24"]),
        );
        let provider = "srv-host=_sip._udp.provider.example,sip.provider.example,5060";
        let server = dnsmasq(
            &servers,
            "192.0.2.53",
            &[provider, "host-record=sip.provider.example,203.0.113.5"],
        );
        scene.configure(&format!(
            "{}\n[dns]\nservers = [\"192.0.2.53\"]\n",
            NAMES.replace("\"sip.provider.example\"", "\"_sip._udp.provider.example\"")
        ));
        let applied = installed.run(&scene, "apply").succeeded();
        assert!(!applied.stderr.contains("empty"), "{applied:?}");
        assert!(
            scene.passes("eth0", PROVIDER, 5060),
            "with the first packet"
        );
        assert!(!scene.passes("eth0", SCANNER, 5060));

        // The provider moves; what was there is held for a day, unless somebody says otherwise.
        server.signal(Signal::TERM);
        server.wait();
        let server = dnsmasq(
            &servers,
            "192.0.2.53",
            &[provider, "host-record=sip.provider.example,203.0.113.9"],
        );
        let refreshed = installed.run(&scene, "refresh").succeeded();
        assert_eq!(
            refreshed.stdout, "trunk: 2 entries, 1 new, 0 gone\n",
            "{refreshed:?}"
        );
        assert!(scene.passes("eth0", PROVIDER, 5060) && scene.passes("eth0", "203.0.113.9", 5060));
        let forgotten = installed.run(&scene, "refresh trunk --forget").succeeded();
        assert!(!scene.passes("eth0", PROVIDER, 5060), "{forgotten:?}");
        assert!(scene.passes("eth0", "203.0.113.9", 5060));

        // Nobody answers: all stays, and it is told.
        server.signal(Signal::KILL);
        server.wait();
        let refreshed = installed.run(&scene, "refresh").succeeded();
        assert_eq!(refreshed.stdout, "trunk: unchanged\n", "{refreshed:?}");
        assert!(scene.passes("eth0", "203.0.113.9", 5060));
        let error = status(&scene)["sources"][0]["error"].clone();
        assert!(error.is_string(), "{error}");
    });
}
