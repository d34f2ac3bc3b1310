//! The command line: what it prints, for people and for programs, every error that it can print, and how it ends.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    process::Command,
};

use rustix::{
    mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount},
    process::Signal,
};
use serde_json::{Value, json};
use sipguard_tests::{
    netns::{BPFFS, Finished, SCRATCH, STATE, Sandbox, sandbox, sipguard},
    scene::{PROVIDER, SCANNER, Scene},
};

const CONFIG: &str = r#"
interfaces = ["eth0"]
[sources]
providers = ["203.0.113.0/24", "2001:db8:100::/48"]
admins = ["198.51.100.10"]
blocked = { file = "blocked.txt" }
[services.sip]
udp = [5060, 5061]
tcp = [5060]
allow = ["providers", "admins"]
deny = ["blocked"]
[services.web]
tcp = [80]
allow = ["admins"]
"#;

/// A gateway with `CONFIG` in force.
fn applied(sandbox: &Sandbox) -> Scene {
    let scene = Scene::new(sandbox, &["eth0"]);
    fs::write(
        Path::new(SCRATCH).join("blocked.txt"),
        "203.0.113.66 # a guesser\n",
    )
    .expect("the scratch folder is writable");
    scene.configure(CONFIG);
    scene.sipguard(["apply"]).succeeded();
    scene
}

/// A gateway with nothing in force, and this config.
fn configured(sandbox: &Sandbox, config: &str) -> Scene {
    let scene = Scene::new(sandbox, &["eth0"]);
    scene.configure(config);
    scene
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn run(scene: &Scene, line: &str) -> Finished {
    scene.sipguard(words(line))
}

/// The JSON that a command prints, which must be one value.
fn parsed(scene: &Scene, line: &str) -> Value {
    let [value] = <[Value; 1]>::try_from(lines(&run(scene, line).succeeded())).expect("one line");
    value
}

fn lines(finished: &Finished) -> Vec<Value> {
    finished
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// The command fails with exit code 1, prints nothing, and complains in these words.
fn fails(finished: Finished, wanted: &str) {
    let finished = finished.exited(1);
    assert_eq!(finished.stdout, "", "{}", finished.what);
    let complaint = finished.stderr.strip_prefix("sipguard: ");
    let complaint = complaint.unwrap_or_else(|| panic!("{}: {}", finished.what, finished.stderr));
    assert_eq!(complaint.trim_end(), wanted, "{}", finished.what);
}

/// A shell on the gateway, in which `sipguard` is the built command.
fn shell(scene: &Scene, script: &str) -> Finished {
    let script = format!(
        "set -o pipefail; sipguard() {{ {} --config {} \"$@\"; }}; {script}",
        sipguard().display(),
        scene.config().display()
    );
    scene
        .gateway
        .run(Command::new("bash").args(["-c", &script]))
}

#[test]
fn the_first_steps() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let begin = run(&scene, "").succeeded();
        assert!(begin.stdout.contains("Usage: sipguard"));
        assert!(
            begin
                .stdout
                .ends_with("Next: `sipguard init` writes a config file.\n")
        );

        let init = run(&scene, "init").succeeded();
        assert!(
            init.stdout.contains("this host has eth0"),
            "{}",
            init.stdout
        );
        let written = fs::read_to_string(scene.config()).expect("it was written");
        fails(
            run(&scene, "init"),
            &format!(
                "{} is there already and is not overwritten: edit it, or name another file with --config",
                scene.config().display()
            ),
        );
        let begin = run(&scene, "").succeeded();
        let next = format!(
            "fill in {}, then `sipguard apply`.\n",
            scene.config().display()
        );
        assert!(begin.stdout.ends_with(&next), "{}", begin.stdout);

        let apply = run(&scene, "apply").succeeded();
        assert_eq!(apply.stdout, "");
        assert!(
            apply
                .stderr
                .contains("warning: no interface is configured, so nothing is filtered")
        );
        assert!(scene.passes("eth0", SCANNER, 5060));

        scene.gateway.enter(|| {
            fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", "50600")
                .expect("IPv4 can be set up");
        });
        fs::write(
            scene.config(),
            written.replace("interfaces = []", "interfaces = [\"eth0\"]"),
        )
        .expect("the scratch folder is writable");
        let apply = run(&scene, "apply").succeeded();
        assert_eq!(
            apply.stdout,
            "eth0: native\nin force: generation 1, 0 entries of the config, 0 of the command line\nchanges: mode enforce; +eth0; +sip +web\n"
        );
        assert_eq!(apply.stderr, "");
        assert!(!scene.passes("eth0", SCANNER, 5060));

        let bare = run(&scene, "").succeeded();
        assert!(
            bare.stdout.starts_with("generation 1 of "),
            "{}",
            bare.stdout
        );
        let again = run(&scene, "apply").succeeded();
        assert!(
            again.stdout.contains("unchanged: generation 1"),
            "{}",
            again.stdout
        );
        assert_eq!(run(&scene, "apply -q").succeeded().stdout, "");
        assert!(run(&scene, "apply -v").succeeded().stdout.contains("took "));

        let down = run(&scene, "down").succeeded();
        assert!(
            down.stdout.starts_with("eth0: not filtered any more"),
            "{}",
            down.stdout
        );
        assert_eq!(
            run(&scene, "down").succeeded().stdout,
            "nothing was in force\n"
        );
        assert!(scene.passes("eth0", SCANNER, 5060));
    });
}

