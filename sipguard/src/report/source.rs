//! A live source, as `status` tells it.

use std::{collections::HashMap, path::Path};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sipguard_ebpf::abi::Layer;
use sipguard_lists::{found::Entry, said::Message};

use super::living::is_in_force;
use crate::{
    datapath::{self, Generation},
    host::Host,
    lifecycle::ByHand,
    policy::LiveSource,
    sources::{Circumstances, FOLDER, look},
    state::State,
    tables::Now,
};

/// How long nobody has to be silent before it is told of.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// How a live source fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceReport {
    /// Its name.
    pub source: String,
    /// `names`, `url`, `countries`, `crowdsec` or `etcd`.
    pub kind: &'static str,
    /// How many entries the last good copy has, without those of which the kernel has none because they ended; null where there never was one.
    pub entries: Option<usize>,
    /// How many the kernel has of it, whoever else says them, in the service that has the fewest of those that name it.
    pub in_kernel: usize,
    /// How many of them decide nothing in some service, because an entry by hand says the opposite there.
    pub overruled: usize,
    /// When others were asked last, with or without success.
    pub asked: Option<Timestamp>,
    /// When they answered last.
    pub answered: Option<Timestamp>,
    /// Since when it has been what it is.
    pub changed: Option<Timestamp>,
    /// When they will be asked again.
    pub next: Option<Timestamp>,
    /// What they said beside the entries, if anything; anybody's words, made harmless.
    pub said: Option<String>,
    /// Why the last try failed, all or in part; the same.
    pub error: Option<String>,
    /// Why what was found last is not in force.
    pub refused: Option<String>,
    /// Whether it has been the same for longer than its `stale_after`.
    pub stale: bool,
}

impl SourceReport {
    /// Those of a generation.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    pub fn all(
        host: &Host,
        generation: &Generation,
        state: &State,
        now: Now,
    ) -> Result<Vec<Self>, datapath::Error> {
        let sources = &generation.description.live;
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let mut counts = HashMap::<(u8, u16), usize>::new();
        let mut by_hand = ByHand::default();
        generation.for_each(|entry| {
            by_hand.see(&entry, now);
            if entry.layer == Layer::Live {
                *counts
                    .entry((entry.service, entry.value.origin))
                    .or_default() += 1;
            }
        })?;
        let in_kernel = |source: &LiveSource| {
            let services = &generation.description.services;
            let slots = source
                .uses
                .iter()
                .map(|it| services.get(usize::from(it.service)));
            let counts = slots
                .flatten()
                .map(|found| counts.get(&(found.slot, source.origin)));
            counts.map(|count| count.copied().unwrap_or_default()).min()
        };
        let by_hand = by_hand.seen();
        let reports = sources.iter().map(|source| {
            let mut overruled = 0;
            if let Ok(Some(copy)) = host.copies().open(&source.task) {
                by_hand.overrules(generation, source, &copy, None, now, |_| overruled += 1)?;
            }
            let mut report = Self {
                in_kernel: in_kernel(source).unwrap_or_default(),
                overruled,
                ..Self::of(host, source, state, now)
            };
            if report.is_fewer()
                && let Some(wanted) = Wanted::of(host, generation, source, now)?
            {
                report.entries = Some(wanted.entries);
                report.in_kernel = wanted.in_kernel();
            }
            Ok(report)
        });
        reports.collect()
    }

    /// Whether the kernel has fewer entries that name this source than its copy has. That says no more than that they are to be looked up: of
    /// a prefix that several say, the kernel's entry names one.
    fn is_fewer(&self) -> bool {
        self.entries.is_some_and(|entries| self.in_kernel < entries)
    }

    /// Whether nobody answers, and not for a moment alone: what is silent now may have been asked at a bad moment.
    pub fn is_unanswered(&self, now: Timestamp) -> bool {
        let is_long_ago = |answered| now.duration_since(answered) > PATIENCE;
        self.error.is_some() && self.answered.is_none_or(is_long_ago)
    }

    fn of(host: &Host, source: &LiveSource, state: &State, now: Now) -> Self {
        Self {
            entries: host.copies().count(&source.task),
            ..Self::uncounted(source, state, now)
        }
    }

    /// One of them, without what takes counting: `entries`, `in_kernel` and `overruled`.
    pub fn uncounted(source: &LiveSource, state: &State, now: Now) -> Self {
        let circumstances = Circumstances {
            now: now.wall,
            own: &[],
        };
        let (head, wrong) = match look(Path::new(FOLDER), &source.task, circumstances) {
            Ok(head) => (head, None),
            Err(refused) => (None, Some(refused.to_string())),
        };
        let head = head.as_ref();
        let harmless = |text: Option<&String>| text.map(|text| Message(text).to_string());
        let changed = head.and_then(|head| head.changed);
        let stale_after = source.stale_after.map(i64::from);
        Self {
            source: source.task.source.clone(),
            kind: source.task.kind.name(),
            entries: None,
            in_kernel: 0,
            overruled: 0,
            asked: head.map(|head| head.asked),
            answered: head.and_then(|head| head.answered),
            changed,
            next: head.map(|head| head.next),
            said: harmless(head.and_then(|head| head.said.as_ref())),
            error: harmless(head.and_then(|head| head.error.as_ref())),
            refused: wrong.or_else(|| state.refused.get(&source.task.source).cloned()),
            stale: changed.is_some_and(|changed| {
                stale_after.is_some_and(|after| now.wall.duration_since(changed).as_secs() > after)
            }),
        }
    }
}

