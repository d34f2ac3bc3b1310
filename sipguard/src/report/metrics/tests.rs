//! What monitoring systems read stays what it is. That promtool takes it, tests/tests/metrics.rs shows.

use std::collections::BTreeSet;

use sipguard_ebpf::abi::Reason;

use super::*;
use crate::{
    agent::happened,
    device::Hook,
    health::{Finding, Health, Kind, Severity},
    report::{CountedInterface, EntryCounts, InterfaceReport, ReceiverReport, Totals},
};

fn time() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn counter(
    interface: &str,
    service: Option<&str>,
    reason: Reason,
    enforced: bool,
) -> CounterReport {
    CounterReport {
        interface: interface.to_owned(),
        service: service.map(str::to_owned),
        reason,
        action: match reason.action() {
            Action::Pass => "pass",
            Action::Drop => "drop",
        },
        enforced,
        mode: Mode::Enforce,
        packets: 12,
        bytes: 5160,
        packets_per_second: None,
        bytes_per_second: None,
    }
}

fn counters() -> CountersReport {
    CountersReport {
        time: time(),
        generation: Some(3),
        interfaces: vec![CountedInterface {
            interface: "eth0".to_owned(),
            since: Some(time()),
        }],
        counters: vec![
            counter("eth0", Some("sip"), Reason::Unlisted, true),
            counter("eth0", Some("sip"), Reason::Unlisted, false),
            counter("eth0", Some("sip"), Reason::Allowed, false),
            counter("eth0", None, Reason::Malformed, true),
            // Two services that are gone, and whose names nobody knows any more.
            counter("eth0", None, Reason::Denied, true),
            counter("eth0", None, Reason::Denied, true),
            counter("e\"\\\n0", None, Reason::Malformed, true),
        ],
        totals: Totals::default(),
    }
}

fn interface(name: &str, renamed: Option<&str>, state: InterfaceState) -> InterfaceReport {
    InterfaceReport {
        name: name.to_owned(),
        state,
        mode: (state == InterfaceState::Attached).then_some(Hook::Native),
        cause: None,
        program: None,
        generation: None,
        foreign: None,
        before: Vec::new(),
        alt_names: Vec::new(),
        renamed: renamed.map(str::to_owned),
        unfit: None,
    }
}

fn status() -> StatusReport {
    let finding = |kind, severity| Finding {
        kind,
        severity,
        place: None,
        about: "it is".to_owned(),
        mend: "true".to_owned(),
    };
    StatusReport {
        version: "0.1.0",
        in_force: true,
        enforced: true,
        generation: Some(3),
        applied: Some(time()),
        config: Some("/etc/sipguard/sipguard.toml".into()),
        mode: Some(Mode::Enforce),
        interfaces: vec![
            interface("eth0", Some("wan0"), InterfaceState::Attached),
            interface("eth0", None, InterfaceState::Detached),
        ],
        services: crate::policy::Policy::default().services,
        sources: vec![SourceReport {
            source: "trunk".to_owned(),
            kind: "names",
            entries: Some(4),
            in_kernel: 3,
            overruled: 1,
            asked: Some(time()),
            answered: Some(time()),
            changed: Some(time()),
            next: Some(time()),
            said: None,
            error: Some("SERVFAIL".to_owned()),
            refused: None,
            stale: false,
        }],
        moved: Vec::new(),
        receivers: vec![ReceiverReport {
            receiver: "webhook",
            sent: 7,
            waiting: 2,
            lost: 1,
            tried: Some(time()),
            failing: Some(time()),
            error: Some("the server answers 500".to_owned()),
        }],
        entries: EntryCounts {
            config: 12,
            command_line: 1,
            bans: 2,
            overruled_bans: 1,
        },
        pending: None,
        health: Health {
            guarded: false,
            summary: "not guarded".to_owned(),
            findings: vec![
                finding(Kind::InterfaceNotFiltered, Severity::Open),
                finding(Kind::SourceUnanswered, Severity::Wrong),
                finding(Kind::SourceUnanswered, Severity::Wrong),
            ],
        },
        open: Vec::new(),
    }
}

fn agent() -> AgentReport {
    let mut agent = AgentReport {
        events: 5,
        left_out: 3,
        lost: 1,
        ..AgentReport::default()
    };
    agent.happened(happened::Kind::ProviderMoved);
    agent.happened(happened::Kind::ProviderMoved);
    agent
}

