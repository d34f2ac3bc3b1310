//! `sipguard ban` and `sipguard unban`, told by packets: what other programs say is in force with the next packet, survives what a person's own
//! words survive, and never overrules them.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use serde_json::Value;
use sipguard::{
    clock,
    host::Host,
    lifecycle,
    state::{BanLine, Bans, Store, Unban},
};
use sipguard_tests::{
    kill::{calls, killed_at},
    netns::{STATE, Sandbox, sandbox, sipguard, until},
    scene::{PROVIDER, SCANNER, Scene, pins},
};

/// Everybody may ask here who is not banned.
const OPEN: u16 = 5061;
const SCANNER_V6: &str = "2001:db8:bad::7";

fn configure(scene: &Scene, port: u16) {
    scene.configure(&format!(
        "interfaces = [\"eth0\"]\n[sources]\nproviders = [\"203.0.113.0/24\"]\n\
         [services.sip]\nudp = [{port}]\nallow = [\"providers\"]\n\
         [services.open]\nudp = [{OPEN}]\ndefault = \"allow\"\nallow = [\"providers\"]\n"
    ));
}

fn with_scene(test: impl FnOnce(&Scene, &Sandbox) + Send) {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        configure(&scene, 5060);
        scene.sipguard(["apply"]).succeeded();
        test(&scene, sandbox);
    });
}

fn passes(scene: &Scene, source: &str) -> bool {
    scene.passes("eth0", source, OPEN)
}

/// Runs a command that must succeed; what it prints.
fn said(scene: &Scene, line: &str) -> String {
    scene.sipguard(line.split(' ')).succeeded().stdout
}

fn json(scene: &Scene, line: &str) -> Vec<Value> {
    let said = said(scene, &format!("{line} --json"));
    let lines = said.lines().map(serde_json::from_str);
    lines.map(|line| line.expect("JSON")).collect()
}

/// What the log says.
fn logged() -> Bans {
    Store::system().bans().expect("a readable log")
}

fn is_logged(prefix: &str) -> bool {
    let prefix = sipguard::prefix::parse(prefix).expect("a prefix");
    logged().of(prefix).next().is_some()
}

fn log() -> PathBuf {
    Path::new(STATE).join("bans.jsonl")
}

#[test]
fn the_next_packet_is_dropped_and_after_an_unban_let_back() {
    with_scene(|scene, _| {
        for (banned, inside, outside) in [
            (SCANNER, SCANNER, "198.51.100.8"),
            ("198.51.100.0/24", SCANNER, "198.51.101.7"),
            ("198.51.0.0/16", SCANNER, "198.52.100.7"),
            (SCANNER_V6, SCANNER_V6, "2001:db8:bad::8"),
            ("2001:db8::/32", SCANNER_V6, "2001:db9::7"),
        ] {
            assert!(passes(scene, inside));
            said(scene, &format!("ban {banned} --for 1h"));
            assert!(!passes(scene, inside), "{banned}");
            assert!(passes(scene, outside), "{banned}");
            assert!(passes(scene, PROVIDER), "{banned}");
            assert_eq!(
                said(scene, &format!("unban {banned}")),
                format!(
                    "{banned} is denied for sip now: it is not listed\n\
                     {banned} is allowed for open now: it is not listed\n"
                )
            );
            assert!(passes(scene, inside), "{banned}");
        }
        // Several at once, of both families.
        said(scene, &format!("ban {SCANNER} {SCANNER_V6} --for never"));
        assert_eq!(
            [SCANNER, SCANNER_V6].map(|source| passes(scene, source)),
            [false; 2]
        );
        said(scene, &format!("unban {SCANNER} {SCANNER_V6}"));
        assert_eq!(
            [SCANNER, SCANNER_V6].map(|source| passes(scene, source)),
            [true; 2]
        );
        // What is not banned, is not banned any more.
        assert_eq!(
            said(scene, &format!("unban {SCANNER}")),
            format!("{SCANNER} was not banned\n")
        );
        assert_eq!(
            said(scene, "unban --by fail2ban --all"),
            "0 bans taken back\n"
        );
        let taken = json(scene, &format!("unban {SCANNER}"));
        assert_eq!(taken[0]["prefixes"], Value::Array(vec![]));
    });
}