#[test]
fn status_in_json() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        run(&scene, "deny 192.0.2.1 --service sip").succeeded();
        let mut status = parsed(&scene, "status --json");
        let interface = &mut status["interfaces"][0];
        assert!(interface["program"].take().is_u64());
        assert!(status["applied"].take().is_string());
        assert_eq!(
            status,
            json!({
                "version": env!("CARGO_PKG_VERSION"), "in_force": true, "enforced": true,
                "generation": 1, "applied": null, "config": scene.config(), "mode": "enforce",
                "interfaces": [{
                    "name": "eth0", "state": "attached", "mode": "native", "cause": null,
                    "program": null, "generation": 1, "foreign": null,
                }],
                "services": [
                    { "name": "sip", "ports": { "udp": [5060, 5061], "tcp": [5060] }, "default": "deny", "mode": "enforce" },
                    { "name": "web", "ports": { "tcp": [80] }, "default": "deny", "mode": "enforce" },
                ],
                "entries": { "config": 5, "command_line": 1 }, "pending": null,
            })
        );
        run(&scene, "down").succeeded();
        assert_eq!(
            parsed(&scene, "status --json"),
            json!({
                "version": env!("CARGO_PKG_VERSION"), "in_force": false, "enforced": false,
                "generation": null, "applied": null, "config": null, "mode": null,
                "interfaces": [], "services": [],
                "entries": { "config": 0, "command_line": 1 }, "pending": null,
            })
        );
        let told = run(&scene, "status").succeeded().stdout;
        assert!(
            told.contains("nothing is in force")
                && told.contains("1 entry of the command line waits"),
            "{told}"
        );
    });
}

#[test]
fn status_for_people() {
    sandbox(|sandbox| {
        let mut scene = configured(
            sandbox,
            "interfaces = [\"eth0\", \"br0\", \"ppp0\"]\n[services.sip]\nudp = [5060]\ntcp = [5060]\nsctp = [5062]\ndefault = \"allow\"",
        );
        scene.gateway.ip("link add br0 type bridge");
        let apply = run(&scene, "apply").succeeded();
        assert!(
            apply.stderr.contains("warning: there is no interface ppp0"),
            "{}",
            apply.stderr
        );
        let told = run(&scene, "status -v").succeeded().stdout;
        for wanted in [
            "eth0       native",
            "br0        generic (a bridge device has no native XDP)",
            "ppp0       absent: run `sipguard apply` once it is there",
            "sip      udp+tcp 5060, sctp 5062  pass      enforce",
            "0 entries of the config, 0 of the command line",
        ] {
            assert!(told.contains(wanted), "{wanted}: {told}");
        }
        // The interface goes away and comes back under the same name, and nothing of ours is on it.
        scene.outside.ip("link del eth0");
        scene.connect("eth0");
        let told = run(&scene, "status").succeeded().stdout;
        assert!(
            told.contains("eth0       not filtered: run `sipguard apply`"),
            "{told}"
        );
        run(&scene, "apply").succeeded();
        let told = run(&scene, "status").succeeded().stdout;
        assert!(told.contains("eth0       native"), "{told}");
    });
}

