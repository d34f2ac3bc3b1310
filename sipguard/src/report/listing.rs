//! All entries, as `list` tells them.

use std::collections::HashSet;

use sipguard_ebpf::abi::Layer;

use super::{EntryOrigin, EntryReport, OwnEntries, banned_by, said_of};
use crate::{
    datapath,
    lifecycle::Live,
    state::{Bans, OwnEntry, State},
    tables::Now,
};

/// What the kernel has, by address, and what the state has besides.
pub struct Listing<'a> {
    live: Option<&'a Live>,
    state: &'a State,
    bans: &'a Bans,
    entries: Vec<datapath::Entry>,
    now: Now,
}

impl<'a> Listing<'a> {
    /// Asks the kernel for what is in force; for a million entries it is quicker to leave out here what is not wanted.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    pub fn take(
        live: Option<&'a Live>,
        state: &'a State,
        bans: &'a Bans,
        now: Now,
        is_wanted: impl Fn(&datapath::Entry) -> bool,
    ) -> Result<Self, datapath::Error> {
        let mut entries = Vec::new();
        if let Some(live) = live {
            live.generation.for_each(|entry| {
                if is_wanted(&entry) {
                    entries.push(entry);
                }
            })?;
            entries.sort_unstable_by_key(|entry| (entry.prefix, entry.service, entry.layer));
        }
        Ok(Self {
            live,
            state,
            bans,
            entries,
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
            for found in &self.entries {
                let Some(service) = description.service_at(found.service) else {
                    continue;
                };
                let name = &service.service.name;
                let (prefix, value) = (found.prefix, found.value);
                if found.layer == Layer::Live {
                    for mut entry in banned_by(prefix, name, self.bans, self.now) {
                        entry.overruled = self.is_under_hand(live, found);
                        each(&entry)?;
                    }
                    continue;
                }
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
            .try_for_each(|own| each(&EntryReport::waiting(own, self.now)))
    }

    /// Whether an entry by hand covers a live one and is in force, so that the live one decides nothing.
    fn is_under_hand(&self, live: &Live, entry: &datapath::Entry) -> bool {
        let mut covering = Some(entry.prefix);
        while let Some(prefix) = covering.filter(|prefix| prefix.prefix_len() > 0) {
            let said = live.generation.value(entry.service, Layer::Hand, prefix);
            if let Ok(Some(value)) = said
                && value.live(|| self.now.boot_ns).is_some()
            {
                return true;
            }
            covering = prefix.supernet();
        }
        false
    }
}
