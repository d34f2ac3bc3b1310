//! What is said live, as `list` and `check` tell it: bans of other programs, and the entries of live sources.

use std::{borrow::Cow, iter::successors, net::IpAddr};

use ipnet::IpNet;
use jiff::Timestamp;
use sipguard_ebpf::abi::Layer;
use sipguard_lists::{found::Entry, said::Said, task::Kind};

use super::{EntryOrigin, EntryReport};
use crate::{
    datapath::{self, Description, Generation},
    host::{Host, Trouble},
    policy::{Action, LiveSource},
    sources::{Circumstances, Copy},
    state::{Ban, Bans},
    tables::{Now, spread},
};

/// One word of one of them, of whichever services.
#[derive(Clone, Debug)]
pub(super) struct LiveWord<'a> {
    pub(super) prefix: IpNet,
    by: By<'a>,
    end: Option<Timestamp>,
    comment: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum By<'a> {
    Ban(&'a Ban),
    Source(&'a LiveSource),
}

impl<'a> LiveWord<'a> {
    fn of_ban(ban: &'a Ban) -> Self {
        Self {
            prefix: ban.prefix,
            by: By::Ban(ban),
            end: ban.until,
            comment: None,
        }
    }

    fn of_source(source: &'a LiveSource, entry: Entry) -> Self {
        Self {
            prefix: entry.prefix,
            by: By::Source(source),
            end: entry.end,
            // It may be anybody's words.
            comment: entry.comment.map(|text| Said(&text).to_string()),
        }
    }

    fn is_over(&self, now: Now) -> bool {
        self.end.is_some_and(|end| end <= now.wall)
    }

    /// What it does in a service, whose number is its place in the generation. A source may be in both lists of one.
    fn actions(&self, service: usize) -> impl Iterator<Item = Action> {
        let (ban, uses) = match self.by {
            By::Ban(_) => (Some(Action::Deny), &[][..]),
            By::Source(source) => (None, &source.uses[..]),
        };
        let uses = uses
            .iter()
            .filter(move |it| usize::from(it.service) == service);
        ban.into_iter().chain(uses.map(|it| it.action))
    }

    /// Of what is said of one prefix, the lowest decides: see [`crate::tables::value_of`].
    fn rank(&self, action: Action) -> (bool, bool) {
        let is_name =
            matches!(self.by, By::Source(source) if matches!(source.task.kind, Kind::Names(_)));
        (!is_name, action == Action::Allow)
    }

    fn report(&self, service: &'a str, action: Action, now: Now) -> EntryReport<'a> {
        match self.by {
            By::Ban(ban) => EntryReport::ban(ban, service, now),
            By::Source(source) => EntryReport {
                prefix: self.prefix,
                service,
                action,
                until: self.end,
                seconds_left: self.end.map(|end| end.duration_since(now.wall).as_secs()),
                origin: EntryOrigin::Live,
                source: Some(&source.task.source),
                file: None,
                comment: self.comment.clone().map(Cow::from),
                in_force: true,
                overruled: false,
            },
        }
    }
}

/// All that is said live and has not ended, by prefix.
pub(super) fn all<'a>(
    host: &Host,
    description: &'a Description,
    bans: &'a Bans,
    now: Now,
    is_wanted: impl Fn(IpNet) -> bool,
) -> Vec<LiveWord<'a>> {
    let mut words: Vec<_> = bans.iter().map(LiveWord::of_ban).collect();
    words.retain(|word| is_wanted(word.prefix));
    for source in &description.live {
        let circumstances = Circumstances {
            now: now.wall,
            own: &[],
        };
        let read = host.copies().read(&source.task, circumstances, |entry| {
            if is_wanted(entry.prefix) {
                words.push(LiveWord::of_source(source, entry));
            }
        });
        if let Err(error) = read {
            host.note(Trouble::Unusable(error));
        }
    }
    words.retain(|word| !word.is_over(now));
    words.sort_by_key(|word| word.prefix);
    words
}

