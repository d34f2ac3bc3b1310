//! What commands print.

use serde_json::Value;

use crate::netns::Finished;

/// JSON, a value a line.
///
/// # Panics
/// Where a line is no JSON.
#[must_use]
pub fn json_lines(finished: &Finished) -> Vec<Value> {
    let lines = finished.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}
