//! Metrics, as Prometheus' own tools take them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sipguard_tests::{
    netns::{sandbox, until},
    promtool::promtool,
    scene::{PROVIDER, SCANNER, Scene},
};

/// A name that the kernel takes, and that has all in it that labels escape.
const ODD: &str = r#"e"{0,}\="#;

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn what_was_counted_is_told_as_promtool_wants_it() {
    sandbox(|sandbox| {
        let scene = Scene::new(sandbox, &["eth0", ODD]);
        scene.configure(&format!(
            "interfaces = [\"eth0\", '{ODD}']\n[sources]\nproviders = [\"{PROVIDER}\"]\ntrunk = [\"trunk.example\"]\n\
             [services.sip]\nudp = [5060]\nallow = [\"providers\", \"trunk\"]\n\
             [services.web]\nudp = [80]\nmode = \"monitor\"\nallow = [\"providers\"]\n"
        ));
        // Nothing is in force, and there is something to tell all the same.
        let before = scene
            .sipguard(["stats", "--format", "prometheus"])
            .succeeded()
            .stdout;
        promtool(&["check", "metrics"], &before);
        assert!(
            before.contains("\nsipguard_guarded 0\n")
                && before.contains("\nsipguard_generation 0\n"),
            "{before}"
        );

        scene.sipguard(["apply", "--offline"]).succeeded();
        for interface in ["eth0", ODD] {
            scene.await_link(interface);
            assert!(scene.passes(interface, PROVIDER, 5060));
            for _ in 0..3 {
                assert!(!scene.passes(interface, SCANNER, 5060));
            }
            assert!(scene.passes(interface, SCANNER, 80));
        }
        let told = scene
            .sipguard(["stats", "--format", "prometheus"])
            .succeeded()
            .stdout;
        promtool(&["check", "metrics"], &told);
        let escaped = ODD.replace('\\', r"\\").replace('"', "\\\"");
        for sample in [
            "sipguard_generation 1".to_owned(),
            format!("sipguard_interface_attached{{interface=\"{escaped}\"}} 1"),
            "sipguard_service_enforced{service=\"web\"} 0".to_owned(),
            "sipguard_source_entries_in_kernel{source=\"trunk\"} 0".to_owned(),
            "sipguard_source_info{kind=\"names\",source=\"trunk\"} 1".to_owned(),
        ] {
            assert!(told.lines().any(|line| line == sample), "{sample}\n{told}");
        }
        assert!(
            !told.contains(SCANNER) && !told.contains(PROVIDER),
            "{told}"
        );

        // Of all counters, it is what JSON says.
        let json = scene.sipguard(["stats", "--json"]).succeeded().stdout;
        let json: Value = serde_json::from_str(&json).expect("it is JSON");
        let mut wanted = BTreeMap::new();
        for counter in json["counters"].as_array().expect("it is a list") {
            let text = |key: &str| counter[key].as_str().unwrap_or_default().to_owned();
            let verdict = match (&*text("action"), counter["enforced"].as_bool()) {
                ("drop", Some(false)) => "would_drop",
                ("drop", _) => "drop",
                _ => "pass",
            };
            let interface = text("interface").replace('\\', r"\\").replace('"', "\\\"");
            let labels = format!(
                "{{interface=\"{interface}\",service=\"{}\",reason=\"{}\",verdict=\"{verdict}\"}}",
                text("service"),
                text("reason")
            );
            for what in ["packets", "bytes"] {
                wanted.insert(
                    format!("sipguard_{what}_total{labels}"),
                    counter[what].to_string(),
                );
            }
        }
        let samples = told.lines().filter_map(|line| line.rsplit_once(' '));
        let counted = samples.filter(|(series, _)| {
            ["sipguard_packets", "sipguard_bytes"]
                .iter()
                .any(|name| series.starts_with(name))
        });
        let counted: BTreeMap<_, _> = counted
            .map(|(series, value)| (series.to_owned(), value.to_owned()))
            .collect();
        assert_eq!(counted, wanted);
        let drops = |interface: &str| {
            let of = format!(
                "{{interface=\"{interface}\",service=\"sip\",reason=\"unlisted\",verdict=\"drop\"}}"
            );
            counted[&format!("sipguard_packets_total{of}")].clone()
        };
        assert_eq!([drops("eth0"), drops(&escaped)], ["3", "3"]);

        let both = scene
            .sipguard(["stats", "--format", "prometheus", "--json"])
            .exited(2);
        assert!(
            both.stderr.contains("cannot be used with"),
            "{}",
            both.stderr
        );
    });
}

#[test]
fn the_alert_rules_say_what_they_are_for() {
    let tests = workspace("tests/prometheus/rules.test.yml");
    let tests = tests.to_str().expect("a path of ours");
    promtool(&["test", "rules", tests], "");
    // No rule is without a test.
    let rules =
        fs::read_to_string(workspace("sipguard/dist/prometheus-rules.yml")).expect("it is there");
    let tested = fs::read_to_string(tests).expect("it is there");
    let page = fs::read_to_string(workspace("sipguard/docs/prometheus.md")).expect("it is there");
    let alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 5);
    for alert in alerts {
        assert!(tested.contains(&format!("alertname: {alert}\n")), "{alert}");
        assert!(page.contains(&format!("| `{alert}` |")), "{alert}");
    }
}

#[test]
fn the_board_asks_what_prometheus_understands() {
    let board = fs::read_to_string(workspace("sipguard/dist/grafana.json")).expect("it is there");
    let board: Value = serde_json::from_str(&board).expect("it is JSON");
    let mut rules = "groups:\n- name: board\n  rules:\n".to_owned();
    let panels = board["panels"].as_array().expect("it has panels");
    for panel in panels {
        for target in panel["targets"]
            .as_array()
            .expect("each panel asks for something")
        {
            let expression = target["expr"].as_str().expect("in Prometheus' words");
            // What Grafana puts in.
            let expression = expression
                .replace("$__rate_interval", "1m")
                .replace("$instance", ".*");
            assert!(!expression.contains('$'), "{expression}");
            let expression = Value::from(expression);
            write!(rules, "  - record: board:panel\n    expr: {expression}\n")
                .expect("it is a text");
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("board.yml");
    fs::write(&file, rules).expect("a folder of ours");
    until("promtool has read it", || file.is_file());
    promtool(
        &["check", "rules", file.to_str().expect("a path of ours")],
        "",
    );
}
