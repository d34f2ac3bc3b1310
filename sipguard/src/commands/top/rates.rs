//! What was counted in each of the last seconds, by interface, service and reason.

use std::collections::{BTreeMap, VecDeque};

use sipguard::report::{CounterReport, CountersReport};
use sipguard_ebpf::abi::Action;

/// How many seconds are shown at most.
pub(super) const SECONDS: usize = 60;

/// By what packets are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    /// What was to be dropped, by where it came in.
    Interface,
    /// The same, by the service that judged it.
    Service,
    /// All that was counted, by why it passed or was dropped.
    Reason,
}

/// Packets in each of the last seconds, the newest one last.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    seconds: VecDeque<u64>,
    /// Whether these packets pass.
    pub(super) passes: bool,
}

impl History {
    fn push(&mut self, packets: u64) {
        if self.seconds.len() == SECONDS {
            self.seconds.pop_front();
        }
        self.seconds.push_back(packets);
    }

    /// In the last second.
    pub(super) fn now(&self) -> u64 {
        self.seconds.back().copied().unwrap_or_default()
    }

    /// The newest ones, at most so many.
    pub(super) fn last(&self, count: usize) -> Vec<u64> {
        let skipped = self.seconds.len().saturating_sub(count);
        self.seconds.iter().skip(skipped).copied().collect()
    }

    fn is_empty(&self) -> bool {
        self.seconds.iter().all(|&packets| packets == 0)
    }
}

#[derive(Debug, Default)]
pub(super) struct Rates {
    histories: BTreeMap<(By, String), History>,
    /// Of all that was to be dropped.
    pub(super) dropped: History,
    /// Of all that passes.
    pub(super) passed: History,
    /// Bits of what was to be dropped, in the last second.
    pub(super) dropped_bits: u64,
}

impl Rates {
    /// Adds a second, of a report that has rates.
    pub(super) fn add(&mut self, report: &CountersReport) {
        let mut sums = BTreeMap::<(By, String), (u64, bool)>::new();
        let (mut dropped, mut passed, mut bytes) = (0, 0, 0);
        for counter in &report.counters {
            let packets = counter.packets_per_second.unwrap_or_default();
            let is_pass = counter.reason.action() == Action::Pass;
            if is_pass {
                passed += packets;
            } else {
                dropped += packets;
                bytes += counter.bytes_per_second.unwrap_or_default();
            }
            for key in keys(counter, is_pass) {
                sums.entry(key).or_insert((0, is_pass)).0 += packets;
            }
        }
        // What is not counted any more has come to rest.
        for key in self.histories.keys() {
            sums.entry(key.clone()).or_default();
        }
        for (key, (packets, passes)) in sums {
            let history = self.histories.entry(key).or_default();
            history.passes |= passes;
            history.push(packets);
        }
        self.dropped.push(dropped);
        self.passed.push(passed);
        self.dropped_bits = bytes.saturating_mul(8);
    }

    /// Those with the most packets first, at most so many; without those where nothing came, unless there are so few.
    pub(super) fn by(&self, by: By, count: usize) -> Vec<(&str, &History)> {
        let all = self.histories.iter().filter(|((of, _), _)| *of == by);
        let mut all: Vec<_> = all.map(|((_, name), history)| (&**name, history)).collect();
        let recently = |history: &History| history.last(SECONDS).iter().sum::<u64>();
        all.sort_by_key(|(_, history)| std::cmp::Reverse(recently(history)));
        if all.len() > count {
            all.retain(|(_, history)| !history.is_empty());
        }
        all.truncate(count);
        // So that lines don't change places all the time.
        all.sort_by_key(|(name, _)| *name);
        all
    }
}

fn keys(counter: &CounterReport, passes: bool) -> Vec<(By, String)> {
    let service = counter.service.as_deref().unwrap_or("-");
    let mut keys = vec![(By::Reason, counter.reason.name().to_owned())];
    if !passes {
        keys.push((By::Interface, counter.interface.clone()));
        keys.push((By::Service, service.to_owned()));
    }
    keys
}
