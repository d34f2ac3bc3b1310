//! Monitor mode: everything passes, everything is counted, and every command that tells what is in force says so.

use sipguard_tests::{
    kill::{calls, killed_at},
    netns::{sandbox, until},
    scene::{PROVIDER, SCANNER, Scene, bind},
};

const ALL: &str = r#"
interfaces = ["eth0"]
mode = "monitor"
[sources]
providers = ["203.0.113.0/24"]
blocked = ["203.0.113.66"]
[services.sip]
udp = [5060]
allow = ["providers"]
deny = ["blocked"]
[services.web]
udp = [80]
"#;

fn stats(scene: &Scene) -> serde_json::Value {
    let stats = scene.sipguard(["stats", "--json"]).succeeded().stdout;
    serde_json::from_str(&stats).expect("JSON")
}

/// How many packets for a service were dropped because they were unlisted, and how many of these passed in monitor mode.
fn split(scene: &Scene, service: &str) -> (u64, u64) {
    let stats = stats(scene);
    let counters = stats["counters"].as_array().expect("counters");
    let (mut dropped, mut passed) = (0, 0);
    for counter in counters {
        if counter["service"] == service && counter["reason"] == "unlisted" {
            let packets = counter["packets"].as_u64().expect("a number");
            if counter["enforced"] == true {
                dropped += packets;
            } else {
                passed += packets;
            }
        }
    }
    (dropped, passed)
}

/// Sends so many packets that are not listed to a port, and says whether all of them passed; not some of them.
fn all_pass(scene: &Scene, port: u16, packets: usize) -> bool {
    let mut sent = (0..packets).map(|_| scene.passes("eth0", SCANNER, port));
    let first = sent.next().expect("at least one");
    assert!(sent.all(|passes| passes == first), "some pass, some do not");
    first
}

/// The config in enforce mode.
fn enforced() -> String {
    ALL.replace("mode = \"monitor\"\n", "")
}

/// Packets counted for a service and a reason, and whether what the policy says was done.
fn counted(scene: &Scene, service: &str, reason: &str) -> (u64, bool) {
    let stats = stats(scene);
    let counters = stats["counters"].as_array().expect("counters");
    let counter = counters
        .iter()
        .find(|counter| counter["service"] == service && counter["reason"] == reason)
        .unwrap_or_else(|| panic!("no {reason} of {service}: {stats}"));
    (
        counter["packets"].as_u64().expect("a number"),
        counter["enforced"].as_bool().expect("a truth"),
    )
}

#[test]
fn everything_passes_and_is_counted() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(ALL);
        let applied = scene.sipguard(["apply"]).succeeded();
        let warning = "monitor mode: everything is counted and nothing is dropped";
        assert!(applied.stderr.contains(warning), "{}", applied.stderr);

        for source in [PROVIDER, SCANNER, "203.0.113.66", "2001:db8::7"] {
            assert!(scene.passes("eth0", source, 5060), "{source}");
        }
        assert!(scene.passes("eth0", SCANNER, 80));
        assert_eq!(counted(&scene, "sip", "allowed"), (1, false));
        assert_eq!(counted(&scene, "sip", "unlisted"), (2, false));
        assert_eq!(counted(&scene, "sip", "denied"), (1, false));
        assert_eq!(counted(&scene, "web", "unlisted"), (1, false));

        let status = scene.sipguard(["status"]).succeeded().stdout;
        assert!(
            status.contains("nothing is dropped: monitor mode"),
            "{status}"
        );
        let told = scene.sipguard(["stats"]).succeeded().stdout;
        assert!(told.contains("monitor mode"), "{told}");
        assert!(told.contains("let through by monitor mode 4 "), "{told}");
        let check = scene
            .sipguard(["check", "--live", SCANNER])
            .exited(3)
            .stdout;
        assert!(
            check.contains("monitor mode: it passes all the same"),
            "{check}"
        );
        let check = scene.sipguard([
            "check", "--live", SCANNER, "--port", "80", "--proto", "udp", "--json",
        ]);
        assert!(check.exited(3).stdout.contains("\"enforced\":false"));
    });
}

#[test]
fn one_service_alone() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let config = ALL.replace("mode = \"monitor\"\n", "");
        scene.configure(&config.replace("udp = [80]", "udp = [80]\nmode = \"monitor\""));
        let applied = scene.sipguard(["apply"]).succeeded();
        let warning = "monitor mode for web: counted, but not dropped";
        assert!(applied.stderr.contains(warning), "{}", applied.stderr);

        assert!(!scene.passes("eth0", SCANNER, 5060));
        assert!(scene.passes("eth0", SCANNER, 80));
        assert_eq!(counted(&scene, "sip", "unlisted"), (1, true));
        assert_eq!(counted(&scene, "web", "unlisted"), (1, false));
        let status = scene.sipguard(["status"]).succeeded().stdout;
        assert!(status.contains("monitor (nothing is dropped)"), "{status}");
        assert!(!status.contains("nothing is dropped: "), "{status}");
        let told = scene.sipguard(["stats"]).succeeded().stdout;
        assert!(told.contains("monitor mode for web"), "{told}");

        // Enforced again: the counters go on, and what passed is not called dropped.
        scene.configure(&config);
        let applied = scene.sipguard(["apply"]).succeeded().stdout;
        assert!(applied.contains("changes: web changed"), "{applied}");
        assert!(!scene.passes("eth0", SCANNER, 80));
        assert_eq!(split(&scene, "web"), (1, 1));
        assert_eq!(split(&scene, "sip"), (1, 0));
    });
}

