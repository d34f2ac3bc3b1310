//! What to mind of a policy that comes in force, as `apply` and `apply --dry-run` warn of it.

use std::path::Path;

use sipguard::{
    lifecycle::Outlook,
    policy::{Mode, Policy, Service},
    report::SourceReport,
    warnings::Doubt,
};

use super::status;
use crate::output::joined;

/// Whether anything is dropped under this policy.
pub(super) fn enforced(policy: &Policy) -> bool {
    policy.mode == Mode::Enforce
        || policy
            .services
            .iter()
            .any(|service| service.mode == Mode::Enforce)
}

/// Each in one line.
pub(super) fn warnings(
    policy: &Policy,
    absent: &[String],
    outlook: &Outlook,
    config: &Path,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if policy.interfaces.is_empty() {
        warnings.push(format!(
            "no interface is configured, so nothing is filtered; add for example interfaces = [\"eth0\"] to {}",
            config.display()
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
    warnings.extend(monitored(policy));
    for (interface, how_long) in &outlook.silent {
        warnings.push(format!(
            "{interface} may receive nothing for {how_long} while its driver starts its first program"
        ));
    }
    warnings.extend(cut_off(outlook));
    warnings.extend(ephemeral(outlook));
    warnings.extend(outlook.doubts.iter().map(Doubt::to_string));
    warnings
}

/// What to mind of a live source.
pub(super) fn of_source(source: &SourceReport) -> Option<String> {
    let name = &source.source;
    if let Some(why) = &source.refused {
        return Some(why.clone());
    }
    match (source.entries, &source.error) {
        (None, _) => Some(format!(
            "{name} is empty: nothing was found for it yet; `sipguard refresh {name}` asks for it"
        )),
        (Some(0), Some(error)) => Some(format!("{name} is empty: {error}")),
        (Some(0), None) => Some(format!("{name} is empty")),
        (Some(_), _) => None,
    }
}

fn monitored(policy: &Policy) -> Option<String> {
    let watching = |service: &&Service| service.mode == Mode::Monitor;
    let names: Vec<_> = policy
        .services
        .iter()
        .filter(watching)
        .map(|service| service.name.as_str())
        .collect();
    if !enforced(policy) {
        Some("monitor mode: everything is counted and nothing is dropped".to_owned())
    } else if names.is_empty() {
        None
    } else {
        Some(format!(
            "monitor mode for {}: counted, but not dropped",
            joined(names)
        ))
    }
}

fn cut_off(outlook: &Outlook) -> Option<String> {
    let (login, lost) = outlook.cut_off.as_ref()?;
    let services = lost
        .iter()
        .map(|(name, ports)| format!("{name} ({})", status::ports(ports)));
    let services = joined(services);
    let this_session = lost
        .iter()
        .any(|(_, ports)| ports.values().any(|ports| ports.contains(&login.port)));
    let what_of_it = if this_session {
        "your SSH session itself ends"
    } else {
        "your SSH session goes on"
    };
    Some(format!(
        "this cuts off {}, where you are logged in from, from {services}; {what_of_it}; add the address to a source to prevent it",
        login.address
    ))
}

fn ephemeral(outlook: &Outlook) -> Option<String> {
    let ephemeral = outlook.ephemeral.as_ref()?;
    let [port, connections, it] = match ephemeral.ports.len() {
        1 => ["port", "a connection", "it"],
        _ => ["ports", "connections", "them"],
    };
    Some(format!(
        "this host may take the guarded {port} {} for {connections} of its own, whose answers would be dropped; reserve {it}: sysctl -w \
         net.ipv4.ip_local_reserved_ports={}",
        joined(&ephemeral.ports),
        ephemeral.reserve
    ))
}
