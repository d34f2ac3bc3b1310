//! The agent: what it says and when, and that nothing holds it up.

use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use jiff::SignedDuration;
use rustix::process::Signal;
use serde_json::Value;
use sipguard::{
    agent::{FOLDER, flood, tried},
    report::TEXTFILE,
};
use sipguard_tests::{
    agent::{Agent, Journal},
    forbidden,
    foreign::Foreign,
    found::Found,
    hostile::{self, harmless, harmless_json},
    netns::{BPFFS, STATE, Sandbox, sandbox, sipguard, until},
    promtool::promtool,
    scene::{SCANNER, Scene},
};

const POLICY: &str = r#"
interfaces = ["eth0"]
[sources]
trunk = ["sip.provider.example"]
[services.sip]
udp = [5060]
tcp = [5060]
allow = ["trunk"]
"#;

const WAS: &str = "203.0.113.7";
const IS: &str = "203.0.113.9";

/// A gateway whose provider is found by name.
fn applied(sandbox: &Sandbox) -> (Scene, Found) {
    let scene = Scene::new(sandbox, &["eth0"]);
    scene.configure(POLICY);
    let mut found = Found::name("trunk", "sip.provider.example");
    found.are([WAS]);
    scene.sipguard(["apply", "--offline"]).succeeded();
    scene.sipguard(["refresh", "--offline"]).succeeded();
    assert!(scene.passes("eth0", WAS, 5060) && !scene.passes("eth0", SCANNER, 5060));
    (scene, found)
}

#[test]
fn what_becomes_of_lists_interfaces_and_modes_is_told() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let (mut scene, mut found) = applied(sandbox);
        scene.configure(&format!("mode = \"monitor\"\n{POLICY}"));
        scene.sipguard(["apply", "--offline"]).succeeded();
        let agent = Agent::start(&scene.gateway);
        // What is not as it should be is told at the first look.
        let told = journal.wait_for("monitoring", 0);
        assert_eq!(told["SIPGUARD_SERVICE"], "sip");
        assert_eq!(told["PRIORITY"], "4");
        scene.configure(POLICY);
        scene.sipguard(["apply", "--offline"]).succeeded();
        journal.wait_for("generation_came", 0);
        journal.wait_for("enforcing", 0);

        found.are([IS]);
        until("what was found is in force", || {
            scene.passes("eth0", IS, 5060)
        });
        let told = journal.wait_for("source_changed", 0);
        assert_eq!(told["MESSAGE"], "trunk has changed, and has 1 entry now");

        scene.gateway.ip("link delete eth0");
        scene.connect("eth0");
        let told = journal.wait_for("interface_filtered", 0);
        assert_eq!(told["SIPGUARD_INTERFACE"], "eth0");
        assert!(!scene.passes("eth0", SCANNER, 5060), "repaired");

        // As fail2ban says it.
        scene
            .sipguard(["allow", "192.0.2.7", "--service", "sip"])
            .succeeded();
        scene
            .sipguard(["ban", "192.0.2.7", "--for", "1h", "--by", "fail2ban"])
            .succeeded();
        let told = journal.wait_for("ban_overruled", 0);
        assert_eq!(told["SIPGUARD_PREFIX"], "192.0.2.7");

        scene.sipguard(["down"]).succeeded();
        journal.wait_for("nothing_in_force", 0);
        // It waits until something is.
        scene.sipguard(["apply", "--offline"]).succeeded();
        let told = journal.wait_for("in_force_again", 0);
        assert!(
            told["MESSAGE"].starts_with("it is filtered again: "),
            "{told:?}"
        );
        scene.gateway.ip("link delete eth0");
        scene.connect("eth0");
        journal.wait_for("interface_filtered", 1);

        let second = scene.sipguard(["agent"]).exited(1);
        assert_eq!(second.stderr, "sipguard: an agent runs already\n");
        agent.process.signal(Signal::TERM);
        agent.says("STOPPING=1");
        agent.process.wait().succeeded();
    });
}

