//! Whether what the config says is what filters.

mod config;
mod monitor;

use super::{Evidence, Finding, Kind, world::default_routes};
use crate::report::{InterfaceReport, InterfaceState};

pub(super) const FINDS: &[Kind] = &[
    Kind::Unreadable,
    Kind::NotInForce,
    Kind::NoInterface,
    Kind::InterfaceNotFiltered,
    Kind::InterfaceAbsent,
    Kind::InterfaceRenamed,
    Kind::InterfaceNotJudged,
    Kind::NothingDropped,
    Kind::OnlyWatched,
    Kind::ConfigUnusable,
    Kind::ConfigTakenBack,
    Kind::ConfigNotApplied,
    Kind::OtherVersion,
];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &evidence.live {
        Err(error) => findings.push(Kind::Unreadable.open(error.to_string(), evidence.apply())),
        Ok(None) => findings.extend(nothing(evidence)),
        Ok(Some(live)) => {
            let interfaces = evidence.interfaces.iter();
            findings.extend(interfaces.flat_map(|interface| of_interface(interface, evidence)));
            findings.extend(monitor::check(evidence, live));
        }
    }
    findings.extend(config::check(evidence));
    findings
}

/// Nothing is in force.
fn nothing(evidence: &Evidence) -> Option<Finding> {
    // What is wrong with the config is told elsewhere.
    let policy = evidence.policy.as_ref().ok()?;
    if !policy.interfaces.is_empty() {
        // The same config again would not be applied.
        return (!evidence.taken_back).then(|| {
            let about = "nothing is in force: no packet is dropped, whatever the config says";
            Kind::NotInForce.open(about, evidence.apply())
        });
    }
    // Where one leads to the internet, the check for that names it.
    default_routes().is_empty().then(|| {
        let about = "nothing is in force: the config names no interface";
        Kind::NoInterface
            .open(about, evidence.edit())
            .inside(&evidence.config, None)
    })
}

/// What of an interface is not as the config says.
fn of_interface(interface: &InterfaceReport, evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = &interface.name;
    match interface.state {
        InterfaceState::Detached => {
            let about = format!("{name} is to be filtered and is not");
            findings.push(Kind::InterfaceNotFiltered.open(about, evidence.apply()));
        }
        InterfaceState::Absent => {
            let about = format!("{name} is to be filtered, and there is no such interface");
            findings.push(Kind::InterfaceAbsent.wrong(about, evidence.edit()));
        }
        InterfaceState::Attached => {}
    }
    if let Some(renamed) = &interface.renamed {
        let about = format!(
            "{name} is called {renamed} now: it is filtered, but an apply that guards others lets go of it, for the config calls it {name}"
        );
        findings.push(Kind::InterfaceRenamed.wrong(about, evidence.edit()));
    }
    if let Some(unfit) = &interface.unfit {
        let about = format!("what comes in by {name} is not judged any more: {unfit}");
        findings.push(Kind::InterfaceNotJudged.open(about, evidence.edit()));
    }
    findings.into_iter().map(|it| it.on(name)).collect()
}
