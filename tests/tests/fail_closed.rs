//! What was asked for and is possible is in force, whatever else fails: the disk, the state on it, one interface of several, the moment at
//! which an interface appears. The table in `sipguard/docs/failures.md` is what these tests say.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use serde_json::Value;
use sipguard::{clock, datapath::Pending, host::Host, lifecycle, state::Store};
use sipguard_tests::{
    foreign::{self, Foreign},
    netns::{Finished, STATE, sandbox},
    scene::{PROVIDER, SCANNER, Scene, pins},
};

const GUEST: &str = "192.0.2.71";
/// What is done is in force, and not on disk.
const UNSAVED: i32 = 4;

fn configure(scene: &Scene, interfaces: &[&str], port: u16) {
    scene.configure(&format!(
        "interfaces = {interfaces:?}\n[sources]\nproviders = [\"{PROVIDER}\"]\n\
         [services.sip]\nudp = [{port}]\nallow = [\"providers\"]\n"
    ));
}

/// Whether this port is guarded there, as packets tell.
fn guards(scene: &Scene, interface: &str, port: u16) -> bool {
    assert!(scene.passes(interface, PROVIDER, port), "{interface}");
    !scene.passes(interface, SCANNER, port)
}

/// How the state can't be written, and what helps.
#[derive(Clone, Copy, Debug)]
enum Disk {
    Full,
    ReadOnly,
}

impl Disk {
    const HOW: [Self; 2] = [Self::Full, Self::ReadOnly];

    fn spoil(self, scene: &Scene) {
        match self {
            Self::Full => {
                remount(scene, "size=64k");
                assert!(fs::write(filler(), vec![0; 1 << 20]).is_err(), "it is full");
            }
            Self::ReadOnly => remount(scene, "ro"),
        }
    }

    fn mend(self, scene: &Scene) {
        match self {
            Self::Full => fs::remove_file(filler()).expect("our own file"),
            Self::ReadOnly => remount(scene, "rw"),
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::Full => "free some space",
            Self::ReadOnly => "mount its file system for writing",
        }
    }