#[test]
fn what_passed_is_never_called_dropped() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0", "eth1"]);
        let apply = |config: &str| {
            scene.configure(config);
            scene.sipguard(["apply"]).succeeded();
        };
        apply(ALL);
        assert!(all_pass(&scene, 5060, 15));
        assert_eq!(split(&scene, "sip"), (0, 15));

        apply(&enforced());
        assert_eq!(split(&scene, "sip"), (0, 15));
        assert!(!all_pass(&scene, 5060, 7));
        assert!(!all_pass(&scene, 80, 2));
        assert_eq!(split(&scene, "sip"), (7, 15));
        assert_eq!(split(&scene, "web"), (2, 0));
        let told = scene.sipguard(["stats"]).succeeded().stdout;
        let rows: Vec<_> = told.lines().filter(|row| row.contains("sip")).collect();
        let row = |packets: &str| {
            let row = rows.iter().find(|row| {
                row.contains("unlisted") && row.split_whitespace().any(|cell| cell == packets)
            });
            row.unwrap_or_else(|| panic!("{packets}: {told}"))
        };
        assert!(row("7").contains("  drop  "), "{told}");
        assert!(row("15").contains("would drop"), "{told}");
        assert!(told.contains(", dropped 9 "), "{told}");
        assert!(told.contains(", let through by monitor mode 15 "), "{told}");
        assert!(!told.contains("monitor mode:"), "{told}");
        let totals = &stats(&scene)["totals"];
        assert_eq!(totals["drop"]["packets"], 24);
        assert_eq!(totals["dropped"]["packets"], 9);
        assert_eq!(totals["passed_in_monitor"]["packets"], 15);

        apply(ALL);
        assert!(all_pass(&scene, 5060, 4));
        assert_eq!(split(&scene, "sip"), (7, 19));
        // One service, while the other stays as it is.
        let config = enforced().replace("udp = [80]", "udp = [80]\nmode = \"monitor\"");
        apply(&config);
        assert!(!all_pass(&scene, 5060, 3));
        assert!(all_pass(&scene, 80, 5));
        assert_eq!(split(&scene, "sip"), (10, 19));
        assert_eq!(split(&scene, "web"), (2, 5));

        // A service that is gone keeps its counts, and comes back in another mode.
        let web = enforced();
        let (gone, _) = web.split_once("[services.web]").expect("both services");
        apply(gone);
        assert_eq!(split(&scene, "web"), (2, 5));
        apply(&web);
        assert!(!all_pass(&scene, 80, 1));
        assert_eq!(split(&scene, "web"), (3, 5));

        // Interfaces that go, and come back, in another mode.
        scene.configure(&ALL.replace("eth0", "eth1"));
        scene.sipguard(["apply"]).succeeded();
        assert_eq!(split(&scene, "sip"), (10, 19));
        apply(ALL);
        assert!(all_pass(&scene, 5060, 1));
        assert_eq!(split(&scene, "sip"), (10, 20));

        scene.sipguard(["down"]).succeeded();
        apply(&enforced());
        assert_eq!(split(&scene, "sip"), (0, 0));
        assert!(!all_pass(&scene, 5060, 1));
        assert_eq!(split(&scene, "sip"), (1, 0));
    });
}

#[test]
fn what_is_tried_and_taken_back_is_told_apart_too() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(ALL);
        scene.sipguard(["apply"]).succeeded();
        assert!(all_pass(&scene, 5060, 3));
        let enforced = enforced();
        let try_it = |time: &str| {
            scene.configure(&enforced);
            scene.sipguard(["apply", "--confirm", time]).succeeded();
        };

        try_it("1h");
        assert!(!all_pass(&scene, 5060, 2));
        assert_eq!(split(&scene, "sip"), (2, 3));
        scene.sipguard(["rollback"]).succeeded();
        assert!(all_pass(&scene, 5060, 4));
        assert_eq!(split(&scene, "sip"), (2, 7));

        // The time runs out, and nobody counts at that moment.
        try_it("3s");
        assert!(!all_pass(&scene, 5060, 5));
        until("it is taken back", || scene.passes("eth0", SCANNER, 5060));
        let (dropped, passed) = split(&scene, "sip");
        assert_eq!(dropped, 2, "what came since may have passed");
        scene.sipguard(["repair"]).succeeded();
        assert_eq!(split(&scene, "sip"), (dropped, passed));
        assert!(all_pass(&scene, 5060, 1));
        assert_eq!(split(&scene, "sip"), (dropped, passed + 1));

        try_it("1h");
        assert!(!all_pass(&scene, 5060, 6));
        scene.sipguard(["confirm"]).succeeded();
        assert!(!all_pass(&scene, 5060, 1));
        assert_eq!(split(&scene, "sip"), (dropped + 7, passed + 1));

        // The other way round: monitor mode is tried.
        scene.configure(ALL);
        scene.sipguard(["apply", "--confirm", "3s"]).succeeded();
        assert!(all_pass(&scene, 5060, 1));
        until("it is taken back", || !scene.passes("eth0", SCANNER, 5060));
        assert_eq!(split(&scene, "sip").0, dropped + 7);
        scene.sipguard(["repair"]).succeeded();
        assert!(!all_pass(&scene, 5060, 2));
        assert_eq!(split(&scene, "sip").0, dropped + 9);
    });
}

