//! What a live source may say, by its kind.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};
use sipguard_lists::{
    address,
    found::{Entry, Family, Head},
    name::Name,
    prefix,
    said::Said,
    task::{Kind, Names, Task},
};
use thiserror::Error;

use super::Circumstances;

/// Nothing was found before there was a fetcher: 2026-01-01.
const BEGIN: Timestamp = Timestamp::constant(1_767_225_600, 0);
/// How far the fetcher's clock may be ahead of the one by which it is read.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);
/// The longest that anything is asked for again.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(31 * 24);
/// The most characters of a message.
const MAX_MESSAGE: usize = 500;

/// What a file says that can't be, or must not be.
#[derive(Debug, Error)]
pub enum Broken {
    /// A time at which nothing can have happened.
    #[error("says that {what} at {time}, and it is {now} now")]
    Time {
        /// What is said to have happened.
        what: &'static str,
        /// When.
        time: Timestamp,
        /// The time as it is reckoned to be.
        now: Timestamp,
    },
    /// It will not be asked for again in a long time, or should have been long ago.
    #[error("says that it was asked for at {asked}, and will be again at {next}")]
    Next {
        /// When it was asked for.
        asked: Timestamp,
        /// When it is said to be asked for again.
        next: Timestamp,
    },
    /// A message that is too long.
    #[error("has a message of more than {MAX_MESSAGE} characters")]
    Message,
    /// One look-up has one outcome.
    #[error("says twice what became of {}", Said(&.0.to_string()))]
    Twice(Name),
    /// A name has hosts only.
    #[error("has {prefix}, and a name has single addresses only", prefix = prefix::format(*.0))]
    Wide(ipnet::IpNet),
    /// An address that no name may have.
    #[error("has {address}, {what}")]
    Address {
        /// The address.
        address: IpAddr,
        /// What it is.
        what: &'static str,
    },
    /// An entry without the name that it is of.
    #[error("has {address}, and does not say of which name")]
    Nameless {
        /// The address.
        address: IpAddr,
    },
    /// An address of a name with an end of its own.
    #[error("has {address} with an end, and addresses of names have none")]
    End {
        /// The address.
        address: IpAddr,
    },
    /// More than are kept.
    #[error("has more than {} addresses of one kind for {name}", Names::MAX_HELD)]
    Held {
        /// Which name.
        name: Name,
    },
}

/// What one source may say.
pub(super) struct Bounds<'a> {
    names: &'a Names,
    circumstances: Circumstances<'a>,
    held: HashMap<(&'a Name, Family), usize>,
}

impl<'a> Bounds<'a> {
    pub(super) fn new(task: &'a Task, circumstances: Circumstances<'a>) -> Self {
        let Kind::Names(names) = &task.kind;
        Self {
            names,
            circumstances,
            held: HashMap::new(),
        }
    }

    /// Whether the file may say so of itself.
    pub(super) fn head(&self, head: &Head) -> Result<(), Broken> {
        self.time("it was asked for", head.asked)?;
        // What was answered or changed was so before it was asked for: the reader saw to that.
        for (what, time) in [
            ("it was answered", head.answered),
            ("it changed", head.changed),
        ] {
            if let Some(time) = time {
                self.time(what, time)?;
            }
        }
        let pause = head.next.duration_since(head.asked);
        if pause < SignedDuration::ZERO || pause > LONGEST_PAUSE {
            return Err(Broken::Next {
                asked: head.asked,
                next: head.next,
            });
        }
        let said = head
            .lookups
            .iter()
            .filter_map(|lookup| lookup.said.as_ref());
        for message in said.chain(&head.error) {
            if message.chars().count() > MAX_MESSAGE {
                return Err(Broken::Message);
            }
        }
        let mut seen = BTreeSet::new();
        for lookup in &head.lookups {
            if let Some(time) = lookup.answered {
                self.time("a name was answered", time)?;
            }
            if !seen.insert((&lookup.name, lookup.family)) {
                return Err(Broken::Twice(lookup.name.clone()));
            }
        }
        Ok(())
    }

    /// Whether an entry can have been seen when it says so. The last time is not after the file was answered: the reader saw to that.
    pub(super) fn seen(&self, entry: &Entry) -> Result<(), Broken> {
        self.time("an entry was seen", entry.first)
    }

    /// Whether an entry is to be kept: those of names that are not asked for any more are left out.
    pub(super) fn entry(&mut self, entry: &Entry) -> Result<bool, Broken> {
        let address = entry.prefix.addr();
        if entry.prefix.prefix_len() != entry.prefix.max_prefix_len() {
            return Err(Broken::Wide(entry.prefix));
        }
        if let Some(what) = address::refused(address, self.names.private) {
            return Err(Broken::Address { address, what });
        }
        if self.circumstances.own.contains(&address) {
            let what = "an address of this host";
            return Err(Broken::Address { address, what });
        }
        if entry.end.is_some() {
            return Err(Broken::End { address });
        }
        let name = entry.comment.as_deref().and_then(|name| name.parse().ok());
        let Some(name) = name else {
            return Err(Broken::Nameless { address });
        };
        let Some(name) = self.names.names.get(&name) else {
            return Ok(false);
        };
        let held = self
            .held
            .entry((name, Family::of(entry.prefix)))
            .or_default();
        *held += 1;
        if *held > Names::MAX_HELD {
            return Err(Broken::Held { name: name.clone() });
        }
        Ok(true)
    }

    fn time(&self, what: &'static str, time: Timestamp) -> Result<(), Broken> {
        let now = self.circumstances.now;
        // A clock at the end of time has nothing ahead of it.
        let latest = now.checked_add(AHEAD).unwrap_or(Timestamp::MAX);
        if (BEGIN..=latest).contains(&time) {
            Ok(())
        } else {
            Err(Broken::Time { what, time, now })
        }
    }
}
