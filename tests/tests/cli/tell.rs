//! What commands tell of what is in force, and of what they did.

use std::{fs, process::Command};

use serde_json::{Value, json};
use sipguard_tests::{
    netns::{sandbox, sipguard},
    scene::{PROVIDER, SCANNER, Scene},
};

use super::{CONFIG, applied, configured, fails, json_lines, parsed, run, shell};

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
        let nobody = |service| {
            format!(
                "sipguard: warning: nobody is let in to {service}: no source or `sipguard allow` names anybody for it\n"
            )
        };
        assert_eq!(apply.stderr, [nobody("sip"), nobody("web")].concat());
        assert!(!scene.passes("eth0", SCANNER, 5060));

        let bare = run(&scene, "").succeeded();
        assert!(
            bare.stdout.contains("\ngeneration 1 of "),
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
        let found = take_health(&mut status);
        assert!(!found.contains(&"open".to_owned()), "{found:?}");
        assert_eq!(
            status,
            json!({
                "version": env!("CARGO_PKG_VERSION"), "in_force": true, "enforced": true,
                "generation": 1, "applied": null, "config": scene.config(), "mode": "enforce",
                "interfaces": [{
                    "name": "eth0", "state": "attached", "mode": "native", "cause": null,
                    "program": null, "generation": 1, "foreign": null,
                    "before": [],
                }],
                "services": [
                    { "name": "sip", "ports": { "udp": [5060, 5061], "tcp": [5060] }, "default": "deny", "mode": "enforce" },
                    { "name": "web", "ports": { "tcp": [80] }, "default": "deny", "mode": "enforce" },
                ],
                "sources": [],
                "moved": [], "receivers": [],
                "entries": { "config": 5, "command_line": 1, "bans": 0, "overruled_bans": 0 }, "pending": null,
            })
        );
        run(&scene, "down").succeeded();
        let mut status = parsed(&scene, "status --json");
        let found = take_health(&mut status);
        assert!(found.contains(&"open".to_owned()), "{found:?}");
        assert_eq!(
            status,
            json!({
                "version": env!("CARGO_PKG_VERSION"), "in_force": false, "enforced": false,
                "generation": null, "applied": null, "config": null, "mode": null,
                "interfaces": [], "services": [], "sources": [], "moved": [], "receivers": [],
                "entries": { "config": 0, "command_line": 1, "bans": 0, "overruled_bans": 0 }, "pending": null,
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

/// Takes out what depends on the machine, and returns how bad the findings are.
fn take_health(status: &mut Value) -> Vec<String> {
    let status = status.as_object_mut().expect("an object");
    let mut take = |key: &str| status.remove(key).expect("it is there");
    assert!(take("summary").is_string());
    let found = take("findings");
    let found = found.as_array().expect("a list").iter();
    let severity = |finding: &Value| finding["severity"].as_str().expect("a word").to_owned();
    let found: Vec<_> = found.map(severity).collect();
    assert_eq!(take("guarded"), !found.contains(&"open".to_owned()));
    found
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
            "br0        tc (a bridge device has no native XDP)",
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
        let check = run(
            &scene,
            "check --live 198.51.100.7 --port 5060 --proto udp --json",
        )
        .exited(3);
        assert_eq!(json_lines(&check)[0]["enforced"], false);
        let check = run(&scene, "check --live 198.51.100.7 --port 5060").exited(3);
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

/// A word with an end stands above one without.
#[test]
fn what_something_else_stands_above_is_not_handed_on() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        run(&scene, "allow 192.0.2.50 --service sip").succeeded();
        run(&scene, "deny 192.0.2.50 --service sip --for 7d").succeeded();
        let own = run(&scene, "list --own --format commands")
            .succeeded()
            .stdout;
        let is_dropped = || run(&scene, "check 192.0.2.50 --service sip").exited(3);
        is_dropped();
        for format in ["toml", "nft", "ipset", "prefixes --action allow"] {
            let list = run(&scene, &format!("list --format {format}"))
                .succeeded()
                .stdout;
            let (_, rest) = list.split_once("sip-allow").unwrap_or(("", &list));
            let (allowed, _) = rest.split_once("sip-deny").unwrap_or((rest, ""));
            assert!(!allowed.contains("192.0.2.50"), "{format}: {list}");
        }
        run(&scene, "remove 192.0.2.50").succeeded();
        shell(&scene, &own).succeeded();
        is_dropped();
        run(&scene, "remove 192.0.2.50").succeeded();
        // What is said of a service that no config has any more can be taken back.
        run(&scene, "down").succeeded();
        run(&scene, "allow 192.0.2.51 --service gone").succeeded();
        run(&scene, "apply").succeeded();
        let removed = run(&scene, "remove 192.0.2.51").succeeded().stdout;
        assert!(
            removed.starts_with("removed: allow 192.0.2.51 for gone"),
            "{removed}"
        );
        run(&scene, "remove 192.0.2.51 --service gone").exited(1);
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
PREFIX             ACTION  SERVICES  FROM
192.0.2.1          allow   web       command line: it's mine
198.51.100.10      allow   sip web   config: admins
203.0.113.0/24     deny    sip       command line
203.0.113.0/24     allow   sip       overruled: config: providers
203.0.113.66       deny    sip       config: blocked (/var/lib/blocked.txt)
2001:db8:f::/48    allow   web       command line: it's mine
2001:db8:100::/48  allow   sip       config: providers

7 rows: 5 allow, 2 deny
"
        );
        let list = json_lines(&run(&scene, "list --json --action deny").succeeded());
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
            "198.51.100.10\n2001:db8:100::/48\n"
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
            list.contains("waits for apply: command line: it's mine"),
            "{list}"
        );
        let waiting = json_lines(&run(&scene, "list --json").succeeded());
        assert!(waiting.iter().all(|entry| entry["in_force"] == false));
        assert_eq!(waiting.len(), 3);
    });
}

