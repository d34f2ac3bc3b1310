//! An apply that takes itself back unless it is confirmed, told by packets.

use std::{
    env, fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use sipguard::{clock, datapath::Pending, host::Host, lifecycle};
use sipguard_tests::{
    netns::{STATE, Sandbox, sandbox, sipguard, until},
    scene::{PROVIDER, SCANNER, Scene, bind, pins},
};

/// Long enough not to be over before a test has looked, on a busy machine too.
const LONG: &str = "10m";

/// Of the boot clock.
const SECOND: u64 = 1_000_000_000;

/// How many frames of each kind are sent at once: they fit into a veth's ring.
const BATCH: u64 = 64;

/// What an interface does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filters {
    Nothing,
    Old,
    New,
}
use Filters::{New, Nothing, Old};

/// The old policy guards 5060, the new one 5061, so that packets tell which one is in force.
fn configure(scene: &Scene, which: Filters, interfaces: &[&str]) {
    let port = if which == New { 5061 } else { 5060 };
    scene.configure(&format!(
        "interfaces = {interfaces:?}\n\
         [sources]\nproviders = [\"{PROVIDER}\"]\n\
         [services.sip]\nudp = [{port}]\nallow = [\"providers\"]\n"
    ));
}

/// Asks packets.
fn filters(scene: &Scene, interface: &str) -> Filters {
    let open = |source| [5060, 5061].map(|port| scene.passes(interface, source, port));
    assert_eq!(open(PROVIDER), [true, true], "{interface}");
    match open(SCANNER) {
        [true, true] => Nothing,
        [false, true] => Old,
        [true, false] => New,
        [false, false] => panic!("{interface} has both policies"),
    }
}

fn all<const N: usize>(scene: &Scene, interfaces: [&str; N]) -> [Filters; N] {
    interfaces.map(|interface| filters(scene, interface))
}

/// A host with the old policy in force and the new one in the config file.
fn with_scene(test: impl FnOnce(&Scene, &Sandbox) + Send) {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        configure(&scene, Old, &["eth0"]);
        scene.sipguard(["apply"]).succeeded();
        configure(&scene, New, &["eth0"]);
        test(&scene, sandbox);
    });
}

fn json(scene: &Scene, arguments: &[&str]) -> Value {
    let mut words = vec!["--json"];
    words.extend(arguments);
    let said = scene.sipguard(words).succeeded().stdout;
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
}

