//! sipguard on the gateway: applying it, and its counters against tcpdump's.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::{
    capture::{Capture, Count},
    checklist::Check,
    network::Network,
};
use crate::{machine, netns::Host};

/// In tcpdump's words, the ports that the demo's config guards.
pub(super) const PORTS: &str = "(udp or tcp) and (dst port 5060 or 5061 or 50600 or 80)";
const SERVICES: [(&str, &str); 2] = [
    ("sip", "dst port 5060 or 5061 or 50600"),
    ("web", "dst port 80"),
];

/// What a counter counts: a service's name, and a reason's.
type Slot = (String, String);

/// One counter, and the packets that belong to it.
pub(super) struct Row {
    slot: Slot,
    what: &'static str,
    filter: String,
    before: Count,
}

/// Runs sipguard, which must succeed, and returns what it prints.
pub(super) fn sipguard(gateway: &Host, arguments: &[&str]) -> Result<String> {
    let mut sipguard = Command::new(machine::workspace().join("target/release/sipguard"));
    sipguard
        .arg("--config")
        .arg(machine::workspace().join("xtask/src/demo/sipguard.toml"))
        .args(arguments);
    let finished = gateway.run(&mut sipguard);
    if !finished.status.success() {
        bail!(
            "sipguard {}: {}{}",
            arguments.join(" "),
            finished.stdout,
            finished.stderr
        );
    }
    Ok(finished.stdout)
}

/// The counters that must move, and what went to their ports so far.
pub(super) fn rows(network: &Network, cable: &Capture<'_>) -> Result<Vec<Row>> {
    let sites = [
        (&network.scanner, "unlisted", "dropped"),
        (&network.provider, "allowed", "passed"),
    ];
    let mut rows = Vec::new();
    for (site, reason, what) in sites {
        let [v4, v6] = site.addresses;
        for (service, ports) in SERVICES {
            let filter = format!("(src host {v4} or {v6}) and ({ports})");
            rows.push(Row {
                slot: (service.to_owned(), reason.to_owned()),
                what,
                before: cable.count(&filter)?,
                filter,
            });
        }
    }
    Ok(rows)
}

/// Each row's counter against the packets on the cable, and that no other counter moved.
pub(super) fn compare(
    gateway: &Host,
    rows: Vec<Row>,
    cable: &Capture<'_>,
) -> Result<Vec<Check<'static>>> {
    let mut counters = counters(&sipguard(gateway, &["stats", "--json"])?)?;
    let mut checks = Vec::new();
    for row in rows {
        let sent = cable.count(&row.filter)?.since(row.before);
        let counted = counters.remove(&row.slot).unwrap_or_default();
        let (service, reason) = row.slot;
        checks.push(Check::new(
            format!("{service}, {reason}: {}", row.what),
            move || {
                let found = format!("{sent:<30} {counted}");
                ensure!(counted == sent, found);
                Ok(found)
            },
        ));
    }
    checks.push(Check::new("anything else", move || {
        ensure!(counters.is_empty(), "{counters:?}");
        Ok("none".to_owned())
    }));
    Ok(checks)
}

fn counters(stats: &str) -> Result<BTreeMap<Slot, Count>> {
    let stats: Stats = serde_json::from_str(stats).context("sipguard stats --json")?;
    Ok(stats
        .counters
        .into_iter()
        .filter(|counter| counter.packets > 0)
        .map(|counter| {
            let service = counter.service.unwrap_or_else(|| "no service".to_owned());
            let count = Count {
                packets: counter.packets,
                bytes: counter.bytes,
            };
            ((service, counter.reason), count)
        })
        .collect())
}

#[derive(Deserialize)]
struct Stats {
    counters: Vec<Counter>,
}

#[derive(Deserialize)]
struct Counter {
    service: Option<String>,
    reason: String,
    packets: u64,
    bytes: u64,
}
