//! A live source, as `status` tells it.

use std::{collections::HashMap, path::Path};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sipguard_ebpf::abi::Layer;
use sipguard_lists::said::Message;

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
    /// How many entries the last good copy has; null where there never was one.
    pub entries: Option<usize>,
    /// How many the kernel has of it, in the service that has the fewest of those that name it.
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
            Ok(Self {
                in_kernel: in_kernel(source).unwrap_or_default(),
                overruled,
                ..Self::of(host, source, state, now)
            })
        });
        reports.collect()
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
