//! `kill -9` of any command at any moment leaves each interface filtering as before or as after, the next command works, and nothing
//! is left over.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use sipguard::state::Store;
use sipguard_tests::{
    found::Found,
    kill::{calls, killed_at},
    netns::{STATE, sandbox, sipguard},
    random::Random,
    scene::{PROVIDER, SCANNER, Scene, pins},
};

const INTERFACES: [&str; 2] = ["eth0", "wan.100"];

/// What an interface does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filters {
    Nothing,
    Old,
    New,
}

/// The policy before guards 5060, the one after 5061, so that packets tell which one is in force.
fn configure(scene: &Scene, which: Filters) {
    let port = if which == Filters::New { 5061 } else { 5060 };
    scene.configure(&format!(
        "interfaces = [\"eth0\", \"wan.100\"]\n\
         [sources]\nproviders = [\"{PROVIDER}\"]\n\
         [services.sip]\nudp = [{port}]\nallow = [\"providers\"]\n"
    ));
}

/// Asks packets.
fn filters(scene: &Scene, interface: &str) -> Filters {
    for port in [5060, 5061] {
        assert!(
            scene.passes(interface, PROVIDER, port),
            "{interface} {port}"
        );
    }
    match [5060, 5061].map(|port| scene.passes(interface, SCANNER, port)) {
        [true, true] => Filters::Nothing,
        [false, true] => Filters::Old,
        [true, false] => Filters::New,
        [false, false] => panic!("{interface} has both policies"),
    }
}

fn all_filter(scene: &Scene) -> [Filters; 2] {
    INTERFACES.map(|interface| filters(scene, interface))
}

/// What must be true after any command, whatever was killed before it.
fn nothing_left_over() {
    let pins = pins();
    let folders = |below: &str| {
        let prefix = format!("sipguard/{below}/");
        pins.iter()
            .filter_map(|pin| pin.strip_prefix(&prefix).map(str::to_owned))
            .filter(|pin| !pin.contains('/'))
            .collect::<Vec<_>>()
    };
    assert!(folders("generations").len() <= 1, "{pins:?}");
    let links = folders("links");
    assert!(links.is_empty() || links == ["eth0", "wan:100"], "{pins:?}");
    let mut files: Vec<_> = fs::read_dir(STATE)
        .expect("the state folder is there")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    files.sort();
    let kept = files
        .extract_if(.., |file| file == "confirmed.json")
        .count();
    assert!(
        files == ["lock", "state.json"] || files == ["lock"] && kept == 0,
        "{files:?}"
    );
}

fn with_scene(test: impl FnOnce(&Scene) + Send) {
    sandbox(|sandbox| test(&Scene::new(sandbox, &INTERFACES)));
}

#[test]
fn the_first_apply() {
    with_scene(|scene| {
        configure(scene, Filters::Old);
        let calls = calls(scene, &["apply"]);
        assert_eq!(all_filter(scene), [Filters::Old; 2]);
        scene.sipguard(["down"]).succeeded();
        let mut killed = 0;
        for (turn, call) in calls.iter().enumerate() {
            killed += usize::from(killed_at(scene, call, &["apply"]));
            for (interface, now) in INTERFACES.iter().zip(all_filter(scene)) {
                assert_ne!(now, Filters::New, "{interface} after {call:?}");
            }
            if turn % 4 == 0 {
                scene.sipguard(["apply"]).succeeded();
                assert_eq!(all_filter(scene), [Filters::Old; 2], "after {call:?}");
                nothing_left_over();
            }
            scene.sipguard(["down"]).succeeded();
            assert_eq!(all_filter(scene), [Filters::Nothing; 2], "after {call:?}");
            assert_eq!(pins(), [""; 0], "after {call:?}");
            nothing_left_over();
        }
        assert!(killed * 10 > calls.len() * 8, "{killed} of {}", calls.len());
    });
}

