//! What a live source may say. This is what all may say of themselves; a file a kind says what its entries may be.

mod countries;
mod crowdsec;
mod list;
mod names;

use std::{borrow::Cow, collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sipguard_lists::{
    found::{Entry, Head},
    name::Name,
    prefix,
    said::Said,
    task::{Kind, Names, Task},
};
use thiserror::Error;

pub use self::list::Size;
use self::{countries::OfCountries, crowdsec::OfDecisions, list::OfAList, names::OfNames};
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
    #[error("has {}, and a name has single addresses only", prefix::format(*.0))]
    NotOne(IpNet),
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
    /// More than are kept.
    #[error("has more than {} addresses of one kind for {name}", Names::MAX_HELD)]
    Held {
        /// Which name.
        name: Name,
    },
    /// An entry with an end of its own.
    #[error("has {} with an end, and entries of this kind have none", prefix::format(*.0))]
    End(IpNet),
    /// A prefix that lets too many in, or keeps too many out.
    #[error("has {}, which is wider than this source may be; `widest` in the config says how wide that is", prefix::format(*.0))]
    Wide(IpNet),
    /// A prefix with this host in it.
    #[error("has {}, which holds this host's own address {address}", prefix::format(*prefix))]
    Own {
        /// The prefix.
        prefix: IpNet,
        /// The address.
        address: IpAddr,
    },
    /// A network that is in no country.
    #[error("has {}, and {special} is in no country", prefix::format(*prefix))]
    Special {
        /// The prefix.
        prefix: IpNet,
        /// The special-purpose network that has something in common with it.
        special: IpNet,
    },
    /// A list that is not what it was.
    #[error(
        "has {now}, and had {before}; if that is right, `sipguard refresh {} --accept` takes it",
        Said(source_name)
    )]
    Size {
        /// The source.
        source_name: String,
        /// The last good one.
        before: Box<Size>,
        /// This one.
        now: Box<Size>,
    },
}

/// Entries that were left out, each for what it is itself.
#[derive(Debug)]
pub struct LeftOut {
    /// How many.
    pub entries: usize,
    /// What is wrong with the first one.
    pub why: Broken,
}

/// What one source may say.
pub(super) struct Bounds<'a> {
    source: &'a str,
    circumstances: Circumstances<'a>,
    /// The one place that is asked.
    url: Option<Cow<'a, str>>,
    /// Whether it may have come only in part, or be about something else by now.
    is_downloaded: bool,
    entries: Entries<'a>,
}

enum Entries<'a> {
    Names(OfNames<'a>),
    List(OfAList<'a>),
    Decisions(OfDecisions<'a>),
    Countries(OfCountries),
}

impl<'a> Bounds<'a> {
    pub(super) fn new(task: &'a Task, circumstances: Circumstances<'a>) -> Self {
        let entries = match &task.kind {
            Kind::Names(names) => Entries::Names(OfNames::new(names)),
            Kind::Url(list) => Entries::List(OfAList::new(&list.widest)),
            Kind::CrowdSec(lapi) => Entries::Decisions(OfDecisions::new(lapi)),
            Kind::Etcd(fleet) => Entries::List(OfAList::new(&fleet.widest)),
            Kind::Countries(_) => Entries::Countries(OfCountries::new()),
        };
        Self {
            source: &task.source,
            circumstances,
            url: task.kind.url(),
            is_downloaded: matches!(task.kind, Kind::Url(_) | Kind::Countries(_)),
            entries,
        }
    }

    /// Who is asked.
    pub(super) fn asked(&self) -> &str {
        self.url.as_deref().unwrap_or_default()
    }

    /// Whether it is the answer to what is asked now.
    pub(super) fn is_answer(&self, head: &Head) -> bool {
        head.url.as_deref() == self.url.as_deref()
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
        let looked_up = head.lookups.iter().map(|lookup| &lookup.said);
        let said = [&head.error, &head.said, &head.etag, &head.last_modified];
        for message in looked_up.chain(said).flatten() {
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

    /// Whether an entry is to be kept.
    pub(super) fn entry(&mut self, entry: &Entry) -> Result<bool, Broken> {
        match &mut self.entries {
            Entries::Names(names) => names.entry(entry, self.circumstances),
            Entries::List(list) => list.entry(entry, self.circumstances),
            Entries::Decisions(decisions) => decisions.entry(entry, self.circumstances),
            Entries::Countries(some) => some.entry(entry, self.circumstances),
        }
    }

    /// Whether it is a list that somebody else keeps: it may be long, and it is to be about what it was.
    pub(super) fn is_a_list(&self) -> bool {
        match &self.entries {
            Entries::Names(_) => false,
            Entries::List(_) | Entries::Decisions(_) | Entries::Countries(_) => true,
        }
    }

    /// Whether all entries together may be so many where they were so many before. There may be no ban at all at any time, or twice as many; and
    /// what is kept in etcd somebody has just written who knows how much it is.
    pub(super) fn sizes(&self, before: Size, now: Size) -> Result<(), Broken> {
        if self.is_downloaded && now.is_another_than(before) {
            return Err(Broken::Size {
                source_name: self.source.to_owned(),
                before: before.into(),
                now: now.into(),
            });
        }
        Ok(())
    }

    /// What was not kept, and is to be told of.
    pub(super) fn left_out(self) -> Option<LeftOut> {
        match self.entries {
            Entries::Names(_) | Entries::List(_) | Entries::Countries(_) => None,
            Entries::Decisions(decisions) => decisions.left_out(),
        }
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

/// What is wrong with a prefix in which this host is itself.
fn own(prefix: IpNet, circumstances: Circumstances<'_>) -> Option<Broken> {
    let mut own = circumstances.own.iter();
    let &address = own.find(|address| prefix.contains(*address))?;
    Some(Broken::Own { prefix, address })
}
