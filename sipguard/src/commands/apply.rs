//! `sipguard apply`.
//!
//! JSON, one object:
//! `{"generation":3,"changed":true,"interfaces":[…],"released":["eth1"],"entries":{"config":12,"command_line":1},"enforced":true}`.
//! `interfaces` as in `status`; `released` are interfaces that are not filtered any more; `enforced` is false where nothing is dropped;
//! `generation` is null where no interface is configured.

use std::{io::Write, time::Instant};

use anyhow::Result;
use serde_json::json;
use sipguard::{
    lifecycle::{self, Applied},
    policy::{Mode, Policy},
    state::Store,
};

use super::{Context, interface, needs_root, write_json};
use crate::output::{count, joined};

pub(super) fn run(context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let begin = Instant::now();
    let applied = lifecycle::apply(&context.config)?;
    let took = begin.elapsed();

    let interfaces = interface::look(&Store::system().load()?.fallbacks)?
        .map_or_else(Vec::new, |(_, interfaces)| interfaces);
    for warning in warnings(&applied, context) {
        context.warn(&warning);
    }
    if context.json {
        return write_json(
            out,
            &json!({
                "generation": applied.generation,
                "changed": applied.changed,
                "interfaces": interfaces,
                "released": applied.released,
                "entries": { "config": applied.policy.entries.len(), "command_line": applied.own },
                "enforced": applied.generation.is_some() && enforced(&applied.policy),
            }),
        );
    }
    if context.is_quiet() {
        return Ok(());
    }
    for interface in interfaces {
        writeln!(out, "{}: {interface}", interface.name)?;
    }
    for released in &applied.released {
        writeln!(out, "{released}: not filtered any more")?;
    }
    if let Some(generation) = applied.generation {
        let of_config = count(applied.policy.entries.len(), "entry", "entries");
        let says = if applied.changed {
            "in force"
        } else {
            "unchanged"
        };
        writeln!(
            out,
            "{says}: generation {generation}, {of_config} of the config, {} of the command line",
            applied.own
        )?;
    }
    if context.is_verbose() {
        writeln!(out, "took {:.1} ms", took.as_secs_f64() * 1000.0)?;
    }
    Ok(())
}

/// Whether anything is dropped under this policy.
fn enforced(policy: &Policy) -> bool {
    policy.mode == Mode::Enforce
        || policy
            .services
            .iter()
            .any(|service| service.mode == Mode::Enforce)
}

fn warnings(applied: &Applied, context: &Context) -> Vec<String> {
    let mut warnings = Vec::new();
    let Applied { policy, absent, .. } = applied;
    if policy.interfaces.is_empty() {
        warnings.push(format!(
            "no interface is configured, so nothing is filtered; add for example interfaces = [\"eth0\"] to {}",
            context.config.display()
        ));
    }
    for interface in absent {
        warnings.push(format!(
            "there is no interface {interface}; run `sipguard apply` again once it is there"
        ));
    }
    if policy.services.is_empty() {
        warnings.push("no service is configured, so no port is guarded".to_owned());
    }
    let monitored: Vec<_> = policy
        .services
        .iter()
        .filter(|service| service.mode == Mode::Monitor)
        .map(|service| service.name.as_str())
        .collect();
    if !enforced(policy) {
        warnings.push("monitor mode: everything is counted and nothing is dropped".to_owned());
    } else if !monitored.is_empty() {
        warnings.push(format!(
            "monitor mode for {}: counted, but not dropped",
            joined(monitored)
        ));
    }
    warnings
}
