//! Every error that commands can print, and what they leave as it was.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    process::Command,
};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use sipguard_tests::{
    netns::{BPFFS, SCRATCH, STATE, sandbox, sipguard},
    scene::{PROVIDER, SCANNER, Scene},
};

use super::{CONFIG, applied, configured, fails, parsed, run, words};

#[test]
fn wrong_usage_ends_with_2() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &[]);
        for (line, wanted) in [
            ("start", "unrecognized subcommand 'start'"),
            ("allow", "required arguments were not provided"),
            (
                "allow 203.0.113.5/24",
                "203.0.113.5/24 has host bits set; write 203.0.113.0/24",
            ),
            (
                "check --live 10.0.0.0/8",
                "10.0.0.0/8 is a network; name one of its addresses",
            ),
            ("status --colour never", "unexpected argument '--colour'"),
        ] {
            let finished = run(&scene, line).exited(2);
            assert_eq!(finished.stdout, "");
            assert!(
                finished.stderr.contains(wanted),
                "{line}: {}",
                finished.stderr
            );
        }
    });
}

#[test]
fn without_rights_there_is_one_clear_line() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        let powerless = |line: &str| {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set=-all", "--inh-caps=-all"]);
            command.arg(sipguard()).arg("--config").arg(scene.config());
            scene.gateway.run(command.args(words(line)))
        };
        for line in [
            "apply",
            "down",
            "status",
            "status --check",
            "status --check -q",
            "stats",
            "stats --watch",
            "list",
            "allow any",
            "deny any",
            "remove any",
            "check --live ::1",
        ] {
            fails(
                powerless(line),
                "sipguard needs root (or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON) for this: run it with sudo",
            );
        }
        let bare = powerless("").succeeded().stdout;
        assert!(
            bare.ends_with("Run `sudo sipguard` to see what is in force.\n"),
            "{bare}"
        );
        powerless("completions bash").succeeded();
    });
}

#[test]
fn a_config_that_is_wrong_changes_nothing() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        let config = scene.config().display().to_string();
        for (text, wanted) in [
            (
                "interfaces = [\"eth0\"",
                vec![format!("{config}:1:21: unclosed array, expected `]`")],
            ),
            (
                "mood = 1\n[services.sip]\nudp = [5060, 5060]\nallow = [\"nobody\"]",
                vec![
                    format!("{config}:1:1: "),
                    format!("{config}:3:14: udp port 5060 is there twice; leave one out"),
                    format!(
                        "{config}:4:10: no source is called \"nobody\"; define it in [sources], or correct the name"
                    ),
                ],
            ),
            (
                "[sources]\na = [\"203.0.113.5/24\"]",
                vec![format!(
                    "{config}:2:6: 203.0.113.5/24 has host bits set; write 203.0.113.0/24 (or 203.0.113.5 for the one host)"
                )],
            ),
            (
                "[sources]\na = { file = \"gone.txt\" }\n[services.sip]\nudp = [5060]\nallow = [\"a\"]",
                vec![format!(
                    "{config}:2:14: cannot read {SCRATCH}/gone.txt: No such file or directory (os error 2)"
                )],
            ),
        ] {
            scene.configure(text);
            let told = run(&scene, "apply").exited(1);
            assert_eq!(told.stdout, "");
            let told: Vec<_> = told.stderr.lines().collect();
            assert_eq!(told.len(), wanted.len(), "{told:?}");
            for (told, wanted) in told.into_iter().zip(wanted) {
                assert!(
                    told.starts_with(&format!("sipguard: {wanted}")),
                    "{told}: {wanted}"
                );
            }
            assert!(scene.passes("eth0", PROVIDER, 5060));
            assert!(!scene.passes("eth0", SCANNER, 5060));
        }
        fs::write(scene.config(), b"# \xff").expect("the scratch folder is writable");
        fails(
            run(&scene, "apply"),
            &format!("{config}:1:3: this is not UTF-8; save the file as UTF-8"),
        );
        fs::remove_file(scene.config()).expect("it was written");
        fails(
            run(&scene, "apply"),
            &format!(
                "cannot read {config}: No such file or directory (os error 2); `sipguard init` writes one"
            ),
        );
        DirBuilder::new()
            .mode(0o700)
            .create(scene.config())
            .expect("the scratch folder is writable");
        fails(
            run(&scene, "apply"),
            &format!(
                "cannot read {config}: Is a directory (os error 21); name another with --config"
            ),
        );
        assert_eq!(parsed(&scene, "status --json")["generation"], 1);
    });
}