#[test]
fn monitor_mode_is_said_aloud() {
    sandbox(|sandbox| {
        let scene = configured(
            sandbox,
            "interfaces = [\"eth0\"]\nmode = \"monitor\"\n[services.sip]\nudp = [5060]\n[services.web]\nudp = [80]\n",
        );
        let apply = run(&scene, "apply").succeeded();
        assert!(
            apply
                .stderr
                .contains("monitor mode: everything is counted and nothing is dropped"),
            "{}",
            apply.stderr
        );
        assert!(scene.passes("eth0", SCANNER, 5060));
        let status = run(&scene, "status").succeeded().stdout;
        assert!(
            status.contains("nothing is dropped: monitor mode"),
            "{status}"
        );
        assert_eq!(parsed(&scene, "status --json")["enforced"], false);
        let counted = run(&scene, "stats").succeeded().stdout;
        assert!(
            counted.contains("would drop  unlisted         1"),
            "{counted}"
        );
        let check = run(&scene, "check 198.51.100.7 --port 5060 --proto udp --json").exited(3);
        assert_eq!(lines(&check)[0]["enforced"], false);
        let check = run(&scene, "check 198.51.100.7 --port 5060").exited(3);
        assert!(
            check
                .stdout
                .contains("drop, not listed; monitor mode: it passes all the same"),
            "{}",
            check.stdout
        );

        scene.configure("interfaces = [\"eth0\"]\n[services.sip]\nudp = [5060]\nmode = \"monitor\"\n[services.web]\nudp = [80]\n");
        let apply = run(&scene, "apply").succeeded();
        assert!(
            apply
                .stderr
                .contains("monitor mode for sip: counted, but not dropped"),
            "{}",
            apply.stderr
        );
        assert_eq!(parsed(&scene, "status --json")["enforced"], true);
    });
}

#[test]
fn stats_count_what_came() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        for _ in 0..3 {
            scene.wire("eth0").send(
                &scene
                    .frame("eth0", SCANNER)
                    .udp(5060)
                    .payload(&[0; 100])
                    .bytes(),
            );
        }
        scene.wire("eth0").send(
            &scene
                .frame("eth0", PROVIDER)
                .udp(5061)
                .payload(&[0; 100])
                .bytes(),
        );
        scene.settle("eth0");
        let stats = parsed(&scene, "stats --json");
        assert!(stats["time"].is_string());
        assert_eq!(stats["generation"], 1);
        // Ethernet, IPv4 and UDP come before the payload.
        assert_eq!(
            stats["totals"],
            json!({ "pass": { "packets": 1, "bytes": 142 }, "drop": { "packets": 3, "bytes": 426 } })
        );
        let counters = stats["counters"].as_array().expect("a list");
        let names: Vec<_> = counters
            .iter()
            .map(|counter| {
                let service = counter["service"].as_str().unwrap_or("-");
                format!("{service} {}", counter["reason"].as_str().expect("a name"))
            })
            .collect();
        assert_eq!(
            names,
            [
                "sip denied",
                "sip allowed",
                "sip unlisted",
                "web denied",
                "web allowed",
                "web unlisted",
                "- too_deep",
                "- malformed",
                "- fragment",
            ]
        );
        assert_eq!(
            counters[2],
            json!({
                "interface": "eth0", "service": "sip", "reason": "unlisted", "action": "drop", "enforced": true,
                "packets": 3, "bytes": 426, "packets_per_second": null, "bytes_per_second": null,
            })
        );
        let told = run(&scene, "stats").succeeded().stdout;
        assert!(
            told.contains("eth0       sip      drop     unlisted         3  426 B"),
            "{told}"
        );
        assert!(
            told.ends_with("\npassed 1 (142 B), dropped 3 (426 B)\n"),
            "{told}"
        );

        // Counts outlive the service's entries, an apply, and the service itself.
        scene.configure("interfaces = [\"eth0\"]\n[services.other]\nudp = [7]\n");
        run(&scene, "apply").succeeded();
        let told = run(&scene, "stats").succeeded().stdout;
        assert!(
            told.contains("sip      drop     unlisted         3  426 B"),
            "{told}"
        );
        run(&scene, "down").succeeded();
        let told = run(&scene, "stats").succeeded().stdout;
        assert_eq!(
            told,
            "nothing is in force: no packet is counted or dropped\n"
        );
    });
}

