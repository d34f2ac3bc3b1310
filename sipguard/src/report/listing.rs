//! All entries, as `list` tells them.

use std::collections::HashSet;

use ipnet::IpNet;
use sipguard_ebpf::abi::{Layer, Value};

use super::{
    EntryOrigin, EntryReport, OwnEntries,
    living::{LiveWord, all, is_in_force, reports},
    said_of,
};
use crate::{
    datapath::{self, ServiceDescription},
    host::Host,
    lifecycle::{Live, by_hand},
    policy::ALL,
    state::{Bans, OwnEntry, State},
    tables::Now,
};

/// What the kernel has, by address, and what the state has besides.
pub struct Listing<'a> {
    live: Option<&'a Live>,
    state: &'a State,
    bans: &'a Bans,
    /// By hand, in the kernel.
    entries: Vec<datapath::Entry>,
    /// By prefix.
    words: Vec<LiveWord<'a>>,
    is_wanted: Box<dyn Fn(&datapath::Entry) -> bool + 'a>,
    now: Now,
}

impl<'a> Listing<'a> {
    /// Asks the kernel for what is in force; for a million entries it is quicker to leave out here what is not wanted.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    pub fn take(
        host: &Host,
        live: Option<&'a Live>,
        state: &'a State,
        bans: &'a Bans,
        now: Now,
        is_wanted: impl Fn(&datapath::Entry) -> bool + 'a,
    ) -> Result<Self, datapath::Error> {
        let mut entries = Vec::new();
        let mut words = Vec::new();
        if let Some(live) = live {
            live.generation.for_each(|entry| {
                if entry.layer == Layer::Hand && is_wanted(&entry) {
                    entries.push(entry);
                }
            })?;
            entries.sort_unstable_by_key(|entry| (entry.prefix, entry.service));
            let description = &live.generation.description;
            words = all(host, description, bans, now, |prefix| {
                let mut services = description.services.iter();
                services.any(|found| is_wanted(&live_entry(found, prefix)))
            });
        }
        Ok(Self {
            live,
            state,
            bans,
            entries,
            words,
            is_wanted: Box::new(is_wanted),
            now,
        })
    }

    /// Hands over every entry: those in force by address, then those that wait for an apply.
    ///
    /// # Errors
    /// What `each` says.
    pub fn each<'s, E>(
        &'s self,
        mut each: impl FnMut(&EntryReport<'s>) -> Result<(), E>,
    ) -> Result<(), E> {
        let own = OwnEntries::new(self.state);
        let mut seen = HashSet::new();
        if let Some(live) = self.live {
            let description = &live.generation.description;
            let mut words = self
                .words
                .chunk_by(|one, other| one.prefix == other.prefix)
                .peekable();
            for found in &self.entries {
                while let Some(said) = words.next_if(|said| said[0].prefix < found.prefix) {
                    self.live(live, said, &mut each)?;
                }
                let Some(service) = description.service_at(found.service) else {
                    continue;
                };
                let name = &service.service.name;
                let (prefix, value) = (found.prefix, found.value);
                for entry in said_of(prefix, value, name, description, &own, self.now) {
                    if entry.origin == EntryOrigin::CommandLine {
                        seen.insert((
                            entry.prefix,
                            entry.service,
                            entry.action,
                            entry.until.is_some(),
                        ));
                    }
                    each(&entry)?;
                }
            }
            for said in words {
                self.live(live, said, &mut each)?;
            }
        }
        let is_seen = |own: &OwnEntry| {
            let service = own.service.as_str();
            seen.contains(&(own.prefix, service, own.action, own.until.is_some()))
        };
        let entries = self.state.entries.iter();
        let mut waiting: Vec<_> = entries
            .filter(|own| !own.ended(self.now.wall) && !is_seen(own))
            .collect();
        waiting.sort_by_key(|own| (own.prefix, own.service.as_str()));
        waiting
            .into_iter()
            .try_for_each(|own| each(&EntryReport::waiting(own, self.now)))?;
        if self.live.is_some() {
            return Ok(());
        }
        let bans = self.bans.iter();
        bans.filter(|ban| !ban.ended(self.now.wall))
            .try_for_each(|ban| {
                each(&EntryReport {
                    in_force: false,
                    ..EntryReport::ban(ban, ALL, self.now)
                })
            })
    }

    /// What is said live of one prefix.
    fn live<'s, E>(
        &'s self,
        live: &'s Live,
        said: &[LiveWord<'a>],
        each: &mut impl FnMut(&EntryReport<'s>) -> Result<(), E>,
    ) -> Result<(), E> {
        let prefix = said[0].prefix;
        let services = live.generation.description.services.iter();
        let mut services: Vec<_> = services.enumerate().collect();
        // As the entries by hand are.
        services.sort_by_key(|(_, found)| found.slot);
        for (number, found) in services {
            if !(self.is_wanted)(&live_entry(found, prefix)) {
                continue;
            }
            let reports = reports(said, (number, &found.service.name), self.now);
            if reports.is_empty() {
                continue;
            }
            // What can't be asked is told as it was said.
            let generation = &live.generation;
            let in_force = is_in_force(generation, found.slot, prefix).unwrap_or(true);
            let by_hand = by_hand(generation, found.slot, prefix, self.now).unwrap_or_default();
            for report in reports {
                each(&EntryReport {
                    in_force,
                    overruled: report.overruled || by_hand.is_some(),
                    ..report
                })?;
            }
        }
        Ok(())
    }
}

/// What the kernel would have of a live word.
fn live_entry(found: &ServiceDescription, prefix: IpNet) -> datapath::Entry {
    datapath::Entry {
        service: found.slot,
        layer: Layer::Live,
        prefix,
        value: Value::default(),
    }
}