fn fails(scene: &Scene, arguments: &[&str], why: &str) {
    let said = scene.sipguard(arguments).exited(1).stderr;
    assert!(said.contains(why), "{arguments:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

fn pending() -> Pending {
    let pending = lifecycle::pending(&Host::system()).expect("the kernel answers");
    pending.expect("an apply waits to be confirmed")
}

/// Waits for the deadline, which this thread's clock tells as the kernel's does.
fn wait_for_the_deadline() {
    let left = pending().left(clock::now());
    thread::sleep(left.unwrap_or_default());
}

/// What there is when nothing is pending.
fn nothing_left_over() {
    let pins = pins();
    let generations = pins
        .iter()
        .filter_map(|pin| pin.strip_prefix("sipguard/generations/"))
        .filter(|pin| !pin.contains('/'));
    assert!(generations.count() <= 1, "{pins:?}");
    for pin in &pins {
        let (_, name) = pin.rsplit_once('/').unwrap_or_default();
        let of_pending = ["deadline", "pending-", "choice-"];
        assert!(
            !of_pending.iter().any(|prefix| name.starts_with(prefix)),
            "{pins:?}"
        );
    }
}

fn state_files() -> Vec<String> {
    let mut files: Vec<_> = fs::read_dir(STATE)
        .expect("the state folder is there")
        .map(|entry| entry.expect("readable").file_name())
        .map(|name| name.into_string().expect("a name"))
        .collect();
    files.sort();
    files
}

#[test]
fn it_takes_itself_back_though_every_process_was_killed() {
    with_scene(|scene, _| {
        let mut command = Command::new(sipguard());
        command.arg("--config").arg(scene.config());
        command.args(["apply", "--confirm", "8s"]);
        let apply = scene.gateway.spawn(&mut command);
        apply.wait_for_output("sipguard confirm");
        apply.signal(Signal::KILL);
        drop(apply.wait());

        let Pending { deadline, .. } = pending();
        assert_eq!(filters(scene, "eth0"), New);
        let mut last_new = 0;
        until("the old policy is back", || {
            let before = clock::now().boot_ns;
            let new = scene.passes("eth0", SCANNER, 5060);
            if new {
                last_new = before;
            }
            !new
        });
        let first_old = clock::now().boot_ns;
        assert!(last_new < deadline, "new until the deadline");
        assert!(last_new + SECOND > deadline, "not before it");
        assert!(first_old < deadline + SECOND, "not long after it");
        assert_eq!(filters(scene, "eth0"), Old);

        let status = json(scene, &["status"]);
        assert_eq!(status["pending"]["lapsed"], true, "{status}");
        assert_eq!(status["generation"], status["pending"]["previous"]);
        // Whatever the next command is that changes something.
        scene
            .sipguard(["allow", "192.0.2.71", "--service", "all"])
            .succeeded();
        assert_eq!(filters(scene, "eth0"), Old);
        nothing_left_over();
        assert_eq!(json(scene, &["status"])["pending"], Value::Null);
        fails(scene, &["confirm"], "was taken back");
    });
}

#[test]
fn what_is_confirmed_stays() {
    with_scene(|scene, _| {
        scene.sipguard(["apply", "--confirm", "8s"]).succeeded();
        let Pending {
            generation,
            deadline,
            ..
        } = pending();
        assert_eq!(filters(scene, "eth0"), New);
        let said = json(scene, &["confirm"]);
        assert_eq!(said["generation"], generation);
        nothing_left_over();
        assert_eq!(state_files(), ["confirmed.json", "lock", "state.json"]);
        until("the deadline is over", || clock::now().boot_ns > deadline);
        assert_eq!(filters(scene, "eth0"), New);
        scene
            .sipguard(["allow", "192.0.2.71", "--service", "all"])
            .succeeded();
        assert_eq!(filters(scene, "eth0"), New);
        let again = json(scene, &["apply"]);
        assert_eq!(
            (&again["changed"], &again["kept"]),
            (&false.into(), &false.into())
        );
        fails(scene, &["confirm"], "nothing is pending");
        fails(scene, &["rollback"], "nothing is pending");
    });
}

#[test]
fn what_is_rolled_back_is_gone_at_once() {
    with_scene(|scene, _| {
        scene.sipguard(["apply", "--confirm", LONG]).succeeded();
        let Pending { previous, .. } = pending();
        assert_eq!(filters(scene, "eth0"), New);
        let said = json(scene, &["rollback"]);
        assert_eq!(said["generation"], previous.expect("one before"));
        assert_eq!(filters(scene, "eth0"), Old);
        nothing_left_over();
        // The config file still says what was taken back: nobody wants that by accident.
        for arguments in [&["apply"][..], &["apply", "--dry-run"]] {
            let again = scene.sipguard(arguments).exited(1).stderr;
            for words in [
                "nothing was applied",
                "was taken back at 2",
                "`sipguard apply --confirm 60s`",
                "`sipguard confirm`",
            ] {
                assert!(again.contains(words), "{words}: {again}");
            }
        }
        assert_eq!(filters(scene, "eth0"), Old);
        // Trying it again is possible, and changing it.
        scene.sipguard(["apply", "--confirm", LONG]).succeeded();
        assert_eq!(filters(scene, "eth0"), New);
        scene.sipguard(["rollback"]).succeeded();
        let mut config = fs::read_to_string(scene.config()).expect("the config file");
        config.push_str("# thought about it\n");
        scene.configure(&config);
        scene.sipguard(["apply"]).succeeded();
        assert_eq!(filters(scene, "eth0"), New);
        assert_eq!(state_files(), ["confirmed.json", "lock", "state.json"]);
    });
}

#[test]
fn late_words_are_refused() {
    with_scene(|scene, _| {
        scene.sipguard(["apply", "--confirm", "1s"]).succeeded();
        wait_for_the_deadline();
        fails(scene, &["confirm"], "too late");
        assert_eq!(filters(scene, "eth0"), Old);
        nothing_left_over();

        scene.sipguard(["apply", "--confirm", "1s"]).succeeded();
        wait_for_the_deadline();
        // What was wanted is so.
        scene.sipguard(["rollback"]).succeeded();
        assert_eq!(filters(scene, "eth0"), Old);
        nothing_left_over();
        fails(scene, &["rollback"], "was taken back");
    });
}

#[test]
fn a_host_that_filtered_nothing_filters_nothing_again() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        configure(&scene, New, &["eth0"]);
        scene.sipguard(["apply", "--confirm", "8s"]).succeeded();
        assert_eq!(filters(&scene, "eth0"), New);
        assert_eq!(
            json(&scene, &["status"])["pending"]["previous"],
            Value::Null
        );
        wait_for_the_deadline();
        assert_eq!(filters(&scene, "eth0"), Nothing);
        let status = scene.sipguard(["status"]).succeeded().stdout;
        assert!(status.contains("nothing is in force"), "{status}");
        assert!(status.contains("was not confirmed"), "{status}");
        fails(&scene, &["apply"], "was taken back at");
        assert_eq!(filters(&scene, "eth0"), Nothing);
        assert!(pins().iter().all(|pin| !pin.contains("links/")));
        nothing_left_over();

        scene.sipguard(["apply", "--confirm", LONG]).succeeded();
        scene.sipguard(["confirm"]).succeeded();
        assert_eq!(filters(&scene, "eth0"), New);
    });
}

