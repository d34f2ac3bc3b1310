//! What must survive every process and every reboot besides the config file: the command line's entries, which counters belong to
//! which service, and how far the numbers of generations have got.

mod confirmed;
mod slots;
mod store;

use std::collections::{BTreeMap, HashSet};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    confirmed::{Confirmed, Outcome, Unconfirmed},
    slots::{Slots, SlotsError},
    store::{FOLDER, Lock, Staged, StateError, Store},
};
use crate::policy::Action;

/// The form in which the state is written; changes when older programs would misread it.
pub const VERSION: u32 = 1;

/// One entry of the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnEntry {
    /// Its host bits are zero.
    pub prefix: IpNet,
    /// The service's name. The config file may meanwhile have no such service; the entry is kept for when it has it again.
    pub service: String,
    /// What is done with frames from there.
    pub action: Action,
    /// When the entry ends by itself; `None` where it is permanent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why it is there, in its author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// When it was added.
    pub added: Timestamp,
}

impl OwnEntry {
    /// Whether the entry has ended by itself.
    pub fn ended(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Of two entries that have this in common the newer one takes the older one's place. A timed entry stands beside a permanent one, and
    /// an allowing one beside a denying one.
    fn place(&self) -> (IpNet, String, Action, bool) {
        let service = self.service.clone();
        (self.prefix, service, self.action, self.until.is_some())
    }
}

/// The state, as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Always [`VERSION`].
    pub version: u32,
    /// Counts the changes of the entries, so that a generation can say which of them it has.
    pub revision: u64,
    /// The number of the newest generation; numbers are never used again.
    pub generation: u64,
    /// Which service has which counters.
    pub slots: Slots,
    /// The command line's entries.
    pub entries: Vec<OwnEntry>,
    /// Interfaces whose driver refused native mode, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fallbacks: BTreeMap<String, String>,
    /// The config that was applied with `--confirm` and is not confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<Unconfirmed>,
}

/// Entries by service and prefix.
pub type Said<'s> = BTreeMap<(&'s str, IpNet), Vec<&'s OwnEntry>>;

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            revision: 0,
            generation: 0,
            slots: Slots::default(),
            entries: Vec::new(),
            fallbacks: BTreeMap::new(),
            unconfirmed: None,
        }
    }
}

impl State {
    /// Adds entries. Where one says the same of the same prefix as an older one, it takes its place.
    pub fn add(&mut self, entries: impl IntoIterator<Item = OwnEntry>) {
        self.revision += 1;
        let new = entries.into_iter().map(|entry| (entry.place(), entry));
        let new: BTreeMap<_, _> = new.collect();
        self.entries.retain(|old| !new.contains_key(&old.place()));
        self.entries.extend(new.into_values());
    }

    /// Takes out everything that is said of these prefixes in these services.
    pub fn remove(&mut self, prefixes: &[IpNet], services: &[String]) -> Vec<OwnEntry> {
        let prefixes: HashSet<_> = prefixes.iter().collect();
        self.take(|entry| prefixes.contains(&entry.prefix) && services.contains(&entry.service))
    }

    /// Takes out the entries that have ended by themselves.
    pub fn drop_ended(&mut self, now: Timestamp) -> Vec<OwnEntry> {
        self.take(|entry| entry.ended(now))
    }

    /// What the command line says of each of these prefixes in the service beside it.
    pub fn of<'s>(&'s self, places: &'s [(String, IpNet)]) -> Said<'s> {
        let places = places.iter();
        let mut said: Said<'_> = places
            .map(|(service, prefix)| ((service.as_str(), *prefix), Vec::new()))
            .collect();
        for entry in &self.entries {
            if let Some(entries) = said.get_mut(&(entry.service.as_str(), entry.prefix)) {
                entries.push(entry);
            }
        }
        said
    }

    /// What became of the last apply with `--confirm`, unless that is over and done with.
    pub fn outcome(&self) -> Option<Outcome> {
        self.unconfirmed
            .as_ref()
            .map(|unconfirmed| unconfirmed.outcome)
    }

    /// The number of the next generation.
    pub fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    fn take(&mut self, wanted: impl Fn(&OwnEntry) -> bool) -> Vec<OwnEntry> {
        let taken: Vec<_> = self.entries.extract_if(.., |entry| wanted(entry)).collect();
        if !taken.is_empty() {
            self.revision += 1;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(prefix: &str, action: Action, until: Option<i64>) -> OwnEntry {
        OwnEntry {
            prefix: prefix.parse().unwrap(),
            service: "sip".to_owned(),
            action,
            until: until.map(|second| Timestamp::from_second(second).unwrap()),
            comment: None,
            added: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_same_word_again_takes_the_place_of_the_old() {
        let mut state = State::default();
        let word = |until| entry("203.0.113.0/24", Action::Allow, Some(until));
        state.add([word(10)]);
        state.add([word(20)]);
        assert_eq!(state.entries, [word(20)]);
        state.add([word(30), word(40)]);
        assert_eq!(state.entries, [word(40)], "the last one counts");
        assert_eq!(state.revision, 3);
    }

    #[test]
    fn different_words_on_one_prefix_stand_side_by_side() {
        let mut state = State::default();
        for (action, until) in [
            (Action::Allow, None),
            (Action::Deny, None),
            (Action::Allow, Some(10)),
            (Action::Deny, Some(10)),
        ] {
            state.add([entry("203.0.113.0/24", action, until)]);
        }
        let mut elsewhere = entry("203.0.113.0/24", Action::Allow, None);
        elsewhere.service = "web".to_owned();
        state.add([elsewhere, entry("203.0.113.0/25", Action::Allow, None)]);
        assert_eq!(state.entries.len(), 6);

        let prefix = "203.0.113.0/24".parse().unwrap();
        let places = ["sip", "web", "none"].map(|service| (service.to_owned(), prefix));
        let said = state.of(&places);
        let count = |service| said[&(service, prefix)].len();
        assert_eq!([count("sip"), count("web"), count("none")], [4, 1, 0]);
        let sip = ["sip".to_owned()];
        assert_eq!(state.remove(&[prefix], &sip).len(), 4);
        assert_eq!(state.entries.len(), 2);
        assert_eq!(state.revision, 6);
        assert_eq!(state.remove(&[prefix], &sip), []);
        assert_eq!(state.revision, 6, "nothing changed");
    }

    #[test]
    fn ended_entries_are_dropped_at_their_last_moment() {
        let mut state = State::default();
        state.add([
            entry("203.0.113.1/32", Action::Allow, None),
            entry("203.0.113.2/32", Action::Allow, Some(10)),
            entry("203.0.113.3/32", Action::Deny, Some(11)),
        ]);
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(state.drop_ended(at(9)), []);
        assert_eq!(state.drop_ended(at(10)).len(), 1);
        assert_eq!(state.drop_ended(at(99)).len(), 1);
        assert_eq!(state.entries.len(), 1);
    }

    #[test]
    fn generations_are_numbered_upwards() {
        let mut state = State::default();
        assert_eq!([state.next_generation(), state.next_generation()], [1, 2]);
    }
}
