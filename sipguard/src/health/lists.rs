//! Whether the lists are what they are meant to be: what is in force, and what an apply would put in force.

use jiff::SignedDuration;

use super::{Evidence, Finding, Kind, evidence::edit};
use crate::warnings::{Doubt, doubts};

pub(super) const FINDS: &[Kind] = &[Kind::SourceEmpty, Kind::SourceShrunk];

/// Whoever has not looked after a list for so long means it to be as it is.
const NEWS: SignedDuration = SignedDuration::from_hours(24);

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let now = evidence.now.wall;
    let policy = evidence.policy.as_ref().ok();
    let to_come = policy.map_or_else(Vec::new, |policy| doubts(policy, &evidence.state, now));
    let in_force = evidence.in_force().map(|live| &live.generation.description);
    let found = in_force
        .filter(|description| now.duration_since(description.applied) < NEWS)
        .map_or(&[][..], |description| &description.doubts);
    let mut all: Vec<_> = found
        .iter()
        .filter(|doubt| matches!(doubt, Doubt::ShrunkSource { .. }))
        .collect();
    let shrunk: Vec<_> = all.iter().map(|doubt| doubt.source()).collect();
    // What is empty since is told of once.
    let others = to_come
        .iter()
        .filter(|doubt| doubt.source().is_none() || !shrunk.contains(&doubt.source()));
    all.extend(others);
    all.into_iter()
        .filter_map(|doubt| finding(evidence, doubt))
        .collect()
}

fn finding(evidence: &Evidence, doubt: &Doubt) -> Option<Finding> {
    let (kind, file) = match doubt {
        // Checks of their own.
        Doubt::NobodyAllowed { .. } | Doubt::EverybodyAllowed { .. } => return None,
        Doubt::EmptySource { file, .. } => (Kind::SourceEmpty, file),
        Doubt::ShrunkSource { file, .. } => (Kind::SourceShrunk, file),
    };
    let about = doubt.to_string();
    Some(match file {
        Some(file) => kind.wrong(about, edit(file, None)).inside(file, None),
        // Whoever wrote that did not download it.
        None => kind
            .advice(about, evidence.edit())
            .inside(&evidence.config, None),
    })
}
