//! Which of the packets that were to be dropped were dropped, and which passed because monitor mode was on.
//!
//! The kernel has one total for both: whoever counts a packet there has no time to ask more. So for each interface and service it is noted
//! here which mode what is counted now belongs to, and how much was counted in the other one; the rest of the total belongs to this one. Monitor
//! mode is noted before the kernel goes over to it, and enforce mode after it has: a packet that is counted between the two is taken for one
//! that passed. Nothing that passed is ever called dropped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sipguard_ebpf::abi::{Action, Counter, Reason};

use crate::policy::Mode;

/// The modes of services, by their slots; [`NO_SERVICE`](sipguard_ebpf::abi::NO_SERVICE) stands for what no service judges.
pub type Modes = BTreeMap<u8, Mode>;

/// Adds modes that the same counters are counted in, too: monitor, where one of both is.
pub fn add_modes(modes: &mut Modes, others: Modes) {
    for (slot, mode) in others {
        let noted = modes.entry(slot).or_insert(mode);
        if mode == Mode::Monitor {
            *noted = mode;
        }
    }
}

/// When modes are noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Before the kernel goes by them: enforce mode waits.
    Before,
    /// After that.
    After,
}

/// The counters of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters<'i> {
    /// The interface that they were made for.
    pub interface: &'i str,
    /// The number that they have in the kernel.
    pub number: u32,
}

/// What was to be dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// What was dropped.
    pub dropped: Counter,
    /// What passed, because monitor mode was on.
    pub passed: Counter,
}

/// Everything that is noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counting {
    /// What holds, and what will hold again where nobody confirms in time.
    kept: Notes,
    /// What holds while an apply waits to be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trial: Option<Trial>,
}

/// While an apply waits to be confirmed, notes go by its modes. Where its time runs out, the kernel goes back by itself, and nobody notes how
/// much had been counted by then: of a service that only the new policy enforces, everything since counts as passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    /// Nanoseconds of the boot clock.
    deadline: u64,
    notes: Notes,
}

impl Counting {
    /// What holds for counters that were read no later than then.
    pub fn at(&self, boot_ns: u64) -> &Notes {
        let trial = self.trial.as_ref();
        trial
            .filter(|trial| boot_ns < trial.deadline)
            .map_or(&self.kept, |trial| &trial.notes)
    }

    /// Whatever is changed is changed in all of these.
    pub fn all(&mut self) -> impl Iterator<Item = &mut Notes> {
        let trial = self.trial.as_mut();
        [&mut self.kept]
            .into_iter()
            .chain(trial.map(|trial| &mut trial.notes))
    }

    /// Those that hold whether or not somebody confirms.
    pub fn kept(&mut self) -> &mut Notes {
        &mut self.kept
    }

    /// Those of the apply that waits to be confirmed until the deadline (nanoseconds of the boot clock), if there is one now. What another
    /// one has noted holds where it was ended in time, and else is forgotten.
    pub fn trial(&mut self, deadline: Option<u64>, boot_ns: u64) -> Option<&mut Notes> {
        if let Some(trial) = self.trial.take_if(|trial| deadline != Some(trial.deadline))
            && boot_ns < trial.deadline
        {
            self.kept = trial.notes;
        }
        let deadline = deadline?;
        let kept = &self.kept;
        let trial = self.trial.get_or_insert_with(|| Trial {
            deadline,
            notes: kept.clone(),
        });
        Some(&mut trial.notes)
    }
}

/// By interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes(BTreeMap<String, OfInterface>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OfInterface {
    /// The counters' number in the kernel.
    number: u32,
    /// Nanoseconds of the boot clock when they were zero; `None` where an earlier version made them, which did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    /// By slot.
    services: BTreeMap<u8, OfService>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OfService {
    mode: Mode,
    /// What was counted in the other mode, by the reason's number: packets and bytes. Zeros are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    other: BTreeMap<u8, (u64, u64)>,
}

impl Notes {
    /// Whether there is nothing new in these modes.
    pub fn have(&self, counters: Counters<'_>, modes: &Modes, turn: Turn) -> bool {
        self.of(counters).is_some_and(|noted| {
            modes.iter().all(|(slot, &mode)| {
                let service = noted.services.get(slot);
                service.is_some_and(|service| !service.turns_to(mode, turn))
            })
        })
    }

    /// Notes modes. `total` says what has been counted for a slot and a reason; the time is the boot clock's.
    pub fn note(
        &mut self,
        counters: Counters<'_>,
        modes: &Modes,
        turn: Turn,
        total: impl Fn(u8, Reason) -> Counter,
        boot_ns: u64,
    ) {
        if self.of(counters).is_none() {
            let mut slots = modes.keys();
            let untouched = slots.all(|&slot| {
                let mut reasons = Reason::COUNTED.into_iter();
                reasons.all(|reason| total(slot, reason).packets == 0)
            });
            let new = OfInterface {
                number: counters.number,
                since: untouched.then_some(boot_ns),
                services: BTreeMap::new(),
            };
            self.0.insert(counters.interface.to_owned(), new);
        }
        let Some(noted) = self.0.get_mut(counters.interface) else {
            return;
        };
        for (&slot, &mode) in modes {
            let service = noted.services.entry(slot).or_insert_with(|| OfService {
                mode,
                other: BTreeMap::new(),
            });
            if service.turns_to(mode, turn) {
                service.turn(mode, |reason| total(slot, reason));
            }
        }
    }

