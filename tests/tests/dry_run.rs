//! `apply --dry-run` says what an apply would do and does none of it; `apply` says the same of what it did.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use sipguard_tests::{
    netns::{Finished, STATE, sandbox, sipguard, until},
    scene::{SCANNER, Scene, pins},
};

const CONFIG: &str = r#"
interfaces = ["eth0"]
[sources]
providers = ["203.0.113.0/24", "2001:db8:100::/48"]
[services.sip]
udp = [5060]
allow = ["providers"]
"#;

const OTHER: &str = r#"
interfaces = ["eth0", "eth1"]
mode = "monitor"
[sources]
providers = ["203.0.113.0/25", "2001:db8:100::/48"]
[services.sip]
udp = [5060, 5062]
allow = ["providers"]
mode = "enforce"
[services.web]
tcp = [80]
"#;

/// Everything that an apply would change on disk and in the kernel.
fn everything(scene: &Scene) -> (BTreeMap<PathBuf, Vec<u8>>, Vec<String>, String) {
    let files = fs::read_dir(STATE).expect("the state folder is there");
    let files = files.map(|file| {
        let path = file.expect("readable").path();
        let bytes = fs::read(&path).expect("readable");
        (path, bytes)
    });
    // The programs' numbers are among what it says of the interfaces.
    let links = scene.gateway.ip("-details link show").stdout;
    (files.collect(), pins(), links)
}

fn dry_run(scene: &Scene) -> Finished {
    let before = everything(scene);
    let told = scene.sipguard(["apply", "--dry-run"]);
    assert_eq!(everything(scene), before);
    told
}

#[test]
fn what_would_change_is_told_and_not_done() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0", "eth1"]);
        until("the kernel has told that the cables are plugged in", || {
            let links = scene.gateway.ip("link show").stdout;
            !links.contains("NO-CARRIER")
        });
        scene.configure(CONFIG);
        let told = dry_run(&scene).succeeded().stdout;
        assert_eq!(
            told,
            "  mode enforce\n\
             + interface eth0\n\
             + service sip: udp 5060, unlisted drop, mode enforce\n\
             + allow 203.0.113.0/24 for sip\n\
             + allow 2001:db8:100::/48 for sip\n\
             nothing was changed; `sipguard apply` puts this in force\n"
        );
        assert_eq!(
            fs::read_dir(STATE).expect("readable").count(),
            0,
            "not even a lock"
        );
        assert_eq!(pins(), [""; 0]);

        let applied = scene.sipguard(["apply"]).succeeded().stdout;
        let one_line = "changes: mode enforce; +eth0; +sip; entries +2\n";
        assert!(applied.contains(one_line), "{applied}");
        assert_eq!(dry_run(&scene).succeeded().stdout, "nothing would change\n");
        let again = scene.sipguard(["apply"]).succeeded().stdout;
        assert!(!again.contains("changes"), "{again}");

        // What the command line added is no change, and is not lost.
        let deny = ["deny", "203.0.113.66", "--service", "sip", "--for", "1h"];
        scene.sipguard(deny).succeeded();
        assert_eq!(dry_run(&scene).succeeded().stdout, "nothing would change\n");

        scene.configure(OTHER);
        let told = dry_run(&scene).succeeded().stdout;
        assert_eq!(
            told,
            "  mode enforce → monitor\n\
             + interface eth1\n\
             \x20 service sip: +udp 5062\n\
             + service web: tcp 80, unlisted drop, mode monitor\n\
             + allow 203.0.113.0/25 for sip\n\
             - allow 203.0.113.0/24 for sip\n\
             nothing was changed; `sipguard apply` puts this in force\n"
        );
        assert!(
            scene.passes("eth0", "203.0.113.200", 5060),
            "the old policy holds"
        );
        let applied = scene.sipguard(["apply"]).succeeded().stdout;
        let one_line = "changes: mode enforce → monitor; +eth1; sip changed +web; entries +1 -1\n";
        assert!(applied.contains(one_line), "{applied}");
        assert!(!scene.passes("eth0", "203.0.113.200", 5060));

        // A service takes its entries with it, those of the command line, too.
        scene.configure("interfaces = [\"eth0\"]\n[services.web]\ntcp = [80]\n");
        let told = dry_run(&scene).succeeded().stdout;
        assert!(told.contains("- interface eth1\n"), "{told}");
        assert!(told.contains("- service sip\n"), "{told}");
        assert!(
            told.contains("- deny 203.0.113.66 for sip (timed)\n"),
            "{told}"
        );
    });
}

