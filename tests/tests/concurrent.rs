//! Many commands at once: each takes effect, once.

use std::collections::BTreeSet;

use sipguard::{host::Host, lifecycle, state::Store};
use sipguard_tests::{
    netns::{sandbox, sipguard},
    scene::Scene,
};

const COMMANDS: usize = 200;

#[test]
fn two_hundred_entries_at_once() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure("interfaces = [\"eth0\"]\n");
        scene.sipguard(["apply"]).succeeded();
        let before = Store::system().load().expect("a readable state").revision;

        let commands: Vec<_> = (0..COMMANDS)
            .map(|number| {
                let mut command = std::process::Command::new(sipguard());
                command.arg("--config").arg(scene.config()).arg("allow");
                command.arg(format!("198.51.100.{number}"));
                command.args(["--service", "sip"]);
                // Half of them timed.
                if number % 2 == 0 {
                    command.args(["--for", "1h"]);
                }
                scene.gateway.spawn(&mut command)
            })
            .collect();
        for command in commands {
            command.wait().succeeded();
        }

        let state = Store::system().load().expect("a readable state");
        assert_eq!(
            state.revision,
            before + COMMANDS as u64,
            "each changed it once"
        );
        let wanted: BTreeSet<_> = (0..COMMANDS)
            .map(|number| format!("198.51.100.{number}/32").parse().expect("a prefix"))
            .collect();
        let kept: Vec<_> = state.entries.iter().map(|entry| entry.prefix).collect();
        assert_eq!(kept.len(), COMMANDS);
        assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), wanted);

        let live = lifecycle::live(&Host::system())
            .expect("readable")
            .expect("in force");
        let mut found = Vec::new();
        live.generation
            .for_each(|entry| found.push(entry.prefix))
            .expect("readable");
        assert_eq!(found.len(), COMMANDS);
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), wanted);
        for number in [0, 1, 99, 199] {
            assert!(scene.passes("eth0", &format!("198.51.100.{number}"), 5060));
        }
        assert!(!scene.passes("eth0", "198.51.100.200", 5060));
    });
}
