//! What a crash left is brought to the one end or the other.

use std::collections::HashMap;

use super::{Error, Session, now};
use crate::{
    datapath::{self, Attachment, Generation, LinkError, Pending, Role, attachments},
    device,
    policy::{AttachMode, Interface},
    state::{Outcome, OwnEntry, State},
    tables::with_own,
};

/// What the links are to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// A generation that waits to be confirmed; interfaces that it is not for stay with the one before.
    Pending(Pending),
    /// One generation, and nothing else.
    Generation(u64),
    /// Nothing: what filtered was never confirmed, and there was nothing before. Or nothing filters anyway.
    Nothing,
}

impl Aim {
    /// The generations that are needed for it.
    fn generations(self) -> Vec<u64> {
        match self {
            Self::Pending(pending) => [Some(pending.generation), pending.previous]
                .into_iter()
                .flatten()
                .collect(),
            Self::Generation(number) => vec![number],
            Self::Nothing => Vec::new(),
        }
    }
}

impl Session {
    /// Finishes a swap that was cut off, takes back what was not confirmed in time, removes generations that nothing runs, and brings
    /// entries that the state has and the kernel has not (or the other way round) into line.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        let links = attachments()?;
        let aim = self.aim(&links)?;
        match aim {
            Aim::Pending(pending) => turn(&links, pending.generation, Role::Pending)?,
            Aim::Generation(number) => {
                let wanted = turn(&links, number, Role::Filter)?;
                release(
                    links
                        .iter()
                        .filter(|link| !wanted.contains(&link.interface)),
                )?;
                Pending::remove(number)?;
                wanted
            }
            Aim::Nothing => {
                release(links.iter().filter(|link| link.pending.is_some()))?;
                Vec::new()
            }
        };
        let needed = aim.generations();
        for number in Generation::all()? {
            if !needed.contains(&number) {
                Generation::remove(number)?;
            }
        }
        for number in needed {
            if let Ok(generation) = Generation::open(number)
                && generation.revision()? != self.state.revision
            {
                match follow(&generation, &self.state) {
                    // The next apply makes room, and must not be kept from it.
                    Err(Error::Datapath(datapath::Error::Full)) => {
                        generation.set_revision(Generation::BEHIND)?;
                    }
                    followed => followed?,
                }
            }
        }
        if self.state.outcome() == Some(Outcome::Confirmed) {
            self.forget_unconfirmed()?;
        }
        Ok(())
    }

    /// The state on disk says what was decided, and where it says nothing the clock does.
    fn aim(&mut self, links: &[Attachment]) -> Result<Aim, Error> {
        let outcome = self.state.outcome();
        let Some(pending) = links.iter().find_map(|link| link.pending) else {
            // A crash came before anything was turned. Where no link is left, it may have been a reboot, which the apply after it tells.
            if outcome == Some(Outcome::Pending) && !links.is_empty() {
                self.decide(Outcome::TakenBack)?;
            }
            let newest = links.iter().filter_map(|link| link.generation).max();
            return Ok(newest.map_or(Aim::Nothing, Aim::Generation));
        };
        let before = pending.previous.map_or(Aim::Nothing, Aim::Generation);
        match outcome {
            Some(Outcome::Confirmed) => Ok(Aim::Generation(pending.generation)),
            Some(Outcome::TakenBack) => Ok(before),
            _ if pending.lapsed(now()) => {
                self.decide(Outcome::TakenBack)?;
                Ok(before)
            }
            _ => Ok(Aim::Pending(pending)),
        }
    }
}

/// Turns the links that run something else, and makes those that are missing. Returns the interfaces that the generation is for.
fn turn(links: &[Attachment], number: u64, role: Role) -> Result<Vec<String>, Error> {
    let wanted = datapath::interfaces(number)?;
    let devices = device::all().map_err(Error::Devices)?;
    // Of another version it can be turned to all the same.
    let described = Generation::open(number)
        .map(|generation| generation.description.interfaces)
        .unwrap_or_default();
    let mut present: Vec<_> = devices
        .iter()
        .filter(|device| wanted.contains(&device.name))
        .collect();
    present.sort_by_key(|device| device::height(device, &devices));
    for device in present {
        let name = &device.name;
        let link = links.iter().find(|link| link.interface == *name);
        let runs = link.is_some_and(|link| match role {
            Role::Filter => link.generation == Some(number) && link.pending.is_none(),
            Role::Pending => link.pending.is_some(),
        });
        if !runs {
            let interface = described.iter().find(|interface| interface.name == *name);
            let interface = interface.cloned().unwrap_or_else(|| Interface {
                name: name.clone(),
                mode: AttachMode::Auto,
            });
            let turned = datapath::refuse_foreign(device, links)
                .and_then(|()| datapath::switch(number, role, &interface, device));
            match turned {
                // It came back with somebody else's program on it, or below a device that has one. That is told by `status` and
                // `apply`, and is no reason to leave the rest undone.
                Ok(_) | Err(LinkError::Busy { .. } | LinkError::Below { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(wanted)
}

fn release<'l>(links: impl Iterator<Item = &'l Attachment>) -> Result<(), Error> {
    for link in links {
        datapath::detach(&link.interface)?;
    }
    Ok(())
}

/// Makes the kernel's own entries those of the state.
fn follow(generation: &Generation, state: &State) -> Result<(), Error> {
    let now = now();
    let mut own = Vec::new();
    generation.for_each(|entry| {
        let timed = entry.value.allow_until | entry.value.deny_until != 0;
        if timed
            || entry.value.permanent
                & (sipguard_ebpf::abi::ALLOW_OWN | sipguard_ebpf::abi::DENY_OWN)
                != 0
        {
            own.push((entry.service, entry.prefix));
        }
    })?;
    let mut words = HashMap::<_, Vec<&OwnEntry>>::new();
    for entry in &state.entries {
        if let Some(service) = generation.description.service(&entry.service) {
            let key = (service.slot, entry.prefix);
            own.push(key);
            words.entry(key).or_default().push(entry);
        }
    }
    for key in own {
        let (slot, prefix) = key;
        let value = generation.value(slot, prefix)?;
        let words = words.get(&key).into_iter().flatten().copied();
        generation.set(slot, prefix, with_own(value, words, now))?;
    }
    Ok(generation.set_revision(state.revision)?)
}
