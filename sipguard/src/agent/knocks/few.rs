//! A few of the different things that somebody said, and how often he said each.

use std::mem;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// What one text costs besides its bytes: where it is, and what the allocator adds.
pub(super) const OVERHEAD: usize = 48;

/// Something that takes room.
pub(super) trait Sized {
    /// How many bytes, about.
    fn bytes(&self) -> usize;
}

impl Sized for CompactString {
    fn bytes(&self) -> usize {
        self.len() + OVERHEAD
    }
}

/// One thing, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen<T> {
    /// What it is.
    pub what: T,
    /// How often it was told of.
    pub times: u32,
}

/// At most `N` of them, in the order in which they came first. Where one more comes, the one that was there least often gives way, and of
/// several the first: whoever says something else each time has the newest ones kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Few<T, const N: usize>(Box<[Seen<T>]>);

impl<T, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T, const N: usize> Few<T, N> {
    /// In the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &Seen<T>> {
        self.0.iter()
    }

    /// Those that were there most often first.
    pub fn by_times(&self) -> Vec<&Seen<T>> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by_key(|seen| std::cmp::Reverse(seen.times));
        all
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that was there most often, and of several the first.
    pub fn most(&self) -> Option<&T> {
        let most = self.0.iter().rev().max_by_key(|seen| seen.times);
        most.map(|seen| &seen.what)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.change(|all| all.retain(|seen| keep(&seen.what)));
    }

    /// There are ten thousand sources with six of these each, so that none has more room than it needs.
    fn change(&mut self, change: impl FnOnce(&mut Vec<Seen<T>>)) {
        let mut all = mem::take(&mut self.0).into_vec();
        change(&mut all);
        self.0 = all.into_boxed_slice();
    }
}

#[expect(private_bounds, reason = "what takes room is a matter of this folder")]
impl<T: Sized, const N: usize> Few<T, N> {
    /// Notes what `is` is true of, and makes it where it is not there; returns whether it was not.
    pub(super) fn note(&mut self, is: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> bool {
        if let Some(seen) = self.0.iter_mut().find(|seen| is(&seen.what)) {
            seen.times = seen.times.saturating_add(1);
            return false;
        }
        self.change(|all| {
            if all.len() >= N {
                let places = all.iter().enumerate();
                if let Some((least, _)) = places.min_by_key(|(_, seen)| seen.times) {
                    all.remove(least);
                }
            }
            all.reserve_exact(1);
            all.push(Seen {
                what: make(),
                times: 1,
            });
        });
        true
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|seen| seen.what.bytes()).sum()
    }

    /// Keeps as many as there may be: a file may say anything.
    pub(super) fn cut(&mut self) {
        self.change(|all| all.truncate(N));
    }
}

impl<const N: usize> Few<CompactString, N> {
    /// Notes a text; returns whether it was not there.
    pub(super) fn note_text(&mut self, text: &str) -> bool {
        self.note(|seen| seen == text, || text.into())
    }
}