/// What is wrong is told, each kind by its name, and that it is well again.
#[test]
fn what_is_wrong_is_told_until_it_is_well() {
    const LISTS: &str = r#"
interfaces = ["eth0"]
[sources]
blocked = { url = "https://feeds.example/voip.txt", stale_after = "2d" }
[services.sip]
udp = [5060]
deny = ["blocked"]
"#;
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let mut scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(LISTS);
        let mut blocked = Found::url("blocked", "https://feeds.example/voip.txt");
        let first = |number: u32| {
            let address = |number: u32| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + number));
            (0..number).map(move |number| IpNet::from(address(number)))
        };
        blocked.all(first(2000));
        scene.sipguard(["apply", "--offline"]).succeeded();
        let agent = Agent::start(&scene.gateway);
        let mut told = |kind: &str, number: usize, wanted: &[(&str, &str)]| {
            let entry = journal.wait_for(kind, number);
            for (field, wanted) in wanted {
                let said = &entry[&format!("SIPGUARD_{field}")];
                assert!(said.contains(wanted), "{field}: {entry:?}");
            }
        };
        let source = ("SOURCE", "blocked");

        // Less than half of it is another list.
        blocked.all(first(100));
        told("source_refused", 0, &[source, ("WHY", "--accept")]);
        blocked.all(first(2000));
        told("source_well", 0, &[source]);
        blocked.changed_before(SignedDuration::from_hours(3));
        blocked.fails(
            "Connection refused (os error 111)",
            SignedDuration::from_hours(2),
        );
        blocked.all(first(2000));
        told(
            "source_unanswered",
            0,
            &[source, ("WHY", "refused (os error 111)")],
        );
        blocked.all(first(2000));
        told("source_well", 1, &[source]);
        blocked.changed_before(SignedDuration::from_hours(50));
        blocked.all(first(2000));
        told("source_stale", 0, &[source]);
        blocked.changed_before(SignedDuration::from_hours(1));
        blocked.all(first(2000));
        told("source_well", 2, &[source]);

        // Somebody else's program takes the place while the agent does not look.
        agent.process.signal(Signal::STOP);
        scene.gateway.ip("link delete eth0");
        scene.connect("eth0");
        let foreign = Foreign::attach(&scene.gateway, "eth0");
        agent.process.signal(Signal::CONT);
        told(
            "interface_unfiltered",
            0,
            &[("INTERFACE", "eth0"), ("WHY", "the XDP program")],
        );
        drop(foreign);
        told("interface_filtered", 0, &[("INTERFACE", "eth0")]);
        assert!(!scene.passes("eth0", SCANNER, 5060));

        // Nobody confirms.
        scene.configure(&LISTS.replace("5060", "5060, 5061"));
        let mut command = Command::new(sipguard());
        command.arg("--config").arg(scene.config());
        command.args(["apply", "--offline", "--confirm", "60s"]);
        let pending = scene.gateway.spawn(&mut command);
        told("generation_came", 0, &[]);
        scene.sipguard(["rollback"]).succeeded();
        drop(pending.wait());
        told("taken_back", 0, &[]);
        agent.process.stop().succeeded();
    });
}

