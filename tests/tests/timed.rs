//! Timed entries end by themselves, to the moment, in the kernel; and while they last they survive what entries survive.

use std::{collections::BTreeSet, fs, path::Path};

use ipnet::IpNet;
use sipguard::{
    clock, config,
    host::Host,
    lifecycle,
    policy::{Action, Policy},
    prefix,
    state::Store,
};
use sipguard_ebpf::abi::{self, Layer, LinkKind};
use sipguard_tests::{
    frame::eth,
    netns::{BPFFS, Sandbox, sandbox, until},
    random::Random,
    reference::{Model, Own, expected},
    scene::{SCANNER, Scene},
};

const CONFIG: &str = r#"
interfaces = ["eth0"]
[sources]
in = ["10.1.1.0/24", "10.2.2.7", "10.3.3.0/24", "2001:db8:1::/48", "2001:db8:2::7"]
out = ["10.2.2.66", "10.4.4.0/24", "2001:db8:3::/48"]
[services.sip]
udp = [5060]
allow = ["in"]
deny = ["out"]
[services.web]
udp = [80]
"#;

/// A gateway with [`CONFIG`] in force.
fn scene(sandbox: &Sandbox) -> Scene {
    let scene = Scene::new(sandbox, &["eth0"]);
    scene.configure(CONFIG);
    scene.sipguard(["apply"]).succeeded();
    scene
}

fn policy(scene: &Scene) -> Policy {
    config::load(&scene.config()).expect("a good config")
}

fn now() -> u64 {
    clock::now().boot_ns
}

/// What the command line said, with the ends that the kernel has written down.
fn own(scene: &Scene) -> Vec<Own> {
    let state = Store::system().load().expect("a readable state");
    let live = lifecycle::live(&Host::system())
        .expect("the pins can be read")
        .expect("something is in force");
    let services = policy(scene).services;
    let entries = state.entries.iter().map(|entry| {
        let slot = live.generation.description.service(&entry.service);
        let slot = slot.expect("a service of the config").slot;
        let value = live.generation.value(slot, Layer::Hand, entry.prefix);
        let value = value
            .expect("readable")
            .expect("every entry is in the kernel");
        Own {
            prefix: entry.prefix,
            service: services
                .iter()
                .position(|service| service.name == entry.service)
                .expect("a service of the config"),
            action: entry.action,
            until: entry.until.map(|_| match entry.action {
                Action::Allow => value.allow_until,
                Action::Deny => value.deny_until,
            }),
        }
    });
    entries.collect()
}

/// Whether the naive model lets a packet pass.
fn model(policy: &Policy, own: &[Own], source: &str, port: u16, now: u64) -> bool {
    let frame = eth().ip(source).udp(port).bytes();
    let model = Model {
        policy,
        own,
        bans: &[],
        now,
    };
    expected(&frame, LinkKind::Ethernet, &model).action == abi::Action::Pass
}

/// Sends packets from these sources until the last timed entry has ended. Every packet must get what the naive model says of the entries
/// in force; one that is judged about the end of an entry, whichever of the two. Returns whether every source was seen before the first
/// end, after the last one, and between ends that are apart: on a machine that is too busy for that, entries are to last longer.
fn watch(scene: &Scene, probes: &[(&str, u16)]) -> bool {
    /// What commands one after the other take at most.
    const APART: u64 = 500_000_000;

    let policy = policy(scene);
    let own = own(scene);
    let ends: BTreeSet<u64> = own.iter().filter_map(|own| own.until).collect();
    let model = |source: &str, port, now| model(&policy, &own, source, port, now);
    assert!(!ends.is_empty());
    // How many ends had passed when a source was seen for certain.
    let mut seen = vec![BTreeSet::new(); probes.len()];
    while seen.iter().any(|seen| !seen.contains(&ends.len())) {
        for (&(source, port), seen) in probes.iter().zip(&mut seen) {
            let before = now();
            let passed = scene.passes("eth0", source, port);
            let after = now();
            let moments: Vec<_> = ends
                .range(before..=after)
                .copied()
                .chain([before])
                .collect();
            if let [only] = moments[..] {
                assert_eq!(
                    passed,
                    model(source, port, only),
                    "{source}:{port} at {only}, {ends:?}"
                );
                seen.insert(ends.range(..before).count());
            } else {
                let possible: Vec<_> = moments.iter().map(|&at| model(source, port, at)).collect();
                assert!(
                    possible.contains(&passed),
                    "{source}:{port} between {moments:?}"
                );
            }
        }
    }
    let ends: Vec<_> = ends.into_iter().collect();
    let apart = |number: &usize| *number == 0 || ends[*number] - ends[number - 1] > APART;
    let gaps: Vec<_> = (0..ends.len()).filter(apart).collect();
    seen.iter()
        .all(|seen| gaps.iter().all(|gap| seen.contains(gap)))
}

