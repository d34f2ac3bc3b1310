//! What was counted, as `stats` tells it.

use std::{collections::HashMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sipguard_ebpf::abi::{Action, Counter, NO_SERVICE, Reason};

use crate::{
    counting::{Counters, Notes, Split},
    datapath::{self, Counts},
    host::Host,
    lifecycle::{self, Live},
    policy::{self, Mode},
    state::State,
};

/// How often counters are read again that belong to another mode by the time they are read.
const TRIES: u32 = 3;

/// All counters at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct CountersReport {
    /// When.
    pub time: Timestamp,
    /// The generation in force, if one is.
    pub generation: Option<u64>,
    /// The interfaces that have counters.
    pub interfaces: Vec<CountedInterface>,
    /// Those that a service in force can have, and others that are not zero; by interface, service and reason.
    pub counters: Vec<CounterReport>,
    /// All of them together.
    pub totals: Totals,
}

/// An interface that has counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CountedInterface {
    /// Its name.
    pub interface: String,
    /// Since when they count; `None` where an earlier version made them, which did not note it.
    pub since: Option<Timestamp>,
}

/// What was counted for one reason, and passed or was dropped.
#[derive(Clone, Debug, Serialize)]
pub struct CounterReport {
    /// Where the packets came in.
    pub interface: String,
    /// The service that judged them; `None` where none did.
    pub service: Option<String>,
    /// Why they passed or were dropped.
    #[serde(serialize_with = "by_name")]
    pub reason: Reason,
    /// `pass` or `drop`: what the policy says.
    pub action: &'static str,
    /// Whether it was done. What was counted in monitor mode and what was counted in enforce mode are two reports.
    pub enforced: bool,
    /// The mode in which it is counted now.
    pub mode: Mode,
    /// How many.
    pub packets: u64,
    /// Their frames' bytes.
    pub bytes: u64,
    /// Since the report before, if there was one.
    pub packets_per_second: Option<u64>,
    /// The same.
    pub bytes_per_second: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn by_name<S: serde::Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.name())
}

/// By what the policy says, and by what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// What passes.
    pub pass: PacketsAndBytes,
    /// What is to be dropped.
    pub drop: PacketsAndBytes,
    /// What of that was dropped.
    pub dropped: PacketsAndBytes,
    /// What of that passed, because it came in monitor mode.
    pub passed_in_monitor: PacketsAndBytes,
}

/// How much it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PacketsAndBytes {
    /// How many packets.
    pub packets: u64,
    /// Their frames' bytes.
    pub bytes: u64,
}

impl PacketsAndBytes {
    fn add(&mut self, counter: &CounterReport) {
        self.packets += counter.packets;
        self.bytes += counter.bytes;
    }
}

/// What was counted on an interface, and how it is to be read.
struct Counted<'c> {
    interface: &'c str,
    counts: &'c Counts,
    counters: Counters<'c>,
    notes: &'c Notes,
}

impl CountersReport {
    /// Asks the kernel.
    ///
    /// # Errors
    /// Where it can't be asked.
    pub fn take(host: &Host) -> Result<Self, lifecycle::Error> {
        let live = lifecycle::live(host)?;
        let state = lifecycle::state(host);
        let mut tries = 0;
        let (read, counting) = loop {
            let before = lifecycle::counting()?;
            let read = read()?;
            // Where the mode was changed while they were read, nobody knows which mode they belong to.
            let after = lifecycle::counting()?;
            tries += 1;
            if before == after || tries == TRIES {
                break (read, after);
            }
        };
        let now = lifecycle::now(host, &state);
        let notes = counting.at(now.boot_ns);
        let (mut interfaces, mut counters) = (Vec::new(), Vec::new());
        for (interface, number, counts) in &read {
            let number = *number;
            let counted = Counted {
                interface,
                counts,
                counters: Counters { interface, number },
                notes,
            };
            let since = notes.since(counted.counters).and_then(|since| {
                let passed = now.boot_ns.saturating_sub(since);
                let passed = SignedDuration::from_nanos(i64::try_from(passed).ok()?);
                now.wall.checked_sub(passed).ok()
            });
            interfaces.push(CountedInterface {
                interface: interface.clone(),
                since,
            });
            counters.extend(of_interface(&counted, live.as_ref(), &state));
        }
        Ok(Self {
            time: now.wall,
            generation: live.map(|live| live.number),
            interfaces,
            totals: totals(&counters),
            counters,
        })
    }