#[test]
fn a_part_is_listed_and_fits_a_terminal() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        run(&scene, "deny 203.0.113.0/24 --service sip").succeeded();
        let list = run(&scene, "list 203.0.113.64/26").succeeded().stdout;
        let prefixes: Vec<_> = list
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(
            prefixes,
            [
                "PREFIX",
                "203.0.113.0/24",
                "203.0.113.0/24",
                "203.0.113.66",
                "",
                "3"
            ]
        );
        assert_eq!(
            run(&scene, "list 10.0.0.0/8").succeeded().stdout,
            "no such entries\n"
        );
        run(&scene, "list --format prefixes").exited(2);
        let comment = "a comment that is as long as nobody would want to see it in one line";
        scene
            .sipguard(["deny", "192.0.2.2", "--comment", comment])
            .succeeded();
        let list = run(&scene, "list 192.0.2.2").succeeded().stdout;
        assert!(
            list.lines().all(|line| line.chars().count() <= 80) && list.contains('…'),
            "{list}"
        );
        let whole = run(&scene, "list 192.0.2.2 -v").succeeded().stdout;
        assert!(whole.contains(comment), "{whole}");
        run(&scene, "remove 192.0.2.2").succeeded();
        // What is overruled is not handed on.
        let nft = run(&scene, "list --format nft --service sip")
            .succeeded()
            .stdout;
        assert_eq!(nft.matches("203.0.113.0/24").count(), 1, "{nft}");
    });
}