fn written() -> String {
    let mut text = Vec::new();
    let metrics = Metrics {
        counters: &counters(),
        status: &status(),
        agent: Some(&agent()),
    };
    metrics.write(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// The names of all metrics.
fn names(text: &str) -> BTreeSet<&str> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn samples() {
    let text = written();
    for sample in [
        r#"sipguard_info{version="0.1.0"} 1"#,
        "sipguard_guarded 0",
        r#"sipguard_findings{kind="interface_not_filtered",severity="open"} 1"#,
        r#"sipguard_findings{kind="source_unanswered",severity="wrong"} 2"#,
        "sipguard_generation 3",
        "sipguard_applied_timestamp_seconds 1772366400",
        "sipguard_apply_pending 0",
        r#"sipguard_service_enforced{service="web"} 1"#,
        r#"sipguard_packets_total{interface="eth0",service="sip",reason="unlisted",verdict="drop"} 12"#,
        r#"sipguard_packets_total{interface="eth0",service="sip",reason="unlisted",verdict="would_drop"} 12"#,
        r#"sipguard_packets_total{interface="eth0",service="sip",reason="allowed",verdict="pass"} 12"#,
        r#"sipguard_packets_total{interface="eth0",service="",reason="denied",verdict="drop"} 24"#,
        r#"sipguard_bytes_total{interface="eth0",service="",reason="malformed",verdict="drop"} 5160"#,
        r#"sipguard_bytes_total{interface="e\"\\\n0",service="",reason="malformed",verdict="drop"} 5160"#,
        r#"sipguard_counting_since_timestamp_seconds{interface="eth0"} 1772366400"#,
        r#"sipguard_interface_attached{interface="eth0"} 1"#,
        r#"sipguard_interface_info{interface="eth0",mode="native",state="attached"} 1"#,
        r#"sipguard_entries{origin="command_line"} 1"#,
        "sipguard_overruled_bans 1",
        r#"sipguard_source_info{kind="names",source="trunk"} 1"#,
        r#"sipguard_source_entries{source="trunk"} 4"#,
        r#"sipguard_source_entries_in_kernel{source="trunk"} 3"#,
        r#"sipguard_source_entries_overruled{source="trunk"} 1"#,
        r#"sipguard_source_asked_timestamp_seconds{source="trunk"} 1772366400"#,
        r#"sipguard_source_failed{source="trunk"} 1"#,
        r#"sipguard_source_refused{source="trunk"} 0"#,
        r#"sipguard_notices_sent_total{receiver="webhook"} 7"#,
        r#"sipguard_notices_failing{receiver="webhook"} 1"#,
        "sipguard_events_total 5",
        r#"sipguard_happened_total{what="provider_moved"} 2"#,
        r#"sipguard_happened_total{what="flood_began"} 0"#,
    ] {
        assert_eq!(
            text.lines().filter(|line| *line == sample).count(),
            1,
            "{sample}\n{text}"
        );
    }
    // No sample is there twice, each has a type in front of it, and nothing else is said.
    let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let series: BTreeSet<_> = samples
        .iter()
        .filter_map(|line| Some(line.rsplit_once(' ')?.0))
        .collect();
    assert_eq!(series.len(), samples.len());
    let named = |line: &&str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    let of_samples: BTreeSet<_> = samples.iter().map(named).collect();
    assert_eq!(
        of_samples,
        names(&text).into_iter().map(str::to_owned).collect()
    );
}

#[test]
fn the_manual_has_every_metric_and_no_other() {
    let page = include_str!("../../../docs/prometheus.md");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `sipguard_"));
    let rows: BTreeSet<_> = rows
        .map(|row| format!("sipguard_{}", row.split(['`', '{']).next().unwrap()))
        .collect();
    let text = written();
    assert_eq!(rows, names(&text).into_iter().map(str::to_owned).collect());
}

/// The metrics that a text asks for.
fn asked(text: &str) -> BTreeSet<&str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter: char| !is_part(letter));
    words.filter(|word| word.starts_with("sipguard_")).collect()
}

#[test]
fn rules_and_board_ask_for_metrics_that_there_are() {
    let text = written();
    for file in [
        include_str!("../../../dist/prometheus-rules.yml"),
        include_str!("../../../dist/grafana.json"),
    ] {
        let asked = asked(file);
        assert!(asked.len() > 5, "{asked:?}");
        let unknown: Vec<_> = asked.difference(&names(&text)).copied().collect();
        assert_eq!(unknown, [""; 0]);
    }
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics.prom");
    let (counters, status) = (counters(), status());
    let metrics = Metrics {
        counters: &counters,
        status: &status,
        agent: Some(&agent()),
    };
    for _ in 0..2 {
        metrics.replace(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), written());
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
}