#[test]
fn what_people_and_programs_see() {
    with_scene(|scene, _| {
        let told = said(scene, &format!("ban {SCANNER} --for 600 --by fail2ban-pbx"));
        assert!(
            told.starts_with(&format!(
                "{SCANNER} is denied for sip and open now, until 2"
            )),
            "{told}"
        );
        let banned = &json(
            scene,
            &format!("ban {SCANNER_V6} --for never --by fail2ban-pbx"),
        )[0];
        let wanted = [
            ("prefixes", serde_json::json!([SCANNER_V6])),
            ("by", "fail2ban-pbx".into()),
            ("until", Value::Null),
            ("in_force", true.into()),
        ];
        for (key, value) in wanted {
            assert_eq!(banned[key], value, "{banned}");
        }
        let list = said(scene, "list");
        assert!(
            list.contains("deny    open sip  9m 59s") || list.contains("deny    open sip  10m"),
            "{list}"
        );
        assert!(list.contains("banned by fail2ban-pbx"), "{list}");
        let entries = json(scene, &format!("list {SCANNER}"));
        assert_eq!(entries.len(), 2, "one a service");
        for entry in &entries {
            assert_eq!(entry["origin"], "ban");
            assert_eq!(entry["source"], "fail2ban-pbx");
            assert_eq!(entry["action"], "deny");
            let left = entry["seconds_left"].as_i64().expect("a number");
            assert!((590..=600).contains(&left), "{entry}");
            assert_eq!(entry["overruled"], Value::Null);
        }
        let check = scene
            .sipguard(["check", "--live", SCANNER, "--service", "open"])
            .exited(3)
            .stdout;
        assert!(check.contains("banned by fail2ban-pbx"), "{check}");
        let status = said(scene, "status");
        assert!(
            status.contains("0 of the command line, 2 bans\n"),
            "{status}"
        );
        let status = &json(scene, "status")[0]["entries"];
        assert_eq!(
            (&status["bans"], &status["overruled_bans"]),
            (&2.into(), &0.into())
        );
        // What is printed as commands says the same again.
        let commands = said(scene, "list --format commands");
        let bans: BTreeSet<_> = commands
            .lines()
            .filter(|line| line.starts_with("sipguard ban "))
            .map(|line| line.replace('\'', ""))
            .collect();
        assert_eq!(bans.len(), 2, "{commands}");
        said(scene, "unban --by fail2ban-pbx --all");
        for command in bans {
            said(scene, command.trim_start_matches("sipguard "));
        }
        assert_eq!(
            [SCANNER, SCANNER_V6].map(|source| passes(scene, source)),
            [false; 2]
        );
    });
}