#[test]
fn each_ends_to_the_moment_whatever_it_nests_in() {
    sandbox(|sandbox| {
        let scene = scene(sandbox);
        let spoken = |scale: u32| {
            let timed = |(word, seconds): (&str, u32)| {
                let time = format!("{}s", seconds * scale);
                let words = word.split_whitespace().chain(["--for", &time]);
                scene.sipguard(words).succeeded();
            };
            scene
                .sipguard(["deny", "10.5.5.5", "--service", "sip"])
                .succeeded();
            [
                // A timed address inside a permanent network, in both senses.
                ("deny 10.1.1.66 --service sip", 3),
                ("allow 10.4.4.66 --service sip", 3),
                ("deny 2001:db8:1::66 --service sip", 3),
                // A timed network around permanent addresses.
                ("allow 10.2.2.0/24 --service sip", 4),
                ("allow 2001:db8:2::/64 --service sip", 4),
                // Timed and permanent on the same prefix.
                ("deny 10.3.3.0/24 --service sip", 4),
                ("allow 2001:db8:3::/48 --service sip", 4),
                ("deny 10.5.5.5 --service sip", 5),
                ("allow 10.5.5.5 --service sip", 3),
                // Several timed ones, one inside the other.
                ("allow 10.6.0.0/16 --service sip", 5),
                ("deny 10.6.6.0/24 --service sip", 4),
                ("allow 10.6.6.64/28 --service sip", 3),
                ("deny 10.6.6.66 --service sip", 5),
                ("allow any --service web", 4),
            ]
            .into_iter()
            .for_each(timed);
        };
        let probes = [
            ("10.1.1.66", 5060),
            ("10.1.1.67", 5060),
            ("10.4.4.66", 5060),
            ("10.4.4.67", 5060),
            ("2001:db8:1::66", 5060),
            ("2001:db8:1::67", 5060),
            ("10.2.2.7", 5060),
            ("10.2.2.66", 5060),
            ("10.2.2.67", 5060),
            ("2001:db8:2::7", 5060),
            ("2001:db8:2::8", 5060),
            ("10.3.3.3", 5060),
            ("2001:db8:3::3", 5060),
            ("10.5.5.5", 5060),
            ("10.6.7.1", 5060),
            ("10.6.6.1", 5060),
            ("10.6.6.65", 5060),
            ("10.6.6.66", 5060),
            (SCANNER, 80),
            ("2001:db8:ffff::1", 80),
            (SCANNER, 5060),
        ];
        let seen = [1, 2, 4, 8].into_iter().any(|scale| {
            spoken(scale);
            watch(&scene, &probes)
        });
        assert!(seen, "this machine is too slow to see anything");
    });
}