#[test]
fn interfaces_that_cannot_be_guarded() {
    sandbox(|sandbox| {
        let scene = configured(sandbox, "interfaces = [\"wan0\", \"ppp0\"]");
        fails(
            run(&scene, "apply"),
            &format!(
                "no such interface: wan0, ppp0; this host has eth0. Correct `interfaces` in {}",
                scene.config().display()
            ),
        );
        scene.gateway.ip("link add br0 type bridge");
        scene.configure("[[interface]]\nname = \"br0\"\nmode = \"native\"");
        let told = run(&scene, "apply").exited(1).stderr;
        assert!(
            told.starts_with("sipguard: br0 can't run in native mode: "),
            "{told}"
        );
        assert!(
            told.ends_with("; set mode = \"auto\" to fall back to tc mode\n"),
            "{told}"
        );
        assert_eq!(parsed(&scene, "status --json")["in_force"], false);
    });
}

#[test]
fn a_strangers_program_is_named_and_left_alone() {
    sandbox(|sandbox| {
        let scene = configured(sandbox, "interfaces = [\"eth0\"]");
        run(&scene, "apply").succeeded();
        // From another sandbox, where nothing is pinned, the program is a stranger's.
        let (gateway, config) = (&scene.gateway, scene.config());
        self::sandbox(|_| {
            fs::write(&config, "interfaces = [\"eth0\"]").expect("the scratch folder is writable");
            let config = config.display().to_string();
            let told = gateway
                .sipguard(["--config", &config, "apply"])
                .exited(1)
                .stderr;
            assert!(
                told.starts_with("sipguard: eth0 already runs the XDP program filter"),
                "{told}"
            );
            assert!(
                told.ends_with(
                    "which is not ours and is left alone; detach it first (`ip link set dev eth0 xdp off`) or take eth0 out of the config\n"
                ),
                "{told}"
            );
        });
        assert!(!scene.passes("eth0", SCANNER, 5060));
        assert_eq!(parsed(&scene, "status --json")["enforced"], true);
    });
}

#[test]
fn pins_that_would_vanish_are_refused() {
    sandbox(|sandbox| {
        let scene = configured(sandbox, "interfaces = [\"eth0\"]");
        sandbox.unmount_bpffs();
        for line in [
            "apply",
            "allow any --service sip",
            "remove any --service sip",
        ] {
            let told = run(&scene, line).exited(1).stderr;
            assert!(told.contains("the filter would vanish with it"), "{told}");
            assert!(
                told.contains("use `nsenter --net=/run/netns/NAME sipguard …` instead"),
                "{told}"
            );
        }
        assert!(!Path::new(BPFFS).join("sipguard").exists());
        assert_eq!(parsed(&scene, "status --json")["in_force"], false);
    });
}

/// What comes of it is told by `fail_closed.rs`; here is what is said.
#[test]
fn a_state_that_cannot_be_kept_stops_nothing() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let changing = ["apply", "deny 203.0.113.5", "remove 203.0.113.5"];
        let unsaved = |hint: &str| {
            let ports = if hint.contains("mount") {
                "[5060]"
            } else {
                "[5061]"
            };
            scene.configure(&CONFIG.replace("[5060, 5061]", ports));
            for line in changing {
                let told = run(&scene, line).exited(4).stderr;
                let file = if line == "apply" {
                    "confirmed"
                } else {
                    "state"
                };
                let wanted = format!(
                    "sipguard: in force, but will not survive a restart: cannot write {STATE}/{file}.json.new: {hint}\n"
                );
                assert_eq!(told, wanted, "{line}");
            }
        };
        mount_remount(STATE, flags | MountFlags::RDONLY, "").expect("tmpfs can be remounted");
        unsaved("Read-only file system (os error 30); mount its file system for writing");
        mount_remount(STATE, flags, "").expect("tmpfs can be remounted");

        mount("tmpfs", STATE, "tmpfs", flags, Some(c"size=4k")).expect("tmpfs can be mounted");
        fs::write(Path::new(STATE).join("filler"), [0; 4096]).expect("there is one page");
        unsaved("No space left on device (os error 28); free some space there");
        // Under that one the first one's is still there.
        unmount(STATE, UnmountFlags::empty()).expect("it is mounted");

        let file = Path::new(STATE).join("state.json");
        let again = "`sipguard list --own` shows what is left of what the command line added";
        for (content, wanted) in [
            (
                "{",
                "is damaged: EOF while parsing an object at line 1 column 1; ",
            ),
            (
                "{\"version\":99}",
                "has version 99, which only a newer sipguard reads; ",
            ),
        ] {
            let wanted = format!("sipguard: {} {wanted}{again}", file.display());
            fs::write(&file, content).expect("the state folder is writable");
            for line in ["status", "stats", "list"] {
                let told = run(&scene, line).succeeded().stderr;
                assert_eq!(told, format!("{wanted}\n"), "{line}");
            }
            let told = run(&scene, "deny 203.0.113.5").succeeded().stderr;
            assert_eq!(
                told,
                format!("{wanted}; it is kept as {}.damaged\n", file.display())
            );
        }

        let lock = Path::new(STATE).join("lock");
        fs::remove_file(&lock).expect("it is there");
        fs::create_dir(&lock).expect("the state folder is writable");
        for line in changing {
            run(&scene, line).succeeded();
        }
        fs::remove_dir(&lock).expect("it is empty");
        assert!(scene.passes("eth0", SCANNER, 5060));
        assert!(scene.passes("eth0", PROVIDER, 5061));
    });
}