#[test]
fn what_is_no_ban_is_refused_with_what_to_write() {
    with_scene(|scene, _| {
        let too_long = "x".repeat(10_000);
        for (line, code, message) in [
            ("ban 198.50.0.0/15 --for 1h", 1, "/16"),
            ("ban 2001:db8::/31 --for 1h", 1, "/32"),
            ("ban 2001:db9::/31 --for 1h", 2, "host bits"),
            ("ban 2001:d00::/24 --for 1h", 1, "/32"),
            ("ban 0.0.0.0/0 --for 1h", 1, "/16"),
            ("ban any --for 1h", 2, "is no IP address"),
            (
                "ban 203.0.113.9/24 --for 1h",
                2,
                "203.0.113.9/24 has host bits set; write 203.0.113.0/24 (or 203.0.113.9 for the one host)",
            ),
            ("ban gw.example --for 1h", 2, "is no IP address"),
            ("ban ::ffff:203.0.113.5 --for 1h", 2, "write 203.0.113.5"),
            ("ban 198.51.100.7", 2, "--for"),
            ("ban 198.51.100.7 --for 0", 2, "less than a second"),
            ("ban 198.51.100.7 --for -2", 2, "\"-2\" is not a duration"),
            ("ban 198.51.100.7 --for soon", 2, "not a duration"),
            (
                "ban 198.51.100.7 --for 99999999999999999999",
                2,
                "more than 10 years away",
            ),
            (
                "ban 198.51.100.7 --for 1h --by a\u{1b}[31mb",
                2,
                "1 to 64 letters",
            ),
            ("ban 198.51.100.7 --for 1h --by a\nb", 2, "1 to 64 letters"),
            ("ban 198.51.100.7 --for 1h --by größe", 2, "1 to 64 letters"),
            ("ban 198.51.100.7 --for 1h --by LONG", 2, "1 to 64 letters"),
            ("unban --all", 2, "--by"),
            ("unban", 2, "PREFIX"),
            ("unban --by x", 2, "PREFIX"),
            ("unban 198.51.100.7 --by x --all", 2, "cannot be used with"),
        ] {
            let words = line.split(' ').map(|word| word.replace("LONG", &too_long));
            let refused = scene.sipguard(words).exited(code).stderr;
            assert!(refused.contains(message), "{line}: {refused}");
            assert!(!refused.contains('\u{1b}'), "{line}: {refused}");
        }
        assert!(!log().exists(), "nothing was written");
        assert!(passes(scene, SCANNER));
        // As long as may be.
        let name = "x".repeat(64);
        said(scene, &format!("ban {SCANNER} --for 2h --by {name}"));
        assert!(said(scene, "list").contains(&name[..20]));
        for time in ["1", "90s", "15m", "2h", "7d", "-1", "never"] {
            said(scene, &format!("ban {SCANNER} --for {time} --by {name}"));
        }
        assert_eq!(
            json(scene, &format!("list {SCANNER}"))[0]["until"],
            Value::Null
        );
    });
}

/// Whoever has written into the log what no command writes changes nothing that is printed, and nothing else.
#[test]
fn a_hostile_log() {
    with_scene(|scene, _| {
        said(scene, &format!("ban {SCANNER} --for never --by fail2ban"));
        let good = fs::read_to_string(log()).expect("a log");
        let hostile = ["\\u001b[31m", "\\n\\\"};x", "größe", &"x".repeat(10_000)];
        let mut file = OpenOptions::new().append(true).open(log()).expect("a log");
        for name in hostile {
            let line = good
                .replace("fail2ban", name)
                .replace(SCANNER, "198.51.100.9");
            file.write_all(line.as_bytes()).expect("there is room");
        }
        file.write_all(b"{}\n[]\n\0\xff\n{\"unban\":null}\n{\"by\":\"fail2ban\"}\n")
            .expect("there is room");
        for command in [
            "status",
            "list",
            "list --json",
            "list --format commands",
            "list --format nft",
            "list --format ipset",
            "list --format toml",
            "check --live 198.51.100.9 --port 5061",
        ] {
            let told = scene.sipguard(command.split(' ')).succeeded();
            let printed = told.stdout.clone() + &told.stderr;
            for wrong in ["\u{1b}", "};x", "größe", "xxxxx"] {
                assert!(!printed.contains(wrong), "{command}: {printed}");
            }
        }
        let told = scene.sipguard(["list"]).succeeded().stderr;
        assert!(told.contains("bans.jsonl has 9 damaged lines"), "{told}");
        scene.sipguard(["apply"]).succeeded();
        assert!(!passes(scene, SCANNER), "what is readable counts");
        assert!(passes(scene, "198.51.100.9"));
        said(scene, "unban --by fail2ban --all");
        assert!(passes(scene, SCANNER));
    });
}

