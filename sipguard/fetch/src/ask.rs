//! Asking for one source, from what was found before to what stands in the folder.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
    io,
    time::Duration,
};

use jiff::Timestamp;
use thiserror::Error;

use crate::{
    keep::{self, Folder},
    kinds::{Entries, Kind, Wait},
    schedule::{after_answer, after_failure},
};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// What there is to tell, if it is news.
    pub(crate) told: String,
    pub(crate) is_news: bool,
    /// Whether anything failed.
    pub(crate) failed: bool,
    /// How long to wait until it is asked for again.
    pub(crate) pause: Duration,
    /// How to wait for a change before that.
    pub(crate) wait: Option<Box<dyn Wait>>,
}

/// What was found could not be written.
#[derive(Debug, Error)]
#[error("{}: cannot write what was found: {error}", source_name)]
pub(crate) struct Unwritten {
    source_name: String,
    error: io::Error,
    /// How long to wait until it is asked for again.
    pub(crate) pause: Duration,
}

/// Asks once; it failed `failures` times before, and `asked` is the time.
pub(crate) fn ask(
    source: &str,
    kind: &mut dyn Kind,
    folder: &Folder,
    failures: u32,
    asked: Timestamp,
) -> Result<Asked, Unwritten> {
    let before = folder.before(source);
    let mut answer = kind.ask(&before, asked);
    let wait = answer.wait.take();

    let failed = answer.error.is_some();
    let mut pause = after_answer(answer.good, answer.soonest, chance());
    if failed {
        pause = pause.min(after_failure(failures.saturating_add(1), chance()));
    }
    if matches!(answer.entries, Entries::Written) {
        return Ok(Asked {
            is_news: false,
            told: match &answer.error {
                None => format!("{source}: as before"),
                Some(error) => format!("{source}: as before; {error}"),
            },
            failed,
            pause,
            wait,
        });
    }
    let next = asked.checked_add(pause.max(answer.silent));
    let next = next.unwrap_or(asked);
    let unwritten = |error| Unwritten {
        source_name: source.to_owned(),
        error,
        pause,
    };
    // What was asked for at another place says nothing of this one.
    let known = before.head();
    let known = known.filter(|head| head.url == answer.url);
    let is_changed = known.is_none_or(|head| head.changed.is_none())
        || keep::is_changed(&answer.entries, &before).map_err(unwritten)?;
    let head = keep::head(source, &answer, known, is_changed, asked, next);
    let count = folder
        .write(&head, &answer.entries, &before)
        .map_err(unwritten)?;
    let entries = match count {
        1 => "1 entry".to_owned(),
        entries => format!("{entries} entries"),
    };
    Ok(Asked {
        is_news: is_changed || known.is_none_or(|before| before.error != head.error),
        told: match &head.error {
            None => format!("{source}: {entries}"),
            Some(error) => format!("{source}: {entries}; {error}"),
        },
        failed,
        pause,
        wait,
    })
}

/// A number that nobody foresees, and that two hosts do not have alike.
fn chance() -> u32 {
    let random = RandomState::new().build_hasher().finish();
    // Half of it is as random as the whole.
    u32::try_from(random >> 32).unwrap_or_default()
}