#[test]
fn allow_deny_and_remove_say_what_they_did() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        assert!(!scene.passes("eth0", SCANNER, 5060));
        let allow = run(&scene, "allow 198.51.100.7 --service all").succeeded();
        assert_eq!(
            allow.stdout,
            "198.51.100.7 is allowed for sip and web now\n"
        );
        assert!(scene.passes("eth0", SCANNER, 5060));
        assert_eq!(
            parsed(&scene, "deny 198.51.100.7 any --service sip --json"),
            json!({
                "action": "deny", "prefixes": ["0.0.0.0/0", "198.51.100.7", "::/0"], "services": ["sip"],
                "until": null, "in_force": true,
                "effects": [
                    { "prefix": "0.0.0.0/0", "service": "sip", "action": "deny", "by": "0.0.0.0/0", "enforced": true, "exceptions": 2 },
                    { "prefix": "198.51.100.7", "service": "sip", "action": "deny", "by": "198.51.100.7", "enforced": true, "exceptions": 0 },
                    { "prefix": "::/0", "service": "sip", "action": "deny", "by": "::/0", "enforced": true, "exceptions": 1 },
                ],
            })
        );
        assert!(!scene.passes("eth0", SCANNER, 5060));
        assert_eq!(
            run(&scene, "deny any --service web -q").succeeded().stdout,
            ""
        );

        let removed =
            json_lines(&run(&scene, "remove 198.51.100.7 --service sip --json").succeeded());
        let entry = |action| json!({ "prefix": "198.51.100.7", "service": "sip", "action": action, "until": null, "comment": null, "ended": false });
        assert_eq!(removed, [entry("deny")]);
        assert_eq!(
            run(&scene, "remove 198.51.100.7").succeeded().stdout,
            "removed: allow 198.51.100.7 for web\n198.51.100.7 is denied for web now: any decides\n"
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
fn the_newest_word_wins_and_says_what_came_of_it() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        let said = |line: &str| run(&scene, line).succeeded().stdout;
        let passes = |source: &str| scene.passes("eth0", source, 5060);

        said("allow 198.51.100.7 --service sip --for 1d");
        assert!(passes(SCANNER));
        assert_eq!(
            said("deny 198.51.100.7"),
            "198.51.100.7 is denied for sip and web now\n"
        );
        assert!(!passes(SCANNER), "the timed allow is gone");
        said("allow 198.51.100.7 --service sip");
        assert!(passes(SCANNER));
        said("deny 198.51.100.7 --service sip --for 1h");
        said("allow 198.51.100.7 --service sip --for 1m");
        assert!(passes(SCANNER), "the newer one with an end counts");
        // What the config file denies.
        said("allow 203.0.113.66 --service sip");
        assert!(passes("203.0.113.66"));
        assert_eq!(
            said("remove 203.0.113.66 --service sip"),
            "removed: allow 203.0.113.66 for sip\n203.0.113.66 is denied for sip now\n"
        );
        assert!(!passes("203.0.113.66"));

        // What goes on inside.
        assert_eq!(
            said("deny 203.0.0.0/16 --service sip"),
            "203.0.0.0/16 is denied for sip now\n\
             1 more specific entry inside it goes on allowing; `sipguard list 203.0.0.0/16` shows it\n"
        );
        assert!(passes(PROVIDER));
        assert_eq!(
            said("deny any --service sip"),
            "any is denied for sip now\n\
             4 more specific entries inside it go on allowing; `sipguard list` shows them\n"
        );
    });
}

