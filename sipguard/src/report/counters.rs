//! What was counted, as `stats` tells it.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use sipguard_ebpf::abi::{Action, NO_SERVICE, Reason};

use crate::{
    datapath,
    host::Host,
    lifecycle::{self, Live},
    policy::{self, Mode},
    state::State,
};

/// All counters at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct CountersReport {
    /// When.
    pub time: Timestamp,
    /// The generation in force, if one is.
    pub generation: Option<u64>,
    /// Those that a service in force can have, and others that are not zero; by interface, service and reason.
    pub counters: Vec<CounterReport>,
    /// All of them together.
    pub totals: Totals,
}

/// One counter.
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
    /// Whether what is to be dropped is dropped.
    pub enforced: bool,
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

/// By what the policy says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// What passes.
    pub pass: PacketsAndBytes,
    /// What is to be dropped.
    pub drop: PacketsAndBytes,
}

/// How much it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PacketsAndBytes {
    /// How many packets.
    pub packets: u64,
    /// Their frames' bytes.
    pub bytes: u64,
}

impl CountersReport {
    /// Asks the kernel.
    ///
    /// # Errors
    /// Where it can't be asked.
    pub fn take(host: &Host) -> Result<Self, lifecycle::Error> {
        let live = lifecycle::live(host)?;
        let state = lifecycle::state(host);
        let mut counters = Vec::new();
        for interface in datapath::counted_interfaces()? {
            if let Some(counts) = datapath::counts(&interface)? {
                counters.extend(of_interface(&interface, &counts, live.as_ref(), &state));
            }
        }
        Ok(Self {
            time: host.now().wall,
            generation: live.map(|live| live.number),
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
        let known: HashMap<_, _> = before
            .counters
            .iter()
            .map(|counter| (key(counter), counter))
            .collect();
        for counter in &mut self.counters {
            let (packets, bytes) = known
                .get(&key(counter))
                .map_or((0, 0), |known| (known.packets, known.bytes));
            // `down` and `apply` in between begin at zero.
            let rate = |now: u64, then: u64| {
                let counted = u128::from(now.saturating_sub(then));
                let rate = counted * 1_000_000_000 / elapsed.as_nanos().max(1);
                u64::try_from(rate).unwrap_or(u64::MAX)
            };
            counter.packets_per_second = Some(rate(counter.packets, packets));
            counter.bytes_per_second = Some(rate(counter.bytes, bytes));
        }
    }
}

fn of_interface(
    interface: &str,
    counts: &datapath::Counts,
    live: Option<&Live>,
    state: &State,
) -> Vec<CounterReport> {
    let description = live.map(|live| &live.generation.description);
    let mut counters = Vec::new();
    for slot in 0..=NO_SERVICE {
        let service = description.and_then(|description| description.service_at(slot));
        let name = match service {
            Some(found) => Some(found.service.name.as_str()),
            // A service that is gone keeps its counters for when it comes back.
            None => state.slots.service(slot),
        };
        for reason in Reason::COUNTED {
            let counted = counts.of(slot, reason);
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
            if !expected && counted.packets == 0 {
                continue;
            }
            let mode = match service {
                Some(found) => found.service.mode,
                None => description.map_or(Mode::Enforce, |description| description.mode),
            };
            counters.push(CounterReport {
                interface: interface.to_owned(),
                service: name.map(str::to_owned),
                reason,
                action: match reason.action() {
                    Action::Pass => "pass",
                    Action::Drop => "drop",
                },
                enforced: mode == Mode::Enforce,
                packets: counted.packets,
                bytes: counted.bytes,
                packets_per_second: None,
                bytes_per_second: None,
            });
        }
    }
    counters
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
        let total = match counter.reason.action() {
            Action::Pass => &mut totals.pass,
            Action::Drop => &mut totals.drop,
        };
        total.packets += counter.packets;
        total.bytes += counter.bytes;
    }
    totals
}
