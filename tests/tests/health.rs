//! The one answer to whether this host is guarded as its config says: in the first line of `status`, in its exit code, and by `doctor`.
#![expect(
    clippy::unwrap_used,
    reason = "a test that panics is a test that fails"
)]

use std::{fs, net::UdpSocket, path::Path, process::Command};

use serde_json::{Value, json};
use sipguard_tests::{
    netns::{SCRATCH, sandbox, sipguard},
    scene::{PROVIDER, SCANNER, Scene},
};

const POLICY: &str = r#"
interfaces = ["eth0"]
[sources]
providers = { file = "providers.txt" }
[services.sip]
udp = [5060]
allow = ["providers"]
[services.web]
tcp = [80]
udp = [80]
allow = ["providers"]
"#;

/// A gateway with `POLICY` in force.
fn on_a_gateway(test: impl FnOnce(&Gateway) + Send) {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0"]);
        let gateway = Gateway { scene };
        Gateway::list("203.0.113.0/24\n");
        gateway.scene.configure(POLICY);
        gateway.scene.sipguard(["apply"]).succeeded();
        test(&gateway);
    });
}

struct Gateway {
    scene: Scene,
}

impl Gateway {
    fn list_file() -> String {
        format!("{SCRATCH}/providers.txt")
    }

    fn list(text: &str) {
        fs::write(Self::list_file(), text).unwrap();
    }

    fn sipguard(&self, line: &str) -> sipguard_tests::netns::Finished {
        self.scene.sipguard(line.split(' '))
    }

    /// The first line, and the exit code.
    #[track_caller]
    fn says(&self, code: i32, summary: &str) {
        let said = self.sipguard("status --check").exited(code).stdout;
        let config = self.scene.config().display().to_string();
        let line = said.lines().next().unwrap_or_default();
        assert_eq!(line.replace(&config, "FILE"), summary);
    }

    /// What is more than advice.
    fn findings(&self) -> Vec<Value> {
        let doctor: Value = serde_json::from_str(&self.sipguard("doctor --json").stdout).unwrap();
        let findings = doctor["findings"].as_array().unwrap().iter();
        let wrong = |found: &&Value| found["wrong"] == true && found["check"] != "kernel";
        findings.filter(wrong).cloned().collect()
    }

    /// The only one.
    #[track_caller]
    fn finding(&self, name: &str, severity: &str) -> Value {
        let found = self.findings();
        let [found] = &found[..] else {
            panic!("one finding, not {found:?}");
        };
        assert_eq!(
            (&found["name"], &found["severity"]),
            (&json!(name), &json!(severity))
        );
        found.clone()
    }

    /// Runs what mends it, with this editor.
    fn mend(&self, found: &Value, editor: &str) {
        let script = found["mend"].as_str().unwrap();
        let path = sipguard().parent().unwrap().display().to_string();
        let path = format!("{path}:{}", std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.env("PATH", path).env("EDITOR", editor);
        self.scene
            .gateway
            .run(shell.args(["-ec", script]))
            .succeeded();
    }
}

#[test]
fn three_answers() {
    on_a_gateway(|gateway| {
        gateway.says(0, "guarded: as FILE says");
        // Advice does not count.
        let _iax = gateway
            .scene
            .gateway
            .enter(|| UdpSocket::bind(("0.0.0.0", 4569)).unwrap());
        gateway.says(0, "guarded: as FILE says");

        gateway
            .scene
            .configure(&POLICY.replace("5060", "5060, 5061"));
        gateway.says(
            3,
            "guarded, with 1 finding: the config was changed and not applied (services); `sipguard doctor` says what mends it",
        );
        gateway
            .scene
            .configure(&POLICY.replace("\"eth0\"", "\"eth0\", \"eth1\""));
        gateway.sipguard("apply").succeeded();
        gateway.says(
            3,
            "guarded, with 1 finding: eth1 is to be filtered, and there is no such interface; `sipguard doctor` says what mends it",
        );
        gateway
            .scene
            .gateway
            .ip("link add eth1 type veth peer eth2");
        gateway.scene.configure(POLICY);
        gateway.says(
            1,
            "NOT GUARDED: eth1 is to be filtered and is not (1 more; `sipguard doctor` has all)",
        );
        gateway.sipguard("down").succeeded();
        gateway.says(
            1,
            "NOT GUARDED: nothing is in force: no packet is dropped, whatever the config says; `sipguard doctor` says what mends it",
        );
        let found = gateway.finding("not_in_force", "open");
        assert_eq!(found["place"], Value::Null);
        // The same in every form.
        let status = gateway.sipguard("status --json").succeeded().stdout;
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["guarded"], false);
        let findings = status["findings"].as_array().unwrap();
        assert!(findings.contains(&found), "{status}");
        let plain = gateway.sipguard("status").succeeded().stdout;
        let summary = status["summary"].as_str().unwrap();
        assert!(plain.starts_with(&format!("{summary}\n")), "{plain}");
        let quiet = gateway.sipguard("status --check -q").exited(1);
        assert_eq!((quiet.stdout, quiet.stderr), (String::new(), String::new()));
        gateway.mend(&found, "false");
        gateway.says(0, "guarded: as FILE says");
    });
}