/// What words on one prefix say in one service, the one that decides first.
pub(super) fn reports<'a>(
    words: &[LiveWord<'a>],
    service: (usize, &'a str),
    now: Now,
) -> Vec<EntryReport<'a>> {
    let (number, name) = service;
    let mut said: Vec<_> = words
        .iter()
        .flat_map(|word| word.actions(number).map(move |action| (word, action)))
        .collect();
    said.sort_by_key(|(word, action)| word.rank(*action));
    let reports = said.into_iter().enumerate();
    reports
        .map(|(place, (word, action))| EntryReport {
            overruled: place > 0,
            ..word.report(name, action, now)
        })
        .collect()
}

/// What is said live of single prefixes.
pub struct Living<'a> {
    description: &'a Description,
    bans: &'a Bans,
    copies: Vec<(&'a LiveSource, Copy)>,
    now: Now,
}

impl<'a> Living<'a> {
    /// Of the bans and of the last good copies of a generation's sources.
    pub fn new(host: &Host, description: &'a Description, bans: &'a Bans, now: Now) -> Self {
        let copies =
            description
                .live
                .iter()
                .filter_map(|source| match host.copies().open(&source.task) {
                    Ok(copy) => Some((source, copy?)),
                    Err(error) => {
                        host.note(Trouble::Unusable(error));
                        None
                    }
                });
        Self {
            description,
            bans,
            copies: copies.collect(),
            now,
        }
    }

    /// What leads to the kernel's live entry of this prefix in a service; what comes first decides.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    pub fn of(
        &self,
        generation: &Generation,
        slot: u8,
        prefix: IpNet,
    ) -> Result<Vec<EntryReport<'a>>, datapath::Error> {
        let used = generation.used(slot, Layer::Live)?;
        let mut services = self.description.services.iter().enumerate();
        let Some((number, found)) = services.find(|(_, found)| found.slot == slot) else {
            return Ok(Vec::new());
        };
        let words: Vec<_> = used
            .spread_over(prefix)
            .flat_map(|prefix| self.words(prefix))
            .collect();
        Ok(reports(&words, (number, &found.service.name), self.now))
    }

    /// All that is said live of an address in a service, where something else counts; the most specific first.
    pub fn covering(&self, slot: u8, address: IpAddr) -> Vec<EntryReport<'a>> {
        let mut services = self.description.services.iter().enumerate();
        let Some((number, found)) = services.find(|(_, found)| found.slot == slot) else {
            return Vec::new();
        };
        let covering = successors(Some(IpNet::from(address)), IpNet::supernet);
        let reports = covering.flat_map(|prefix| {
            let words = self.words(prefix);
            reports(&words, (number, &found.service.name), self.now)
        });
        let overruled = reports.map(|report| EntryReport {
            overruled: true,
            ..report
        });
        overruled.collect()
    }

    fn words(&self, prefix: IpNet) -> Vec<LiveWord<'a>> {
        let circumstances = Circumstances {
            now: self.now.wall,
            own: &[],
        };
        let bans = self.bans.of(prefix).map(LiveWord::of_ban);
        let found = self.copies.iter().filter_map(|(source, copy)| {
            let entry = copy.find(prefix, circumstances).ok()??;
            Some(LiveWord::of_source(source, entry))
        });
        let mut words: Vec<_> = bans.chain(found).collect();
        words.retain(|word| !word.is_over(self.now));
        words
    }
}

/// Whether the kernel has all that stands for a prefix in a service's live layer.
pub(super) fn is_in_force(
    generation: &Generation,
    slot: u8,
    prefix: IpNet,
) -> Result<bool, datapath::Error> {
    let used = generation.used(slot, Layer::Live)?;
    for prefix in spread(prefix, used.place(prefix)) {
        if generation.value(slot, Layer::Live, prefix)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
