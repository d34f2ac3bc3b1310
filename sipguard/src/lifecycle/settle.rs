//! What a crash left is brought to the one end or the other.

use super::Error;
use crate::{
    datapath::{self, Generation, attachments},
    device,
    state::State,
    tables::with_own,
};

/// Finishes a swap that was cut off, removes generations that nothing runs, and brings entries that the state has and the kernel has
/// not (or the other way round) into line.
pub(super) fn settle(state: &State) -> Result<(), Error> {
    let links = attachments()?;
    let newest = links.iter().filter_map(|link| link.generation).max();
    if let Some(newest) = newest {
        let description = Generation::open(newest).map(|generation| generation.description);
        let devices = device::all().map_err(Error::Devices)?;
        // One of another version is replaced by the apply that comes after an upgrade.
        if let Ok(description) = description {
            let wanted = datapath::interfaces(newest)?;
            for interface in description
                .interfaces
                .iter()
                .filter(|interface| wanted.contains(&interface.name))
            {
                let link = links.iter().find(|link| link.interface == interface.name);
                let device = devices.iter().find(|device| device.name == interface.name);
                if link.is_none_or(|link| link.generation != Some(newest))
                    && let Some(device) = device
                {
                    datapath::refuse_foreign(device, &links)?;
                    datapath::switch(newest, interface, device)?;
                }
            }
            for link in links
                .iter()
                .filter(|link| !wanted.contains(&link.interface))
            {
                datapath::detach(&link.interface)?;
            }
        }
    }
    for number in Generation::all()? {
        if Some(number) != newest {
            Generation::remove(number)?;
        }
    }
    if let Some(newest) = newest
        && let Ok(generation) = Generation::open(newest)
        && generation.revision()? != state.revision
    {
        follow(&generation, state)?;
    }
    Ok(())
}

/// Makes the kernel's own entries those of the state.
fn follow(generation: &Generation, state: &State) -> Result<(), Error> {
    let now = super::now();
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
    for entry in &state.entries {
        if let Some(service) = generation.description.service(&entry.service) {
            own.push((service.slot, entry.prefix));
        }
    }
    for (slot, prefix) in own {
        let Some(service) = generation.description.service_at(slot) else {
            continue;
        };
        let value = generation.value(slot, prefix)?;
        generation.set(
            slot,
            prefix,
            with_own(value, state.of(prefix, &service.service.name), now),
        )?;
    }
    Ok(generation.set_revision(state.revision)?)
}
