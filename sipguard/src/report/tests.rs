//! What programs read stays what it is, byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use sipguard_ebpf::abi::{Protocol, Reason};

use super::*;
use crate::{
    agent::alarm::{Alarm, Knocker},
    device::Hook,
    health::Health,
    policy::{Action, Mode, Service},
};

#[track_caller]
fn says(value: &impl Serialize, json: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), json);
}

fn time() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn interface() -> InterfaceReport {
    InterfaceReport {
        name: "eth0".to_owned(),
        state: InterfaceState::Attached,
        mode: Some(Hook::Tc),
        cause: Some("its driver has no native XDP".to_owned()),
        program: Some(42),
        generation: Some(3),
        foreign: None,
        before: Vec::new(),
        alt_names: Vec::new(),
        renamed: None,
        unfit: None,
    }
}

fn moved() -> MovedReport {
    MovedReport {
        alarm: Alarm {
            source: "trunk".to_owned(),
            service: "sip".to_owned(),
            since: time(),
            addresses: vec![Knocker {
                address: [198, 51, 100, 9].into(),
                entry: "198.51.100.7/32".parse().unwrap(),
                allowed_until: None,
                denied: false,
                method: Some("INVITE".to_owned()),
                since: time(),
                last: time(),
                packets: 7,
            }],
            more: 0,
        },
        about: "trunk has moved".to_owned(),
        mend: "sipguard allow 198.51.100.9 --service sip".to_owned(),
    }
}

#[test]
fn status() {
    let report = StatusReport {
        version: "0.1.0",
        in_force: true,
        enforced: true,
        generation: Some(3),
        applied: Some(time()),
        config: Some("/etc/sipguard/sipguard.toml".into()),
        mode: Some(Mode::Enforce),
        interfaces: vec![interface()],
        services: vec![Service {
            name: "sip".to_owned(),
            ports: BTreeMap::from([
                (Protocol::Udp, BTreeSet::from([5060])),
                (Protocol::Tcp, BTreeSet::from([5060])),
            ]),
            default: Action::Deny,
            mode: Mode::Enforce,
        }],
        sources: Vec::new(),
        receivers: Vec::new(),
        moved: vec![moved()],
        entries: EntryCounts {
            config: 12,
            command_line: 1,
            bans: 2,
            overruled_bans: 1,
        },
        pending: Some(ConfirmationReport {
            generation: 3,
            previous: None,
            until: time(),
            seconds_left: 42,
            lapsed: false,
        }),
        health: Health {
            guarded: true,
            summary: "guarded: as it should be".to_owned(),
            findings: Vec::new(),
        },
        open: Vec::new(),
    };
    says(
        &report,
        r#"{"version":"0.1.0","in_force":true,"enforced":true,"generation":3,"applied":"2026-03-01T12:00:00Z","config":"/etc/sipguard/sipguard.toml","mode":"enforce","interfaces":[{"name":"eth0","state":"attached","mode":"tc","cause":"its driver has no native XDP","program":42,"generation":3,"foreign":null,"before":[]}],"services":[{"name":"sip","ports":{"udp":[5060],"tcp":[5060]},"default":"deny","mode":"enforce"}],"entries":{"config":12,"command_line":1,"bans":2,"overruled_bans":1},"sources":[],"receivers":[],"moved":[{"source":"trunk","service":"sip","since":"2026-03-01T12:00:00Z","addresses":[{"address":"198.51.100.9","entry":"198.51.100.7/32","allowed_until":null,"denied":false,"method":"INVITE","since":"2026-03-01T12:00:00Z","last":"2026-03-01T12:00:00Z","packets":7}],"more":0,"about":"trunk has moved","mend":"sipguard allow 198.51.100.9 --service sip"}],"pending":{"generation":3,"previous":null,"until":"2026-03-01T12:00:00Z","seconds_left":42,"lapsed":false},"guarded":true,"summary":"guarded: as it should be","findings":[]}"#,
    );
}