    fn is_told(self, finished: Finished) {
        let said = finished.exited(UNSAVED).stderr;
        for words in [
            "in force, but will not survive a restart",
            STATE,
            self.hint(),
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

fn remount(scene: &Scene, options: &str) {
    let mut command = Command::new("mount");
    command.args(["-o", &format!("remount,{options}"), STATE]);
    scene.gateway.run(&mut command).succeeded();
}

fn filler() -> PathBuf {
    Path::new(STATE).join("filler")
}

#[test]
fn a_first_apply_without_a_disk() {
    for disk in Disk::HOW {
        sandbox(|sandbox| {
            let scene = Scene::new(sandbox, &["eth0"]);
            configure(&scene, &["eth0"], 5060);
            disk.spoil(&scene);
            disk.is_told(scene.sipguard(["apply"]));
            assert!(guards(&scene, "eth0", 5060));
            // Nothing is left to be done but what only the disk can.
            disk.is_told(scene.sipguard(["apply"]));
            disk.is_told(scene.sipguard(["deny", PROVIDER]));
            assert!(!scene.passes("eth0", PROVIDER, 5060));
            disk.is_told(scene.sipguard(["remove", PROVIDER]));
            assert!(guards(&scene, "eth0", 5060));
            scene.sipguard(["status"]).succeeded();
            disk.mend(&scene);
            scene
                .sipguard(["allow", GUEST, "--service", "all"])
                .succeeded();
            scene.sipguard(["apply"]).succeeded();
            assert!(scene.passes("eth0", GUEST, 5060));
        });
    }
}

/// What is said while the disk can't be written counts, whatever is said afterwards, and is on disk as soon as that can be written.
#[test]
fn entries_without_a_disk() {
    for disk in Disk::HOW {
        sandbox(|sandbox| {
            let scene = Scene::new(sandbox, &["eth0"]);
            configure(&scene, &["eth0"], 5060);
            scene.sipguard(["apply"]).succeeded();
            scene
                .sipguard(["allow", "192.0.2.7", "--service", "all"])
                .succeeded();
            disk.spoil(&scene);
            disk.is_told(scene.sipguard([
                "allow",
                GUEST,
                "--service",
                "all",
                "--comment",
                "a guest",
            ]));
            disk.is_told(scene.sipguard(["remove", "192.0.2.7"]));
            disk.is_told(scene.sipguard(["deny", PROVIDER, "--for", "1h"]));
            let found = || {
                let doctor = scene.sipguard(["doctor", "--json"]).stdout;
                doctor.contains("state_not_on_disk")
            };
            assert!(found());
            let in_force = || {
                let passes = |source| scene.passes("eth0", source, 5060);
                assert!(passes(GUEST) && !passes("192.0.2.7") && !passes(PROVIDER));
            };
            in_force();
            let list = scene.sipguard(["list", "--own"]).succeeded().stdout;
            assert!(list.contains("a guest"), "{list}");
            configure(&scene, &["eth0"], 5061);
            disk.is_told(scene.sipguard(["apply"]));
            configure(&scene, &["eth0"], 5060);
            disk.is_told(scene.sipguard(["apply"]));
            in_force();

            // Nothing is lost by `down`, either.
            scene.sipguard(["down"]).exited(UNSAVED);
            assert!(scene.passes("eth0", SCANNER, 5060));
            disk.is_told(scene.sipguard(["apply"]));
            in_force();

            disk.mend(&scene);
            scene
                .sipguard(["allow", "192.0.2.8", "--service", "all"])
                .succeeded();
            assert!(!found());
            in_force();
            let state = Store::system().load().expect("a state");
            let guest = state.entries.iter().find(|entry| {
                entry.comment.as_deref() == Some("a guest")
                    && entry.prefix.to_string() == format!("{GUEST}/32")
            });
            assert!(guest.is_some(), "{state:?}");
            assert_eq!(state.entries.len(), 3);
            scene.sipguard(["down"]).succeeded();
            assert_eq!(pins(), [""; 0]);
            scene.sipguard(["apply"]).succeeded();
            in_force();
        });
    }
}

#[test]
fn down_without_a_disk() {
    for disk in Disk::HOW {
        sandbox(|sandbox| {
            let scene = Scene::new(sandbox, &["eth0"]);
            configure(&scene, &["eth0"], 5060);
            scene.sipguard(["apply"]).succeeded();
            disk.spoil(&scene);
            scene.sipguard(["down"]).succeeded();
            assert!(scene.passes("eth0", SCANNER, 5060));
            assert_eq!(pins(), [""; 0]);
            disk.is_told(scene.sipguard(["apply"]));
            assert!(guards(&scene, "eth0", 5060));
        });
    }
}

/// Without a lock file, and without a place for one, there is a lock all the same.
#[test]
fn many_at_once_without_a_disk() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        configure(&scene, &["eth0"], 5060);
        Disk::ReadOnly.spoil(&scene);
        scene.sipguard(["apply"]).exited(UNSAVED);
        assert_eq!(fs::read_dir(STATE).expect("a folder").count(), 0);
        thread::scope(|scope| {
            for number in 0..24 {
                let scene = &scene;
                scope.spawn(move || {
                    let address = format!("192.0.2.{}", 100 + number);
                    scene
                        .sipguard(["allow", &address, "--service", "all"])
                        .exited(UNSAVED);
                });
            }
        });
        for number in 0..24 {
            let address = format!("192.0.2.{}", 100 + number);
            assert!(scene.passes("eth0", &address, 5060), "{address}");
        }
    });
}

#[test]
fn confirming_without_a_disk() {
    for disk in Disk::HOW {
        sandbox(|sandbox| {
            let scene = Scene::new(sandbox, &["eth0"]);
            configure(&scene, &["eth0"], 5060);
            scene.sipguard(["apply"]).succeeded();
            configure(&scene, &["eth0"], 5061);
            disk.spoil(&scene);
            disk.is_told(scene.sipguard(["apply", "--confirm", "10m"]));
            assert!(guards(&scene, "eth0", 5061));
            disk.is_told(scene.sipguard(["rollback"]));
            assert!(guards(&scene, "eth0", 5060) && scene.passes("eth0", SCANNER, 5061));
            disk.is_told(scene.sipguard(["apply", "--confirm", "10m"]));
            disk.is_told(scene.sipguard(["confirm"]));
            assert!(guards(&scene, "eth0", 5061));
            // It is confirmed for whoever comes next.
            disk.is_told(scene.sipguard(["apply"]));
            assert!(guards(&scene, "eth0", 5061));
            disk.mend(&scene);
            scene.sipguard(["deny", GUEST]).succeeded();
            let again = scene.sipguard(["apply"]).succeeded();
            assert!(!again.stderr.contains("taken back"), "{}", again.stderr);
            assert!(guards(&scene, "eth0", 5061));
        });
    }
}

