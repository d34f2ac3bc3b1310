//! What was in force before a restart is in force after it: the config file, or a list, may be wrong by then, or gone. The table in
//! `sipguard/docs/failures.md` is what these tests say.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use sipguard::{
    clock,
    host::Host,
    lifecycle::{self, Options},
    state::Store,
};
use sipguard_tests::{
    netns::{SCRATCH, STATE, Sandbox, sandbox},
    scene::{PROVIDER, SCANNER, Scene},
};

const GUEST: &str = "192.0.2.71";
const BLOCKED: &str = "203.0.113.66";
/// What was in force before is, and not what the config file says.
const INSTEAD: i32 = 5;

fn list() -> PathBuf {
    Path::new(SCRATCH).join("blocked.txt")
}

fn confirmed() -> PathBuf {
    Path::new(STATE).join("confirmed.json")
}

fn text(interfaces: &[&str]) -> String {
    format!(
        "interfaces = {interfaces:?}\n[sources]\nproviders = [\"203.0.113.0/24\"]\nblocked = {{ file = \"blocked.txt\" }}\n\
         [services.sip]\nudp = [5060]\nallow = [\"providers\"]\ndeny = [\"blocked\"]\n"
    )
}

/// A gateway that has filtered, with an entry of the command line, too.
fn with_scene(interfaces: &[&str], test: impl FnOnce(&mut Scene, &Sandbox) + Send) {
    sandbox(|sandbox| {
        let mut scene = Scene::new(sandbox, &["eth0"]);
        fs::write(list(), format!("{BLOCKED}\n")).expect("a list");
        scene.configure(&text(interfaces));
        scene.sipguard(["apply"]).succeeded();
        scene.sipguard(["allow", GUEST]).succeeded();
        test(&mut scene, sandbox);
    });
}

/// The whole policy, as packets tell.
fn guards(scene: &Scene, interface: &str) -> bool {
    let passes = |source| scene.passes(interface, source, 5060);
    let guards = !passes(SCANNER);
    assert_eq!(!passes(BLOCKED), guards);
    assert!(passes(PROVIDER) && passes(GUEST));
    guards
}

/// Applies as at boot: nothing is in force. Returns what was said.
fn boots(scene: &Scene, sandbox: &Sandbox, code: i32, guarded: bool) -> String {
    scene.reboot(sandbox);
    let said = scene.sipguard(["apply"]).exited(code).stderr;
    assert_eq!(guards(scene, "eth0"), guarded, "{said}");
    said
}