#[test]
fn stats_are_watched_until_they_are_interrupted() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        let mut command = Command::new(sipguard());
        let watch = scene
            .gateway
            .spawn(command.args(["stats", "--watch", "--json"]));
        watch.wait_for_output("\"packets_per_second\":0");
        watch.signal(Signal::INT);
        let watched = lines(&watch.wait().succeeded());
        assert!(watched[0]["counters"][0]["packets_per_second"].is_null());
        assert_eq!(watched[1]["counters"][0]["packets_per_second"], 0);

        let mut command = Command::new(sipguard());
        let watch = scene.gateway.spawn(command.args(["stats", "--watch"]));
        watch.wait_for_output("PACKETS/S");
        watch.signal(Signal::INT);
        let told = watch.wait().succeeded().stdout;
        assert!(!told.contains('\x1b'), "{told}");
    });
}

#[test]
fn entries_are_listed_and_can_be_fed_back_in() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        scene
            .sipguard([
                "allow",
                "192.0.2.1",
                "2001:db8:f::/48",
                "--service",
                "web",
                "--comment",
                "it's mine",
            ])
            .succeeded();
        run(&scene, "deny 203.0.113.0/24 --service sip").succeeded();
        let list = run(&scene, "list").succeeded().stdout;
        assert_eq!(
            list,
            "\
PREFIX             SERVICE  ACTION  FROM
192.0.2.1          web      allow   command line: it's mine
198.51.100.10      sip      allow   config: admins
198.51.100.10      web      allow   config: admins
203.0.113.0/24     sip      deny    command line
203.0.113.0/24     sip      allow   config: providers
203.0.113.66       sip      deny    config: blocked (/var/lib/blocked.txt)
2001:db8:f::/48    web      allow   command line: it's mine
2001:db8:100::/48  sip      allow   config: providers
"
        );
        let list = lines(&run(&scene, "list --json --action deny").succeeded());
        assert_eq!(
            list,
            [
                json!({
                    "prefix": "203.0.113.0/24", "service": "sip", "action": "deny", "until": null, "seconds_left": null,
                    "origin": "command line", "source": null, "file": null, "comment": null, "in_force": true,
                }),
                json!({
                    "prefix": "203.0.113.66", "service": "sip", "action": "deny", "until": null, "seconds_left": null,
                    "origin": "config", "source": "blocked", "file": "/var/lib/blocked.txt", "comment": null, "in_force": true,
                }),
            ]
        );
        let prefixes = run(
            &scene,
            "list --service sip --action allow --format prefixes",
        );
        assert_eq!(
            prefixes.succeeded().stdout,
            "198.51.100.10\n203.0.113.0/24\n2001:db8:100::/48\n"
        );

        let own = run(&scene, "list --own --format commands")
            .succeeded()
            .stdout;
        run(&scene, "remove 192.0.2.1 2001:db8:f::/48 --service web").succeeded();
        run(&scene, "remove 203.0.113.0/24").succeeded();
        assert_eq!(
            run(&scene, "list --own").succeeded().stdout,
            "no such entries\n"
        );
        shell(&scene, &own).succeeded();
        assert_eq!(
            run(&scene, "list --own --format commands")
                .succeeded()
                .stdout,
            own
        );

        run(&scene, "down").succeeded();
        let list = run(&scene, "list --service web").succeeded().stdout;
        assert!(
            list.contains("command line: it's mine (waits for `sipguard apply`)"),
            "{list}"
        );
        let waiting = lines(&run(&scene, "list --json").succeeded());
        assert!(waiting.iter().all(|entry| entry["in_force"] == false));
        assert_eq!(waiting.len(), 3);
    });
}