/// Who began to try something is told of by the next one, where there was no time for it before.
#[test]
fn what_was_tried_is_told_of_whatever_becomes_of_the_agent() {
    const SECOND: &str = "198.51.100.78";
    // It costs whoever pays for it.
    let invite =
        b"INVITE sip:0088213000000@192.0.2.1 SIP/2.0\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n";
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let (scene, _) = applied(sandbox);
        scene.configure(&format!("mode = \"monitor\"\n{POLICY}"));
        scene.sipguard(["apply", "--offline"]).succeeded();
        let agent = Agent::start(&scene.gateway);
        let knock = |source| {
            let frame = scene.frame("eth0", source).udp(5060).payload(invite);
            scene.wire("eth0").send(&frame.bytes());
        };
        until("the first one is told of", || {
            knock(SCANNER);
            journal.read();
            !journal.of("toll_fraud_tried").is_empty()
        });
        let told = journal.wait_for("toll_fraud_tried", 0);
        assert_eq!(told["SIPGUARD_ADDRESS"], SCANNER);
        assert!(told["MESSAGE"].contains("not dropped"), "{told:?}");
        // The next ones wait for ten minutes.
        let mut command = Command::new(sipguard());
        command.arg("--config").arg(scene.config());
        command.args(["events", "--source", SECOND, "--count", "1"]);
        let listener = scene.gateway.spawn(&mut command);
        until("the agent has heard the second one", || {
            knock(SECOND);
            !listener.stdout().is_empty()
        });
        agent.process.stop().succeeded();
        let agent = Agent::start(&scene.gateway);
        let told = journal.wait_for("toll_fraud_tried", 1);
        assert_eq!(told["SIPGUARD_ADDRESS"], SECOND);
        // And once, however this one ends.
        until("it is known to be told of", || {
            let kept = fs::read_to_string(Path::new(STATE).join(tried::FILE));
            kept.is_ok_and(|kept| !kept.contains(SECOND))
        });
        agent.process.signal(Signal::KILL);
        agent.process.wait();
        Agent::start(&scene.gateway).process.stop().succeeded();
        journal.read();
        assert_eq!(journal.of("toll_fraud_tried").len(), 2);
    });
}

/// Each agent tells of what has changed since the one before it looked, and of nothing twice.
#[test]
fn what_one_has_told_of_the_next_one_knows() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let (scene, _) = applied(sandbox);
        let notified = format!("{POLICY}[notify]\nwebhook = \"https://hooks.example/x\"\n");
        let apply = |config: &str| {
            scene.configure(config);
            scene.sipguard(["apply", "--offline"]).succeeded();
        };
        // One that is asked to end has looked before.
        let mut look = |kind: &str| {
            Agent::start(&scene.gateway).process.stop().succeeded();
            journal.read();
            journal.of(kind).len()
        };
        apply(&format!("mode = \"monitor\"\n{notified}"));
        assert_eq!(look("monitoring"), 1);
        assert_eq!(look("monitoring"), 1);
        apply(&notified);
        assert_eq!(look("enforcing"), 1);
        scene.sipguard(["down"]).succeeded();
        assert_eq!(look("nothing_in_force"), 1);
        assert_eq!(look("nothing_in_force"), 1);
        apply(&notified);
        assert_eq!(look("in_force_again"), 1);
        // As after a start of the host at which nothing could be put in force.
        let restarted = || {
            fs::remove_dir_all(Path::new(BPFFS).join("sipguard")).expect("it is there");
            fs::remove_dir_all(FOLDER).expect("it is there");
        };
        restarted();
        assert_eq!(look("nothing_in_force"), 2);
        assert_eq!(look("nothing_in_force"), 2);
        apply(&notified);
        assert_eq!(look("in_force_again"), 2);
        // Nobody is told of what somebody wanted.
        scene.sipguard(["down"]).succeeded();
        fs::remove_dir_all(FOLDER).expect("it is there");
        assert_eq!(look("nothing_in_force"), 2);
        let notices = fs::read_to_string(Path::new(STATE).join("notices.json"));
        let notices = notices.expect("somebody wants them");
        for (kind, times) in [
            ("monitoring", 1),
            ("enforcing", 1),
            ("nothing_in_force", 2),
            ("in_force_again", 2),
        ] {
            let kind = format!("\"kind\":\"{kind}\"");
            assert_eq!(notices.matches(&kind).count(), times, "{kind}: {notices}");
        }
    });
}

