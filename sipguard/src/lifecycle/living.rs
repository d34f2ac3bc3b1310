//! What is said live, made what the kernel has: bans of other programs and the last good copies of live sources.
//!
//! The log of bans and the copies are written first, then the kernel, then the note up to where the kernel has followed. What a crash leaves
//! undone in the kernel the next session finishes.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use jiff::Timestamp;
use sipguard_ebpf::abi::Layer;

use super::{ban_log::read as read_bans, error::Error, live::Live, session::Session};
use crate::{
    datapath::{self, Generation, Revisions},
    device,
    host::{Host, Trouble},
    policy::LiveSource,
    sources::{Changes, Circumstances, Copy},
    state::Bans,
    tables::{Now, Used, Word, banned, spread, value_of, values},
};

/// An entry that is there, with its end, if it has one.
#[derive(Clone, Copy)]
struct There(Option<Timestamp>);

/// What is said live of single prefixes, as it is to be.
pub(super) struct Said<'s> {
    sources: &'s [LiveSource],
    bans: &'s Bans,
    /// Those of the sources.
    copies: Vec<Option<Copy>>,
    /// Where one of them is about to be another one: with the ends of what is new, and nothing for what is gone.
    changed: Option<(u16, BTreeMap<IpNet, Option<There>>)>,
    own: Vec<IpAddr>,
    now: Now,
}

impl<'s> Said<'s> {
    pub(super) fn new(session: &Session<'_>, sources: &'s [LiveSource], bans: &'s Bans) -> Self {
        let copies = session.host.copies();
        let copies = sources
            .iter()
            .map(|source| match copies.open(&source.task) {
                Ok(copy) => copy,
                Err(error) => {
                    session.host.note(Trouble::Unusable(error));
                    None
                }
            });
        Self {
            sources,
            bans,
            copies: copies.collect(),
            changed: None,
            own: own_addresses(sources),
            now: session.now(),
        }
    }

    /// With these changes of a source.
    pub(super) fn with(mut self, number: u16, changes: &Changes) -> Self {
        let new = changes
            .new
            .iter()
            .map(|&(prefix, end)| (prefix, Some(There(end))));
        let gone = changes.gone.iter().map(|&prefix| (prefix, None));
        self.changed = Some((number, new.chain(gone).collect()));
        self
    }

    /// A source's entry of this prefix.
    fn entry(&self, number: u16, copy: Option<&Copy>, prefix: IpNet) -> Option<There> {
        if let Some((changed, changes)) = &self.changed
            && *changed == number
            && let Some(entry) = changes.get(&prefix)
        {
            return *entry;
        }
        let circumstances = Circumstances {
            now: self.now.wall,
            own: &self.own,
        };
        let found = copy?.find(prefix, circumstances);
        found.ok().flatten().map(|entry| There(entry.end))
    }

    /// All words on a prefix, and on those that are spread over it.
    fn words(&self, prefix: IpNet, used: Used) -> Vec<Word> {
        let mut words = Vec::new();
        for prefix in used.spread_over(prefix) {
            let bans = self.bans.of(prefix);
            words.extend(bans.filter_map(|ban| Word::of_ban(ban, self.now)));
            for (number, copy) in (0..).zip(&self.copies) {
                if let Some(There(end)) = self.entry(number, copy.as_ref(), prefix) {
                    words.extend(Word::of_source(number, prefix, end, self.now));
                }
            }
        }
        words
    }

    /// Makes what a generation has of prefixes in its services what is said of them. [`datapath::Error::Full`] where it has no room.
    pub(super) fn put(
        &self,
        generation: &Generation,
        prefixes: impl Iterator<Item = IpNet>,
    ) -> Result<(), Error> {
        for prefix in prefixes {
            for (index, found) in (0u8..).zip(&generation.description.services) {
                let used = generation.used(found.slot, Layer::Live)?;
                if !used.takes(prefix) {
                    return Err(datapath::Error::Full.into());
                }
                for prefix in spread(prefix, used.place(prefix)) {
                    let words = self.words(prefix, used);
                    let value = value_of(&words, index, self.sources);
                    generation.set(found.slot, Layer::Live, prefix, value)?;
                }
            }
        }
        Ok(())
    }
}

/// This host's own, where they matter.
pub(super) fn own_addresses(sources: &[LiveSource]) -> Vec<IpAddr> {
    if sources.is_empty() {
        return Vec::new();
    }
    // What can't be asked for is no reason not to filter.
    let own = device::addresses().unwrap_or_default();
    own.into_iter().collect()
}