    /// Forgets a slot, before its counters are set to zero for another service.
    pub fn forget_service(&mut self, slot: u8) {
        for noted in self.0.values_mut() {
            noted.services.remove(&slot);
        }
    }

    /// Since when these counters count, in nanoseconds of the boot clock, where that is known.
    pub fn since(&self, counters: Counters<'_>) -> Option<u64> {
        self.of(counters)?.since
    }

    /// The mode that what is counted in a slot belongs to, where that is noted.
    pub fn mode(&self, counters: Counters<'_>, slot: u8) -> Option<Mode> {
        let noted = self.of(counters)?.services.get(&slot)?;
        Some(noted.mode)
    }

    /// What became of everything that was counted for a slot and a reason to drop; `None` where nothing is noted of that slot.
    pub fn split(
        &self,
        counters: Counters<'_>,
        slot: u8,
        reason: Reason,
        total: Counter,
    ) -> Option<Split> {
        let service = self.of(counters)?.services.get(&slot)?;
        let other = service.other(reason);
        let this = without(total, other);
        Some(match service.mode {
            Mode::Enforce => Split {
                dropped: this,
                passed: other,
            },
            Mode::Monitor => Split {
                dropped: other,
                passed: this,
            },
        })
    }

    fn of(&self, counters: Counters<'_>) -> Option<&OfInterface> {
        let noted = self.0.get(counters.interface);
        noted.filter(|noted| noted.number == counters.number)
    }
}

impl OfService {
    fn turns_to(&self, mode: Mode, turn: Turn) -> bool {
        self.mode != mode && (turn == Turn::After || mode == Mode::Monitor)
    }

    /// What belonged to this mode so far is what was counted in the other one from now on.
    fn turn(&mut self, mode: Mode, total: impl Fn(Reason) -> Counter) {
        let reasons = Reason::COUNTED.into_iter();
        self.other = reasons
            .filter(|reason| reason.action() == Action::Drop)
            .map(|reason| (reason as u8, without(total(reason), self.other(reason))))
            .filter(|(_, this)| this.packets != 0)
            .map(|(reason, this)| (reason, (this.packets, this.bytes)))
            .collect();
        self.mode = mode;
    }

    fn other(&self, reason: Reason) -> Counter {
        let other = self.other.get(&(reason as u8));
        let &(packets, bytes) = other.unwrap_or(&(0, 0));
        Counter { packets, bytes }
    }
}

fn without(total: Counter, part: Counter) -> Counter {
    Counter {
        packets: total.packets.saturating_sub(part.packets),
        bytes: total.bytes.saturating_sub(part.bytes),
    }
}

#[cfg(test)]
mod tests {
    use sipguard_ebpf::abi::NO_SERVICE;

    use super::*;