#[test]
fn where_the_kernel_can_t_be_asked() {
    on_a_gateway(|gateway| {
        fs::remove_dir_all(Path::new(sipguard_tests::netns::BPFFS).join("sipguard/generations"))
            .unwrap();
        for line in ["status --check", "status --check -q"] {
            let said = gateway.sipguard(line).exited(1);
            assert_eq!(said.stdout, "");
            assert!(
                said.stderr.contains("run `sipguard apply` to replace it"),
                "{}",
                said.stderr
            );
        }
        let doctor = gateway.sipguard("doctor --json").exited(1).stdout;
        let doctor: Value = serde_json::from_str(&doctor).unwrap();
        let found = &doctor["findings"][0];
        assert_eq!(found["name"], "unreadable");
        gateway.mend(found, "false");
        gateway.says(0, "guarded: as FILE says");
    });
}

#[test]
fn a_service_that_is_open_to_everybody() {
    on_a_gateway(|gateway| {
        let row = || {
            let said = gateway.sipguard("status").succeeded().stdout;
            let row = said.lines().find(|line| line.starts_with("web "));
            row.unwrap().to_owned()
        };
        gateway.sipguard("allow any --service web").succeeded();
        assert!(gateway.scene.passes("eth0", SCANNER, 80));
        gateway.says(
            1,
            "NOT GUARDED: web is OPEN TO EVERYBODY, without an end, by `sipguard allow any`; `sipguard doctor` says what mends it",
        );
        assert!(
            row().contains("OPEN TO EVERYBODY, without an end"),
            "{}",
            row()
        );
        let found = gateway.finding("open_to_everybody", "open");
        assert_eq!(found["place"], json!({ "service": "web" }));
        assert_eq!(found["mend"], "sipguard remove any --service web");
        gateway.mend(&found, "false");
        gateway.says(0, "guarded: as FILE says");
        assert!(!row().contains("EVERYBODY"), "{}", row());
        assert!(!gateway.scene.passes("eth0", SCANNER, 80));

        // For a while.
        gateway
            .sipguard("allow any --service web --for 1h")
            .succeeded();
        let until = gateway.sipguard("list any --json").succeeded().stdout;
        let until: Value = serde_json::from_str(until.lines().next().unwrap()).unwrap();
        assert!(until["until"].is_string(), "{until}");
        let said = gateway.finding("open_to_everybody", "open");
        let about = said["about"].as_str().unwrap();
        assert!(
            about.starts_with("web is OPEN TO EVERYBODY until 20"),
            "{about}"
        );
        assert!(row().contains("OPEN TO EVERYBODY until 20"), "{}", row());
        // The newest word.
        gateway.sipguard("deny any --service web").succeeded();
        gateway.says(0, "guarded: as FILE says");
        gateway.sipguard("remove any").succeeded();
        gateway
            .sipguard("allow any --service web --for 1s")
            .succeeded();
        sipguard_tests::netns::until("it has ended", || {
            !gateway.scene.passes("eth0", SCANNER, 80)
        });
        gateway.says(0, "guarded: as FILE says");

        // One family.
        gateway.sipguard("allow ::/0 --service sip").succeeded();
        let found = gateway.finding("open_to_everybody", "open");
        assert_eq!(
            found["about"],
            "sip is OPEN TO EVERYBODY on IPv6, without an end, by `sipguard allow ::/0`"
        );
        gateway.mend(&found, "false");
        assert_eq!(gateway.findings(), [Value::Null; 0]);
    });
}

#[test]
fn a_config_that_lets_everybody_in() {
    on_a_gateway(|gateway| {
        // Enough others that the list has not lost half of them afterwards.
        Gateway::list("203.0.113.0/24\n192.0.2.1\n192.0.2.2\n0.0.0.0/0\n::/0\n");
        gateway.sipguard("apply").succeeded();
        gateway.sipguard("allow any --service web").succeeded();
        let found = gateway.findings();
        let of = |index: usize| found[index]["about"].as_str().unwrap();
        assert_eq!(
            of(0),
            "sip is OPEN TO EVERYBODY, without an end, by the config's source providers"
        );
        assert_eq!(
            of(1),
            "web is OPEN TO EVERYBODY, without an end, by `sipguard allow any` and by the config's source providers"
        );
        assert_eq!(found.len(), 2);
        gateway.says(
            1,
            "NOT GUARDED: sip is OPEN TO EVERYBODY, without an end, by the config's source providers (1 more; `sipguard doctor` has all)",
        );
        gateway.mend(&found[1], "sed -i /\\/0$/d");
        gateway.says(0, "guarded: as FILE says");
        assert!(gateway.scene.passes("eth0", PROVIDER, 80));

        // A blocklist is meant to be one, and a service that is only watched is told of as that.
        let open = POLICY.replace(
            "allow = [\"providers\"]\n[services.web]",
            "default = \"allow\"\n[services.web]",
        );
        gateway.scene.configure(&open);
        gateway.sipguard("apply").succeeded();
        gateway.says(0, "guarded: as FILE says");
        let watched = POLICY.replace("[services.web]", "[services.web]\nmode = \"monitor\"");
        gateway.scene.configure(&watched);
        gateway.sipguard("apply").succeeded();
        gateway.sipguard("allow any --service web").succeeded();
        let found = gateway.finding("only_watched", "wrong");
        gateway.mend(&found, "false");
        gateway.finding("open_to_everybody", "open");
    });
}

