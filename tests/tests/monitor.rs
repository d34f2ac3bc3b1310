//! Monitor mode: everything passes, everything is counted, and every command that tells what is in force says so.

use sipguard_tests::{
    netns::sandbox,
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

/// Packets counted for a service and a reason, and whether what the policy says was done.
fn counted(scene: &Scene, service: &str, reason: &str) -> (u64, bool) {
    let stats = scene.sipguard(["stats", "--json"]).succeeded().stdout;
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
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
        assert!(told.contains("to drop 4"), "{told}");
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

        // Enforced again: the counters go on.
        scene.configure(&config);
        let applied = scene.sipguard(["apply"]).succeeded().stdout;
        assert!(applied.contains("changes: web changed"), "{applied}");
        assert!(!scene.passes("eth0", SCANNER, 80));
        assert_eq!(counted(&scene, "web", "unlisted"), (2, true));
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
        let enforced = ALL.replace("mode = \"monitor\"\n", "");
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