#[test]
fn allow_asks_for_the_service_where_there_are_several() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        fails(
            run(&scene, "allow 198.51.100.7"),
            "say to which service: --service sip, or --service all for all of them (sip and web)",
        );
        assert!(!scene.passes("eth0", SCANNER, 5060));
        for end in ["never", "-1"] {
            let line = format!("allow 198.51.100.7 --service sip --for {end}");
            let said = run(&scene, &line).succeeded().stdout;
            assert_eq!(said, "198.51.100.7 is allowed for sip now\n");
        }
        scene.configure("interfaces = [\"eth0\"]\n[services.sip]\nudp = [5060]\n");
        run(&scene, "apply").succeeded();
        run(&scene, "allow 198.51.100.9").succeeded();
        assert!(scene.passes("eth0", "198.51.100.9", 5060));
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
                "check --live 203.0.113.5",
                0,
                "203.0.113.5 → udp 5060 5061, tcp 5060 (sip): pass, allowed by 203.0.113.0/24 (config: providers)\n\
                 203.0.113.5 → tcp 80 (web): drop, not listed\n",
            ),
            (
                "check --live 203.0.113.66 --port 5060 --proto udp",
                3,
                "203.0.113.66 → udp 5060 (sip): drop, denied by 203.0.113.66 (config: blocked (/var/lib/blocked.txt))\n",
            ),
            (
                "check --live 2001:db8:100::66 --port 80 --proto tcp",
                0,
                "2001:db8:100::66 → tcp 80 (web): pass, allowed by 2001:db8:100::66 (command line: test)\n",
            ),
            (
                "check --live 198.51.100.7 --port 22",
                0,
                "198.51.100.7 → udp+tcp 22: pass, not guarded\n",
            ),
            ("check --live 198.51.100.7 -q", 3, ""),
            ("check --live 203.0.113.5 --service sip -q", 0, ""),
            ("check --live 203.0.113.5 --service web -q", 3, ""),
        ] {
            assert_eq!(run(&scene, line).exited(code).stdout, wanted);
        }
        let check = json_lines(&run(&scene, "check --live 203.0.113.5 --json").exited(0));
        assert_eq!(check.len(), 4);
        assert_eq!(
            check[3],
            json!({
                "n": 4, "action": "drop", "reason": "unlisted", "service": "web", "source": "203.0.113.5",
                "protocol": "tcp", "port": 80, "entry": null,
            })
        );
        assert_eq!(check[0]["entry"]["source"], "providers");
        let check = json_lines(
            &run(
                &scene,
                "check --live 203.0.113.5 --port 9 --proto sctp --json",
            )
            .exited(0),
        );
        assert_eq!(
            check,
            [json!({
                "n": 1, "action": "pass", "reason": null, "service": null, "source": "203.0.113.5",
                "protocol": "sctp", "port": 9, "entry": null,
            })]
        );
        fails(
            run(&scene, "check --live 203.0.113.5 --proto sctp"),
            "no such port is guarded: every packet passes; name one with --port",
        );
        let totals = parsed(&scene, "stats --json")["totals"].take();
        let none = json!({ "packets": 0, "bytes": 0 });
        assert_eq!(totals["pass"], none);
        assert_eq!(totals["drop"], none);
    });
}

/// Whose word counts, and whose does not.
#[test]
fn check_and_list_name_ranks() {
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        for line in [
            "ban 203.0.113.5 --for never --by fail2ban",
            "ban 203.0.112.0/22 --for never",
            "allow any --service web",
            "allow 203.0.112.7 --service sip",
        ] {
            run(&scene, line).succeeded();
        }
        for (line, code, wanted) in [
            (
                "check --live 203.0.113.5",
                0,
                "203.0.113.5 → udp 5060 5061, tcp 5060 (sip): pass, allowed by 203.0.113.0/24 (config: providers); \
                 overruled: 203.0.113.5 (banned by fail2ban); overruled: 203.0.112.0/22 (banned)\n\
                 203.0.113.5 → tcp 80 (web): drop, denied by 203.0.113.5 (banned by fail2ban)\n",
            ),
            (
                "check --live 203.0.112.7 --service sip",
                0,
                "203.0.112.7 → udp 5060 5061, tcp 5060 (sip): pass, allowed by 203.0.112.7 (command line); \
                 overruled: 203.0.112.0/22 (banned)\n",
            ),
            (
                "check --live 203.0.112.7 --service web",
                3,
                "203.0.112.7 → tcp 80 (web): drop, denied by 203.0.112.0/22 (banned)\n",
            ),
            (
                "check --live 192.0.2.99 --service web",
                0,
                "192.0.2.99 → tcp 80 (web): pass, allowed by 0.0.0.0/0 (command line)\n",
            ),
        ] {
            assert_eq!(run(&scene, line).exited(code).stdout, wanted);
        }
        let check = json_lines(&run(&scene, "check --live 203.0.113.5 --json").exited(0));
        assert_eq!(check[0]["entry"]["origin"], "config");
        let overruled = &check[0]["overruled"];
        assert_eq!(overruled[0]["source"], "fail2ban");
        assert_eq!(overruled[0]["origin"], "ban");
        assert_eq!(overruled[0]["overruled"], true);
        assert_eq!(check[3]["entry"]["origin"], "ban");
        assert_eq!(check[3]["overruled"], Value::Null);

        // Of a ban `list` says in each service whether it counts.
        let listed = json_lines(&run(&scene, "list --json").succeeded());
        let of = |service: &str| {
            let mut rows = listed.iter().filter(|row| {
                row["prefix"] == "203.0.113.5"
                    && row["service"] == service
                    && row["origin"] == "ban"
            });
            rows.next().expect("the ban is listed")["overruled"] == true
        };
        assert_eq!((of("sip"), of("web")), (true, false));
        // One that covers more than what is by hand counts there.
        let wide = listed
            .iter()
            .filter(|row| row["prefix"] == "203.0.112.0/22");
        assert!(wide.clone().count() > 0);
        assert!(wide.into_iter().all(|row| row["overruled"].is_null()));
        let told = run(&scene, "list").succeeded().stdout;
        assert!(told.contains("overruled: banned by fail2ban"), "{told}");
    });
}