#[test]
fn what_a_person_wrote_decides() {
    with_scene(|scene, _| {
        let first = scene.sipguard(["ban", PROVIDER, "--for", "1h", "--by", "fail2ban"]);
        let first = first.succeeded();
        assert!(
            first.stdout.contains(&format!(
                "{PROVIDER} is allowed for sip and open now: 203.0.113.0/24 decides"
            )),
            "{}",
            first.stdout
        );
        assert!(
            first.stderr.contains(&format!(
                "{PROVIDER} is allowed by hand, and what a person wrote decides"
            )),
            "{}",
            first.stderr
        );
        for port in [5060, OPEN] {
            assert!(scene.passes("eth0", PROVIDER, port), "it keeps calling");
        }
        // Told of once.
        let again = scene.sipguard(["ban", PROVIDER, "--for", "2h", "--by", "fail2ban"]);
        assert_eq!(again.succeeded().stderr, "");
        let list = said(scene, "list");
        assert!(list.contains("overruled: banned by fail2ban"), "{list}");
        let entries = json(scene, &format!("list {PROVIDER}"));
        let bans: Vec<_> = entries.iter().filter(|it| it["origin"] == "ban").collect();
        assert_eq!(bans.len(), 2);
        assert!(bans.iter().all(|ban| ban["overruled"] == true), "{bans:?}");
        let status = said(scene, "status");
        assert!(
            status.contains("1 ban; 1 under an entry by hand, which decides\n"),
            "{status}"
        );
        assert_eq!(json(scene, "status")[0]["entries"]["overruled_bans"], 1);
        said(scene, &format!("check --live {PROVIDER}"));
        // What others take over does not have it either.
        let nft = said(scene, "list --format nft");
        assert!(!nft.contains(PROVIDER), "{nft}");

        // What a person denies, no unban lets in,
        said(scene, &format!("deny {SCANNER}"));
        said(scene, &format!("ban {SCANNER} --for 1h"));
        said(scene, &format!("unban {SCANNER}"));
        assert!(!passes(scene, SCANNER));
        said(scene, &format!("remove {SCANNER}"));
        // and when what he allowed has ended, the ban counts, with no process running.
        said(scene, &format!("ban {SCANNER} --for 1h"));
        said(scene, &format!("allow {SCANNER} --service open --for 2s"));
        assert!(passes(scene, SCANNER));
        until("the ban counts again", || !passes(scene, SCANNER));
        // `any` comes behind.
        said(scene, "allow any --service open");
        assert!(!passes(scene, SCANNER));
        assert!(passes(scene, "198.51.100.8"));
    });
}

#[test]
fn it_ends_by_itself_and_each_takes_back_his_own() {
    with_scene(|scene, _| {
        said(scene, &format!("ban {SCANNER} --for 1"));
        said(scene, &format!("ban {SCANNER_V6} --for 1s"));
        assert!(!passes(scene, SCANNER));
        until("both have ended", || {
            passes(scene, SCANNER) && passes(scene, SCANNER_V6)
        });
        assert_eq!(
            said(scene, &format!("unban {SCANNER}")),
            format!("{SCANNER} was not banned\n")
        );

        // The longest one counts, and the newest word of each.
        said(scene, &format!("ban {SCANNER} --for never --by one"));
        said(scene, &format!("ban {SCANNER} --for 1s --by two"));
        said(scene, &format!("ban {SCANNER} --for 1h"));
        assert_eq!(
            json(scene, &format!("list {SCANNER} --service open")).len(),
            3
        );
        said(scene, &format!("unban {SCANNER} --by one"));
        said(scene, &format!("unban {SCANNER} --by nobody"));
        assert!(!passes(scene, SCANNER));
        said(scene, &format!("ban {SCANNER} --for 2h --by two"));
        said(scene, "unban --by one --all");
        assert!(!passes(scene, SCANNER));
        assert_eq!(said(scene, "unban --by two --all"), "1 ban taken back\n");
        assert!(!passes(scene, SCANNER), "nobody's is there still");
        // Without a name everybody's.
        said(scene, &format!("ban {SCANNER} --for 2h --by two"));
        said(scene, &format!("unban {SCANNER}"));
        assert!(passes(scene, SCANNER));
        assert!(!is_logged(SCANNER));
        // A shorter time is one, too.
        said(scene, &format!("ban {SCANNER} --for 1h --by one"));
        said(scene, &format!("ban {SCANNER} --for 1s --by one"));
        until("the shorter one has ended", || passes(scene, SCANNER));
    });
}