    /// Adds how much came in each second since an earlier report.
    pub fn rates(&mut self, before: &Self, elapsed: Duration) {
        let key = |counter: &CounterReport| {
            (
                counter.interface.clone(),
                counter.service.clone(),
                counter.reason,
            )
        };
        let sums = |report: &Self| {
            let mut sums = HashMap::<_, PacketsAndBytes>::new();
            for counter in &report.counters {
                sums.entry(key(counter)).or_default().add(counter);
            }
            sums
        };
        let (sums_before, sums) = (sums(before), sums(self));
        let known: HashMap<_, _> = before
            .counters
            .iter()
            .map(|counter| ((key(counter), counter.enforced), counter))
            .collect();
        // `down` and `apply` in between begin at zero.
        let rate = |counted: u64| {
            let rate = u128::from(counted) * 1_000_000_000 / elapsed.as_nanos().max(1);
            u64::try_from(rate).unwrap_or(u64::MAX)
        };
        for counter in &mut self.counters {
            let key = key(counter);
            let then = known
                .get(&(key.clone(), counter.enforced))
                .map_or((0, 0), |known| (known.packets, known.bytes));
            let [sum, sum_then] =
                [&sums, &sums_before].map(|sums| sums.get(&key).copied().unwrap_or_default());
            // What only changed sides, because nobody confirmed in time, did not come now.
            let packets = sum.packets.saturating_sub(sum_then.packets);
            let bytes = sum.bytes.saturating_sub(sum_then.bytes);
            let packets = packets.min(counter.packets.saturating_sub(then.0));
            let bytes = bytes.min(counter.bytes.saturating_sub(then.1));
            counter.packets_per_second = Some(rate(packets));
            counter.bytes_per_second = Some(rate(bytes));
        }
    }
}

/// The interfaces that have counters, the counters' numbers in the kernel, and what was counted.
fn read() -> Result<Vec<(String, u32, Counts)>, lifecycle::Error> {
    let mut read = Vec::new();
    for interface in datapath::counted_interfaces()? {
        if let Some(number) = datapath::counters_number(&interface)?
            && let Some(counts) = datapath::counts(&interface)?
        {
            read.push((interface, number, counts));
        }
    }
    Ok(read)
}

fn of_interface(counted: &Counted<'_>, live: Option<&Live>, state: &State) -> Vec<CounterReport> {
    let description = live.map(|live| &live.generation.description);
    let mut counters = Vec::new();
    for slot in 0..=NO_SERVICE {
        let service = description.and_then(|description| description.service_at(slot));
        let name = match service {
            Some(found) => Some(found.service.name.as_str()),
            // A service that is gone keeps its counters for when it comes back.
            None => state.slots.service(slot),
        };
        let mode = counted.notes.mode(counted.counters, slot);
        let mode = mode.unwrap_or_else(|| match service {
            Some(found) => found.service.mode,
            None => description.map_or(Mode::Enforce, |description| description.mode),
        });
        for reason in Reason::COUNTED {
            let total = counted.counts.of(slot, reason);
            let expected = match service {
                _ if slot == NO_SERVICE => live.is_some() && !is_of_service(reason),
                Some(found) => {
                    is_of_service(reason)
                        // Told where there were any.
                        && reason != Reason::Orphan
                        && match found.service.default {
                            policy::Action::Allow => reason != Reason::Unlisted,
                            policy::Action::Deny => reason != Reason::Open,
                        }
                }
                None => false,
            };
            for (counted_in, part) in counted.parts(slot, reason, total, mode) {
                if part.packets == 0 && !(expected && counted_in == mode) {
                    continue;
                }
                counters.push(CounterReport {
                    interface: counted.interface.to_owned(),
                    service: name.map(str::to_owned),
                    reason,
                    action: match reason.action() {
                        Action::Pass => "pass",
                        Action::Drop => "drop",
                    },
                    enforced: counted_in == Mode::Enforce,
                    mode,
                    packets: part.packets,
                    bytes: part.bytes,
                    packets_per_second: None,
                    bytes_per_second: None,
                });
            }
        }
    }
    counters
}

impl Counted<'_> {
    /// What was counted in which mode. Passing is the same in both.
    fn parts(&self, slot: u8, reason: Reason, total: Counter, mode: Mode) -> Vec<(Mode, Counter)> {
        let split = match reason.action() {
            Action::Pass => None,
            Action::Drop => self.notes.split(self.counters, slot, reason, total),
        };
        match split {
            None => vec![(mode, total)],
            Some(Split { dropped, passed }) => {
                vec![(Mode::Enforce, dropped), (Mode::Monitor, passed)]
            }
        }
    }
}

/// Whether a service gives verdicts for this reason.
fn is_of_service(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Orphan | Reason::Denied | Reason::Allowed | Reason::Unlisted | Reason::Open
    )
}

fn totals(counters: &[CounterReport]) -> Totals {
    let mut totals = Totals::default();
    for counter in counters {
        match counter.reason.action() {
            Action::Pass => totals.pass.add(counter),
            Action::Drop => {
                totals.drop.add(counter);
                if counter.enforced {
                    totals.dropped.add(counter);
                } else {
                    totals.passed_in_monitor.add(counter);
                }
            }
        }
    }
    totals
}
