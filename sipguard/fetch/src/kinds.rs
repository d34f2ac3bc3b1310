//! What can be asked for: one file a kind. A kind asks once; when it is asked again, and what becomes of a failure, is not its business.

mod names;

use std::time::Duration;

use jiff::Timestamp;
use sipguard_lists::{
    found::{Entry, Head, Lookup},
    name::Name,
    task::{Kind as Question, Tasks},
};

/// What was found before.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// `None` where nothing was ever asked.
    pub(crate) head: Option<Head>,
    pub(crate) entries: Vec<Entry>,
}

/// What is known now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// All that is to be listed, in order; what was found before among it where the kind says so.
    pub(crate) entries: Vec<Entry>,
    /// Whether the other side said anything.
    pub(crate) answered: bool,
    /// What became of look-ups of names.
    pub(crate) lookups: Vec<Lookup>,
    /// What failed, all or in part.
    pub(crate) error: Option<String>,
    /// How long the answer is good.
    pub(crate) good: Duration,
}

impl Before {
    /// Whether all this was asked for then; what is new is to be asked for at once.
    pub(crate) fn answers(head: &Head, question: &Question) -> bool {
        let Question::Names(names) = question;
        let was_asked = |name: &Name| head.lookups.iter().any(|lookup| lookup.name == *name);
        names.names.iter().all(was_asked)
    }
}

/// One way to ask.
pub(crate) trait Kind {
    /// Asks once, and waits for the answer; `now` is when that begins.
    fn ask(&self, before: &Before, now: Timestamp) -> Answer;
}

/// The way to ask a question.
pub(crate) fn kind(question: &Question, tasks: &Tasks) -> Box<dyn Kind> {
    match question {
        Question::Names(names) => Box::new(names::InDns::new(names, tasks)),
    }
}