impl Session<'_> {
    /// All that is said live with these sources. Where the log of bans can't be read, what is in force has them.
    pub(super) fn words(&self, sources: &[LiveSource]) -> Result<Vec<Word>, Error> {
        let bans = match read_bans(self.host, &self.state) {
            Ok(bans) => banned(&self.not_ended(bans), self.now()),
            Err(error) => {
                self.host.note(Trouble::Unread(error));
                banned_in_force()?
            }
        };
        let mend = |source: &LiveSource| self.mend(source);
        let Words { said, .. } = words(self.host, sources, bans, self.now(), mend);
        Ok(said)
    }

    /// What a generation that is compiled now has followed.
    pub(super) fn revisions(&self, sources: &[LiveSource]) -> Revisions {
        let copies = self.host.copies();
        Revisions {
            own: self.state.revision,
            bans: self.host.store.bans_length(),
            compared: self.host.now().boot_ns,
            sources: sources
                .iter()
                .map(|source| copies.revision(&source.task))
                .collect(),
        }
    }

    /// Makes what a generation has of what is said live what is said, where it has not followed that.
    pub(super) fn follow_live(
        &self,
        generation: &Generation,
        has: &Revisions,
    ) -> Result<(), Error> {
        let wanted = self.revisions(&generation.description.live);
        if (has.bans, &has.sources) == (wanted.bans, &wanted.sources) {
            return Ok(());
        }
        self.reconcile(generation)?;
        Ok(())
    }

    /// The same, every ten minutes whatever it says that it has followed: sets that have lost entries, or were never filled, are silent.
    pub(super) fn compare_live(&self, generation: &Generation) -> Result<usize, Error> {
        const EVERY: u64 = 10 * 60 * 1_000_000_000;
        let compared = generation.revisions()?.compared;
        if self.host.now().boot_ns.saturating_sub(compared) < EVERY {
            return Ok(0);
        }
        self.reconcile(generation)
    }

    /// Makes what a generation has of what is said live what is said, whatever it has followed. Returns how many entries were others. Of what
    /// can't be read it keeps what it has: better what was in force than nothing.
    pub(super) fn reconcile(&self, generation: &Generation) -> Result<usize, Error> {
        let bans = match read_bans(self.host, &self.state) {
            Ok(bans) => self.not_ended(bans),
            Err(error) => {
                self.host.note(Trouble::Unread(error));
                return Ok(0);
            }
        };
        self.tidy(&bans);
        let sources = &generation.description.live;
        let now = self.now();
        let mend = |source: &LiveSource| self.mend(source);
        let Words { said, unusable } = words(self.host, sources, banned(&bans, now), now, mend);
        let revisions = self.revisions(sources);
        let services = generation.description.services.iter();
        let services = services.map(|found| {
            let used = generation.used(found.slot, Layer::Live)?;
            Ok((found.slot, used.with(&said)))
        });
        let services = services.collect::<Result<Vec<_>, Error>>()?;
        let mut missing = BTreeMap::new();
        values(said, sources, &services, |prefix, service, value| {
            missing.insert((prefix, service), value);
        });
        let mut gone = Vec::new();
        generation.for_each(|entry| {
            if entry.layer != Layer::Live {
                return;
            }
            let place = (entry.prefix, entry.service);
            match missing.get(&place) {
                Some(value) if *value == entry.value => {
                    missing.remove(&place);
                }
                // It is replaced.
                Some(_) => {}
                None if unusable.contains(&entry.value.origin) => {}
                None => gone.push(place),
            }
        })?;
        let others = missing.len() + gone.len();
        // What is new comes in before what is old goes.
        for ((prefix, service), value) in missing {
            generation.set(service, Layer::Live, prefix, Some(value))?;
        }
        for (prefix, service) in gone {
            generation.set(service, Layer::Live, prefix, None)?;
        }
        generation.set_revision_of_bans(revisions.bans)?;
        generation.set_compared(revisions.compared)?;
        for (number, copy) in (0..).zip(revisions.sources) {
            generation.set_revision_of_source(number, copy)?;
        }
        Ok(others)
    }
}

/// Changes every generation that lives. Returns whether another one has to take their place: where one has no room, or what leads to its
/// entries leads too many others there.
pub(super) fn put_in_place(
    live: &Live,
    put: impl Fn(&Generation) -> Result<(), Error>,
) -> Result<bool, Error> {
    let mut full = false;
    let mut crowded = false;
    for generation in live.generations() {
        match put(generation) {
            Err(Error::Datapath(datapath::Error::Full)) => full = true,
            done => done?,
        }
        // Or it had none before.
        full |= generation.revisions()?.own == Generation::BEHIND;
        crowded |= generation.is_crowded()?;
    }
    match live.pending {
        None => Ok(full || crowded),
        // Both would have to be made anew, and the time to confirm with them.
        Some(_) if full => Err(datapath::Error::Full.into()),
        Some(_) => Ok(false),
    }
}

/// The bans of the newest generation, as far as they are nobody else's words, too.
fn banned_in_force() -> Result<Vec<Word>, Error> {
    let mut banned = Vec::new();
    if let Some(&newest) = Generation::all()?.last()
        && let Ok(generation) = Generation::open(newest)
    {
        generation.for_each(|entry| {
            if entry.layer == Layer::Live {
                banned.extend(Word::of_banned(entry.prefix, entry.value));
            }
        })?;
    }
    Ok(banned)
}

/// All that is said live with some sources.
pub(super) struct Words {
    pub(super) said: Vec<Word>,
    /// The origins of those whose copies can't be used. The host is told of them.
    unusable: Vec<u16>,
}

/// All that is said live with these sources, beside these bans. Where a copy can't be used, `mend` says whether there is another one now.
pub(super) fn words(
    host: &Host,
    sources: &[LiveSource],
    bans: Vec<Word>,
    now: Now,
    mend: impl Fn(&LiveSource) -> bool,
) -> Words {
    let mut said = bans;
    let mut unusable = Vec::new();
    let copies = host.copies();
    let own = own_addresses(sources);
    let circumstances = Circumstances {
        now: now.wall,
        own: &own,
    };
    for (number, source) in (0..).zip(sources) {
        let before = said.len();
        let mut read = || {
            said.truncate(before);
            copies.read(&source.task, circumstances, |entry| {
                said.extend(Word::of_source(number, entry.prefix, entry.end, now));
            })
        };
        let mut done = read();
        if done.is_err() && mend(source) {
            done = read();
        }
        if let Err(error) = done {
            host.note(Trouble::Unusable(error));
            unusable.push(source.origin);
        }
    }
    Words { said, unusable }
}