#[test]
fn an_apply_that_changes_the_policy_of_two_interfaces() {
    with_scene(|scene| {
        configure(scene, Filters::Old);
        scene.sipguard(["apply"]).succeeded();
        configure(scene, Filters::New);
        let calls = calls(scene, &["apply"]);
        let (mut old, mut killed) = (Filters::New, 0);
        for call in &calls {
            // The old policy is whichever is in force.
            let new = if old == Filters::New {
                Filters::Old
            } else {
                Filters::New
            };
            configure(scene, new);
            killed += usize::from(killed_at(scene, call, &["apply"]));
            let now = all_filter(scene);
            assert!(
                now.iter().all(|now| *now == old || *now == new),
                "{now:?} after {call:?}"
            );
            // What would stand in for the config at boot is whole, too.
            let confirmed = Store::system().confirmed();
            assert!(
                matches!(confirmed, Ok(Some(_))),
                "{confirmed:?} after {call:?}"
            );
            // Whatever the next command is, it finishes what was begun.
            scene
                .sipguard(["allow", "192.0.2.99", "--service", "sip"])
                .succeeded();
            let [first, second] = all_filter(scene);
            assert_eq!(first, second, "after {call:?}");
            if now.contains(&new) {
                assert_eq!(first, new, "a swap that was begun is finished");
            }
            nothing_left_over();
            old = first;
        }
        assert!(killed * 10 > calls.len() * 8, "{killed} of {}", calls.len());
    });
}

#[test]
fn an_entry_that_is_added_or_removed() {
    with_scene(|scene| {
        configure(scene, Filters::Old);
        scene.sipguard(["apply"]).succeeded();
        scene
            .sipguard(["allow", "192.0.2.7", "--service", "all"])
            .succeeded();
        let guest = "192.0.2.99";
        for command in ["allow", "remove"] {
            let undo = if command == "allow" {
                "remove"
            } else {
                "allow"
            };
            if command == "remove" {
                scene
                    .sipguard(["allow", guest, "--service", "all"])
                    .succeeded();
            }
            let words = [command, guest, "--service", "all"];
            let undone = [undo, guest, "--service", "all"];
            let calls = calls(scene, &words);
            scene.sipguard(undone).succeeded();
            for call in calls {
                assert!(killed_at(scene, &call, &words), "{call:?}");
                let passed = scene.passes("eth0", guest, 5060);
                assert_eq!(passed, scene.passes("wan.100", guest, 5060));
                assert_eq!(all_filter(scene), [Filters::Old; 2]);
                // The state on disk is ahead at most, and the next command makes the kernel follow.
                scene
                    .sipguard(["allow", "192.0.2.8", "--service", "all"])
                    .succeeded();
                let state = Store::system().load().expect("a state");
                let kept = state
                    .entries
                    .iter()
                    .any(|entry| entry.prefix.addr().to_string() == guest);
                assert_eq!(scene.passes("eth0", guest, 5060), kept, "after {call:?}");
                if passed == (command == "allow") {
                    assert_eq!(kept, passed, "{command} was in force after {call:?}");
                }
                nothing_left_over();
                if kept == (command == "allow") {
                    scene.sipguard(undone).succeeded();
                }
                assert_eq!(scene.passes("eth0", guest, 5060), command == "remove");
            }
        }
    });
}

#[test]
fn down() {
    with_scene(|scene| {
        configure(scene, Filters::Old);
        scene.sipguard(["apply"]).succeeded();
        scene
            .sipguard(["allow", "192.0.2.7", "--service", "all"])
            .succeeded();
        let calls = calls(scene, &["down"]);
        for (turn, call) in calls.iter().enumerate() {
            scene.sipguard(["apply"]).succeeded();
            assert!(killed_at(scene, call, &["down"]), "{call:?}");
            let now = all_filter(scene);
            assert!(!now.contains(&Filters::New), "{now:?} after {call:?}");
            if turn % 4 == 0 {
                scene.sipguard(["apply"]).succeeded();
                assert_eq!(all_filter(scene), [Filters::Old; 2], "after {call:?}");
                assert!(
                    scene.passes("eth0", "192.0.2.7", 5060),
                    "own entries are back"
                );
                nothing_left_over();
            }
            scene.sipguard(["down"]).succeeded();
            assert_eq!(pins(), [""; 0], "after {call:?}");
        }
    });
}

