//! A provider that moves is told of, and whatever becomes of the agent, nothing is lost but events.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use rustix::process::Signal;
use serde_json::Value;
use sipguard::{
    agent::{FOLDER, allowed::Allowed, in_force::InForce},
    clock,
    events::{
        Wanted,
        hand_on::{Client, PATH},
    },
    host::Host as GuardedHost,
    lifecycle,
    state::Store,
    tables::Now,
};
use sipguard_tests::{
    agent::{Agent, Journal},
    found::Found,
    frame::Frame,
    netns::{STATE, Sandbox, sandbox, until},
    scene::Scene,
};

const POLICY: &str = r#"
interfaces = ["eth0"]
[sources]
trunk = ["198.51.100.7"]
[services.sip]
udp = [5060]
tcp = [5060]
allow = ["trunk"]
"#;

/// Where the trunk calls from by now.
const MOVED: &str = "198.51.100.9";
/// Next door to nobody.
const STRANGER: &str = "192.0.2.66";

const INVITE: &[u8] = b"INVITE sip:100@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.9\r\n\
    From: <sip:trunk@198.51.100.9>;tag=1\r\nCall-ID: 1@198.51.100.9\r\nCSeq: 1 INVITE\r\n\r\n";

fn applied(sandbox: &Sandbox) -> Scene {
    let scene = Scene::new(sandbox, &["eth0"]);
    scene.configure(POLICY);
    scene.sipguard(["apply"]).succeeded();
    scene
}

fn invite(scene: &Scene, source: &str) -> Frame {
    scene.frame("eth0", source).udp(5060).payload(INVITE)
}

fn status(scene: &Scene) -> Value {
    let json = scene.sipguard(["status", "--json"]).succeeded().stdout;
    serde_json::from_str(&json).expect("JSON")
}

/// Sends a packet again and again, as whoever gets no answer does, until something is so.
fn while_it_knocks(scene: &Scene, frame: &Frame, what: &str, mut done: impl FnMut() -> bool) {
    let mut sent: Option<Instant> = None;
    until(what, || {
        if sent.is_none_or(|sent| sent.elapsed() > Duration::from_millis(500)) {
            scene.wire("eth0").send(&frame.bytes());
            sent = Some(Instant::now());
        }
        done()
    });
}

#[test]
fn a_flood_of_forged_neighbours_is_told_of_once_and_begins_a_flood() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let scene = applied(sandbox);
        let _agent = Agent::start(&scene.gateway);
        let began = Instant::now();
        let frames: Vec<_> = (10..=254)
            .map(|last| invite(&scene, &format!("198.51.100.{last}")).bytes())
            .collect();
        // Counters are read every two seconds.
        while journal.of("flood_began").is_empty() {
            assert!(began.elapsed() < Duration::from_mins(1), "no flood");
            for frame in &frames {
                scene.wire("eth0").send(frame);
            }
            journal.read();
        }
        let told = journal.wait_for("flood_began", 0);
        assert_eq!(told["SIPGUARD_INTERFACE"], "eth0");
        until("status has as many as there is room for", || {
            status(&scene)["moved"][0]["addresses"]
                .as_array()
                .is_some_and(|addresses| addresses.len() == 64)
        });
        journal.read();
        assert_eq!(journal.of("provider_moved").len(), 1);
        assert_eq!(journal.of("flood_began").len(), 1);
    });
}

/// Fail2ban bans somebody who was allowed: no person has said so.
#[test]
fn whom_a_program_denies_though_he_was_allowed_is_told_of() {
    const BANNED: &str = "192.0.2.50";
    const DENIED: &str = "203.0.113.50";
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let scene = applied(sandbox);
        let _agent = Agent::start(&scene.gateway);
        let say = |line: &str| scene.sipguard(line.split(' ')).succeeded();
        for address in [BANNED, DENIED] {
            say(&format!("allow {address} --service sip"));
        }
        until("the agent knows that they are allowed", || {
            let kept = Allowed::read(Path::new(STATE)).unwrap_or_default();
            [BANNED, DENIED].iter().all(|address| {
                let address = address.parse::<Ipv4Addr>().expect("an address");
                kept.itself("sip", IpAddr::from(address).into()).is_some()
            })
        });
        say(&format!("remove {BANNED}"));
        say(&format!("deny {DENIED}"));
        say("ban 192.0.2.0/24 --for 1h --by fail2ban");
        // Neither his neighbour nor whom a person denies.
        for other in ["192.0.2.51", DENIED] {
            scene.wire("eth0").send(&invite(&scene, other).bytes());
        }
        while_it_knocks(&scene, &invite(&scene, BANNED), "it is told of", || {
            journal.read();
            !journal.of("provider_moved").is_empty()
        });
        let told = journal.wait_for("provider_moved", 0);
        assert_eq!(told["SIPGUARD_ADDRESS"], BANNED);
        assert!(told.contains_key("SIPGUARD_ALLOWED_UNTIL"), "{told:?}");
        let said = "and is denied by a list or a program now, has knocked with INVITE";
        assert!(told["MESSAGE"].contains(said), "{told:?}");
        let moved = status(&scene)["moved"].clone();
        assert_eq!(moved.as_array().map(Vec::len), Some(1), "{moved}");
        let addresses = moved[0]["addresses"].as_array().expect("a list");
        let addresses: Vec<_> = addresses
            .iter()
            .map(|it| (&it["address"], &it["denied"]))
            .collect();
        assert_eq!(addresses, [(&BANNED.into(), &true.into())]);

        let mend = told["SIPGUARD_MEND"]
            .strip_prefix("sipguard ")
            .expect("a command");
        say(mend);
        assert!(scene.passes("eth0", BANNED, 5060), "a person comes first");
        assert_eq!(status(&scene)["moved"], serde_json::json!([]));
    });
}

