//! What must survive every process and every reboot besides the config file: the command line's entries, which counters belong to
//! which service, and how far the numbers of generations have got.

mod bans;
mod confirmed;
mod ended;
mod reckoning;
mod slots;
mod store;

use std::collections::{BTreeMap, HashMap, HashSet, hash_map};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::{
    bans::{Ban, BanLine, Bans, LONGEST_NAME, Unban, is_name},
    confirmed::{ConfirmStage, Confirmed, Kept, Unconfirmed},
    ended::{Ended, EndedEntry},
    reckoning::{HOLDS, Moved, Reckoning, TOLERANCE},
    slots::{Slots, SlotsError},
    store::{FOLDER, Lock, Staged, StateError, Store},
};
use crate::{clock::Now, policy::Action};

/// The form in which the state is written; changes when older programs would misread it.
pub const VERSION: u32 = 2;

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
    /// Where it was said how long it lasts, and not until when: the boot in which it was said, whose clock that goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts_in: Option<String>,
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

    /// Of the entries that have this in common the newest word wins, see [`Self::leaves`].
    fn place(&self) -> (IpNet, String) {
        (self.prefix, self.service.clone())
    }

    /// Whether an older entry in the same place stays: one with an end stands above one without, and gives it back when it is over.
    /// Everything else is replaced, whichever action it has.
    fn leaves(&self, older: &Self) -> bool {
        self.until.is_some() && older.until.is_none()
    }
}

/// Leaves out what a newer entry replaces: earlier versions kept up to four in one place. They stand in the order in which they were added.
fn newest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<OwnEntry>, D::Error> {
    let mut entries = Vec::<OwnEntry>::deserialize(deserializer)?;
    let mut newer = HashMap::<_, OwnEntry>::new();
    let mut stays = Vec::with_capacity(entries.len());
    for entry in entries.iter().rev() {
        let place = newer.entry(entry.place());
        stays.push(match place {
            hash_map::Entry::Vacant(place) => {
                place.insert(entry.clone());
                true
            }
            hash_map::Entry::Occupied(mut place) => {
                let leaves = place.get().leaves(entry);
                if leaves {
                    place.insert(entry.clone());
                }
                leaves
            }
        });
    }
    entries.retain(|_| stays.pop().unwrap_or(true));
    Ok(entries)
}

/// The state, as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Always [`VERSION`].
    pub version: u32,
    /// Counts how often it was written: of two copies the one with the higher number is the newer.
    #[serde(default)]
    pub written: u64,
    /// Counts the changes of the entries, so that a generation can say which of them it has.
    pub revision: u64,
    /// The number of the newest generation; numbers are never used again.
    pub generation: u64,
    /// Which service has which counters.
    pub slots: Slots,
    /// The command line's entries, in the order in which they were added: of one prefix in one service at most one without an end, and one
    /// with an end.
    #[serde(deserialize_with = "newest")]
    pub entries: Vec<OwnEntry>,
    /// What has ended by itself a while ago.
    #[serde(default, skip_serializing_if = "Ended::is_empty")]
    pub ended: Ended,
    /// What was said of bans while their log could not be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unlogged: Vec<BanLine>,
    /// What is known of the time.
    #[serde(default)]
    pub clock: Reckoning,
    /// Interfaces whose driver refused native mode, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fallbacks: BTreeMap<String, String>,
    /// The config that was applied with `--confirm` and is not confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<Unconfirmed>,
    /// The confirmed policy that is on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// What the fetcher found last for live sources, where that was refused, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, String>,
    /// Whether `down` was the last word: nothing is to be filtered until the next apply.
    #[serde(default)]
    pub down: bool,
}

/// Entries by service and prefix.
pub type OwnByPlace<'s> = BTreeMap<(&'s str, IpNet), Vec<&'s OwnEntry>>;

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            written: 0,
            revision: 0,
            generation: 0,
            slots: Slots::default(),
            entries: Vec::new(),
            ended: Ended::default(),
            unlogged: Vec::new(),
            clock: Reckoning::default(),
            fallbacks: BTreeMap::new(),
            unconfirmed: None,
            kept: None,
            refused: BTreeMap::new(),
            down: false,
        }
    }
}

impl State {
    /// Adds entries. The newest word on a prefix wins: one without an end replaces all that was said of it, one with an end an older one
    /// with an end.
    pub fn add(&mut self, entries: impl IntoIterator<Item = OwnEntry>) {
        self.revision += 1;
        let new = entries.into_iter().map(|entry| (entry.place(), entry));
        let new: BTreeMap<_, _> = new.collect();
        self.ended
            .forget(|known| new.contains_key(&(known.prefix, known.service.clone())));
        self.entries.retain(|old| {
            let newer = new.get(&old.place());
            newer.is_none_or(|newer| newer.leaves(old))
        });
        self.entries.extend(new.into_values());
    }

    /// Takes out everything that is said of these prefixes in these services.
    pub fn remove(&mut self, prefixes: &[IpNet], services: &[String]) -> Vec<OwnEntry> {
        let prefixes: HashSet<_> = prefixes.iter().collect();
        self.take(|entry| prefixes.contains(&entry.prefix) && services.contains(&entry.service))
    }