#[test]
fn an_interface_that_is_not_filtered() {
    let report = InterfaceReport {
        state: InterfaceState::Detached,
        mode: None,
        cause: None,
        program: None,
        generation: None,
        foreign: Some(ForeignProgram {
            id: 7,
            name: "xdp_other".to_owned(),
        }),
        ..interface()
    };
    says(
        &report,
        r#"{"name":"eth0","state":"detached","mode":null,"cause":null,"program":null,"generation":null,"foreign":{"id":7,"name":"xdp_other"},"before":[]}"#,
    );
}

#[test]
fn what_became_of_an_interface_since() {
    let report = InterfaceReport {
        alt_names: vec!["enp3s0".to_owned()],
        renamed: Some("wan0".to_owned()),
        unfit: Some("it is no place to judge".to_owned()),
        cause: None,
        ..interface()
    };
    says(
        &report,
        r#"{"name":"eth0","state":"attached","mode":"tc","cause":null,"program":42,"generation":3,"foreign":null,"before":[],"alt_names":["enp3s0"],"renamed":"wan0","unfit":"it is no place to judge"}"#,
    );
    assert_eq!(
        format!("{}: {report}", report.names()),
        "eth0 (now wan0): tc; it was renamed: name wan0 in the config, or a `sipguard apply` that guards others lets go of it; what comes in is not \
         judged any more: it is no place to judge"
    );
}

#[test]
fn stats() {
    let total = PacketsAndBytes {
        packets: 12,
        bytes: 5160,
    };
    let report = CountersReport {
        time: time(),
        generation: None,
        interfaces: vec![CountedInterface {
            interface: "eth0".to_owned(),
            since: Some(time()),
        }],
        counters: vec![CounterReport {
            interface: "eth0".to_owned(),
            service: None,
            reason: Reason::Malformed,
            action: "drop",
            enforced: false,
            mode: Mode::Monitor,
            packets: 12,
            bytes: 5160,
            packets_per_second: Some(3),
            bytes_per_second: None,
        }],
        totals: Totals {
            pass: PacketsAndBytes::default(),
            drop: total,
            dropped: PacketsAndBytes::default(),
            passed_in_monitor: total,
        },
    };
    says(
        &report,
        r#"{"time":"2026-03-01T12:00:00Z","generation":null,"interfaces":[{"interface":"eth0","since":"2026-03-01T12:00:00Z"}],"counters":[{"interface":"eth0","service":null,"reason":"malformed","action":"drop","enforced":false,"mode":"monitor","packets":12,"bytes":5160,"packets_per_second":3,"bytes_per_second":null}],"totals":{"pass":{"packets":0,"bytes":0},"drop":{"packets":12,"bytes":5160},"dropped":{"packets":0,"bytes":0},"passed_in_monitor":{"packets":12,"bytes":5160}}}"#,
    );
}

#[test]
fn entries() {
    let mut entry = EntryReport {
        prefix: "203.0.113.7/32".parse().unwrap(),
        service: "sip",
        action: Action::Allow,
        until: None,
        seconds_left: None,
        origin: EntryOrigin::Config,
        source: Some("providers"),
        file: Some("/etc/sipguard/providers.txt".as_ref()),
        comment: None,
        in_force: true,
        overruled: false,
    };
    says(
        &entry,
        r#"{"prefix":"203.0.113.7","service":"sip","action":"allow","until":null,"seconds_left":null,"origin":"config","source":"providers","file":"/etc/sipguard/providers.txt","comment":null,"in_force":true}"#,
    );
    entry.until = Some(time());
    entry.seconds_left = Some(60);
    entry.origin = EntryOrigin::CommandLine;
    entry.source = None;
    entry.file = None;
    entry.comment = Some("new trunk".into());
    entry.in_force = false;
    entry.overruled = true;
    says(
        &entry,
        r#"{"prefix":"203.0.113.7","service":"sip","action":"allow","until":"2026-03-01T12:00:00Z","seconds_left":60,"origin":"command line","source":null,"file":null,"comment":"new trunk","in_force":false,"overruled":true}"#,
    );
}
