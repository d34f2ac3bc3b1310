//! What host and guest tell each other: the plan goes in as a file, the events come out as lines of JSON.

use serde::{Deserialize, Serialize};

/// Where the guest finds its plan.
pub(super) const PLAN: &str = "/plan.json";

/// What the guest is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) jobs: Vec<Job>,
}

/// One test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) name: String,
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    /// Files of modules, in the order in which they are loaded before it, where they are not yet.
    pub(super) modules: Vec<String>,
}

/// What the guest says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Event {
    /// It is up, as this release.
    Up(String),
    /// A test has ended.
    Ended(Ended),
    /// It can't go on, for this reason.
    Stuck(String),
    /// All was done.
    Done,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) name: String,
    pub(super) passed: bool,
    pub(super) seconds: f64,
    /// What the test printed.
    pub(super) output: String,
}