/// Entries in networks that nest, added, taken back and ending at random, with an apply now and then, against what was said and not
/// taken back.
#[test]
fn whatever_was_said_only_what_is_in_force_counts() {
    const SOURCES: [&str; 6] = [
        "10.1.1.1",
        "10.1.1.66",
        "10.1.2.1",
        "10.2.2.7",
        "2001:db8:1::1",
        "2001:db8:1:1::1",
    ];
    const PREFIXES: [&str; 8] = [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.1.0/24",
        "10.1.1.66",
        "2001:db8:1::/48",
        "2001:db8:1:1::/64",
        "2001:db8:1::1",
    ];
    sandbox(|sandbox| {
        let scene = scene(sandbox);
        let mut random = Random::seeded();
        let mut said: Vec<Own> = Vec::new();
        for turn in 0..150 {
            let prefix = *random.choose(&PREFIXES);
            let net = prefix::parse(prefix).expect("a prefix");
            let at = ["--service", "sip"];
            match random.below(10) {
                0 => {
                    let port = 5061 + random.below(3);
                    scene.configure(&CONFIG.replace("[5060]", &format!("[5060, {port}]")));
                    scene.sipguard(["apply"]).succeeded();
                }
                1 | 2 if said.iter().any(|own| own.prefix == net) => {
                    // All of it may have ended meanwhile.
                    scene.sipguard(["remove", prefix].iter().chain(&at));
                    said.retain(|own| own.prefix != net);
                }
                kind => {
                    let action = *random.choose(&[Action::Allow, Action::Deny]);
                    let timed = kind > 3;
                    let seconds = format!("{}s", 1 + random.below(2));
                    let time: &[&str] = if timed { &["--for", &seconds] } else { &[] };
                    let words = [action.name(), prefix];
                    scene
                        .sipguard(words.iter().chain(&at).chain(time))
                        .succeeded();
                    // The newest word wins; one with an end leaves what has none.
                    said.retain(|own| own.prefix != net || (timed && own.until.is_none()));
                    let kept = own(&scene).into_iter();
                    let mut kept = kept.filter(|own| {
                        (own.prefix, own.action, own.until.is_some()) == (net, action, timed)
                    });
                    said.push(kept.next().expect("what was just said is kept"));
                }
            }
            let policy = policy(&scene);
            for source in SOURCES {
                let before = now();
                let passed = scene.passes("eth0", source, 5060);
                let after = now();
                let ends = said.iter().filter_map(|own| own.until);
                let possible = ends.filter(|end| (before..=after).contains(end));
                let possible = possible.chain([before]);
                let possible: Vec<_> = possible
                    .map(|at| model(&policy, &said, source, 5060, at))
                    .collect();
                assert!(
                    possible.contains(&passed),
                    "turn {turn}: {source} at {before}, {said:?}"
                );
            }
        }
    });
}