#[test]
fn it_survives_what_a_persons_own_words_survive() {
    with_scene(|scene, sandbox| {
        said(scene, &format!("ban {SCANNER} --for 1h --by fail2ban"));
        said(scene, &format!("ban {SCANNER_V6} --for 4s"));
        let [until_then, ending] =
            [SCANNER, SCANNER_V6].map(|it| json(scene, &format!("list {it}"))[0]["until"].clone());
        let is_kept = || {
            assert!(!passes(scene, SCANNER));
            let entry = &json(scene, &format!("list {SCANNER}"))[0];
            assert_eq!(
                (&entry["until"], &entry["in_force"]),
                (&until_then, &true.into())
            );
        };
        // A new generation, and an apply that changes nothing.
        configure(scene, 5070);
        said(scene, "apply");
        is_kept();
        said(scene, "apply");
        is_kept();
        // One that waits, is taken back, and is kept.
        configure(scene, 5072);
        said(scene, "apply --confirm 10m");
        is_kept();
        said(scene, "ban 198.51.100.9 --for 1h");
        said(scene, "ban 198.51.100.10 --for 1h");
        said(scene, "unban 198.51.100.10");
        let both = || {
            assert!(!passes(scene, "198.51.100.9"));
            assert!(passes(scene, "198.51.100.10"));
            is_kept();
        };
        both();
        said(scene, "rollback");
        both();
        said(scene, "apply --confirm 10m");
        said(scene, "confirm");
        both();
        // Without a filter they wait,
        said(scene, "down");
        assert!(passes(scene, SCANNER));
        said(scene, "ban 198.51.100.11 --for 1h --by other");
        said(scene, "unban 198.51.100.9");
        let list = said(scene, "list");
        assert!(list.contains("waits for apply: banned by other"), "{list}");
        let status = said(scene, "status");
        assert!(status.contains("bans wait for an apply"), "{status}");
        said(scene, "apply");
        is_kept();
        assert!(!passes(scene, "198.51.100.11"));
        assert!(passes(scene, "198.51.100.9"));
        // and a reboot leaves what is on disk, until it has ended by the clock.
        scene.reboot(sandbox);
        said(scene, "apply");
        is_kept();
        assert!(!passes(scene, "198.51.100.11"));
        let end: jiff::Timestamp = ending
            .as_str()
            .and_then(|it| it.parse().ok())
            .expect("a time");
        until("it has ended", || clock::now().wall > end);
        until("the kernel says so", || passes(scene, SCANNER_V6));
        said(scene, "apply");
        assert!(passes(scene, SCANNER_V6));
    });
}

#[test]
fn before_anything_is_in_force() {
    sandbox(|sandbox| {
        let scene = &Scene::new(sandbox, &["eth0"]);
        configure(scene, 5060);
        let told = scene.sipguard(["ban", SCANNER, "--for", "1h"]).succeeded();
        assert!(
            told.stderr
                .contains("this waits for the next `sipguard apply`"),
            "{}",
            told.stderr
        );
        let banned = &json(scene, "ban 198.51.100.9 --for 1h")[0];
        assert_eq!(banned["in_force"], false);
        said(scene, "unban 198.51.100.9");
        said(scene, "apply");
        assert!(!passes(scene, SCANNER));
        assert!(passes(scene, "198.51.100.9"));
    });
}