/// Of what strangers say nothing comes through to those who read what the agent has to tell.
#[test]
fn what_strangers_say_is_harmless() {
    const NEIGHBOUR: &str = "203.0.113.77";
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let (scene, _) = applied(sandbox);
        let notified = "[notify]\nwebhook = \"https://hooks.example/x\"\n";
        scene.configure(&format!("{POLICY}{notified}"));
        scene.sipguard(["apply", "--offline"]).succeeded();
        let agent = Agent::start(&scene.gateway);
        let knock = |source, text: &[u8]| {
            let frame = scene.frame("eth0", source).udp(5060);
            scene.wire("eth0").send(&frame.payload(text).bytes());
        };
        until("both are told of", || {
            knock(SCANNER, hostile::INVITE);
            knock(NEIGHBOUR, hostile::METHOD);
            journal.read();
            !journal.of("provider_moved").is_empty()
        });
        let say = |line: &str| scene.sipguard(line.split(' ')).succeeded().stdout;
        until("it stands in status", || say("status").contains(NEIGHBOUR));
        harmless(&say("status"));
        harmless_json(&say("status --json"));
        agent.process.stop().succeeded();
        for value in journal.entries.iter().flat_map(|entry| entry.values()) {
            harmless(value);
        }
        let said = say("knocks");
        assert!(said.contains(SCANNER) && said.contains(NEIGHBOUR), "{said}");
        harmless(&said);
        harmless_json(&say("knocks --json"));
        let notices = fs::read_to_string(Path::new(STATE).join("notices.json"));
        harmless_json(&notices.expect("somebody wants them"));
    });
}

/// Neither in what is kept nor in what is told is anything of what is to be hidden, from the first packet on; and without that it is there.
#[test]
fn what_is_hidden_is_told_nowhere() {
    const GUESSER: &str = "198.51.100.77";
    // One number in several ways, and users one after the other.
    let invite = |turn: usize| {
        let prefix = ["00", "900", "011", "9011"][turn % 4];
        format!(
            "INVITE sip:{prefix}972595123456@192.0.2.1 SIP/2.0\r\nFrom: <sip:5550123@192.0.2.1>;tag=1\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n"
        )
    };
    let register = |turn: usize| {
        format!(
            "REGISTER sip:192.0.2.1 SIP/2.0\r\nFrom: <sip:alice{turn}@192.0.2.1>;tag=1\r\nCall-ID: 2\r\nCSeq: 1 REGISTER\r\n\r\n"
        )
    };
    for (hide, is_hidden) in [
        ("", false),
        ("[events]\nhide = [\"number\", \"user\"]\n", true),
    ] {
        sandbox(|sandbox| {
            let mut journal = Journal::listen(sandbox);
            let scene = Scene::new(sandbox, &["eth0"]);
            let notified = "[notify]\nwebhook = \"https://hooks.example/x\"\n";
            scene.configure(&format!("{POLICY}{notified}{hide}"));
            // It waits for what is to be in force.
            let agent = Agent::start(&scene.gateway);
            scene.sipguard(["apply", "--offline"]).succeeded();
            let knock = |source, text: &str| {
                let frame = scene.frame("eth0", source).udp(5060);
                scene
                    .wire("eth0")
                    .send(&frame.payload(text.as_bytes()).bytes());
            };
            let mut turn = 0;
            until("both have tried", || {
                turn += 1;
                knock(SCANNER, &invite(turn));
                knock(GUESSER, &register(turn));
                journal.read();
                let has = |kind| !journal.of(kind).is_empty();
                has("toll_fraud_tried") && has("brute_force_tried")
            });
            let fraud = journal.of("toll_fraud_tried")[0];
            assert_eq!(fraud["SIPGUARD_ADDRESS"], SCANNER);
            assert_eq!(
                fraud["SIPGUARD_COUNTRY"], "IL",
                "which says nothing of anybody"
            );
            let guesser = journal.of("brute_force_tried")[0];
            assert_eq!(guesser["SIPGUARD_ADDRESS"], GUESSER);
            agent.process.stop().succeeded();
            let read = |name: &str| fs::read_to_string(Path::new(STATE).join(name));
            let told = [
                format!("{:?}", journal.entries),
                read("knocks.jsonl").expect("it was kept"),
                read("notices.json").expect("somebody wants them"),
                scene.sipguard(["knocks"]).succeeded().stdout,
            ];
            let told = told.join("\n");
            for what in ["595123456", "alice", "5550123"] {
                assert_eq!(!told.contains(what), is_hidden, "{what}: {told}");
            }
        });
    }
}

