//! The command line: what it prints, for people and for programs, every error that it can print, and how it ends.

mod counters;
mod output;
mod refuse;
mod tell;

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use sipguard_tests::{
    netns::{Finished, SCRATCH, Sandbox, sipguard},
    printed::json_lines,
    scene::Scene,
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
    let [value] =
        <[Value; 1]>::try_from(json_lines(&run(scene, line).succeeded())).expect("one line");
    value
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
