//! What counters tell.

use std::process::Command;

use rustix::process::Signal;
use serde_json::json;
use sipguard_tests::{
    netns::{sandbox, sipguard},
    scene::{PROVIDER, SCANNER},
};

use super::{applied, json_lines, parsed, run};

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
            json!({
                "pass": { "packets": 1, "bytes": 142 }, "drop": { "packets": 3, "bytes": 426 },
                "dropped": { "packets": 3, "bytes": 426 }, "passed_in_monitor": { "packets": 0, "bytes": 0 },
            })
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
                "interface": "eth0", "service": "sip", "reason": "unlisted", "action": "drop", "enforced": true, "mode": "enforce",
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
        let watched = json_lines(&watch.wait().succeeded());
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
