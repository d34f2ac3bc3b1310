//! The agent: what it says and when, and that nothing holds it up.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use rustix::process::Signal;
use sipguard::report::TEXTFILE;
use sipguard_tests::{
    agent::{Agent, Journal},
    found::Found,
    netns::{STATE, Sandbox, sandbox, until},
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
        let _agent = Agent::start(&scene.gateway);
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
        assert_eq!(journal.of("flood_began").len(), 1);
    });
}