/// At each of its calls that change something. The log is ahead at most, and the next command makes the kernel follow.
#[test]
fn killed_anywhere() {
    with_scene(|scene, _| {
        let stays = "198.51.100.20";
        said(scene, &format!("ban {stays} --for 1h --by fail2ban"));
        for (line, before, undo) in [
            // The first one of an address, and one of an address that is banned already.
            (
                format!("ban {SCANNER} --for 1h --by one"),
                None,
                "unban --by one --all",
            ),
            (
                format!("ban {SCANNER} --for 2h --by two"),
                Some(format!("ban {SCANNER} --for 1h --by one")),
                "unban --by two --all",
            ),
            (
                format!("unban {SCANNER}"),
                Some(format!("ban {SCANNER} --for 1h --by two")),
                "",
            ),
            (
                "unban --by one --all".to_owned(),
                Some(format!("ban {SCANNER} --for 1h --by one")),
                "",
            ),
        ] {
            let begin = || {
                if !undo.is_empty() {
                    said(scene, undo);
                }
                if let Some(before) = &before {
                    said(scene, before);
                }
            };
            begin();
            let words: Vec<_> = line.split(' ').collect();
            let calls = calls(scene, &words);
            begin();
            for call in calls {
                assert!(killed_at(scene, &call, &words), "{call:?} of {line}");
                let now = passes(scene, SCANNER);
                assert!(passes(scene, PROVIDER) && !passes(scene, stays), "{call:?}");
                // Whatever the next command is.
                said(scene, "ban 198.51.100.21 --for 1h --by next");
                assert_eq!(logged().damaged, 0, "{call:?} of {line}");
                let banned = is_logged(SCANNER);
                assert_eq!(passes(scene, SCANNER), !banned, "{call:?} of {line}");
                if now == line.starts_with("unban") {
                    assert_eq!(!banned, now, "it was in force: {call:?} of {line}");
                }
                assert!(!passes(scene, stays), "{call:?}");
                let files = fs::read_dir(STATE).expect("a folder");
                let files: BTreeSet<_> = files
                    .map(|file| file.expect("readable").file_name())
                    .collect();
                let wanted = ["bans.jsonl", "confirmed.json", "lock", "state.json"];
                assert_eq!(files, wanted.into_iter().map(Into::into).collect());
                begin();
            }
        }
        said(scene, "down");
        assert_eq!(pins(), [""; 0]);
    });
}

#[test]
fn eight_at_once() {
    with_scene(|scene, _| {
        let run = |line: &str| {
            let mut command = Command::new(sipguard());
            command.arg("--config").arg(scene.config());
            command.args(line.split(' '));
            scene.gateway.run(&mut command).succeeded();
        };
        // Each of eight bans ten addresses, and takes three of them back; all ban one address together, and half of them take that back.
        thread::scope(|scope| {
            for process in 0..8 {
                let run = &run;
                scope.spawn(move || {
                    for number in 0..10 {
                        run(&format!(
                            "ban 198.51.{process}.{number} --for 1h --by p{process}"
                        ));
                    }
                    run(&format!("ban {SCANNER} --for 1h --by p{process}"));
                    for number in 0..3 {
                        run(&format!("unban 198.51.{process}.{number}"));
                    }
                    if process % 2 == 0 {
                        run(&format!("unban {SCANNER} --by p{process}"));
                    }
                });
            }
        });
        assert_eq!(logged().iter().count(), 8 * 7 + 4);
        assert_eq!(logged().damaged, 0);
        for process in 0..8 {
            for number in 0..10 {
                let source = format!("198.51.{process}.{number}");
                assert_eq!(passes(scene, &source), number < 3, "{source}");
            }
        }
        assert!(!passes(scene, SCANNER));
        for process in [1, 3, 5, 7] {
            assert!(!passes(scene, SCANNER));
            run(&format!("unban --by p{process} --all"));
        }
        assert!(passes(scene, SCANNER));
    });
}