/// What the kernel is to have of a copy, looked up one by one: that takes a while where there are many.
#[derive(Debug, Default)]
struct Wanted {
    /// The services that use it, and how many of the entries each has.
    services: Vec<(u8, usize)>,
    entries: usize,
}

impl Wanted {
    /// Of a source; `None` where it can't be read, which is told of elsewhere.
    fn of(
        host: &Host,
        generation: &Generation,
        source: &LiveSource,
        now: Now,
    ) -> Result<Option<Self>, datapath::Error> {
        let circumstances = Circumstances {
            now: now.wall,
            own: &[],
        };
        let services = &generation.description.services;
        let uses = source.uses.iter();
        let services = uses.filter_map(|it| services.get(usize::from(it.service)));
        let mut wanted = Self {
            services: services.map(|found| (found.slot, 0)).collect(),
            entries: 0,
        };
        let mut failed = Ok(());
        let read = host.copies().read(&source.task, circumstances, |entry| {
            let look_up = |slot, prefix| is_in_force(generation, slot, prefix);
            if failed.is_ok() {
                failed = wanted.see(&entry, now, look_up);
            }
        });
        failed?;
        Ok(matches!(read, Ok(Some(_))).then_some(wanted))
    }

    /// Counts an entry, which `look_up` finds in a service or not. One that has ended is not wanted.
    fn see<E>(
        &mut self,
        entry: &Entry,
        now: Now,
        mut look_up: impl FnMut(u8, IpNet) -> Result<bool, E>,
    ) -> Result<(), E> {
        if entry.end.is_some_and(|end| end <= now.wall) {
            return Ok(());
        }
        self.entries += 1;
        for (slot, count) in &mut self.services {
            *count += usize::from(look_up(*slot, entry.prefix)?);
        }
        Ok(())
    }

    /// How many of them the service has that has the fewest.
    fn in_kernel(&self) -> usize {
        let counts = self.services.iter().map(|(_, count)| *count);
        counts.min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn what_has_ended_is_not_wanted_and_the_service_with_the_fewest_counts() {
        let wall = Timestamp::from_second(1_780_000_000).unwrap();
        let now = Now { boot_ns: 0, wall };
        let mut wanted = Wanted {
            services: vec![(3, 0), (7, 0)],
            entries: 0,
        };
        for (prefix, end) in [
            ("192.0.2.1/32", None),
            ("192.0.2.2/32", Some(1)),
            ("192.0.2.3/32", Some(0)),
            ("192.0.2.4/32", Some(-60)),
            ("192.0.2.5/32", None),
        ] {
            let entry = Entry {
                prefix: prefix.parse().unwrap(),
                first: wall,
                last: wall,
                end: end.map(|second| wall + SignedDuration::from_secs(second)),
                comment: None,
            };
            // One service has them all, the other one lacks one.
            let look_up = |slot, _| Ok::<_, Infallible>(slot == 3 || prefix != "192.0.2.5/32");
            wanted.see(&entry, now, look_up).unwrap();
        }
        assert_eq!((wanted.entries, wanted.in_kernel()), (3, 2));
    }

    #[test]
    fn the_copy_is_looked_up_only_where_the_kernel_names_fewer() {
        let source = |entries, in_kernel| SourceReport {
            source: "feed".to_owned(),
            kind: "url",
            entries,
            in_kernel,
            overruled: 0,
            asked: None,
            answered: None,
            changed: None,
            next: None,
            said: None,
            error: None,
            refused: None,
            stale: false,
        };
        for (entries, in_kernel, is_fewer) in [
            (None, 0, false),
            (Some(0), 0, false),
            (Some(100), 99, true),
            (Some(100), 100, false),
            (Some(100), 400, false),
        ] {
            assert_eq!(source(entries, in_kernel).is_fewer(), is_fewer);
        }
    }
}