/// What was found while nobody was there is put in force by the next one.
#[test]
fn one_that_was_killed_is_missed_by_nobody() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let (scene, mut found) = applied(sandbox);
        let agent = Agent::start(&scene.gateway);
        agent.process.signal(Signal::KILL);
        agent.process.wait();
        found.are([IS]);
        assert!(scene.passes("eth0", WAS, 5060), "the last good list");
        let agent = Agent::start(&scene.gateway);
        until("what was found is in force", || {
            scene.passes("eth0", IS, 5060)
        });
        journal.read();
        assert_eq!(journal.of("failed").len(), 0, "{:?}", journal.entries);
        agent.process.stop().succeeded();
    });
}

/// Whoever holds the lock holds up what changes something, and not the sign of life.
#[test]
fn a_lock_that_somebody_holds_is_no_sign_of_death() {
    sandbox(|sandbox| {
        let _journal = Journal::listen(sandbox);
        let (scene, mut found) = applied(sandbox);
        let lock = File::open(Path::new(STATE).join("lock")).expect("it was made");
        lock.lock().expect("nobody has it");
        let agent = Agent::start(&scene.gateway);
        found.are([IS]);
        for _ in 0..4 {
            agent.says("WATCHDOG=1");
        }
        assert!(!scene.passes("eth0", IS, 5060));
        drop(lock);
        until("what was found is in force", || {
            scene.passes("eth0", IS, 5060)
        });
    });
}

/// Neither holds it up what it can't keep up with: what is lost meanwhile is counted, and told of.
#[test]
fn what_finds_no_room_is_told_of() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let (scene, mut found) = applied(sandbox);
        let lock = File::open(Path::new(STATE).join("lock")).expect("it was made");
        let _agent = Agent::start(&scene.gateway);
        let flood: Vec<_> = (0..16_384_u32)
            .map(|number| {
                let source = format!("198.19.{}.{}", number >> 8, number & 255);
                let frame = scene.frame("eth0", &source).udp(5060);
                frame.payload(hostile::INVITE).bytes()
            })
            .collect();
        // Each time it has to wait for the lock, with what was found; a flood meanwhile is more than there is room for.
        let mut turns = [IS, WAS].into_iter().cycle();
        until("events are lost", || {
            lock.lock().expect("nobody has it");
            found.are(turns.next());
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(2) {
                for frame in &flood {
                    scene.wire("eth0").send(frame);
                }
            }
            lock.unlock().expect("it is ours");
            journal.read();
            !journal.of("events_lost").is_empty()
        });
        let told = &journal.of("events_lost")[0]["SIPGUARD_LOST"];
        let told: u64 = told.parse().expect("a number");
        assert!(told > 0);
        until("metrics count them", || {
            let text = fs::read_to_string(TEXTFILE).unwrap_or_default();
            let lines = text.lines();
            let lost = lines.filter_map(|line| line.strip_prefix("sipguard_events_lost_total "));
            lost.flat_map(str::parse::<u64>).any(|lost| lost >= told)
        });
    });
}

/// It says so once, and goes on with all the rest.
#[test]
fn one_that_may_not_listen_stays_alive() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let (scene, mut found) = applied(sandbox);
        let mut command = Agent::command();
        forbidden::to_listen(&mut command);
        let agent = Agent::start_as(&scene.gateway, command);
        let failed = journal.wait_for("failed", 0);
        assert!(
            failed["MESSAGE"].starts_with("listening to the kernel: "),
            "{failed:?}"
        );
        for _ in 0..8 {
            agent.says("WATCHDOG=1");
        }
        found.are([IS]);
        until("what was found is in force", || {
            scene.passes("eth0", IS, 5060)
        });
        journal.read();
        assert_eq!(journal.of("failed").len(), 1, "{:?}", journal.entries);
        agent.process.stop().succeeded();
    });
}