#[test]
fn a_crash_calls_nothing_dropped_that_passed() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let configure = |monitor: bool| {
            let enforced = enforced();
            scene.configure(if monitor { ALL } else { &enforced });
        };
        // The next command mends the notes, so that each turn begins with the other mode in force and noted.
        for monitor in [false, true] {
            configure(!monitor);
            scene.sipguard(["apply"]).succeeded();
            configure(monitor);
            let calls = calls(&scene, &["apply"]);
            // What is noted before the interface is switched, that, and what is noted after it.
            let switched = calls.iter().position(|call| call.does("LINK_UPDATE"));
            let switched = switched.expect("it is switched");
            for call in &calls[switched.saturating_sub(5)..(switched + 8).min(calls.len())] {
                configure(!monitor);
                scene.sipguard(["apply"]).succeeded();
                let before = split(&scene, "sip");
                configure(monitor);
                let _ = killed_at(&scene, call, &["apply"]);
                let all_passed = all_pass(&scene, 5060, 2);
                let (dropped, passed) = split(&scene, "sip");
                assert_eq!(dropped + passed, before.0 + before.1 + 2, "{call:?}");
                if all_passed {
                    assert_eq!(dropped, before.0, "{call:?}");
                }
                // From the next command on it is told apart exactly.
                scene.sipguard(["repair"]).succeeded();
                let before = split(&scene, "sip");
                let all_passed = all_pass(&scene, 5060, 1);
                let after = (
                    before.0 + u64::from(!all_passed),
                    before.1 + u64::from(all_passed),
                );
                assert_eq!(split(&scene, "sip"), after, "{call:?}");
            }
        }
    });
}

#[test]
fn each_table_says_since_when() {
    sandbox(|sandbox| {
        let mut scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(&ALL.replace("\"eth0\"", "\"eth0\", \"eth1\""));
        scene.sipguard(["apply"]).succeeded();
        let told = scene.sipguard(["stats"]).succeeded().stdout;
        assert!(told.starts_with("since 20"), "{told}");
        assert!(told.lines().next().is_some_and(|line| line.ends_with("s)")));
        let since = stats(&scene)["interfaces"].clone();
        assert_eq!(since[0]["interface"], "eth0");
        let begun = since[0]["since"].as_str().expect("a time");

        // It stays over an apply, and one that comes later has its own.
        scene.connect("eth1");
        scene.configure(&enforced().replace("\"eth0\"", "\"eth0\", \"eth1\""));
        scene.sipguard(["apply"]).succeeded();
        let stats = stats(&scene);
        let of = |index: usize| {
            let since = stats["interfaces"][index]["since"].as_str();
            since.expect("a time").get(..19).expect("seconds")
        };
        assert_eq!(of(0), &begun[..19]);
        assert_eq!(stats["interfaces"][1]["interface"], "eth1");
        assert!(of(1) >= of(0));

        // Counters of a version that noted nothing.
        std::fs::remove_file("/sys/fs/bpf/sipguard/counting").expect("it was noted");
        assert!(!scene.passes("eth0", SCANNER, 5060));
        let told = scene.sipguard(["stats"]).succeeded().stdout;
        let wanted = "since an earlier version of sipguard began to count";
        assert!(told.contains(wanted), "{told}");
        assert_eq!(split(&scene, "sip"), (1, 0));
    });
}

/// What is dropped unjudged belongs to no service: only monitor mode as a whole lets it pass.
#[test]
fn what_is_too_deep_passes() {
    const PORT: u16 = 16_384;
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let socket = scene.gateway.enter(|| bind(PORT));
        socket.set_nonblocking(true).expect("an option of sockets");
        let enforced = enforced();
        let service = enforced.replace("udp = [5060]", "udp = [5060]\nmode = \"monitor\"");
        for (config, passes) in [(ALL, true), (&enforced, false), (&service, false)] {
            scene.configure(config);
            scene.sipguard(["apply"]).succeeded();
            let frame = scene.frame("eth0", "2001:db8::7");
            let deep = (0..9).fold(frame, |frame, _| frame.destination(8));
            scene.wire("eth0").send(&deep.udp(PORT).bytes());
            scene.settle("eth0");
            assert_eq!(socket.recv(&mut [0; 8]).is_ok(), passes, "{config}");
        }
    });
}