#[test]
fn each_interface_has_the_policy_that_it_would_have() {
    for confirmed in [true, false] {
        sandbox(|sandbox| {
            let interfaces = ["eth0", "eth1", "wan.100"];
            let scene = Scene::new(sandbox, &interfaces);
            configure(&scene, Old, &["eth0", "eth1"]);
            scene.sipguard(["apply"]).succeeded();
            configure(&scene, New, &["eth0", "wan.100"]);
            let wait = if confirmed { LONG } else { "8s" };
            scene.sipguard(["apply", "--confirm", wait]).succeeded();
            // What the new policy drops is let go when it is confirmed.
            assert_eq!(all(&scene, interfaces), [New, Old, New]);
            let status = json(&scene, &["status"]);
            let shown = status["interfaces"].as_array().expect("a list");
            let found: Vec<_> = shown
                .iter()
                .map(|shown| (shown["name"].as_str(), shown["state"].as_str()))
                .collect();
            let attached = ["eth0", "wan.100", "eth1"].map(|name| (Some(name), Some("attached")));
            assert_eq!(found, attached);
            if confirmed {
                let said = json(&scene, &["confirm"]);
                assert_eq!(said["released"], serde_json::json!(["eth1"]));
                assert_eq!(all(&scene, interfaces), [New, Nothing, New]);
            } else {
                wait_for_the_deadline();
                assert_eq!(all(&scene, interfaces), [Old, Old, Nothing]);
                scene
                    .sipguard(["allow", "192.0.2.71", "--service", "all"])
                    .succeeded();
                assert_eq!(all(&scene, interfaces), [Old, Old, Nothing]);
                assert!(!pins().contains(&"sipguard/links/wan:100".to_owned()));
            }
            nothing_left_over();
        });
    }
}

#[test]
fn single_entries_outlast_either_outcome() {
    for outcome in ["confirm", "rollback"] {
        with_scene(|scene, _| {
            let (guest, former) = ("192.0.2.71", "192.0.2.72");
            scene
                .sipguard(["allow", former, "--service", "all"])
                .succeeded();
            scene.sipguard(["apply", "--confirm", LONG]).succeeded();
            scene
                .sipguard(["allow", guest, "--service", "all"])
                .succeeded();
            scene.sipguard(["deny", PROVIDER]).succeeded();
            scene.sipguard(["remove", former]).succeeded();
            let check = |guarded| {
                assert!(scene.passes("eth0", guest, guarded), "{outcome}");
                assert!(!scene.passes("eth0", PROVIDER, guarded), "{outcome}");
                assert!(!scene.passes("eth0", former, guarded), "{outcome}");
            };
            check(5061);
            scene.sipguard([outcome]).succeeded();
            check(if outcome == "confirm" { 5061 } else { 5060 });
            nothing_left_over();
        });
    }
}

