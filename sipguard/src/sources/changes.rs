//! What of a source is another one than before.

use std::{fs::File, iter::Peekable};

use ipnet::IpNet;
use jiff::Timestamp;
use sipguard_lists::found::{Entry, Reader};

/// Where two copies of a source differ, as far as packets are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What is new, or ends at another time, with its end.
    pub new: Vec<(IpNet, Option<Timestamp>)>,
    /// What is gone.
    pub gone: Vec<IpNet>,
    /// There are more than these: than are made one by one, or than could be found out.
    pub more: bool,
}

impl Changes {
    /// How many are told one by one.
    pub const TOLD: usize = 1_000;

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.gone.is_empty() && !self.more
    }

    pub(super) fn add(&mut self, prefix: IpNet, end: Option<Timestamp>) {
        if self.has_room() {
            self.new.push((prefix, end));
        }
    }

    pub(super) fn remove(&mut self, prefix: IpNet) {
        if self.has_room() {
            self.gone.push(prefix);
        }
    }

    fn has_room(&mut self) -> bool {
        self.more |= self.new.len() + self.gone.len() == Self::TOLD;
        !self.more
    }
}

/// Compares a copy that is read, entry by entry, with the one before.
pub(super) struct Comparison {
    before: Peekable<Before>,
    changes: Changes,
}

/// The entries of before; one that can't be read ends them.
struct Before(Option<Reader<File>>);

impl Iterator for Before {
    type Item = Result<Entry, ()>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.0.as_mut()?.next_entry();
        if !matches!(next, Ok(Some(_))) {
            self.0 = None;
        }
        next.map_err(|_| ()).transpose()
    }
}

impl Comparison {
    /// With the one before. Where that can't be used, what is gone can't be found out.
    pub(super) fn with<E>(before: Result<Option<Reader<File>>, E>) -> Self {
        let changes = Changes {
            more: before.is_err(),
            ..Changes::default()
        };
        Self {
            before: Before(before.unwrap_or_default()).peekable(),
            changes,
        }
    }

    /// The next entry of now; each is above the one before.
    pub(super) fn see(&mut self, entry: &Entry) {
        self.pass(Some(entry.prefix));
        let is_known = |before: &Result<Entry, ()>| {
            before
                .as_ref()
                .is_ok_and(|before| before.prefix == entry.prefix)
        };
        let before = self.before.next_if(is_known);
        if !before.is_some_and(|before| before.is_ok_and(|before| before.end == entry.end)) {
            self.changes.add(entry.prefix, entry.end);
        }
    }

    /// Behind the last one.
    pub(super) fn finish(mut self) -> Changes {
        self.pass(None);
        self.changes
    }

    /// What is gone below a prefix.
    fn pass(&mut self, limit: Option<IpNet>) {
        let is_below = |before: &Result<Entry, ()>| {
            let before = before.as_ref();
            before.map_or(true, |before| {
                limit.is_none_or(|limit| before.prefix < limit)
            })
        };
        while let Some(before) = self.before.next_if(is_below) {
            match before {
                Ok(before) => self.changes.remove(before.prefix),
                Err(()) => self.changes.more = true,
            }
        }
    }
}