#[test]
fn allow_deny_and_remove_say_what_they_did() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        assert!(!scene.passes("eth0", SCANNER, 5060));
        let allow = run(&scene, "allow 198.51.100.7").succeeded();
        assert_eq!(allow.stdout, "allowed 198.51.100.7 for sip and web\n");
        assert!(scene.passes("eth0", SCANNER, 5060));
        assert_eq!(
            parsed(&scene, "deny 198.51.100.7 any --service sip --json"),
            json!({
                "action": "deny", "prefixes": ["0.0.0.0/0", "198.51.100.7", "::/0"], "services": ["sip"],
                "until": null, "in_force": true,
            })
        );
        assert!(!scene.passes("eth0", SCANNER, 5060));
        assert_eq!(
            run(&scene, "deny any --service web -q").succeeded().stdout,
            ""
        );

        let removed = lines(&run(&scene, "remove 198.51.100.7 --service sip --json").succeeded());
        let entry = |action| json!({ "prefix": "198.51.100.7", "service": "sip", "action": action, "until": null, "comment": null });
        assert_eq!(removed, [entry("allow"), entry("deny")]);
        assert_eq!(
            run(&scene, "remove 198.51.100.7").succeeded().stdout,
            "removed: allow 198.51.100.7 for web\n"
        );
        assert_eq!(
            parsed(&scene, "down --json"),
            json!({ "released": ["eth0"] })
        );

        let waits = run(&scene, "allow 192.0.2.9 --service sip").succeeded();
        assert!(
            waits
                .stderr
                .contains("warning: nothing is in force; this waits for the next `sipguard apply`")
        );
        let apply = parsed(&scene, "apply --json");
        assert_eq!(apply["changed"], true);
        assert_eq!(apply["generation"], 2);
        assert_eq!(apply["enforced"], true);
        assert_eq!(apply["released"], json!([]));
        assert_eq!(apply["entries"], json!({ "config": 5, "command_line": 5 }));
        assert_eq!(apply["interfaces"][0]["state"], "attached");
    });
}