/// Nothing changes when an entry ends, so nobody looks then.
#[test]
fn until_when_somebody_was_allowed_is_told_as_it_was() {
    const GUEST: &str = "192.0.2.50";
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let scene = applied(sandbox);
        let _agent = Agent::start(&scene.gateway);
        scene
            .sipguard(["allow", GUEST, "--service", "sip", "--for", "10s"])
            .succeeded();
        let listed = scene.sipguard(["list", "--json"]).succeeded().stdout;
        let mut entries = listed
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let guest = entries.find(|entry| entry["prefix"] == GUEST);
        let time = |text: &Value| -> Timestamp {
            let text = text.as_str().expect("a time");
            text.parse().expect("a time")
        };
        let end = time(&guest.expect("it is listed")["until"]);
        while_it_knocks(&scene, &invite(&scene, GUEST), "it is told of", || {
            journal.read();
            !journal.of("provider_moved").is_empty()
        });
        let told = journal.wait_for("provider_moved", 0);
        assert_eq!(told["SIPGUARD_ADDRESS"], GUEST);
        let until = &status(&scene)["moved"][0]["addresses"][0]["allowed_until"];
        for until in [
            time(until),
            time(&Value::from(&*told["SIPGUARD_ALLOWED_UNTIL"])),
        ] {
            let off = end.duration_since(until).abs();
            assert!(
                off <= SignedDuration::from_secs(2),
                "{until}, and not {end}"
            );
        }
    });
}

/// `kill -9` at any moment loses events, and nothing else.
#[test]
fn what_was_told_of_is_known_after_it_was_killed() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let scene = applied(sandbox);
        let agent = Agent::start(&scene.gateway);
        let knock = invite(&scene, MOVED);
        while_it_knocks(&scene, &knock, "the alarm is raised", || {
            journal.read();
            !journal.of("provider_moved").is_empty()
        });
        until("it is in status", || {
            status(&scene)["moved"][0]["source"] == "trunk"
        });
        // What was allowed until a moment ago.
        let allowed = Path::new(STATE).join("allowed.json");
        until("who is allowed is kept", || allowed.exists());
        agent.process.signal(Signal::KILL);
        agent.process.wait();
        assert_eq!(status(&scene)["moved"][0]["source"], "trunk");

        scene.configure(&POLICY.replace("198.51.100.7", "203.0.113.7"));
        scene.sipguard(["apply"]).succeeded();
        let agent = Agent::start(&scene.gateway);
        let knock = invite(&scene, "198.51.100.7");
        while_it_knocks(
            &scene,
            &knock,
            "the one that was allowed is told of",
            || {
                journal.read();
                journal.of("provider_moved").len() == 2
            },
        );
        let told = journal.wait_for("provider_moved", 1);
        assert_eq!(told["SIPGUARD_ADDRESS"], "198.51.100.7");
        assert!(told.contains_key("SIPGUARD_ALLOWED_UNTIL"));

        agent.process.signal(Signal::TERM);
        agent.says("STOPPING=1");
        agent.process.wait().succeeded();
        assert_eq!(
            status(&scene)["moved"][0]["addresses"][0]["address"],
            "198.51.100.7"
        );
        assert!(!Path::new(FOLDER).join("events").exists());
    });
}