    /// Takes out the entries that have ended by themselves, for good; what they were is known for a while.
    pub fn drop_ended(&mut self, boot_ns: u64) -> Vec<OwnEntry> {
        let clock = self.clock.clone();
        let ended = self.take(|entry| clock.is_over(entry.until, entry.added, boot_ns));
        self.ended.note(&ended, self.now(boot_ns).wall);
        ended
    }

    /// Looks at the clocks. Where the time is not what it was reckoned to be, all ends are reckoned anew; returns how far it moved.
    pub fn look_at_the_clock(&mut self, now: Now, boot: &str) -> Option<Moved> {
        let moved = self.clock.look(now, boot)?;
        for entry in &mut self.entries {
            let OwnEntry {
                until,
                lasts_in,
                added,
                ..
            } = entry;
            self.clock.move_with(until, lasts_in, added, &moved);
        }
        // So that what is in the kernel follows.
        self.revision += 1;
        Some(moved)
    }

    /// The time as it is reckoned to be.
    pub fn now(&self, boot_ns: u64) -> Now {
        Now {
            boot_ns,
            wall: self.clock.time(boot_ns),
        }
    }

    /// What the command line says of each of these prefixes in the service beside it.
    pub fn of<'s>(&'s self, places: &'s [(String, IpNet)]) -> OwnByPlace<'s> {
        let places = places.iter();
        let mut said: OwnByPlace<'_> = places
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
    pub fn outcome(&self) -> Option<ConfirmStage> {
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
    use std::slice;

    use super::*;

    fn entry(prefix: &str, action: Action, until: Option<i64>) -> OwnEntry {
        OwnEntry {
            prefix: prefix.parse().unwrap(),
            service: "sip".to_owned(),
            action,
            until: until.map(|second| Timestamp::from_second(second).unwrap()),
            lasts_in: None,
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
    fn the_newest_word_wins() {
        let word = |action, until| entry("203.0.113.0/24", action, until);
        let (allow, deny) = (word(Action::Allow, None), word(Action::Deny, None));
        let (allow_briefly, deny_briefly) =
            (word(Action::Allow, Some(10)), word(Action::Deny, Some(9)));
        let after = |words: &[&OwnEntry]| {
            let mut state = State::default();
            for &word in words {
                state.add([word.clone()]);
            }
            // Files of earlier versions hold everything that was ever said.
            let everything = State {
                entries: words.iter().copied().cloned().collect(),
                ..state.clone()
            };
            let json = serde_json::to_string(&everything).unwrap();
            let read: State = serde_json::from_str(&json).unwrap();
            assert_eq!(read, state);
            state.entries
        };
        assert_eq!(after(&[&allow, &deny]), slice::from_ref(&deny));
        assert_eq!(after(&[&deny, &allow]), slice::from_ref(&allow));
        assert_eq!(after(&[&allow_briefly, &deny]), slice::from_ref(&deny));
        assert_eq!(
            after(&[&deny, &allow_briefly]),
            [deny.clone(), allow_briefly.clone()]
        );
        assert_eq!(
            after(&[&allow_briefly, &deny_briefly]),
            slice::from_ref(&deny_briefly)
        );
        assert_eq!(
            after(&[&allow_briefly, &deny, &deny_briefly, &allow_briefly]),
            [deny.clone(), allow_briefly]
        );
        assert_eq!(after(&[&deny, &deny_briefly, &allow]), [allow]);
    }

    #[test]
    fn words_on_different_prefixes_and_services_stand_side_by_side() {
        let mut state = State::default();
        for until in [None, Some(10)] {
            state.add([entry("203.0.113.0/24", Action::Allow, until)]);
        }
        let mut elsewhere = entry("203.0.113.0/24", Action::Allow, None);
        elsewhere.service = "web".to_owned();
        state.add([elsewhere, entry("203.0.113.0/25", Action::Allow, None)]);
        assert_eq!(state.entries.len(), 4);

        let prefix = "203.0.113.0/24".parse().unwrap();
        let places = ["sip", "web", "none"].map(|service| (service.to_owned(), prefix));
        let said = state.of(&places);
        let count = |service| said[&(service, prefix)].len();
        assert_eq!([count("sip"), count("web"), count("none")], [2, 1, 0]);
        let sip = ["sip".to_owned()];
        assert_eq!(state.remove(&[prefix], &sip).len(), 2);
        assert_eq!(state.entries.len(), 2);
        assert_eq!(state.revision, 4);
        assert_eq!(state.remove(&[prefix], &sip), []);
        assert_eq!(state.revision, 4, "nothing changed");
    }

    #[test]
    fn ended_entries_are_dropped_at_their_last_moment() {
        let mut state = State::default();
        state.add([
            entry("203.0.113.1/32", Action::Allow, None),
            entry("203.0.113.2/32", Action::Allow, Some(10)),
            entry("203.0.113.3/32", Action::Deny, Some(11)),
        ]);
        // Nothing is known but that it is later than 1970, and what passed on the boot clock.
        let at = |second: u64| second * 1_000_000_000;
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