#[test]
fn check_names_what_decides() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        run(
            &scene,
            "allow 2001:db8:100::66 --service web --comment test",
        )
        .succeeded();
        for (line, code, wanted) in [
            (
                "check 203.0.113.5",
                3,
                "203.0.113.5 → udp 5060 5061, tcp 5060 (sip): pass, allowed by 203.0.113.0/24 (config: providers)\n\
                 203.0.113.5 → tcp 80 (web): drop, not listed\n",
            ),
            (
                "check 203.0.113.66 --port 5060 --proto udp",
                3,
                "203.0.113.66 → udp 5060 (sip): drop, denied by 203.0.113.66 (config: blocked (/var/lib/blocked.txt))\n",
            ),
            (
                "check 2001:db8:100::66 --port 80 --proto tcp",
                0,
                "2001:db8:100::66 → tcp 80 (web): pass, allowed by 2001:db8:100::66 (command line: test)\n",
            ),
            (
                "check 198.51.100.7 --port 22",
                0,
                "198.51.100.7 → udp+tcp 22: pass, not guarded\n",
            ),
            ("check 198.51.100.7 -q", 3, ""),
        ] {
            assert_eq!(run(&scene, line).exited(code).stdout, wanted);
        }
        let check = lines(&run(&scene, "check 203.0.113.5 --json").exited(3));
        assert_eq!(check.len(), 4);
        assert_eq!(
            check[3],
            json!({
                "n": 4, "action": "drop", "reason": "unlisted", "service": "web", "source": "203.0.113.5",
                "protocol": "tcp", "port": 80, "entry": null,
            })
        );
        assert_eq!(check[0]["entry"]["source"], "providers");
        let check = lines(&run(&scene, "check 203.0.113.5 --port 9 --proto sctp --json").exited(0));
        assert_eq!(
            check,
            [json!({
                "n": 1, "action": "pass", "reason": null, "service": null, "source": "203.0.113.5",
                "protocol": "sctp", "port": 9, "entry": null,
            })]
        );
        fails(
            run(&scene, "check 203.0.113.5 --proto sctp"),
            "no such port is guarded: every packet passes; name one with --port",
        );
        let totals = parsed(&scene, "stats --json")["totals"].take();
        let none = json!({ "packets": 0, "bytes": 0 });
        assert_eq!(totals, json!({ "pass": none, "drop": none }));
    });
}

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
                "check 10.0.0.0/8",
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
            "stats",
            "stats --watch",
            "list",
            "allow any",
            "deny any",
            "remove any",
            "check ::1",
        ] {
            fails(
                powerless(line),
                "sipguard needs root (or CAP_BPF and CAP_NET_ADMIN) for this: run it with sudo",
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
                "no such interface: wan0, ppp0; this host has lo, eth0. Correct `interfaces` in {}",
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
            told.ends_with("; set mode = \"auto\" to fall back to generic mode\n"),
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

#[test]
fn a_state_that_cannot_be_kept_stops_everything() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        let changing = [
            "apply",
            "allow 198.51.100.7",
            "deny 203.0.113.5",
            "remove any",
        ];
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        scene.configure(&CONFIG.replace("[5060, 5061]", "[5060]"));

        mount_remount(STATE, flags | MountFlags::RDONLY, "").expect("tmpfs can be remounted");
        for line in changing {
            let told = run(&scene, line).exited(1).stderr;
            assert!(
                told.ends_with("; mount its file system for writing\n"),
                "{told}"
            );
        }
        mount_remount(STATE, flags, "").expect("tmpfs can be remounted");

        mount("tmpfs", STATE, "tmpfs", flags, Some(c"size=4k")).expect("tmpfs can be mounted");
        fs::write(Path::new(STATE).join("filler"), [0; 4096]).expect("there is one page");
        for line in ["apply", "allow 198.51.100.7", "deny 203.0.113.5"] {
            fails(
                run(&scene, line),
                &format!(
                    "cannot write {STATE}/state.json.new: No space left on device (os error 28); free some space there"
                ),
            );
        }
        // Under that one the first one's is still there.
        unmount(STATE, UnmountFlags::empty()).expect("it is mounted");

        let file = Path::new(STATE).join("state.json");
        let kept = fs::read(&file).expect("an apply wrote it");
        for (content, wanted) in [
            (
                "{",
                "is damaged: EOF while parsing an object at line 1 column 1; restore it from a backup, or move it away and add the entries of the command line again",
            ),
            (
                "{\"version\":99}",
                "has version 99, which only a newer sipguard reads; install that one, or move the file away",
            ),
        ] {
            fs::write(&file, content).expect("the state folder is writable");
            for line in changing
                .into_iter()
                .chain(["status", "stats", "list", "check ::1"])
            {
                fails(run(&scene, line), &format!("{} {wanted}", file.display()));
            }
        }
        fs::write(&file, kept).expect("the state folder is writable");

        let lock = Path::new(STATE).join("lock");
        fs::remove_file(&lock).expect("it is there");
        fs::create_dir(&lock).expect("the state folder is writable");
        for line in changing {
            fails(
                run(&scene, line),
                &format!(
                    "cannot lock {}: Is a directory (os error 21); move away what is in its place",
                    lock.display()
                ),
            );
        }
        fs::remove_dir(&lock).expect("it is empty");

        let status = parsed(&scene, "status --json");
        assert_eq!(status["generation"], 1);
        assert_eq!(status["entries"], json!({ "config": 5, "command_line": 0 }));
        assert!(!scene.passes("eth0", SCANNER, 5060));
        assert!(scene.passes("eth0", PROVIDER, 5061));
        run(&scene, "apply").succeeded();
        assert_eq!(parsed(&scene, "status --json")["generation"], 2);
    });
}