/// What is said while the disk can't be written is in force, whatever is said afterwards, and is on disk as soon as that can be written.
#[test]
fn without_a_disk() {
    let remount = |scene: &Scene, options: &str| {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,{options}"), STATE]);
        scene.gateway.run(&mut command).succeeded();
    };
    let filler = Path::new(STATE).join("filler");
    for full in [true, false] {
        with_scene(|scene, sandbox| {
            said(scene, "ban 198.51.100.20 --for 1h --by one");
            if full {
                // So that there is no room left in its last page.
                let text = fs::read_to_string(log()).expect("a log");
                let length = text.len().next_multiple_of(4096) - 1;
                let padded = format!("{:<length$}\n", text.trim_end());
                fs::write(log(), padded).expect("there is room");
                remount(scene, "size=64k");
                assert!(fs::write(&filler, vec![0; 1 << 20]).is_err(), "it is full");
            } else {
                remount(scene, "ro");
            }
            let unsaved = |line: &str| {
                let told = scene.sipguard(line.split(' ')).exited(4).stderr;
                assert!(
                    told.contains("in force, but will not survive a restart"),
                    "{line}: {told}"
                );
                assert_eq!(told.lines().count(), 1, "{line}: {told}");
            };
            unsaved(&format!("-q ban {SCANNER} --for 1h --by one"));
            unsaved("-q ban 198.51.100.9 --for 1h --by one");
            unsaved("-q unban 198.51.100.9");
            unsaved("-q unban 198.51.100.20");
            let in_force = || {
                assert!(!passes(scene, SCANNER));
                assert!(passes(scene, "198.51.100.9") && passes(scene, "198.51.100.20"));
            };
            in_force();
            assert_eq!(json(scene, "list --action deny").len(), 2);
            // Also by what is compiled anew, and without a filter for a while.
            configure(scene, 5070);
            scene.sipguard(["apply"]).exited(4);
            in_force();
            scene.sipguard(["down"]).exited(4);
            scene.sipguard(["apply"]).exited(4);
            in_force();

            if full {
                fs::remove_file(&filler).expect("our own file");
            } else {
                remount(scene, "rw");
            }
            said(scene, "ban 198.51.100.30 --for 1h");
            in_force();
            assert!(is_logged(SCANNER) && !is_logged("198.51.100.9"));
            let state = Store::system().load().expect("a state");
            assert_eq!(state.unlogged, []);
            // What was said since is not said again.
            said(scene, &format!("unban {SCANNER}"));
            said(scene, "ban 198.51.100.31 --for 1h");
            assert!(passes(scene, SCANNER));
            scene.reboot(sandbox);
            said(scene, "apply");
            assert!(passes(scene, SCANNER) && !passes(scene, "198.51.100.30"));
            // The next one finds it as it was.
            said(scene, "down");
        });
    }
}

/// What is of no use in the log goes, and nothing else, while it is written anew, too.
#[test]
fn a_worn_log_is_written_anew() {
    with_scene(|scene, _| {
        said(scene, &format!("ban {SCANNER} --for 1h --by one"));
        let line = fs::read_to_string(log()).expect("a log");
        let taken_back = serde_json::to_string(&BanLine::Unban(Unban {
            prefix: None,
            by: Some("two".to_owned()),
        }));
        let worn = || {
            let store = Store::system();
            let lock = store.lock();
            let old: BanLine = serde_json::from_str(&line.replace("one", "two")).expect("a line");
            let free: BanLine =
                serde_json::from_str(taken_back.as_ref().expect("JSON")).expect("a line");
            let mut lines = vec![old; 2000];
            lines.push(free);
            store.append_bans(&lock, &lines).expect("there is room");
        };
        let lines = || fs::read_to_string(log()).expect("a log").lines().count();
        worn();
        let words = ["unban", "198.51.100.99"];
        said(scene, &words.join(" "));
        assert!(lines() < 10, "{}", lines());
        assert!(!passes(scene, SCANNER));

        worn();
        let calls = calls(scene, &words);
        for call in calls {
            worn();
            assert!(killed_at(scene, &call, &words), "{call:?}");
            assert!(!passes(scene, SCANNER), "{call:?}");
            assert!(is_logged(SCANNER), "{call:?}");
            said(scene, "ban 198.51.100.21 --for 1h");
            assert!(lines() < 10, "{}", lines());
            assert!(!passes(scene, SCANNER) && !passes(scene, "198.51.100.21"));
        }
        // As the kernel has it.
        let found = lifecycle::live(&Host::system())
            .expect("readable")
            .expect("in force");
        let revisions = found.generation.revisions().expect("readable");
        assert_eq!(revisions.bans, Store::system().bans_length());
    });
}