#[test]
fn programs_get_it_as_json() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0", "eth1"]);
        scene.configure(CONFIG);
        scene.sipguard(["apply"]).succeeded();
        scene.configure(OTHER);
        let read = |arguments: &[&str]| -> serde_json::Value {
            let told = scene.sipguard(arguments).succeeded().stdout;
            serde_json::from_str(&told).expect("JSON")
        };
        let told = read(&["apply", "--dry-run", "--json"]);
        assert_eq!(told["dry_run"], true);
        assert_eq!(told["changed"], true);
        assert_eq!(told["changes"]["mode"]["to"], "monitor");
        assert_eq!(told["changes"]["interfaces"][0]["name"], "eth1");
        assert_eq!(told["changes"]["services"][1]["to"]["ports"]["tcp"][0], 80);
        assert_eq!(told["changes"]["entries"]["removed"]["count"], 1);
        let first = &told["changes"]["entries"]["added"]["first"][0];
        assert_eq!(first["prefix"], "203.0.113.0/25");
        let done = read(&["apply", "--json"]);
        assert_eq!(done["changes"], told["changes"]);
        let told = read(&["apply", "--dry-run", "--json"]);
        assert_eq!(told["changed"], false);
    });
}

#[test]
fn what_apply_would_refuse_it_refuses() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        for (config, message) in [
            ("interfaces = [\"eth7\"]\n", "no such interface: eth7"),
            (
                "interfaces = [\"eth0\"]\nmode = \"watch\"\n",
                "sipguard.toml:2:8",
            ),
        ] {
            scene.configure(config);
            let refused = dry_run(&scene).exited(1).stderr;
            assert!(refused.contains(message), "{refused}");
        }
    });
}

/// Runs sipguard as in somebody's SSH session.
fn logged_in(scene: &Scene, connection: &str, arguments: &[&str]) -> Finished {
    let mut command = Command::new(sipguard());
    command.env("SSH_CONNECTION", connection);
    command.arg("--config").arg(scene.config()).args(arguments);
    scene.gateway.run(&mut command).succeeded()
}

#[test]
fn whoever_is_logged_in_is_warned_before_being_cut_off() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(CONFIG);
        let session = format!("{SCANNER} 51234 192.0.2.1 22");
        let message = format!(
            "this cuts off {SCANNER}, where you are logged in from, from sip (udp 5060); your SSH session goes on"
        );
        let told = logged_in(&scene, &session, &["apply", "--dry-run"]);
        assert!(told.stderr.contains(&message), "{}", told.stderr);
        let told = logged_in(&scene, &session, &["apply", "--json"]);
        assert!(told.stderr.contains(&message), "{}", told.stderr);
        let cut_off = format!("\"cut_off\":{{\"address\":\"{SCANNER}\",\"services\":[\"sip\"]}}");
        assert!(told.stdout.contains(&cut_off), "{}", told.stdout);

        // It was cut off before, so that this changes nothing for it.
        scene.configure(&CONFIG.replace("203.0.113.0/24", "203.0.113.0/25"));
        let told = logged_in(&scene, &session, &["apply", "--dry-run"]);
        assert!(!told.stderr.contains("cuts off"), "{}", told.stderr);
        // A listed one that is listed no more.
        let told = logged_in(
            &scene,
            "203.0.113.200 1 192.0.2.1 22",
            &["apply", "--dry-run"],
        );
        assert!(
            told.stderr.contains("this cuts off 203.0.113.200"),
            "{}",
            told.stderr
        );
        let told = logged_in(
            &scene,
            "203.0.113.7 1 192.0.2.1 22",
            &["apply", "--dry-run"],
        );
        assert!(!told.stderr.contains("cuts off"), "{}", told.stderr);

        // The session's own port.
        let config = format!("{CONFIG}[services.ssh]\ntcp = [22]\n");
        scene.configure(&config);
        let told = logged_in(&scene, &session, &["apply", "--dry-run"]);
        let message = "from ssh (tcp 22); your SSH session itself ends";
        assert!(told.stderr.contains(message), "{}", told.stderr);
        // sudo takes the variables away; the shell that it is called from has them.
        let mut shell = Command::new("sh");
        shell.env("SSH_CONNECTION", &session).arg("-c").arg(format!(
            "env -u SSH_CONNECTION -u SSH_CLIENT {} --config {} apply -n; true",
            sipguard().display(),
            scene.config().display()
        ));
        let told = scene.gateway.run(&mut shell).succeeded();
        assert!(told.stderr.contains(message), "{}", told.stderr);
        // Who is denied by the command line stays so.
        scene.configure(CONFIG);
        scene.sipguard(["apply"]).succeeded();
        scene.sipguard(["deny", "203.0.113.7"]).succeeded();
        scene.configure(&config);
        let told = logged_in(&scene, "203.0.113.7 1 192.0.2.1 2222", &["apply", "-n"]);
        assert!(!told.stderr.contains("from sip"), "{}", told.stderr);
    });
}

#[test]
fn guarded_ports_that_this_host_may_use_itself() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        scene.configure(&CONFIG.replace("[5060]", "[5060, 50600, 50601]"));
        let told = scene.sipguard(["apply", "--dry-run"]).succeeded().stderr;
        let command = "sysctl -w net.ipv4.ip_local_reserved_ports=50600,50601";
        assert!(told.contains("the guarded ports 50600 and 50601"), "{told}");
        assert!(told.contains(command), "{told}");
        scene
            .gateway
            .run(Command::new("sh").arg("-c").arg(command))
            .succeeded();
        let told = scene.sipguard(["apply", "--dry-run"]).succeeded().stderr;
        assert_eq!(told, "");
    });
}
