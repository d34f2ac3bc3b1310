//! Whether what the config says is what filters.

use sipguard::{
    policy::{Action, Mode, Policy},
    report::{InterfaceReport, InterfaceState},
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
    let mut findings: Vec<_> = host
        .interfaces
        .iter()
        .flat_map(|interface| of_interface(interface, &apply, &edit))
        .collect();
    let description = &live.generation.description;
    let services = description.services.iter().map(|found| &found.service);
    if description.interfaces != policy.interfaces || !services.eq(&policy.services) {
        findings.push(advice(
            "the config was changed and not applied: its interfaces or services are not those in force",
            apply,
        ));
    }
    findings.extend(monitored(policy, host));
    findings
}

/// What of an interface is not as the config says.
fn of_interface(interface: &InterfaceReport, apply: &str, edit: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = &interface.name;
    match interface.state {
        InterfaceState::Detached => {
            findings.push(wrong(format!("{name} is to be filtered and is not"), apply));
        }
        InterfaceState::Absent => findings.push(wrong(
            format!("{name} is to be filtered, and there is no such interface"),
            edit,
        )),
        InterfaceState::Attached => {}
    }
    if let Some(renamed) = &interface.renamed {
        findings.push(wrong(
            format!(
                "{name} is called {renamed} now: it is filtered until the next apply, for the config calls it {name}"
            ),
            edit,
        ));
    }
    if let Some(unfit) = &interface.unfit {
        findings.push(wrong(
            format!("what comes in by {name} is not judged any more: {unfit}"),
            edit,
        ));
    }
    findings
}

fn monitored(policy: &Policy, host: &Host) -> Option<Finding> {
    let monitored: Vec<_> = policy
        .services
        .iter()
        .filter(|service| service.mode == Mode::Monitor && service.default == Action::Deny)
        .map(|service| service.name.as_str())
        .collect();
    if monitored.is_empty() {
        return None;
    }
    Some(advice(
        format!(
            "{} is only watched (mode = \"monitor\"): nothing is dropped there",
            joined(monitored)
        ),
        format!(
            "sed -i 's/\"monitor\"/\"enforce\"/' {0} && sipguard apply --config {0}",
            quoted(&host.config)
        ),
    ))
}