#[test]
fn a_state_that_cannot_be_read() {
    for damaged in ["", "\0\0\0\0", "{\"version\":99}"] {
        sandbox(|sandbox| {
            let scene = Scene::new(sandbox, &["eth0"]);
            configure(&scene, &["eth0"], 5060);
            let file = Store::system().file();
            let aside = file.with_extension("json.damaged");
            // At boot.
            fs::write(&file, damaged).expect("a file");
            let said = scene.sipguard(["apply"]).succeeded().stderr;
            for name in [&file, &aside] {
                assert!(said.contains(&*name.to_string_lossy()), "{said}");
            }
            assert!(guards(&scene, "eth0", 5060));
            assert_eq!(fs::read_to_string(&aside).expect("kept"), damaged);

            // Later, the kernel has what the disk has lost.
            scene
                .sipguard(["deny", PROVIDER, "--comment", "why"])
                .succeeded();
            fs::write(&file, damaged).expect("a file");
            for command in ["status", "list", "stats"] {
                let said = scene.sipguard([command]).succeeded();
                assert!(said.stderr.contains(&*file.to_string_lossy()));
                assert!(command != "list" || said.stdout.contains("why"));
            }
            fs::remove_file(&aside).expect("a file");
            scene
                .sipguard(["allow", GUEST, "--service", "all"])
                .succeeded();
            assert_eq!(fs::read_to_string(&aside).expect("kept"), damaged);
            scene.sipguard(["apply"]).succeeded();
            assert!(scene.passes("eth0", GUEST, 5060));
            assert!(!scene.passes("eth0", PROVIDER, 5060));
            let state = Store::system().load().expect("a state");
            assert_eq!(state.entries.len(), 2);

            // And where it can't be moved.
            fs::write(&file, damaged).expect("a file");
            remount(&scene, "ro");
            scene.sipguard(["deny", GUEST]).exited(UNSAVED);
            assert!(!scene.passes("eth0", GUEST, 5060));
            assert!(!scene.passes("eth0", PROVIDER, 5060));
            scene.sipguard(["down"]).exited(UNSAVED);
            assert!(scene.passes("eth0", SCANNER, 5060));
        });
    }
}

/// Nothing is in force, what was confirmed last can't be read, and the config file is not confirmed.
#[test]
fn a_confirmed_policy_that_cannot_be_read() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        configure(&scene, &["eth0"], 5060);
        scene.sipguard(["apply"]).succeeded();
        configure(&scene, &["eth0"], 5061);
        scene.sipguard(["apply", "--confirm", "10m"]).succeeded();
        scene.sipguard(["rollback"]).succeeded();
        let file = Path::new(STATE).join("confirmed.json");
        fs::write(&file, "").expect("a file");
        let said = scene.sipguard(["apply"]).exited(1).stderr;
        assert!(said.contains("confirmed.json"), "{said}");
        assert!(guards(&scene, "eth0", 5060), "what is in force stays");
        scene.sipguard(["down"]).succeeded();
        let said = scene.sipguard(["apply"]).succeeded().stderr;
        assert!(said.contains("not confirmed"), "{said}");
        assert!(guards(&scene, "eth0", 5061), "better than nothing");
    });
}

