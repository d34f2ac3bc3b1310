//! Whether what the config says is what filters.

use sipguard::{
    policy::{Action, Mode},
    report::InterfaceState,
};

use super::{Finding, Host, advice, quoted, world::default_routes, wrong};
use crate::output::{count, joined};

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let edit = format!("${{EDITOR:-nano}} {}", quoted(&host.config));
    let policy = match &host.policy {
        Ok(policy) => policy,
        Err(error) => {
            let all = count(error.lines().count(), "problem", "problems");
            let first = error.lines().next().unwrap_or_default();
            return vec![wrong(
                format!("the config can't be used ({all}): {first}"),
                if host.config.exists() {
                    edit
                } else {
                    format!("sipguard init --config {}", quoted(&host.config))
                },
            )];
        }
    };
    let apply = format!("sipguard apply --config {}", quoted(&host.config));
    let live = match &host.live {
        Err(error) => return vec![wrong(error.clone(), apply)],
        Ok(None) if policy.interfaces.is_empty() => {
            // Where one leads to the internet, the check for that names it.
            return if default_routes().is_empty() {
                vec![wrong(
                    "the config names no interface: nothing is filtered",
                    edit,
                )]
            } else {
                Vec::new()
            };
        }
        Ok(None) => {
            return vec![wrong(
                "nothing is in force: no packet is dropped, whatever the config says",
                apply,
            )];
        }
        Ok(Some(live)) => live,
    };
    let mut findings = Vec::new();
    for interface in &host.interfaces {
        if interface.state == InterfaceState::Detached {
            findings.push(wrong(
                format!("{} is to be filtered and is not", interface.name),
                apply.clone(),
            ));
        }
        if let Some(renamed) = &interface.renamed {
            findings.push(wrong(
                format!(
                    "{0} is called {renamed} now: it is filtered until the next apply, for the config calls it {0}",
                    interface.name
                ),
                edit.clone(),
            ));
        }
        if let Some(unfit) = &interface.unfit {
            findings.push(wrong(
                format!(
                    "what comes in by {} is not judged any more: {unfit}",
                    interface.name
                ),
                edit.clone(),
            ));
        }
    }
    let description = &live.generation.description;
    let services = description.services.iter().map(|found| &found.service);
    if description.interfaces != policy.interfaces || !services.eq(&policy.services) {
        findings.push(advice(
            "the config was changed and not applied: its interfaces or services are not those in force",
            apply,
        ));
    }
    let monitored: Vec<_> = policy
        .services
        .iter()
        .filter(|service| service.mode == Mode::Monitor && service.default == Action::Deny)
        .map(|service| service.name.as_str())
        .collect();
    if !monitored.is_empty() {
        findings.push(advice(
            format!(
                "{} is only watched (mode = \"monitor\"): nothing is dropped there",
                joined(monitored)
            ),
            format!(
                "sed -i 's/\"monitor\"/\"enforce\"/' {0} && sipguard apply --config {0}",
                quoted(&host.config)
            ),
        ));
    }
    findings
}
