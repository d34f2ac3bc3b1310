//! Whether the config can be used, and is what was applied.

use crate::{
    config::ConfigError,
    health::{
        Evidence, Finding, Kind,
        evidence::{edit, quoted},
    },
    lifecycle,
    policy::Policy,
    prose::{count, joined, local},
};

pub(super) fn check(evidence: &Evidence) -> Option<Finding> {
    match &evidence.policy {
        Err(error) => Some(unusable(evidence, error)),
        // What waits to be confirmed is in force, and is told as that.
        Ok(_) if evidence.waits() => None,
        Ok(policy) if evidence.taken_back && !policy.interfaces.is_empty() => {
            Some(taken_back(evidence))
        }
        Ok(policy) => not_applied(evidence, policy),
    }
}

/// Names the first problem's file and line, which may be a list file's.
fn unusable(evidence: &Evidence, error: &lifecycle::Error) -> Finding {
    let told = error.to_string();
    let all = count(told.lines().count(), "problem", "problems");
    let first = told.lines().next().unwrap_or_default();
    let mut file = evidence.config.clone();
    let mut line = None;
    let mut mend = None;
    if let lifecycle::Error::Config(error) = error {
        match &**error {
            ConfigError::Wrong(problems) => {
                if let Some(problem) = problems.iter().next() {
                    file =
                        std::path::absolute(&problem.file).unwrap_or_else(|_| problem.file.clone());
                    line = Some(problem.line);
                }
            }
            ConfigError::Read { .. } if !file.exists() => {
                mend = Some(format!("sipguard init --config {}", quoted(&file)));
            }
            ConfigError::Read { .. } => {}
        }
    }
    let mend = mend.unwrap_or_else(|| edit(&file, line));
    let found = if matches!(evidence.live, Ok(None)) {
        let about = format!("nothing is in force, and the config can't be used ({all}): {first}");
        Kind::ConfigUnusable.open(about, mend)
    } else {
        let about = format!(
            "the config can't be used ({all}), and what was in force before goes on filtering: {first}"
        );
        Kind::ConfigUnusable.wrong(about, mend)
    };
    found.inside(file, line)
}

/// A plain apply would not take it either.
fn taken_back(evidence: &Evidence) -> Finding {
    let mend = format!("{} --confirm 60s", evidence.apply());
    let unconfirmed = evidence.state.unconfirmed.as_ref();
    let at = unconfirmed
        .and_then(|unconfirmed| unconfirmed.taken_back)
        .map_or_else(String::new, |at| format!(" at {}", local(at)));
    let why = format!("the config was not confirmed, and was taken back{at}");
    let found = if matches!(evidence.live, Ok(None)) {
        Kind::ConfigTakenBack.open(format!("nothing is in force: {why}"), mend)
    } else {
        let about = format!("{why}: what was in force before is in force");
        Kind::ConfigTakenBack.wrong(about, mend)
    };
    found.inside(&evidence.config, None)
}

/// Compares all that the config says with what the kernel has.
fn not_applied(evidence: &Evidence, policy: &Policy) -> Option<Finding> {
    let description = &evidence.in_force()?.generation.description;
    if policy.interfaces.is_empty() {
        let about = "the config names no interface, and what was in force before goes on filtering";
        let found = Kind::NoInterface.wrong(about, evidence.edit());
        return Some(found.inside(&evidence.config, None));
    }
    let mut slots = evidence.state.slots.clone();
    let names = policy.services.iter().map(|service| service.name.as_str());
    // With more services than there can be, it is not what was applied.
    let digest = slots
        .assign(names)
        .map(|_| lifecycle::digest(policy, &slots));
    if digest.is_ok_and(|digest| digest == description.digest) {
        return None;
    }
    let own = env!("CARGO_PKG_VERSION");
    if description.version != own {
        let made = &description.version;
        let about = format!(
            "what is in force was made by sipguard {made}: an apply replaces it with that of {own}"
        );
        return Some(Kind::OtherVersion.wrong(about, evidence.apply()));
    }
    let file = evidence.config.display();
    let about = if description.config == evidence.config {
        let services = description.services.iter().map(|found| &found.service);
        let differs = [
            (description.interfaces != policy.interfaces, "interfaces"),
            (!services.eq(&policy.services), "services"),
            (description.mode != policy.mode, "mode"),
        ];
        let mut differ: Vec<_> = differs
            .into_iter()
            .filter_map(|(differs, what)| differs.then_some(what))
            .collect();
        if differ.is_empty() {
            differ.push("sources");
        }
        format!(
            "the config was changed and not applied ({})",
            joined(differ)
        )
    } else {
        let other = description.config.display();
        format!("what is in force is what {other} says, and not what {file} says")
    };
    let found = Kind::ConfigNotApplied.wrong(about, evidence.apply());
    Some(found.inside(&evidence.config, None))
}