#[test]
fn a_reboot_brings_the_last_confirmed_policy() {
    with_scene(|scene, sandbox| {
        let boot = |wanted| {
            scene.reboot(sandbox);
            // Interfaces that appear late run it again.
            let config = fs::read_to_string(scene.config()).expect("the config file");
            let as_it_says = wanted == New && config.ends_with('\n');
            for code in if as_it_says { [0, 0] } else { [5, 1] } {
                scene.sipguard(["apply"]).exited(code);
                assert_eq!(filters(scene, "eth0"), wanted);
            }
            nothing_left_over();
        };
        scene
            .sipguard(["allow", "192.0.2.71", "--service", "all"])
            .succeeded();
        scene.sipguard(["apply", "--confirm", LONG]).succeeded();
        boot(Old);
        assert!(scene.passes("eth0", "192.0.2.71", 5060));
        boot(Old);
        // Another command before the apply makes no difference.
        scene.sipguard(["apply", "--confirm", LONG]).succeeded();
        scene.reboot(sandbox);
        scene
            .sipguard(["allow", "192.0.2.72", "--service", "sip"])
            .succeeded();
        scene.sipguard(["apply"]).exited(5);
        assert_eq!(filters(scene, "eth0"), Old);
        // Nor does what was written into the config file while it was pending.
        scene.sipguard(["apply", "--confirm", LONG]).succeeded();
        fs::OpenOptions::new()
            .append(true)
            .open(scene.config())
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"# later\n"))
            .expect("the config file");
        boot(Old);
        // After the time is over, too, whether somebody noticed or not.
        scene.sipguard(["apply", "--confirm", "1s"]).succeeded();
        wait_for_the_deadline();
        boot(Old);
        scene.sipguard(["apply", "--confirm", "1s"]).succeeded();
        wait_for_the_deadline();
        scene
            .sipguard(["allow", "192.0.2.73", "--service", "all"])
            .succeeded();
        boot(Old);
        scene.sipguard(["apply", "--confirm", LONG]).succeeded();
        scene.sipguard(["down"]).succeeded();
        boot(Old);

        scene.sipguard(["apply", "--confirm", LONG]).succeeded();
        scene.sipguard(["confirm"]).succeeded();
        boot(New);
        // What stands in for a config that can't be used is what was confirmed, also where no other command came after it.
        scene.configure("interfaces = [");
        boot(New);
    });
    // Where nothing was in force.
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        configure(&scene, New, &["eth0"]);
        scene.sipguard(["apply", "--confirm", LONG]).succeeded();
        scene.reboot(sandbox);
        for _ in 0..2 {
            fails(&scene, &["apply"], "nothing was applied");
            assert_eq!(filters(&scene, "eth0"), Nothing);
        }
        scene.sipguard(["apply", "--confirm", LONG]).succeeded();
        scene.sipguard(["confirm"]).succeeded();
        assert_eq!(filters(&scene, "eth0"), New);
    });
}

#[test]
fn while_it_waits() {
    with_scene(|scene, _| {
        let said = scene.sipguard(["apply", "--confirm", LONG]).succeeded();
        let Pending {
            generation,
            previous,
            ..
        } = pending();
        let previous = previous.expect("one before");
        let waits = format!("generation {generation} waits for `sipguard confirm` until ");
        let or = format!("left), or generation {previous} is in force again");
        let status = scene.sipguard(["status"]).succeeded();
        for text in [said.stdout, status.stdout] {
            assert!(text.contains(&waits) && text.contains(&or), "{text}");
        }
        let status = json(scene, &["status"]);
        assert_eq!(status["generation"], generation);
        assert_eq!(status["pending"]["generation"], generation);
        assert_eq!(status["pending"]["previous"], previous);
        assert_eq!(status["pending"]["lapsed"], false);
        let left = status["pending"]["seconds_left"].as_u64();
        assert!(
            left.is_some_and(|left| (1..=600).contains(&left)),
            "{status}"
        );
        assert_eq!(status["interfaces"][0]["state"], "attached");
        // One at a time.
        fails(scene, &["apply"], "waits to be confirmed");
        fails(
            scene,
            &["apply", "--confirm", "60s"],
            "waits to be confirmed",
        );
        scene.sipguard(["apply", "--dry-run"]).succeeded();
        scene
            .sipguard(["check", "--live", SCANNER, "--port", "5061"])
            .exited(3);
        scene
            .sipguard(["check", "--live", SCANNER, "--port", "5060"])
            .exited(0);

        scene.sipguard(["down"]).succeeded();
        assert_eq!(filters(scene, "eth0"), Nothing);
        assert_eq!(pins(), [""; 0]);
        fails(scene, &["confirm"], "nothing is pending");
        // Without an interface nothing asks the clock.
        configure(scene, New, &[]);
        fails(scene, &["apply", "--confirm", "60s"], "no interface");
    });
}

