//! What lists and programs say of somebody though a person has said the opposite: he forges that address, or has taken it over. The person's
//! word counts; each of theirs is told of once, also where the agent did not run when they said it.
//!
//! What was told is not kept by address, of which there may be a million, but by time: an entry and a ban say when they were first seen. So whom a
//! person allows or denies because of what a list says is no news either. (Of two changes of a source within one second, the second is none.)

use std::{collections::BTreeMap, io, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{happened::Happened, kept};
use crate::{
    datapath,
    host::Host,
    lifecycle::{self, ByHand, Live},
    policy::Action,
    state::State,
    tables::Now,
};

/// The file, in the folder of the state.
pub const FILE: &str = "overruled.json";
/// What a source says is told of as often as this, nanoseconds; then all that it has said meanwhile.
const EVERY: u64 = 10 * 60 * 1_000_000_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Overruled {
    told: Told,
    /// Whether the file says so.
    unwritten: bool,
    /// How long the log of bans was when it was looked at.
    bans: u64,
    /// By source, what was looked at.
    sources: BTreeMap<String, Looked>,
}

/// Up to when all is told, by the time at which it was first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    bans: Timestamp,
    sources: BTreeMap<String, Timestamp>,
}

/// What was looked at of a source.
#[derive(Debug, Default)]
struct Looked {
    /// Which copy.
    copy: u64,
    /// When something was told of it last, nanoseconds of the boot clock.
    told: Option<u64>,
}

impl Overruled {
    /// Reads what was told before. Nothing, where there is no file; a damaged one is written anew.
    ///
    /// # Errors
    /// Where the file can't be read, or not as such.
    pub fn read(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            told: kept::read(folder, FILE)?.unwrap_or_default(),
            ..Self::default()
        })
    }

    /// Writes it, where there is something new.
    ///
    /// # Errors
    /// Where the disk does not take it; what was there before stays.
    pub fn write(&mut self, folder: &Path) -> io::Result<()> {
        if self.unwritten {
            kept::write(folder, FILE, &self.told)?;
            self.unwritten = false;
        }
        Ok(())
    }

    /// Looks at what has been said since it was looked last, and adds what is to be told of it: once, and also where it can't look at the rest.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    pub fn look(
        &mut self,
        host: &Host,
        live: &Live,
        state: &State,
        now: Now,
        happened: &mut Vec<Happened>,
    ) -> Result<(), datapath::Error> {
        happened.extend(self.look_at_bans(host, live, state, now)?);
        self.look_at_sources(host, live, now, happened)
    }

    /// A ban is of all services, and what a person allows in one of them is not banned there.
    fn look_at_bans(
        &mut self,
        host: &Host,
        live: &Live,
        state: &State,
        now: Now,
    ) -> Result<Option<Happened>, datapath::Error> {
        let length = host.store.bans_length();
        if length == self.bans {
            return Ok(None);
        }
        let generation = &live.generation;
        let bans = lifecycle::bans(host, state);
        let mut newest = self.told.bans;
        let (mut first, mut others) = (None, 0);
        for ban in bans.iter() {
            newest = newest.max(ban.added);
            if ban.added <= self.told.bans || ban.ended(now.wall) {
                continue;
            }
            for found in &generation.description.services {
                let said = lifecycle::by_hand(generation, found.slot, ban.prefix, now)?;
                if said.is_some_and(|(_, said)| said == Action::Allow) {
                    others += u64::from(first.is_some());
                    first.get_or_insert(ban);
                    break;
                }
            }
        }
        self.bans = length;
        self.unwritten |= newest != self.told.bans;
        self.told.bans = newest;
        Ok(first.map(|first| Happened::BanOverruled {
            prefix: first.prefix,
            by: first.by.clone().unwrap_or_else(|| "somebody".to_owned()),
            others,
        }))
    }

    fn look_at_sources(
        &mut self,
        host: &Host,
        live: &Live,
        now: Now,
        happened: &mut Vec<Happened>,
    ) -> Result<(), datapath::Error> {
        let copies = host.copies();
        // All entries of the kernel are looked at for it, but not unless there is something new.
        let mut by_hand = None;
        for source in &live.generation.description.live {
            let name = &source.task.source;
            let copy = copies.revision(&source.task);
            let looked = self.sources.entry(name.clone()).or_default();
            let is_due = looked
                .told
                .is_none_or(|told| now.boot_ns.saturating_sub(told) >= EVERY);
            if copy == looked.copy || !is_due {
                continue;
            }
            // What is wrong with a copy is told of by whoever lives by it.
            let Ok(Some(said)) = copies.open(&source.task) else {
                continue;
            };
            let by_hand = match &by_hand {
                Some(by_hand) => by_hand,
                None => by_hand.insert(ByHand::of(&live.generation, now)?),
            };
            let before = self.told.sources.get(name).copied();
            // A clock that was set back has all that was seen before in the past.
            let before = before.map(|before| before.min(said.head().asked));
            let mut newest = before.max(said.head().changed);
            let (mut first, mut others) = (None, 0);
            by_hand.overrules(&live.generation, source, &said, before, now, |overruled| {
                newest = newest.max(Some(overruled.entry.first));
                others += u64::from(first.is_some());
                first.get_or_insert(overruled);
            })?;
            looked.copy = copy;
            if let Some(first) = first {
                looked.told = Some(now.boot_ns);
                happened.push(Happened::SourceOverruled {
                    source: name.clone(),
                    prefix: first.entry.prefix,
                    action: first.action,
                    by: first.by,
                    others,
                });
            }
            if let Some(newest) = newest {
                let told = self.told.sources.insert(name.clone(), newest);
                self.unwritten |= told != Some(newest);
            }
        }
        // Of what an apply that waits to be confirmed has not, it may be asked again soon.
        let sources = live.sources();
        let is_there = |name: &String| sources.iter().any(|source| source.task.source == *name);
        self.sources.retain(|name, _| is_there(name));
        self.told.sources.retain(|name, _| is_there(name));
        Ok(())
    }
}
