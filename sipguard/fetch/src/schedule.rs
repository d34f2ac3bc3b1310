//! When each source is asked next. It has no clock and no chance of its own: both are handed in.

use std::{collections::BTreeMap, time::Duration};

/// Nobody is asked sooner again who does not allow it, and does not tell of a change.
pub(crate) const SHORTEST: Duration = Duration::from_secs(30);
/// Everybody is asked as often.
pub(crate) const LONGEST: Duration = Duration::from_hours(30 * 24);
/// Whoever gave no answer is asked as often.
const LONGEST_SILENT: Duration = Duration::from_hours(1);
/// The first pause behind a failure; a tenth less is still no less than [`SHORTEST`].
const FIRST: Duration = Duration::from_secs(40);
/// How long to wait behind word of a change: changes come in bunches, and whoever tells of one all the time is not asked all the time.
const SETTLE: Duration = Duration::from_millis(100);
/// How many sources are asked at a time.
pub(crate) const AT_A_TIME: usize = 8;

/// A moment, as the time since any fixed one.
pub(crate) type Moment = Duration;

/// How long to wait until a source is asked again that gave an answer which is good for `good`, and may not be asked before `soonest`. `chance`
/// is any number; it makes the pause up to a tenth shorter, so that sources, and hosts, do not ask all at once.
pub(crate) fn after_answer(good: Duration, soonest: Duration, chance: u32) -> Duration {
    jittered(good.max(soonest).min(LONGEST), chance).max(soonest)
}

/// How long to wait until a source is asked again that gave no answer for the `failures`th time, counted from 1.
pub(crate) fn after_failure(failures: u32, chance: u32) -> Duration {
    let doubled = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    jittered(FIRST.saturating_mul(doubled).min(LONGEST_SILENT), chance).max(SHORTEST)
}

fn jittered(pause: Duration, chance: u32) -> Duration {
    let less = pause / 10 * (chance % 1_000) / 1_000;
    pause.saturating_sub(less)
}

/// Who is asked when.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    sources: BTreeMap<String, State>,
}

#[derive(Debug)]
struct State {
    due: Moment,
    /// Whether it is being asked.
    is_asked: bool,
    /// How often it gave no answer since it gave one.
    failures: u32,
}

/// A source that is to be asked now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) source: String,
    /// How often it gave no answer since it gave one.
    pub(crate) failures: u32,
}

impl Schedule {
    /// Has a source asked at a moment: one that is new, or is to be asked something else.
    pub(crate) fn set(&mut self, source: &str, due: Moment) {
        let state = State {
            due,
            is_asked: false,
            failures: 0,
        };
        self.sources.insert(source.to_owned(), state);
    }

    /// Forgets all others.
    pub(crate) fn keep_only(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.sources.retain(|source, _| is_kept(source));
    }

    /// The sources that are to be asked now, the longest waiting first; they count as being asked.
    pub(crate) fn due(&mut self, now: Moment) -> Vec<Due> {
        let asked = self.sources.values().filter(|state| state.is_asked).count();
        let mut due: Vec<_> = self
            .sources
            .iter_mut()
            .filter(|(_, state)| !state.is_asked && state.due <= now)
            .collect();
        due.sort_by_key(|(_, state)| state.due);
        due.truncate(AT_A_TIME.saturating_sub(asked));
        let begin = |(source, state): (&String, &mut State)| {
            state.is_asked = true;
            Due {
                source: source.clone(),
                failures: state.failures,
            }
        };
        due.into_iter().map(begin).collect()
    }

    /// Notes that a source was asked, and when it is to be asked again.
    pub(crate) fn asked(&mut self, source: &str, failed: bool, again: Moment) {
        // It may be asked for no more.
        if let Some(state) = self.sources.get_mut(source) {
            state.is_asked = false;
            state.due = again;
            state.failures = if failed {
                state.failures.saturating_add(1)
            } else {
                0
            };
        }
    }

    /// Notes that a source told of a change.
    pub(crate) fn changed(&mut self, source: &str, now: Moment) {
        // Whoever is being asked has it in the answer, or tells of it again behind that.
        if let Some(state) = self.sources.get_mut(source) {
            state.due = state.due.min(now + SETTLE);
        }
    }

    /// When somebody is due next, whom nobody asks yet.
    pub(crate) fn next(&self) -> Option<Moment> {
        let waiting = self.sources.values().filter(|state| !state.is_asked);
        waiting.map(|state| state.due).min()
    }
}

#[cfg(test)]
mod tests;