#[test]
fn an_apply_that_fails_leaves_nothing_to_confirm() {
    with_scene(|scene, _| {
        // A device without native XDP, after one that was turned already.
        scene.gateway.ip("link add br0 type bridge");
        let text = fs::read_to_string(scene.config()).expect("the config file");
        let both =
            "[[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"br0\"\nmode = \"native\"";
        scene.configure(&text.replace("interfaces = [\"eth0\"]", both));
        for _ in 0..2 {
            let apply = ["apply", "--all-or-nothing", "--confirm", LONG];
            fails(scene, &apply, "native mode");
            assert_eq!(filters(scene, "eth0"), Old);
            assert_eq!(json(scene, &["status"])["pending"], Value::Null);
            nothing_left_over();
            fails(scene, &["rollback"], "nothing is pending: no");
        }
        // It was not taken back: it was never in force.
        fails(scene, &["apply", "--all-or-nothing"], "native mode");
        scene.configure(&text);
        scene.sipguard(["apply"]).succeeded();
        assert_eq!(filters(scene, "eth0"), New);
    });
}

/// Both policies guard 5060 and let the provider in; every transition happens under load, `SIPGUARD_TURNS` times.
#[test]
fn no_packet_sees_a_gap() {
    let turns = env::var("SIPGUARD_TURNS").map_or(4, |turns| {
        turns.parse().expect("SIPGUARD_TURNS is a number")
    });
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let configure = |other: u16| {
            scene.configure(&format!(
                "interfaces = [\"eth0\"]\n\
                 [sources]\nproviders = [\"{PROVIDER}\"]\n\
                 [services.sip]\nudp = [5060]\nallow = [\"providers\"]\n\
                 [services.other]\nudp = [{other}]\n"
            ));
        };
        configure(6000);
        scene.sipguard(["apply"]).succeeded();
        let socket = scene.gateway.enter(|| bind(5060));
        socket.set_nonblocking(true).expect("an option of sockets");
        let frame = |source: &str, text: &[u8]| {
            let frame = scene.frame("eth0", source).udp(5060);
            frame.payload(text).bytes()
        };
        let (good, bad) = (frame(PROVIDER, b"good"), frame(SCANNER, b"bad"));
        let (gateway, config) = (&scene.gateway, scene.config());
        let done = AtomicBool::new(false);
        let mut sent = 0u64;
        thread::scope(|scope| {
            let done = &done;
            let commands = scope.spawn(move || {
                let run = |arguments: &[&str]| {
                    let mut command = Command::new(sipguard());
                    command.arg("--config").arg(&config).args(arguments);
                    gateway.run(&mut command).succeeded();
                };
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    for turn in 0..turns {
                        let text = fs::read_to_string(&config).expect("the config file");
                        let (from, to) =
                            (format!("[{}]", 6000 + turn), format!("[{}]", 6001 + turn));
                        fs::write(&config, text.replace(&from, &to)).expect("the config file");
                        run(&["apply", "--confirm", "1s"]);
                        wait_for_the_deadline();
                        thread::sleep(Duration::from_millis(100));
                        run(&["allow", "192.0.2.71", "--service", "all"]);
                        run(&["apply", "--confirm", LONG]);
                        run(&["rollback"]);
                        run(&["apply", "--confirm", LONG]);
                        run(&["confirm"]);
                    }
                }));
                done.store(true, Ordering::Relaxed);
                if let Err(panic) = result {
                    std::panic::resume_unwind(panic);
                }
            });
            while !done.load(Ordering::Relaxed) {
                for _ in 0..BATCH {
                    scene.wire("eth0").send(&good);
                    scene.wire("eth0").send(&bad);
                }
                scene.settle("eth0");
                let mut arrived = 0;
                let mut buffer = [0; 16];
                while let Ok(length) = socket.recv(&mut buffer) {
                    assert_eq!(&buffer[..length], b"good", "after {sent} packets");
                    arrived += 1;
                }
                assert_eq!(arrived, BATCH, "after {sent} packets");
                sent += BATCH;
            }
            commands.join().expect("the commands succeed");
        });
        assert!(sent > 10_000, "{sent} packets are no load");
        nothing_left_over();
        assert!(Path::new(STATE).exists());
    });
}