#[test]
fn a_full_disk_is_told_of_once_and_keeps_nothing_from_being_told() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let scene = applied(sandbox);
        let mut small = Command::new("mount");
        small.args(["-o", "remount,size=64k", STATE]);
        scene.gateway.run(&mut small).succeeded();
        let filler = Path::new(STATE).join("filler");
        assert!(fs::write(&filler, vec![0; 1 << 20]).is_err(), "it is full");
        let _agent = Agent::start(&scene.gateway);
        let told = journal.wait_for("not_kept", 0);
        assert_eq!(told["SIPGUARD_FILE"], format!("{STATE}/allowed.json"));
        let knock = invite(&scene, MOVED);
        while_it_knocks(&scene, &knock, "the alarm is raised", || {
            journal.read();
            !journal.of("provider_moved").is_empty()
        });
        until("it is in status", || {
            status(&scene)["moved"][0]["source"] == "trunk"
        });
        let files = journal.of("not_kept").into_iter();
        let files: Vec<_> = files.map(|entry| &entry["SIPGUARD_FILE"]).collect();
        let different: BTreeSet<_> = files.iter().collect();
        assert_eq!(different.len(), files.len(), "{files:?}");
        // What was in memory goes to disk once it can.
        fs::remove_file(filler).expect("it is there");
        scene
            .sipguard(["allow", "203.0.113.9", "--service", "sip"])
            .succeeded();
        until("who is allowed is kept", || {
            let text = fs::read_to_string(Path::new(STATE).join("allowed.json"));
            text.is_ok_and(|text| text.contains("203.0.113.9"))
        });
    });
}

/// Whoever holds the lock holds up changes, and neither events nor the sign of life.
#[test]
fn events_come_before_anything_slow() {
    sandbox(|sandbox| {
        let _journal = Journal::listen(sandbox);
        let scene = applied(sandbox);
        let agent = Agent::start(&scene.gateway);
        let lock = File::open(Path::new(STATE).join("lock")).expect("it was made");
        lock.lock().expect("nobody has it");
        // Something to be put in force, for which the lock is needed.
        Found::name("trunk", "sip.provider.example").are(["203.0.113.7"]);
        let client = Client::connect(Path::new(PATH), Wanted::default());
        let mut client = client.expect("a socket").expect("an agent");
        let (mut number, mut came) = (0_u32, 0);
        while_it_knocks(
            &scene,
            &invite(&scene, STRANGER),
            "twenty events have come",
            || {
                number += 1;
                let other = Ipv4Addr::from_bits(0x0a00_0000 + number).to_string();
                scene.wire("eth0").send(&invite(&scene, &other).bytes());
                client.read(|_| came += 1).expect("an agent");
                came >= 20
            },
        );
        agent.says("WATCHDOG=1");
        drop(lock);
    });
}

/// `sipguard down` and an apply behind it make anew what is listened to.
#[test]
fn whoever_was_down_is_listened_to_again() {
    sandbox(|sandbox| {
        let mut journal = Journal::listen(sandbox);
        let scene = applied(sandbox);
        let agent = Agent::start(&scene.gateway);
        scene.sipguard(["down"]).succeeded();
        scene.sipguard(["apply"]).succeeded();
        while_it_knocks(&scene, &invite(&scene, MOVED), "it is told of", || {
            journal.read();
            !journal.of("provider_moved").is_empty()
        });
        agent.process.stop().succeeded();
    });
}

/// A wall clock that jumps forgets nobody, and tells of nothing: how long ago something was goes by the time as it is reckoned to be.
#[test]
fn a_clock_that_jumps_makes_nobody_forgotten() {
    const DAY: i64 = 86_400;
    sandbox(|sandbox| {
        let scene = applied(sandbox);
        let off = Arc::new(AtomicI64::new(0));
        let clock = {
            let off = Arc::clone(&off);
            move || {
                let now = clock::now();
                let jumped = SignedDuration::from_secs(off.load(Ordering::Relaxed));
                Now {
                    wall: now.wall + jumped,
                    ..now
                }
            }
        };
        let host = GuardedHost::new(Store::at(STATE), &clock::boot(), clock);
        let (mut in_force, mut allowed) = (InForce::default(), Allowed::default());
        let mut look = |days: i64| {
            off.store(days * DAY, Ordering::Relaxed);
            scene.gateway.enter(|| {
                let looked = in_force
                    .look(&host, &BTreeMap::new())
                    .expect("the kernel answers");
                let live = looked.live.expect("something is in force");
                let state = lifecycle::state(&host);
                allowed
                    .look(&live, &state, looked.now)
                    .expect("the kernel answers");
                let known = allowed.itself("sip", "198.51.100.7/32".parse().expect("a prefix"));
                let until = known.map(|known| known.until(Timestamp::MAX));
                (looked.happened.len(), until)
            })
        };
        assert_eq!(look(0).0, 0);
        // He is not listed any more, and the clock jumps.
        scene.configure(&POLICY.replace("198.51.100.7", "203.0.113.7"));
        scene.sipguard(["apply"]).succeeded();
        let (told, seen) = look(0);
        assert_eq!(told, 1, "another generation");
        let seen = seen.expect("it was allowed");
        for days in [40, -40, 4000, 0] {
            assert_eq!(look(days), (0, Some(seen)), "{days} days off");
        }
    });
}