#[test]
fn what_does_not_exist_is_named() {
    sandbox(|sandbox| {
        let scene = configured(sandbox, "");
        let unnamed = "nothing is in force yet, so the service must be named: add --service NAME, or run `sipguard apply` first";
        fails(run(&scene, "allow 192.0.2.1"), unnamed);
        fails(run(&scene, "remove 192.0.2.1"), unnamed);
        fails(
            run(&scene, "check 192.0.2.1"),
            "nothing is in force that could be asked: run `sipguard apply` first",
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
            "check ::1",
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
        for line in ["status", "list", "stats", "check ::1", "allow ::1"] {
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

#[test]
fn output_that_nobody_reads() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        for line in [
            "list",
            "status",
            "stats --watch",
            "man",
            "completions zsh",
            "--help",
            "check ::1",
        ] {
            let closed = shell(&scene, &format!("sipguard {line} | true")).succeeded();
            assert_eq!(closed.stderr, "", "{line}");
        }
        for line in [
            "list",
            "status",
            "stats",
            "man",
            "completions zsh",
            "check ::1",
        ] {
            let full = shell(&scene, &format!("sipguard {line} > /dev/full")).exited(1);
            assert_eq!(
                full.stderr,
                "sipguard: cannot write the output: No space left on device (os error 28)\n",
                "{line}"
            );
        }
    });
}

#[test]
fn colours_only_where_they_are_wanted() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        run(&scene, "deny ::1").succeeded();
        for line in ["status", "stats", "list"] {
            assert!(
                !run(&scene, line).succeeded().stdout.contains('\x1b'),
                "{line}"
            );
            let coloured = run(&scene, &format!("{line} --color always")).succeeded();
            assert!(coloured.stdout.contains('\x1b'), "{line}");
        }
        let failed = run(&scene, "remove ::2 --color always").exited(1);
        assert!(failed.stderr.starts_with("\x1b["), "{}", failed.stderr);
        // `script` runs it on a terminal.
        let command = format!(
            "{} --config {} list",
            sipguard().display(),
            scene.config().display()
        );
        for (variables, coloured) in [
            ("TERM=xterm", true),
            ("TERM=xterm NO_COLOR=1", false),
            ("TERM=dumb", false),
        ] {
            let mut script = Command::new("script");
            // Under CI a terminal is taken to show colours, whatever it says of itself.
            script.env_remove("NO_COLOR").env_remove("CI").args([
                "-qec",
                &format!("{variables} {command}"),
                "/dev/null",
            ]);
            let told = scene.gateway.run(&mut script).succeeded().stdout;
            assert_eq!(told.contains('\x1b'), coloured, "{variables}: {told}");
        }
    });
}

#[test]
fn completions_and_manual_pages() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &[]);
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = run(&scene, &format!("completions {shell}"))
                .succeeded()
                .stdout;
            assert!(script.contains("comment"), "{shell}");
        }
        let page = run(&scene, "man").succeeded().stdout;
        assert!(page.contains(".TH sipguard 1"), "{page}");
        let folder = Path::new(SCRATCH).join("man");
        run(&scene, &format!("man --out {}", folder.display())).succeeded();
        let pages = fs::read_dir(&folder).expect("it was made").count();
        assert!(pages > 12, "{pages}");
        assert!(folder.join("sipguard-check.1").exists());
    });
}
