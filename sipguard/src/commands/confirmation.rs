//! An apply that waits to be confirmed, in one sentence.

use sipguard::report::ConfirmationReport;

use crate::output::{local, rough};

/// What is in force otherwise, after which one of both words fits.
fn before(previous: Option<u64>) -> String {
    match previous {
        Some(previous) => format!("generation {previous} is in force again"),
        None => "nothing is filtered any more".to_owned(),
    }
}

/// What is to be done, and until when.
pub(super) fn sentence(report: &ConfirmationReport) -> String {
    let ConfirmationReport {
        generation, until, ..
    } = report;
    let before = before(report.previous);
    if report.lapsed {
        return format!(
            "generation {generation} was not confirmed by {}: {before}",
            local(*until)
        );
    }
    let left = rough(i64::try_from(report.seconds_left).unwrap_or(i64::MAX));
    format!(
        "generation {generation} waits for `sipguard confirm` until {} ({left} left), or {before}; `sipguard rollback` takes it back at once",
        local(*until)
    )
}
