//! How live sources fare: whether anybody answers, whether what was found is in force, and whether it moves at all.

use jiff::Timestamp;

use super::{Evidence, Finding, Kind};
use crate::{prose::local, report::SourceReport};

pub(super) const FINDS: &[Kind] = &[
    Kind::SourceUnanswered,
    Kind::SourceRefused,
    Kind::SourceStale,
];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let sources = evidence.sources.iter();
    sources
        .flat_map(|source| of(source, evidence.now.wall))
        .collect()
}

fn of(source: &SourceReport, now: Timestamp) -> Vec<Finding> {
    let name = &source.source;
    let mut findings = Vec::new();
    if let Some(why) = &source.refused {
        findings.push(
            Kind::SourceRefused.wrong(why.clone(), format!("sipguard refresh {name} --accept")),
        );
    } else if source.entries.is_none() {
        let why = source.error.as_ref().map_or_else(
            || "nobody has asked for it".to_owned(),
            |error| format!("the last try failed: {error}"),
        );
        findings.push(Kind::SourceUnanswered.wrong(
            format!("the live source {name} is empty, because nothing was found for it yet; {why}"),
            format!("sipguard refresh {name}"),
        ));
    } else if let Some(answered) = source.answered
        && source.is_unanswered(now)
        && let Some(error) = &source.error
    {
        findings.push(Kind::SourceUnanswered.wrong(
            format!(
                "the live source {name} is as it was at {}, because nobody has answered since: {error}",
                local(answered)
            ),
            format!("sipguard refresh {name}"),
        ));
    }
    if source.stale {
        let since = source.changed.map_or_else(String::new, local);
        findings.push(Kind::SourceStale.wrong(
            format!("the live source {name} has not changed since {since}; whoever makes it may have stopped"),
            format!("sipguard refresh {name}"),
        ));
    }
    findings
}