fn refused(finished: Finished, words: &[&str]) {
    let said = finished.exited(1).stderr;
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn one_interface_that_cannot_be_guarded() {
    sandbox(|sandbox| {
        let mut scene = Scene::new(sandbox, &["eth0", "eth1"]);
        let foreign = Foreign::attach(&scene.gateway, "eth1");
        configure(&scene, &["eth0", "eth1"], 5060);
        for dry_run in [true, false, false] {
            let arguments: &[&str] = if dry_run {
                &["apply", "-n"]
            } else {
                &["apply"]
            };
            refused(scene.sipguard(arguments), &["eth1", foreign::NAME]);
            assert_eq!(guards(&scene, "eth0", 5060), !dry_run);
        }
        let said = scene.sipguard(["--json", "apply"]).exited(1).stdout;
        let said: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(said["refused"][0]["interface"], "eth1");
        scene.sipguard(["deny", GUEST]).succeeded();
        drop(foreign);
        // Whatever the next command is.
        scene
            .sipguard(["allow", GUEST, "--service", "all"])
            .succeeded();
        assert!(guards(&scene, "eth1", 5060));

        // Native mode where there is none: on what is filtered already the new policy takes force in the mode that is there.
        scene.gateway.ip("link add br0 type bridge");
        let native = |port: u16| {
            scene.configure(&format!(
                "[[interface]]\nname = \"br0\"\nmode = \"native\"\n[[interface]]\nname = \"eth0\"\n\
                 [sources]\nproviders = [\"{PROVIDER}\"]\n[services.sip]\nudp = [{port}]\nallow = [\"providers\"]\n"
            ));
        };
        native(5061);
        refused(scene.sipguard(["apply"]), &["br0", "native"]);
        assert!(guards(&scene, "eth0", 5061));
        refused(scene.sipguard(["apply", "--all-or-nothing"]), &["br0"]);
        native(5062);
        refused(scene.sipguard(["apply", "--all-or-nothing"]), &["br0"]);
        assert!(guards(&scene, "eth0", 5061));
        refused(scene.sipguard(["apply", "--confirm", "10m"]), &["br0"]);
        assert!(guards(&scene, "eth0", 5062));
        scene.sipguard(["confirm"]).succeeded();
        assert!(guards(&scene, "eth0", 5062));

        // Where none can be guarded, nothing is changed.
        scene.gateway.ip("link del br0");
        scene.connect("br0");
        let foreign = ["eth0", "br0"].map(|name| {
            scene.sipguard(["down"]).succeeded();
            Foreign::attach(&scene.gateway, name)
        });
        refused(scene.sipguard(["apply"]), &["eth0", "br0"]);
        drop(foreign);
    });
}

fn pending() -> Pending {
    let pending = lifecycle::pending(&Host::system()).expect("the kernel answers");
    pending.expect("an apply waits to be confirmed")
}

/// Each of both policies guards it, in its time: told by the ports, 5060 and 5061.
fn old_and_new(scene: &Scene, interface: &str) -> [bool; 2] {
    [5060, 5061].map(|port| guards(scene, interface, port))
}

#[test]
fn an_interface_that_appears_while_an_apply_waits() {
    const OLD: [bool; 2] = [true, false];
    const NEW: [bool; 2] = [false, true];
    const NONE: [bool; 2] = [false, false];
    for end in ["confirm", "rollback", "lapse"] {
        sandbox(|sandbox| {
            // eth1 to eth3 appear: both name the first, one each the others. eth4 goes and comes back.
            let mut scene = Scene::new(sandbox, &["eth0", "eth4"]);
            configure(&scene, &["eth0", "eth1", "eth2", "eth4"], 5060);
            scene.sipguard(["apply"]).succeeded();
            configure(&scene, &["eth0", "eth1", "eth3", "eth4"], 5061);
            let wait = if end == "lapse" { "12s" } else { "10m" };
            scene.sipguard(["apply", "--confirm", wait]).succeeded();
            let file = fs::read_to_string(scene.config()).expect("the config");
            for interface in ["eth1", "eth2", "eth3"] {
                scene.connect(interface);
                // What udev runs, whatever is being written into the config file.
                scene.configure("nonsense");
                let said = scene.sipguard(["apply"]).succeeded().stdout;
                assert!(said.contains(interface), "{said}");
            }
            scene.gateway.ip("link del eth4");
            scene.connect("eth4");
            scene.sipguard(["apply"]).succeeded();
            scene.configure(&file);
            let all = ["eth0", "eth1", "eth2", "eth3", "eth4"];
            let found = || all.map(|interface| old_and_new(&scene, interface));
            if end != "lapse" || pending().left(clock::now()).is_some() {
                let while_it_waits = [NEW, NEW, OLD, NEW, NEW];
                assert_eq!(found(), while_it_waits, "{end}");
            }
            // Nothing more has come, and then it is another apply that has to wait.
            scene.sipguard(["apply"]).exited(1);
            let afterwards = match end {
                "confirm" => [NEW, NEW, NONE, NEW, NEW],
                _ => [OLD, OLD, OLD, NONE, OLD],
            };
            if end == "lapse" {
                thread::sleep(pending().left(clock::now()).unwrap_or_default());
                assert_eq!(found(), afterwards, "by the kernel alone");
                scene
                    .sipguard(["allow", GUEST, "--service", "all"])
                    .succeeded();
            } else {
                scene.sipguard([end]).succeeded();
            }
            assert_eq!(found(), afterwards, "{end}");
        });
    }
}

/// Nobody has run anything when it came.
#[test]
fn confirm_rollback_and_lapse_look_for_interfaces() {
    for end in ["confirm", "rollback", "lapse"] {
        sandbox(|sandbox| {
            let mut scene = Scene::new(sandbox, &["eth0"]);
            configure(&scene, &["eth0", "eth1"], 5060);
            scene.sipguard(["apply"]).succeeded();
            configure(&scene, &["eth0", "eth1"], 5061);
            let wait = if end == "lapse" { "1s" } else { "10m" };
            scene.sipguard(["apply", "--confirm", wait]).succeeded();
            scene.connect("eth1");
            let port = if end == "confirm" { 5061 } else { 5060 };
            if end == "lapse" {
                thread::sleep(pending().left(clock::now()).unwrap_or_default());
                scene
                    .sipguard(["allow", GUEST, "--service", "all"])
                    .succeeded();
            } else {
                scene.sipguard([end]).succeeded();
            }
            for interface in ["eth0", "eth1"] {
                assert!(guards(&scene, interface, port), "{end} {interface}");
            }
        });
    }
}
