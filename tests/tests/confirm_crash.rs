//! `kill -9` of an apply with `--confirm`, of its confirmation, its rollback and its clearing up, at any call, leaves what is true of every
//! other command: each interface filters as before or as after, the next command works, and nothing is left over.

use std::{fs, thread};

use sipguard::{clock, host::Host, lifecycle};
use sipguard_tests::{
    kill::{calls, killed_at},
    netns::{STATE, sandbox},
    scene::{PROVIDER, SCANNER, Scene, pins},
};

const INTERFACES: [&str; 2] = ["eth0", "wan.100"];
const APPLY: [&str; 3] = ["apply", "--confirm", "10m"];
/// Any command that changes something.
const NEXT: [&str; 4] = ["allow", "192.0.2.99", "--service", "all"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filters {
    Old,
    New,
}
use Filters::{New, Old};

/// The old policy guards 5060, the new one 5061, so that packets tell which one is in force.
fn configure(scene: &Scene, which: Filters) {
    let port = if which == New { 5061 } else { 5060 };
    scene.configure(&format!(
        "interfaces = {INTERFACES:?}\n\
         [sources]\nproviders = [\"{PROVIDER}\"]\n\
         [services.sip]\nudp = [{port}]\nallow = [\"providers\"]\n"
    ));
}

/// Asks packets.
fn filters(scene: &Scene) -> [Filters; 2] {
    INTERFACES.map(|interface| {
        assert!(scene.passes(interface, PROVIDER, 5060));
        assert!(scene.passes(interface, PROVIDER, 5061));
        match [5060, 5061].map(|port| scene.passes(interface, SCANNER, port)) {
            [false, true] => Old,
            [true, false] => New,
            neither => panic!("{interface} lets through: {neither:?}"),
        }
    })
}

/// The old policy is in force, and nothing is pending.
fn begin_with_the_old(scene: &Scene) {
    configure(scene, Old);
    scene.sipguard(["apply"]).succeeded();
    assert_eq!(filters(scene), [Old; 2]);
    configure(scene, New);
}

fn is_pending() -> bool {
    lifecycle::pending(&Host::system())
        .expect("the kernel answers")
        .is_some()
}

fn nothing_left_over(after: &str) {
    let pins = pins();
    let generations = pins
        .iter()
        .filter_map(|pin| pin.strip_prefix("sipguard/generations/"))
        .filter(|pin| !pin.contains('/'));
    assert_eq!(generations.count(), 1, "{pins:?} after {after}");
    for of_pending in ["/deadline", "pending-", "choice-"] {
        let left = pins.iter().find(|pin| pin.contains(of_pending));
        assert_eq!(left, None, "after {after}");
    }
    for entry in fs::read_dir(STATE).expect("the state folder is there") {
        let name = entry.expect("readable").file_name();
        let known = ["lock", "state.json", "confirmed.json"];
        assert!(
            known.iter().any(|known| name == *known),
            "{}",
            name.display()
        );
    }
}

fn with_scene(test: impl FnOnce(&Scene) + Send) {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &INTERFACES);
        begin_with_the_old(&scene);
        test(&scene);
    });
}

#[test]
fn an_apply() {
    with_scene(|scene| {
        let calls = calls(scene, &APPLY);
        let mut killed = 0;
        for call in &calls {
            let _ = scene.sipguard(["rollback"]);
            begin_with_the_old(scene);
            killed += usize::from(killed_at(scene, call, &APPLY));
            let now = filters(scene);
            scene.sipguard(NEXT).succeeded();
            // What was begun is finished, and can still be decided.
            let wanted = if now.contains(&New) { New } else { Old };
            assert_eq!(filters(scene), [wanted; 2], "after {call:?}");
            assert_eq!(is_pending(), wanted == New, "after {call:?}");
            if is_pending() {
                scene.sipguard(["rollback"]).succeeded();
                assert_eq!(filters(scene), [Old; 2], "after {call:?}");
            }
            nothing_left_over(&format!("{call:?}"));
        }
        assert!(killed * 10 > calls.len() * 8, "{killed} of {}", calls.len());
    });
}

#[test]
fn a_confirmation() {
    with_scene(|scene| {
        scene.sipguard(APPLY).succeeded();
        let calls = calls(scene, &["confirm"]);
        for call in &calls {
            begin_with_the_old(scene);
            scene.sipguard(APPLY).succeeded();
            assert!(killed_at(scene, call, &["confirm"]), "{call:?}");
            assert_eq!(filters(scene), [New; 2], "after {call:?}");
            scene.sipguard(NEXT).succeeded();
            assert_eq!(filters(scene), [New; 2], "after {call:?}");
            if is_pending() {
                scene.sipguard(["confirm"]).succeeded();
                assert_eq!(filters(scene), [New; 2], "after {call:?}");
            }
            nothing_left_over(&format!("{call:?}"));
        }
    });
}

#[test]
fn a_rollback() {
    with_scene(|scene| {
        scene.sipguard(APPLY).succeeded();
        let calls = calls(scene, &["rollback"]);
        for call in &calls {
            scene.sipguard(APPLY).succeeded();
            assert!(killed_at(scene, call, &["rollback"]), "{call:?}");
            let now = filters(scene);
            scene.sipguard(NEXT).succeeded();
            let wanted = if now.contains(&Old) {
                Old
            } else {
                filters(scene)[0]
            };
            assert_eq!(filters(scene), [wanted; 2], "after {call:?}");
            if is_pending() {
                scene.sipguard(["rollback"]).succeeded();
            }
            assert_eq!(filters(scene), [Old; 2], "after {call:?}");
            nothing_left_over(&format!("{call:?}"));
        }
    });
}

#[test]
fn the_clearing_up_after_a_lapse() {
    with_scene(|scene| {
        let lapse = || {
            scene.sipguard(["apply", "--confirm", "1s"]).succeeded();
            let pending = lifecycle::pending(&Host::system()).expect("the kernel answers");
            let left = pending.and_then(|pending| pending.left(clock::now()));
            thread::sleep(left.unwrap_or_default());
        };
        lapse();
        let calls = calls(scene, &NEXT);
        for call in calls.iter().step_by(3) {
            lapse();
            assert!(killed_at(scene, call, &NEXT), "{call:?}");
            assert_eq!(filters(scene), [Old; 2], "after {call:?}");
            scene.sipguard(NEXT).succeeded();
            assert_eq!(filters(scene), [Old; 2], "after {call:?}");
            assert!(!is_pending(), "after {call:?}");
            nothing_left_over(&format!("{call:?}"));
        }
    });
}