/// A list says the opposite of what a person has said: the person decides, and each such entry is told of once, whoever is told and whenever.
#[test]
fn what_a_list_says_against_a_person_is_told_of_once() {
    const LISTS: &str = r#"
interfaces = ["eth0"]
[sources]
blocked = { url = "https://feeds.example/voip.txt" }
trunk = ["sip.provider.example"]
[services.sip]
udp = [5060]
tcp = [5060]
allow = ["trunk"]
deny = ["blocked"]
[services.web]
tcp = [80]
"#;
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(LISTS);
        let mut blocked = Found::url("blocked", "https://feeds.example/voip.txt");
        let mut trunk = Found::name("trunk", "sip.provider.example");
        blocked.are(["192.0.2.99", SCANNER, "203.0.113.1", "203.0.113.2"]);
        trunk.are([WAS]);
        let say = |line: &str| scene.sipguard(line.split(' ')).succeeded();
        say("apply --offline");
        say("refresh --offline");
        // A person knows what the list said before he did; what says the same is no contradiction, and what he says of another service none either.
        say("allow 192.0.2.0/24 --service sip");
        say("deny 198.51.100.0/24 --service sip");
        say("allow 198.51.100.0/24 --service web");
        let overruled = |source: &str| {
            let status: Value = serde_json::from_str(&say("status --json").stdout).expect("JSON");
            let sources = status["sources"].as_array().expect("a list").iter();
            let mut sources = sources.filter(|it| it["source"] == source);
            sources.next().expect("it is in force")["overruled"].clone()
        };
        assert_eq!(
            (overruled("blocked"), overruled("trunk")),
            (1.into(), 0.into())
        );
        let agent = Agent::start(&scene.gateway);
        // Nobody knows what was told, so all that there is is told.
        let told = journal.wait_for("source_overruled", 0);
        assert_eq!(told["SIPGUARD_SOURCE"], "blocked");
        assert_eq!(told["SIPGUARD_PREFIX"], "192.0.2.99");
        assert_eq!(told["SIPGUARD_ACTION"], "deny");
        assert_eq!(told["SIPGUARD_BY_HAND"], "192.0.2.0/24");
        assert_eq!(told["SIPGUARD_OTHERS"], "0");
        assert_eq!(
            told["MESSAGE"],
            "blocked denies 192.0.2.99, which the entry by hand 192.0.2.0/24 allows: somebody forges that address, or has taken it over; \
             `sipguard list 192.0.2.99` shows both"
        );
        assert!(
            scene.passes("eth0", "192.0.2.99", 5060),
            "the person decides"
        );
        // The other way round, in the time in which the first source is silent.
        trunk.are([WAS, "198.51.100.9"]);
        let told = journal.wait_for("source_overruled", 1);
        assert_eq!(told["SIPGUARD_SOURCE"], "trunk");
        assert_eq!(told["SIPGUARD_ACTION"], "allow");
        assert!(!scene.passes("eth0", "198.51.100.9", 5060));
        assert_eq!(overruled("trunk"), 1);
        agent.process.signal(Signal::KILL);
        agent.process.wait();

        // What came while nobody was there is told by the next one, and nothing else.
        blocked.are(["192.0.2.98", "192.0.2.99", "192.0.2.100", SCANNER]);
        say("deny 198.18.0.0/24 --service all");
        say("ban 198.18.0.8 --for 1h --by fail2ban");
        say("ban 192.0.2.97 --for 1h --by fail2ban");
        let agent = Agent::start(&scene.gateway);
        let told = journal.wait_for("source_overruled", 2);
        assert_eq!(told["SIPGUARD_PREFIX"], "192.0.2.98");
        assert_eq!(told["SIPGUARD_OTHERS"], "1");
        let told = journal.wait_for("ban_overruled", 0);
        assert_eq!(told["SIPGUARD_PREFIX"], "192.0.2.97");
        assert_eq!(told["SIPGUARD_OTHERS"], "0", "who is denied by hand, too");
        agent.process.signal(Signal::KILL);
        agent.process.wait();
        let agent = Agent::start(&scene.gateway);
        // Behind the first look, which is when it would have been told.
        scene.configure(&format!("mode = \"monitor\"\n{LISTS}"));
        say("apply --offline");
        journal.wait_for("monitoring", 0);
        agent.process.stop().succeeded();
        journal.read();
        assert_eq!(
            journal.of("source_overruled").len(),
            3,
            "{:?}",
            journal.entries
        );
        assert_eq!(
            journal.of("ban_overruled").len(),
            1,
            "{:?}",
            journal.entries
        );
        assert_eq!(journal.of("failed").len(), 0, "{:?}", journal.entries);
    });
}

