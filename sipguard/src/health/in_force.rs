//! Whether what the config says is what filters.

mod config;
mod monitor;

use super::{Finding, Kind, Survey, world::default_routes};
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

pub(super) fn check(survey: &Survey) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &survey.live {
        Err(error) => findings.push(Kind::Unreadable.open(error.to_string(), survey.apply())),
        Ok(None) => findings.extend(nothing(survey)),
        Ok(Some(live)) => {
            let interfaces = survey.interfaces.iter();
            findings.extend(interfaces.flat_map(|interface| of_interface(interface, survey)));
            findings.extend(monitor::check(survey, live));
        }
    }
    findings.extend(config::check(survey));
    findings
}

/// Nothing is in force.
fn nothing(survey: &Survey) -> Option<Finding> {
    // What is wrong with the config is told elsewhere.
    let policy = survey.policy.as_ref().ok()?;
    if !policy.interfaces.is_empty() {
        // The same config again would not be applied.
        return (!survey.taken_back).then(|| {
            let about = "nothing is in force: no packet is dropped, whatever the config says";
            Kind::NotInForce.open(about, survey.apply())
        });
    }
    // Where one leads to the internet, the check for that names it.
    default_routes().is_empty().then(|| {
        let about = "nothing is in force: the config names no interface";
        Kind::NoInterface
            .open(about, survey.edit())
            .inside(&survey.config, None)
    })
}

/// What of an interface is not as the config says.
fn of_interface(interface: &InterfaceReport, survey: &Survey) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = &interface.name;
    match interface.state {
        InterfaceState::Detached => {
            let about = format!("{name} is to be filtered and is not");
            findings.push(Kind::InterfaceNotFiltered.open(about, survey.apply()));
        }
        InterfaceState::Absent => {
            let about = format!("{name} is to be filtered, and there is no such interface");
            findings.push(Kind::InterfaceAbsent.wrong(about, survey.edit()));
        }
        InterfaceState::Attached => {}
    }
    if let Some(renamed) = &interface.renamed {
        let about = format!(
            "{name} is called {renamed} now: it is filtered until the next apply, for the config calls it {name}"
        );
        findings.push(Kind::InterfaceRenamed.wrong(about, survey.edit()));
    }
    if let Some(unfit) = &interface.unfit {
        let about = format!("what comes in by {name} is not judged any more: {unfit}");
        findings.push(Kind::InterfaceNotJudged.open(about, survey.edit()));
    }
    findings.into_iter().map(|it| it.on(name)).collect()
}