#[test]
fn what_does_not_exist_is_named() {
    sandbox(|sandbox| {
        let scene = configured(sandbox, "");
        let unnamed = "nothing is in force yet, so the service must be named: add --service NAME, or run `sipguard apply` first";
        fails(run(&scene, "allow 192.0.2.1"), unnamed);
        fails(
            run(&scene, "remove 192.0.2.1"),
            "the command line says nothing of 192.0.2.1; `sipguard list` shows what there is",
        );
        fails(
            run(&scene, "check --live 192.0.2.1"),
            "nothing is in force that could be asked: run `sipguard apply` first, or name a config file with --config",
        );
        drop(scene);
    });
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        let unknown = "there is no service called ssh; the services are sip, web";
        for line in [
            "allow any --service ssh",
            "deny any --service ssh",
            "remove any --service ssh",
            "list --service ssh",
        ] {
            fails(run(&scene, line), unknown);
        }
        fails(
            run(&scene, "remove 192.0.2.1 192.0.2.2"),
            "there is no entry 192.0.2.1 and 192.0.2.2 in sip and web; `sipguard list` shows what there is",
        );
        fails(
            run(&scene, "remove 203.0.113.0/24 --service sip"),
            "203.0.113.0/24 in sip comes from the config (source providers): take it out there and run `sipguard apply`, or `sipguard deny` it",
        );
    });
}

#[test]
fn what_another_version_left_is_replaced() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        let generation = Path::new(BPFFS).join("sipguard/generations/1");
        // A description that nobody can read is what a version with another one would leave.
        fs::rename(generation.join("lengths"), generation.join("description"))
            .expect("pins can be renamed");
        let wanted = "was made by another version of sipguard: run `sipguard apply` to replace it";
        for line in [
            "status",
            "list",
            "stats",
            "check --live ::1",
            "allow ::1",
            "remove ::1",
        ] {
            let told = run(&scene, line).exited(1).stderr;
            assert!(told.trim_end().ends_with(wanted), "{told}");
        }
        assert!(!scene.passes("eth0", SCANNER, 5060));
        let apply = run(&scene, "apply").succeeded().stdout;
        assert!(apply.contains("in force: generation 2"), "{apply}");

        fs::remove_dir_all(Path::new(BPFFS).join("sipguard/generations/2"))
            .expect("pins can be removed");
        for line in ["status", "list", "stats", "check --live ::1", "allow ::1"] {
            fails(
                run(&scene, line),
                "eth0: filtered by what can't be read any more, because its pins were removed; run `sipguard apply` to replace it",
            );
        }
        assert!(!scene.passes("eth0", SCANNER, 5060));
        let apply = run(&scene, "apply").succeeded().stdout;
        assert!(apply.contains("in force: generation 3"), "{apply}");
        assert!(!scene.passes("eth0", SCANNER, 5060));
    });
}

#[test]
fn files_that_cannot_be_written() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &[]);
        let file = Path::new(SCRATCH).join("file");
        fs::write(&file, "").expect("the scratch folder is writable");
        let file = file.display();
        let run = |words: &[&str]| scene.gateway.sipguard(words);
        fails(
            run(&["init", "--config", &format!("{file}/sipguard.toml")]),
            &format!("cannot make the folder {file}: File exists (os error 17)"),
        );
        fails(
            run(&["init", "--config", "/proc/sipguard.toml"]),
            "cannot write /proc/sipguard.toml: No such file or directory (os error 2)",
        );
        fails(
            run(&["man", "--out", &file.to_string()]),
            &format!("cannot write the pages into {file}: File exists (os error 17)"),
        );
    });
}