/// Its changes come in force in the kernel before there is the copy that is in force after a reboot.
#[test]
fn a_refresh_of_a_list() {
    with_scene(|scene| {
        let url = "https://feeds.example/voip.txt";
        scene.configure(&format!(
            "interfaces = [\"eth0\", \"wan.100\"]\n\
             [sources]\nblocked = {{ url = \"{url}\" }}\n\
             [services.sip]\nudp = [5060]\ndefault = \"allow\"\ndeny = [\"blocked\"]\n"
        ));
        scene.sipguard(["apply", "--offline"]).succeeded();
        let mut found = Found::url("blocked", url);
        let refresh = ["refresh", "--offline"];
        // One of both is listed, in turn.
        let moving = ["192.0.2.98", "192.0.2.99"];
        let stay = [SCANNER, "198.51.100.0/24"];
        found.are(stay.into_iter().chain([moving[0]]));
        scene.sipguard(refresh).succeeded();
        found.are(stay.into_iter().chain([moving[1]]));
        let calls = calls(scene, &refresh);
        let first = |what| calls.iter().position(|call| call.does(what));
        let (kernel, copy) = (first("MAP_UPDATE"), first("sources/"));
        let is_first = kernel.zip(copy).is_some_and(|(kernel, copy)| kernel < copy);
        assert!(is_first, "{calls:?}");

        let mut killed = 0;
        for (turn, call) in calls.iter().enumerate() {
            let listed = moving[turn % 2];
            found.are(stay.into_iter().chain([listed]));
            killed += usize::from(killed_at(scene, call, &refresh));
            assert!(!scene.passes("eth0", SCANNER, 5060), "after {call:?}");
            // What is new comes before what is old goes.
            let passed = moving.map(|one| scene.passes("eth0", one, 5060));
            assert_ne!(passed, [true; 2], "after {call:?}");
            scene.sipguard(refresh).succeeded();
            for interface in INTERFACES {
                let passed = moving.map(|one| scene.passes(interface, one, 5060));
                let wanted = moving.map(|one| one != listed);
                assert_eq!(passed, wanted, "{interface} after {call:?}");
            }
            let status = scene.sipguard(["--json", "status"]).succeeded();
            let status: Value = serde_json::from_str(&status.stdout).expect("it is JSON");
            let source = &status["sources"][0];
            assert_eq!(source["entries"], 3, "after {call:?}");
            assert_eq!(source["in_kernel"], 3, "after {call:?}");
        }
        assert!(killed * 10 > calls.len() * 8, "{killed} of {}", calls.len());
    });
}

/// At moments that nobody chose, and without a tracer that slows the command down.
#[test]
fn any_moment() {
    with_scene(|scene| {
        let mut random = Random::seeded();
        configure(scene, Filters::Old);
        scene.sipguard(["apply"]).succeeded();
        let guest = "192.0.2.99";
        let mut longest = BTreeMap::new();
        for turn in 0..60 {
            let which = *random.choose(&[Filters::Old, Filters::New]);
            configure(scene, which);
            let before = all_filter(scene);
            let before = before[0];
            let arguments: &[&str] = match random.below(6) {
                0..3 => &["apply"],
                3 => &["allow", guest, "--service", "sip"],
                4 => &["deny", guest, "--service", "sip"],
                _ => &["down"],
            };
            let mut command = Command::new(sipguard());
            command.arg("--config").arg(scene.config()).args(arguments);
            let within = longest.get(arguments[0]).copied().unwrap_or(300_000);
            let delay = Duration::from_micros(random.below(within) as u64);
            let begin = Instant::now();
            let process = scene.gateway.spawn(&mut command);
            // The one sleep that is for luck: bad luck is what is looked for.
            thread::sleep(delay);
            process.signal(Signal::KILL);
            let ended = process.wait();
            if ended.status.success() {
                let took = usize::try_from(begin.elapsed().as_micros()).expect("short");
                longest.insert(arguments[0], took.min(within));
            }
            let what = format!("turn {turn}: {arguments:?} killed after {delay:?}");
            for now in all_filter(scene) {
                let allowed = match arguments[0] {
                    "apply" => now == before || now == which,
                    "down" => now == before || now == Filters::Nothing,
                    _ => now == before,
                };
                assert!(allowed, "{what}: {before:?} became {now:?}");
            }
            scene
                .sipguard(["allow", "192.0.2.8", "--service", "sip"])
                .succeeded();
            let [first, second] = all_filter(scene);
            assert_eq!(first, second, "{what}");
            nothing_left_over();
            if turn % 10 == 9 {
                scene.sipguard(["apply"]).succeeded();
                assert_eq!(all_filter(scene), [which; 2], "{what}");
            }
        }
        scene.sipguard(["down"]).succeeded();
        assert_eq!(pins(), [""; 0]);
        assert!(Path::new(STATE).join("state.json").exists());
    });
}