    const ETH0: Counters<'_> = Counters {
        interface: "eth0",
        number: 7,
    };
    const SIP: u8 = 0;

    fn counter(packets: u64) -> Counter {
        Counter {
            packets,
            bytes: packets * 60,
        }
    }

    fn modes(mode: Mode) -> Modes {
        Modes::from([(SIP, mode), (NO_SERVICE, Mode::Enforce)])
    }

    /// Notes SIP's mode when so many packets have been counted.
    fn note(notes: &mut Notes, mode: Mode, turn: Turn, total: u64) {
        let total = |slot, reason| match (slot, reason) {
            (SIP, Reason::Unlisted) => counter(total),
            _ => counter(0),
        };
        notes.note(ETH0, &modes(mode), turn, total, 1000);
        assert!(notes.have(ETH0, &modes(mode), turn));
    }

    /// How many of so many packets were dropped, and how many passed.
    fn split(notes: &Notes, total: u64) -> (u64, u64) {
        let split = notes.split(ETH0, SIP, Reason::Unlisted, counter(total));
        let Split { dropped, passed } = split.unwrap();
        assert_eq!(dropped.bytes + passed.bytes, total * 60);
        (dropped.packets, passed.packets)
    }

    #[test]
    fn each_packet_belongs_to_the_mode_that_it_was_counted_in() {
        let mut notes = Notes::default();
        note(&mut notes, Mode::Monitor, Turn::Before, 0);
        assert_eq!(split(&notes, 15), (0, 15));
        note(&mut notes, Mode::Enforce, Turn::After, 15);
        assert_eq!(split(&notes, 15), (0, 15));
        assert_eq!(split(&notes, 22), (7, 15));
        note(&mut notes, Mode::Monitor, Turn::Before, 22);
        assert_eq!(split(&notes, 25), (7, 18));
        note(&mut notes, Mode::Enforce, Turn::After, 25);
        assert_eq!(split(&notes, 30), (12, 18));
        assert_eq!(notes.since(ETH0), Some(1000));
        assert_eq!(notes.mode(ETH0, SIP), Some(Mode::Enforce));
        let broken = notes.split(ETH0, NO_SERVICE, Reason::Malformed, counter(3));
        assert_eq!(broken.unwrap().dropped, counter(3), "always enforced");
    }

    #[test]
    fn enforce_mode_is_noted_after_it_has_begun_and_monitor_mode_before() {
        let mut notes = Notes::default();
        note(&mut notes, Mode::Monitor, Turn::Before, 0);
        note(&mut notes, Mode::Enforce, Turn::Before, 4);
        assert_eq!(split(&notes, 6), (0, 6), "it may have passed");
        assert!(!notes.have(ETH0, &modes(Mode::Enforce), Turn::After));
        note(&mut notes, Mode::Enforce, Turn::After, 6);
        note(&mut notes, Mode::Monitor, Turn::Before, 9);
        assert_eq!(split(&notes, 10), (3, 7), "it may pass already");
    }

    #[test]
    fn counters_of_another_number_began_at_zero() {
        let mut notes = Notes::default();
        note(&mut notes, Mode::Monitor, Turn::Before, 0);
        note(&mut notes, Mode::Enforce, Turn::After, 15);
        let others = Counters { number: 8, ..ETH0 };
        assert_eq!(notes.mode(others, SIP), None);
        assert_eq!(notes.split(others, SIP, Reason::Unlisted, counter(2)), None);
        let modes = modes(Mode::Enforce);
        notes.note(others, &modes, Turn::Before, |_, _| counter(0), 2000);
        assert_eq!(notes.since(others), Some(2000));
        let split = notes.split(others, SIP, Reason::Unlisted, counter(2));
        assert_eq!(split.unwrap().dropped, counter(2));
    }

    #[test]
    fn counters_of_earlier_versions_count_since_nobody_knows_when() {
        let mut notes = Notes::default();
        note(&mut notes, Mode::Enforce, Turn::After, 5);
        assert_eq!(notes.since(ETH0), None);
        assert_eq!(split(&notes, 6), (6, 0), "as it is now");
        notes.forget_service(SIP);
        assert_eq!(notes.mode(ETH0, SIP), None);
    }

    #[test]
    fn what_was_tried_holds_where_it_was_ended_in_time() {
        let mut begun = Counting::default();
        note(begun.kept(), Mode::Monitor, Turn::Before, 0);
        let trial = begun.trial(Some(100), 50).unwrap();
        note(trial, Mode::Enforce, Turn::After, 10);
        assert_eq!(split(begun.at(99), 12), (2, 10));
        assert_eq!(split(begun.at(100), 12), (0, 12), "the kernel went back");

        let mut confirmed = begun.clone();
        assert_eq!(confirmed.trial(None, 99), None);
        assert_eq!(split(confirmed.at(500), 12), (2, 10));

        let mut rolled_back = begun.clone();
        for notes in rolled_back.all() {
            note(notes, Mode::Monitor, Turn::Before, 13);
        }
        assert_eq!(rolled_back.trial(None, 99), None);
        assert_eq!(split(rolled_back.at(500), 20), (3, 17));

        let mut lapsed = begun.clone();
        assert_eq!(lapsed.trial(None, 100), None);
        assert_eq!(split(lapsed.at(500), 12), (0, 12));

        let mut again = begun;
        assert!(again.trial(Some(300), 200).is_some());
        assert_eq!(split(again.at(200), 12), (0, 12), "begun anew");
    }

    #[test]
    fn where_one_of_two_policies_watches_it_is_monitor_mode() {
        let mut both = Modes::from([(0, Mode::Enforce), (1, Mode::Monitor)]);
        add_modes(
            &mut both,
            Modes::from([(0, Mode::Monitor), (1, Mode::Enforce), (2, Mode::Enforce)]),
        );
        let wanted = [(0, Mode::Monitor), (1, Mode::Monitor), (2, Mode::Enforce)];
        assert_eq!(both, Modes::from(wanted));
    }

    #[test]
    fn notes_come_back_as_they_were() {
        let mut counting = Counting::default();
        note(counting.kept(), Mode::Monitor, Turn::Before, 0);
        note(counting.kept(), Mode::Enforce, Turn::After, 15);
        counting.trial(Some(100), 50);
        let json = serde_json::to_string(&counting).unwrap();
        assert_eq!(serde_json::from_str::<Counting>(&json).unwrap(), counting);
        assert!(json.contains(r#""0":{"mode":"enforce","other":{"6":[15,900]}}"#));
    }
}