fn listed(scene: &Scene) -> Vec<serde_json::Value> {
    let listed = scene.sipguard(["list", "--own", "--json"]).succeeded();
    let lines = listed.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn the_rest_of_its_time_survives_an_apply_and_a_reboot() {
    sandbox(|sandbox| {
        let scene = scene(sandbox);
        scene
            .sipguard(["allow", SCANNER, "--service", "sip", "--for", "6s"])
            .succeeded();
        let end = own(&scene)[0].until.expect("it is timed");
        let until_then = listed(&scene)[0]["until"].clone();

        scene.configure(&CONFIG.replace("[5060]", "[5060, 5062]"));
        let applied = scene.sipguard(["apply"]).succeeded();
        assert!(
            applied.stdout.contains("changes: sip changed"),
            "{}",
            applied.stdout
        );
        assert!(scene.passes("eth0", SCANNER, 5062));
        // The two clocks are never read at the same instant.
        let apart = |other: u64| end.abs_diff(other);
        assert!(apart(own(&scene)[0].until.expect("timed")) < 50_000_000);
        assert_eq!(listed(&scene)[0]["until"], until_then);

        // What is left of a machine that was switched off: the disk.
        fs::remove_dir_all(Path::new(BPFFS).join("sipguard")).expect("the pins are there");
        until("the program is gone", || {
            scene.passes("eth0", "10.9.9.9", 5060)
        });
        scene.sipguard(["apply"]).succeeded();
        assert!(!scene.passes("eth0", "10.9.9.9", 5060));
        assert!(apart(own(&scene)[0].until.expect("timed")) < 50_000_000);
        watch(&scene, &[(SCANNER, 5060), ("10.1.1.1", 5060)]);

        // It ended, and no apply brings it back.
        assert_eq!(listed(&scene), [0; 0]);
        scene.sipguard(["apply"]).succeeded();
        let state = Store::system().load().expect("a readable state");
        assert_eq!(state.entries, []);
        assert!(!scene.passes("eth0", SCANNER, 5060));
    });
}

#[test]
fn one_that_ends_while_nothing_is_in_force_stays_ended() {
    sandbox(|sandbox| {
        let scene = scene(sandbox);
        scene
            .sipguard(["allow", SCANNER, "--service", "sip", "--for", "1s"])
            .succeeded();
        let end = own(&scene)[0].until.expect("it is timed");
        scene.sipguard(["down"]).succeeded();
        until("it has ended", || now() > end + 5_000_000);
        assert_eq!(listed(&scene), [0; 0]);
        scene.sipguard(["apply"]).succeeded();
        assert!(!scene.passes("eth0", SCANNER, 5060));
    });
}

#[test]
fn people_see_how_long_and_programs_until_when() {
    sandbox(|sandbox| {
        let scene = scene(sandbox);
        let said = scene.sipguard(["deny", SCANNER, "--for", "2h"]).succeeded();
        assert!(said.stdout.contains(", until 20"), "{}", said.stdout);
        let list = scene.sipguard(["list", "--own"]).succeeded().stdout;
        assert!(list.contains("LEFT"), "{list}");
        assert!(list.contains("1h 59m") || list.contains("2h"), "{list}");
        let entry = &listed(&scene)[0];
        let left = entry["seconds_left"].as_i64().expect("a number");
        assert!((7100..=7200).contains(&left), "{entry}");
        let end: jiff::Timestamp = entry["until"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .expect("RFC 3339");
        let state = Store::system().load().expect("a readable state");
        assert_eq!(state.entries[0].until, Some(end));
        let check = scene
            .sipguard(["check", "--live", SCANNER])
            .exited(3)
            .stdout;
        assert!(
            check.contains("for another 1h 59m") || check.contains("for another 2h"),
            "{check}"
        );

        // What is printed as commands says the same again.
        let commands = ["list", "--own", "--format", "commands", "--service", "sip"];
        let commands = scene.sipguard(commands).succeeded().stdout;
        assert_eq!(
            commands,
            format!("sipguard deny {SCANNER} --service sip --until {end}\n")
        );
    });
}

#[test]
fn the_same_again_takes_the_place_of_the_old_end() {
    sandbox(|sandbox| {
        let scene = scene(sandbox);
        let allow = |time: &[&str]| {
            let words = ["allow", SCANNER, "--service", "sip"];
            scene.sipguard(words.iter().chain(time)).succeeded();
        };
        allow(&["--for", "1s"]);
        allow(&["--for", "1h"]);
        let ends: Vec<_> = own(&scene).iter().map(|own| own.until).collect();
        assert!(
            ends.len() == 1 && ends[0] > Some(now() + 3_590_000_000_000),
            "{ends:?}"
        );
        // Shorter, too.
        allow(&["--for", "2s"]);
        watch(&scene, &[(SCANNER, 5060)]);

        // Above one for good it stands for its time,
        allow(&[]);
        allow(&["--for", "1s"]);
        assert_eq!(own(&scene).len(), 2);
        watch(&scene, &[(SCANNER, 5060)]);
        assert!(scene.passes("eth0", SCANNER, 5060));
        assert_eq!(listed(&scene).len(), 1);
        // and one for good takes its place.
        allow(&["--for", "1h"]);
        allow(&[]);
        assert_eq!(own(&scene).len(), 1);
        scene.sipguard(["remove", SCANNER]).succeeded();
        assert!(!scene.passes("eth0", SCANNER, 5060));
    });
}

#[test]
fn what_has_ended_can_be_taken_back() {
    sandbox(|sandbox| {
        let scene = scene(sandbox);
        let own = || own(&scene);
        let said = |line: &str| scene.sipguard(line.split(' ')).succeeded().stdout;
        let ended = |line: &str| -> Vec<serde_json::Value> {
            let told = said(&format!("{line} --json"));
            let lines = told.lines().map(serde_json::from_str);
            lines.map(|line| line.expect("JSON")).collect()
        };
        // As a hook of certbot's that took longer than it was given.
        said("allow any --service web --for 1s");
        let end = own()[0].until.expect("it is timed");
        until("it has ended", || now() > end + 5_000_000);
        let web = ended("remove any --service web");
        assert_eq!(web.len(), 2, "of each family");
        for entry in &web {
            assert_eq!(
                (&entry["ended"], &entry["service"]),
                (&true.into(), &"web".into())
            );
        }
        // Whatever was done meanwhile.
        said("deny 10.7.7.7");
        said("apply");
        assert_eq!(ended("remove any --service web"), web);
        assert_eq!(ended("remove any"), web);
        let never = scene.sipguard(["remove", "any", "--service", "sip"]);
        assert!(never.exited(1).stderr.contains("there is no entry"));

        // While nothing is in force it is the same, without naming a service.
        said("down");
        assert_eq!(ended("remove any"), web);
        let removed = ended("remove 10.7.7.7");
        let services: Vec<_> = removed.iter().map(|entry| &entry["service"]).collect();
        assert_eq!(services, ["sip", "web"]);
        assert!(removed.iter().all(|entry| entry["ended"] == false));
        let gone = scene.sipguard(["remove", "10.7.7.7"]).exited(1).stderr;
        assert!(
            gone.contains("the command line says nothing of 10.7.7.7"),
            "{gone}"
        );

        // A newer word that is taken back is not there any more.
        said("allow any --service web");
        said("remove any");
        scene.sipguard(["remove", "any"]).exited(1);
    });
}

#[test]
fn the_next_change_forgets_what_has_ended() {
    sandbox(|sandbox| {
        let scene = scene(sandbox);
        let prefix: IpNet = "198.51.100.7/32".parse().expect("a prefix");
        scene
            .sipguard(["allow", SCANNER, "--service", "sip", "--for", "1s"])
            .succeeded();
        let end = own(&scene)[0].until.expect("it is timed");
        until("it has ended", || now() > end + 5_000_000);
        assert_eq!(listed(&scene), [0; 0]);
        // As the kernel has it already.
        let gone = scene.sipguard(["remove", SCANNER]).succeeded().stdout;
        let wanted = "had ended: allow 198.51.100.7 for sip, at 20";
        assert!(gone.starts_with(wanted), "{gone}");
        let now_it_is = "198.51.100.7 is denied for sip now: it is not listed\n";
        assert!(gone.ends_with(now_it_is), "{gone}");

        scene
            .sipguard(["allow", "10.7.7.7", "--service", "web"])
            .succeeded();
        let state = Store::system().load().expect("a readable state");
        assert_eq!(state.entries.len(), 1);
        let live = lifecycle::live(&Host::system())
            .expect("readable")
            .expect("in force");
        let slot = live
            .generation
            .description
            .service("sip")
            .expect("sip")
            .slot;
        assert_eq!(
            live.generation
                .value(slot, Layer::Hand, prefix)
                .expect("readable"),
            None
        );
    });
}

#[test]
fn every_wrong_time_is_refused_with_what_to_write() {
    sandbox(|sandbox| {
        let scene = scene(sandbox);
        for (option, text, message) in [
            ("--for", "", "is not a duration; write for example 90s"),
            (
                "--for",
                "soon",
                "\"soon\" is not a duration; write for example 90s",
            ),
            ("--for", "90", "90 has no unit; write 90s, 90m, 90h or 90d"),
            ("--for", "0s", "less than a second"),
            ("--for", "-5m", "\"-5m\" is less than a second"),
            ("--for", "1mo", "has no fixed length; write days"),
            ("--for", "11y", "has no fixed length; write days"),
            ("--for", "4000d", "is more than 10 years away"),
            (
                "--for",
                "99999999999999999999d",
                "is more than 10 years away",
            ),
            ("--until", "", "is not a time; write for example 18:00"),
            (
                "--until",
                "tomorrow",
                "\"tomorrow\" is not a time; write for example 18:00",
            ),
            ("--until", "25:00", "is not a time"),
            ("--until", "2026-02-30 10:00", "is not a time"),
            (
                "--until",
                "2037-12-24",
                "2037-12-24 is a whole day; write the time, too",
            ),
            ("--until", "1999-12-31 23:59", "is in the past"),
            ("--until", "1999-12-31T23:59:59Z", "is in the past"),
            (
                "--until",
                "9999-01-01T00:00:00Z",
                "is more than 10 years away",
            ),
        ] {
            for verb in ["allow", "deny"] {
                let refused = scene.sipguard([verb, SCANNER, option, text]).exited(2);
                let error = &refused.stderr;
                assert!(error.contains(message), "{option} {text}: {error}");
                assert!(error.contains(option), "{option} {text}: {error}");
            }
        }
        let both = ["allow", SCANNER, "--for", "1h", "--until", "18:00"];
        let refused = scene.sipguard(both).exited(2).stderr;
        assert!(refused.contains("cannot be used with"), "{refused}");
        let state = Store::system().load().expect("a readable state");
        assert_eq!(state.entries, [], "nothing was added");
    });
}
