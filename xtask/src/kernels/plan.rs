//! What host and guest tell each other: the plan goes in as a file, the events come out as lines of JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the guest finds its plan.
pub(crate) const PLAN: &str = "/plan.json";

/// What the guest is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) jobs: Vec<Job>,
}

/// One test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Files of modules, in the order in which they are loaded before it, where they are not yet.
    pub(crate) modules: Vec<String>,
    /// How long it may take.
    pub(crate) limit: Duration,
}

/// What the guest says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Event {
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
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) passed: bool,
    pub(crate) seconds: f64,
    /// What the test printed.
    pub(crate) output: String,
}