/// What is done to a gateway's files, and what is said of it.
type Spoiled = (&'static str, fn(&Scene), &'static [&'static str]);

#[test]
fn a_config_or_a_list_that_is_wrong_by_then() {
    let spoil: [Spoiled; 5] = [
        (
            "wrong config",
            |scene| scene.configure(&text(&["eth0"]).replace("udp = [5060]", "udp = [99999]")),
            &["sipguard.toml:", "99999"],
        ),
        (
            "wrong list",
            |_| fs::write(list(), "203.0.113.66\n<html>\n").expect("a list"),
            &["blocked.txt:2:"],
        ),
        (
            "missing list",
            |_| fs::remove_file(list()).expect("it is there"),
            &["blocked.txt"],
        ),
        (
            "missing config",
            |scene| fs::remove_file(scene.config()).expect("it is there"),
            &["sipguard.toml"],
        ),
        (
            "empty config",
            |scene| scene.configure(""),
            &["names no interface", "`sipguard down`"],
        ),
    ];
    with_scene(&["eth0"], |scene, sandbox| {
        for (what, spoil, words) in spoil {
            spoil(scene);
            // While it runs nothing changes.
            let said = scene.sipguard(["apply"]).exited(1).stderr;
            assert!(guards(scene, "eth0"), "{what}: {said}");
            let boot = boots(scene, sandbox, INSTEAD, true);
            for words in words.iter().chain(&["what was in force before"]) {
                assert!(boot.contains(words), "{what}, {words}: {boot}");
            }
            let again = scene.sipguard(["apply"]).exited(1).stderr;
            assert_eq!(said, again, "{what}");
            assert!(guards(scene, "eth0"), "{what}");
            // However often.
            boots(scene, sandbox, INSTEAD, true);
            let planned = scene.sipguard(["apply", "--dry-run"]).exited(1).stderr;
            assert_eq!(said, planned, "{what}");

            fs::write(list(), format!("{BLOCKED}\n")).expect("a list");
            scene.configure(&text(&["eth0"]));
            scene.sipguard(["apply"]).succeeded();
            boots(scene, sandbox, 0, true);
        }
    });
}

/// An interface that comes a minute later finds what stands in, too: udev runs `apply`.
#[test]
fn an_interface_that_comes_later() {
    with_scene(&["eth0", "eth1"], |scene, sandbox| {
        scene.configure("interfaces = [");
        boots(scene, sandbox, INSTEAD, true);
        scene.connect("eth1");
        scene.sipguard(["apply"]).exited(1);
        assert!(guards(scene, "eth1"));
    });
}

#[test]
fn what_would_stand_in_and_cannot() {
    with_scene(&["eth0"], |scene, sandbox| {
        let whole = fs::read_to_string(confirmed()).expect("it is kept");
        let newer = whole.replace(r#""version":1"#, r#""version":77"#);
        assert_ne!(newer, whole);
        for (kept, words) in [
            (&whole[..whole.len() / 2], "is damaged"),
            ("", "is damaged"),
            (&newer, "a newer sipguard"),
        ] {
            scene.configure("interfaces = [");
            fs::write(confirmed(), kept).expect("the state folder");
            let said = boots(scene, sandbox, 1, false);
            for words in [words, "confirmed.json", "sipguard.toml:1:"] {
                assert!(said.contains(words), "{words}: {said}");
            }
            // The next config that can be used brings it back.
            scene.configure(&text(&["eth0"]));
            scene.sipguard(["apply"]).succeeded();
            scene.configure("interfaces = [");
            boots(scene, sandbox, INSTEAD, true);
            scene.configure(&text(&["eth0"]));
            scene.sipguard(["apply"]).succeeded();
        }
        // As the version before wrote it, without saying of which file.
        let before = whole.replace(r#""version":1,"#, "");
        let (head, rest) = before.split_once(r#""config":"#).expect("it says of which");
        let (_, rest) = rest.split_once(',').expect("more");
        fs::write(confirmed(), [head, rest].concat()).expect("the state folder");
        scene.configure("interfaces = [");
        let said = boots(scene, sandbox, 1, false);
        assert!(!said.contains("damaged"), "{said}");
    });
}

/// A config that ends all filtering, and words that say so.
#[test]
fn a_config_without_interfaces() {
    with_scene(&["eth0"], |scene, sandbox| {
        let whole = text(&["eth0"]);
        for empty in ["", "interfaces = []\n"] {
            scene.configure(empty);
            for arguments in [
                &["apply"][..],
                &["apply", "--dry-run"],
                &["apply", "--all-or-nothing"],
            ] {
                let said = scene.sipguard(arguments).exited(1).stderr;
                assert!(said.contains("`sipguard down`"), "{said}");
            }
            assert!(guards(scene, "eth0"));
        }
        scene.sipguard(["down"]).succeeded();
        scene.sipguard(["apply"]).succeeded();
        assert!(!guards(scene, "eth0"));
        boots(scene, sandbox, 0, false);
        scene.configure(&whole);
        scene.sipguard(["apply"]).succeeded();
        scene.sipguard(["down"]).succeeded();
        // It lasts until the next apply, which a boot is.
        boots(scene, sandbox, 0, true);
    });
}

/// Nobody gets an old policy for a name that was mistyped.
#[test]
fn another_file_is_another_matter() {
    with_scene(&["eth0"], |scene, sandbox| {
        scene.reboot(sandbox);
        let mut command = Command::new(sipguard_tests::netns::sipguard());
        command.args(["--config", "/nowhere/sipguard.toml", "apply"]);
        let said = scene.gateway.run(&mut command).exited(1).stderr;
        assert!(said.contains("/nowhere/sipguard.toml"), "{said}");
        assert!(!guards(scene, "eth0"));
    });
}

/// A clock that is years off, either way, keeps nothing from being in force.
#[test]
fn a_clock_that_is_years_off() {
    with_scene(&["eth0"], |scene, sandbox| {
        for (boot, wall) in [
            ("one", "1970-01-01T00:00:09Z"),
            ("two", "2056-01-01T00:00:00Z"),
        ] {
            scene.reboot(sandbox);
            let host = Host::new(Store::system(), boot, move || clock::Now {
                boot_ns: 9_000_000_000,
                wall: wall.parse().expect("a time"),
            });
            let config = scene.config();
            scene.gateway.enter(|| {
                lifecycle::apply(&host, &config, Options::default()).expect("it is applied");
            });
            assert!(guards(scene, "eth0"), "{wall}");
        }
    });
}

#[test]
fn a_disk_that_cannot_be_written_at_boot() {
    with_scene(&["eth0"], |scene, sandbox| {
        let remount = |options: &str| {
            let mut command = Command::new("mount");
            command.args(["-o", &format!("remount,{options}"), STATE]);
            scene.gateway.run(&mut command).succeeded();
        };
        for config in [text(&["eth0"]), "interfaces = [".to_owned()] {
            scene.configure(&config);
            let code = if config.ends_with('[') { INSTEAD } else { 4 };
            remount("ro");
            let said = boots(scene, sandbox, code, true);
            assert!(said.contains("will not survive a restart"), "{said}");
            remount("rw");
        }
    });
}

/// Lists that were emptied or cut are told of, and with `--strict` refused.
#[test]
fn lists_that_were_cut() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let write = |many: u8| {
            let lines = (1..=many).map(|last| format!("203.0.113.{last}\n"));
            fs::write(
                Path::new(SCRATCH).join("providers.txt"),
                lines.collect::<String>(),
            )
            .expect("a list");
        };
        scene.configure(
            "interfaces = [\"eth0\"]\n[sources]\nproviders = { file = \"providers.txt\" }\n\
             [services.sip]\nudp = [5060]\nallow = [\"providers\"]\n",
        );
        let apply = |arguments: &[&str], code| {
            let arguments = ["apply"].iter().chain(arguments);
            scene.sipguard(arguments).exited(code)
        };
        let found = |name: &str| {
            let doctor = scene.sipguard(["doctor", "--json"]).stdout;
            let doctor: Value = serde_json::from_str(&doctor).expect("JSON");
            let findings = doctor["findings"].as_array().expect("a list").clone();
            findings.into_iter().find(|finding| finding["name"] == name)
        };
        write(0);
        apply(&[], 0);
        assert!(found("source_empty").is_some());
        write(10);
        assert_eq!(apply(&["--strict"], 0).stderr, "");
        write(5);
        assert_eq!(apply(&["--strict"], 0).stderr, "", "half of it is left");
        write(10);
        apply(&[], 0);
        for (many, says) in [
            (4, "has 4 of the 10 entries that it had before"),
            (0, "has 0 of the 10 entries that it had before"),
            (0, "nobody is let in to sip"),
        ] {
            write(many);
            let said = apply(&["--strict"], 1).stderr;
            assert!(
                said.contains(says) && said.contains("nothing was changed"),
                "{said}"
            );
            let said = apply(&["--dry-run"], 0).stderr;
            assert!(said.contains(says), "{said}");
            assert!(scene.passes("eth0", "203.0.113.9", 5060), "as before");
        }
        let told = apply(&["--json"], 0);
        assert!(told.stderr.contains("providers.txt"), "{}", told.stderr);
        let json: Value = serde_json::from_str(&told.stdout).expect("JSON");
        assert_eq!(
            json["doubts"],
            serde_json::json!([
                { "doubt": "nobody_allowed", "service": "sip" },
                { "doubt": "shrunk_source", "source": "providers", "file": format!("{SCRATCH}/providers.txt"), "from": 10, "to": 0 },
            ])
        );
        assert!(!scene.passes("eth0", "203.0.113.9", 5060), "it was told of");
        let shrunk = found("source_shrunk").expect("it is found afterwards, too");
        assert_eq!(shrunk["severity"], "wrong");
        assert_eq!(
            shrunk["place"]["file"]["path"],
            format!("{SCRATCH}/providers.txt")
        );
        assert!(found("nobody_let_in").is_some());
        let status = scene.sipguard(["status", "--check"]).exited(3).stdout;
        assert!(status.contains("has 0 of the 10 entries"), "{status}");
        // What was empty before is named as that.
        scene.sipguard(["allow", "203.0.113.9"]).succeeded();
        let said = apply(&[], 0).stderr;
        assert!(
            said.contains("has no entry") && !said.contains("nobody"),
            "{said}"
        );
        // Who wrote everybody into a list of providers may not have meant it.
        let all = Path::new(SCRATCH).join("providers.txt");
        fs::write(all, "0.0.0.0/0\n203.0.113.9\n203.0.113.8\n").expect("a list");
        let said = apply(&["--strict"], 1).stderr;
        assert!(
            said.contains("sip is open to everybody: source providers has 0.0.0.0/0"),
            "{said}"
        );
        // Before an apply, too.
        write(10);
        apply(&[], 0);
        assert_eq!(found("source_shrunk"), None);
        write(3);
        assert!(found("source_shrunk").is_some());
    });
}