#[test]
fn nothing_is_dropped() {
    on_a_gateway(|gateway| {
        gateway
            .scene
            .configure(&format!("mode = \"monitor\"\n{POLICY}"));
        gateway.sipguard("apply").succeeded();
        gateway.says(
            1,
            "NOT GUARDED: nothing is dropped: monitor mode; `sipguard doctor` says what mends it",
        );
        let found = gateway.finding("nothing_dropped", "open");
        gateway.mend(&found, "false");
        gateway.says(0, "guarded: as FILE says");
    });
}

/// Interfaces, services and ports are the same, and an entry is not.
#[test]
fn a_list_that_was_changed_and_not_applied() {
    on_a_gateway(|gateway| {
        Gateway::list("203.0.113.0/24\n198.51.100.0/24\n");
        gateway.says(
            3,
            "guarded, with 1 finding: the config was changed and not applied (sources); `sipguard doctor` says what mends it",
        );
        let found = gateway.finding("config_not_applied", "wrong");
        gateway.mend(&found, "false");
        gateway.says(0, "guarded: as FILE says");
        assert!(gateway.scene.passes("eth0", SCANNER, 5060));

        // None any more: a failed download of the config.
        gateway.scene.configure("");
        gateway.says(
            3,
            "guarded, with 1 finding: the config names no interface, and what was in force before goes on filtering; `sipguard doctor` \
             says what mends it",
        );
        gateway.scene.configure(POLICY);

        // Another file than the one that was applied.
        let other = format!("{SCRATCH}/other.toml");
        fs::write(&other, POLICY.replace("5060", "5062")).unwrap();
        let said = gateway
            .scene
            .gateway
            .sipguard(["--config", &other, "status"]);
        let config = gateway.scene.config();
        let wanted = format!(
            "guarded, with 1 finding: what is in force is what {} says, and not what {other} says; ",
            config.display()
        );
        let said = said.succeeded().stdout;
        assert!(said.starts_with(&wanted), "{said}");
    });
}

#[test]
fn a_wrong_line_of_a_list() {
    on_a_gateway(|gateway| {
        let editor = Path::new(SCRATCH).join("editor");
        fs::write(&editor, "sed -i \"${1#+}d\" \"$2\"\n").unwrap();
        let editor = format!("sh {}", editor.display());
        let file = Gateway::list_file();
        for in_force in [true, false] {
            Gateway::list("203.0.113.0/24\n# ours\n203.0.113.300\n198.51.100.9\n");
            if !in_force {
                gateway.sipguard("down").succeeded();
            }
            let severity = if in_force { "wrong" } else { "open" };
            let found = gateway.finding("config_unusable", severity);
            assert_eq!(found["mend"], format!("${{EDITOR:-nano}} +3 '{file}'"));
            assert_eq!(
                found["place"],
                json!({ "file": { "path": file, "line": 3 } })
            );
            let about = found["about"].as_str().unwrap();
            assert!(about.contains("(1 problem)"), "{about}");
            assert!(about.contains(&format!("{file}:3:1: ")), "{about}");
            let goes_on = "and what was in force before goes on filtering";
            assert_eq!(about.contains(goes_on), in_force, "{about}");
            assert_eq!(
                about.starts_with("nothing is in force"),
                !in_force,
                "{about}"
            );
            gateway.mend(&found, &editor);
            let next = if in_force {
                "config_not_applied"
            } else {
                "not_in_force"
            };
            assert_eq!(gateway.findings()[0]["name"], next);
            gateway.sipguard("apply").succeeded();
            gateway.says(0, "guarded: as FILE says");
        }
    });
}

#[test]
fn a_config_that_is_on_trial_and_is_taken_back() {
    on_a_gateway(|gateway| {
        gateway
            .scene
            .configure(&POLICY.replace("5060", "5060, 5061"));
        gateway.sipguard("apply --confirm 10m").succeeded();
        gateway.says(0, "guarded: as FILE says");
        Gateway::list("203.0.113.0/24\n198.51.100.9\n");
        gateway.says(0, "guarded: as FILE says");
        gateway.sipguard("rollback").succeeded();
        gateway.sipguard("status --check -q").exited(3);
        let found = gateway.finding("config_taken_back", "wrong");
        let about = found["about"].as_str().unwrap();
        let begin = "the config was not confirmed, and was taken back at 20";
        let end = ": what was in force before is in force";
        assert!(about.starts_with(begin) && about.ends_with(end), "{about}");
        gateway.mend(&found, "false");
        gateway.sipguard("confirm").succeeded();
        gateway.says(0, "guarded: as FILE says");
    });
}