/// The same words go to all three writers.
#[test]
fn what_happens_is_counted_and_is_a_notice() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let (scene, _) = applied(sandbox);
        let notified = format!("{POLICY}[notify]\nwebhook = \"https://hooks.example/x\"\n");
        scene.configure(&format!("mode = \"monitor\"\n{notified}"));
        scene.sipguard(["apply", "--offline"]).succeeded();
        let agent = Agent::start(&scene.gateway);
        let told = journal.wait_for("monitoring", 0);
        let read = |file: &Path| fs::read_to_string(file).unwrap_or_default();
        let metrics = Path::new(TEXTFILE);
        until("it is counted", || {
            let metrics = read(metrics);
            metrics.contains("sipguard_happened_total{what=\"monitoring\"} 1\n")
                && metrics.contains("\nsipguard_guarded 0\n")
        });
        promtool(&["check", "metrics"], &read(metrics));
        assert!(
            read(metrics).contains("\nsipguard_notices_"),
            "somebody wants them"
        );
        let mode = fs::metadata(metrics).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o644);
        let notices = Path::new(STATE).join("notices.json");
        until("it is a notice", || {
            read(&notices).contains(&told["MESSAGE"]) && read(&notices).contains("\"monitoring\"")
        });
        agent.process.stop().succeeded();
        // Nobody knows any more whether it is so; a link to the file leads somewhere all the same.
        assert_eq!(fs::read_to_string(metrics).expect("it is there"), "");
    });
}

#[test]
fn a_flood_is_told_of_once() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let (scene, _) = applied(sandbox);
        let agent = Agent::start(&scene.gateway);
        let frame = scene.frame("eth0", SCANNER).udp(5060).bytes();
        // Counters are read every two seconds.
        until("a flood is told of", || {
            for _ in 0..1000 {
                scene.wire("eth0").send(&frame);
            }
            journal.read();
            !journal.of("flood_began").is_empty()
        });
        let told = journal.wait_for("flood_began", 0);
        assert_eq!(told["SIPGUARD_INTERFACE"], "eth0");
        // The next agent goes on with it, and with what was dropped while there was none.
        agent.process.signal(Signal::KILL);
        agent.process.wait();
        for _ in 0..100_000 {
            scene.wire("eth0").send(&frame);
        }
        let agent = Agent::start(&scene.gateway);
        agent.process.stop().succeeded();
        journal.read();
        assert_eq!(journal.of("flood_began").len(), 1);
        let kept = fs::read(Path::new(FOLDER).join(flood::FILE)).expect("it is kept");
        let kept: Value = serde_json::from_slice(&kept).expect("JSON");
        let packets = kept["flood"]["packets"][0][1].as_u64();
        assert!(packets.is_some_and(|packets| packets > 100_000), "{kept}");
    });
}