/// By the file that is named, whatever is in force, and without privileges.
#[test]
fn check_asks_the_file_that_is_named() {
    sandbox(|sandbox| {
        let scene = configured(sandbox, CONFIG);
        fs::write(scene.config().with_file_name("blocked.txt"), "").expect("there is room");
        let told = run(&scene, "check 203.0.113.5 --service sip")
            .succeeded()
            .stdout;
        assert_eq!(
            told,
            "203.0.113.5 → udp 5060 5061, tcp 5060 (sip): pass, allowed by 203.0.113.0/24 (config: providers)\n"
        );
        run(&scene, "apply").succeeded();
        run(&scene, "allow 198.51.100.7 --service sip").succeeded();
        scene.configure(&CONFIG.replace("203.0.113.0/24", "203.0.112.0/24"));
        run(&scene, "check 203.0.113.5 --service sip").exited(3);
        run(&scene, "check 203.0.113.5 --service sip --live").exited(0);
        // What the command line added is no part of the file.
        run(&scene, "check 198.51.100.7").exited(3);
        fails(
            run(&scene, "check 203.0.113.5 --service ssh"),
            "there is no service called ssh; the services are sip, web",
        );
        let config = scene.config();
        let mut nobody = Command::new("setpriv");
        nobody
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(sipguard())
            .arg("--config")
            .arg(&config)
            .args(["check", "203.0.112.5", "--port", "5060"]);
        scene.gateway.run(&mut nobody).succeeded();
        fs::remove_file(&config).expect("it is there");
        let told = run(&scene, "check 203.0.113.5").exited(1).stderr;
        assert!(told.contains("sipguard.toml"), "{told}");
    });
}

/// A service may guard them; nothing of a protocol that none guards is.
#[test]
fn sctp_and_udp_lite_are_told_by_name() {
    sandbox(|sandbox| {
        let config = r#"
interfaces = ["eth0"]
[sources]
providers = ["203.0.113.0/24"]
[services.signalling]
sctp = [2905, 5060]
udplite = [5060]
allow = ["providers"]
"#;
        let scene = configured(sandbox, config);
        run(&scene, "apply").succeeded();
        let ports = "sctp 2905 5060, udplite 5060";
        let status = run(&scene, "status").succeeded().stdout;
        assert!(status.contains(ports), "{status}");
        for (line, code, wanted) in [
            (
                "check --live 203.0.113.5",
                0,
                format!(
                    "203.0.113.5 → {ports} (signalling): pass, allowed by 203.0.113.0/24 (config: providers)\n"
                ),
            ),
            (
                "check --live 2001:db8::7 --port 2905 --proto sctp",
                3,
                "2001:db8::7 → sctp 2905 (signalling): drop, not listed\n".to_owned(),
            ),
            (
                "check --live 198.51.100.7 --port 5060 --proto udplite",
                3,
                "198.51.100.7 → udplite 5060 (signalling): drop, not listed\n".to_owned(),
            ),
            (
                "check --live 198.51.100.7 --port 5060 --proto udp",
                0,
                "198.51.100.7 → udp 5060: pass, not guarded\n".to_owned(),
            ),
        ] {
            assert_eq!(run(&scene, line).exited(code).stdout, wanted);
        }
    });
}
