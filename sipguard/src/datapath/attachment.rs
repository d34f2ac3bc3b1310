//! What of ours is attached, and what each of it belongs to.

use std::{collections::HashMap, path::Path};

use aya::programs::ProgramInfo;

use super::{
    Error, Generation, LinkError, Pending, Place, Role,
    programs::{interfaces, programs},
    tc, xdp,
};
use crate::{
    device::{Device, Hook, driver},
    policy::AttachMode,
    tables::Now,
};

/// A program of ours on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The interface it was made for.
    pub interface: String,
    /// Where it was attached.
    pub place: Place,
    /// At TC ingress, the number of the device that it runs on; an XDP program is the device's to tell.
    on: Option<u32>,
    /// The generation that filters there now; `None` where its pins are gone, and where the time to confirm is over and nothing filtered
    /// there before.
    pub generation: Option<u64>,
    /// The program's number in the kernel.
    pub program: u32,
    /// The apply that waits to be confirmed there, or waited until its time was over.
    pub pending: Option<Pending>,
}

impl Attachment {
    /// Where it runs on a device; `None` where it does not: the one it was attached to is gone, or somebody has detached it.
    pub fn hook(&self, device: &Device) -> Option<Hook> {
        match self.place {
            Place::Xdp => xdp::hook(self.program, device),
            Place::Tc => (self.on == Some(device.index)).then_some(Hook::Tc),
        }
    }

    /// Whether it runs where `mode` wants it, and nothing stands before it.
    pub fn is_in_place(&self, device: &Device, mode: AttachMode) -> bool {
        let Some(hook) = self.hook(device) else {
            return false;
        };
        let fits = match mode {
            AttachMode::Native => matches!(hook, Hook::Native | Hook::Offloaded),
            AttachMode::Tc => hook == Hook::Tc,
            AttachMode::Auto => match hook {
                Hook::Generic => false,
                Hook::Native => driver::unsafe_natively(device).is_none(),
                Hook::Tc | Hook::Offloaded => true,
            },
        };
        fits && self.before(device).is_empty()
    }

    /// The programs at TC ingress that run before it, by their numbers: what they take it never sees.
    pub fn before(&self, device: &Device) -> Vec<u32> {
        let line = match self.place {
            Place::Xdp => Vec::new(),
            Place::Tc => tc::line(device).unwrap_or_default(),
        };
        let own = line.iter().position(|&program| program == self.program);
        line.into_iter().take(own.unwrap_or_default()).collect()
    }
}

/// All programs of ours that are attached, by the interfaces' names.
///
/// # Errors
/// Where the pins can't be read.
pub fn attachments(now: Now) -> Result<Vec<Attachment>, Error> {
    let owners = owners(now)?;
    let xdp = xdp::links()?.into_iter();
    let tc = tc::links()?.into_iter();
    let xdp = xdp.map(|(interface, program)| (Place::Xdp, interface, program, None));
    let tc = tc.map(|link| (Place::Tc, link.interface, link.program, link.on));
    let mut found: Vec<_> = xdp
        .chain(tc)
        .map(|(place, interface, program, on)| {
            let (generation, pending) = owners.get(&program).copied().unwrap_or_default();
            Attachment {
                interface,
                place,
                on,
                generation,
                program,
                pending,
            }
        })
        .collect();
    found.sort_by(|one, other| one.interface.cmp(&other.interface));
    Ok(found)
}

/// The generation that filters where a program runs, and the apply that waits to be confirmed there.
type Owner = (Option<u64>, Option<Pending>);

/// What each program belongs to, by its number.
fn owners(now: Now) -> Result<HashMap<u32, Owner>, Error> {
    let mut owners = HashMap::new();
    for number in Generation::all()? {
        for (_, path) in programs(number, Role::Filter)? {
            owners.insert(program_id(&path)?, (Some(number), None));
        }
        let Some(pending) = Pending::of(number)? else {
            continue;
        };
        let previous = pending.previous.map_or(Ok(Vec::new()), interfaces)?;
        for (interface, path) in programs(number, Role::Pending)? {
            let filters = if pending.lapsed(now) {
                pending.previous.filter(|_| previous.contains(&interface))
            } else {
                Some(number)
            };
            owners.insert(program_id(&path)?, (filters, Some(pending)));
        }
    }
    Ok(owners)
}

fn program_id(path: &Path) -> Result<u32, Error> {
    ProgramInfo::from_pin(path)
        .map(|info| info.id())
        .map_err(|error| Error::kernel(format!("can't open {}", path.display()), &error))
}

/// The XDP program on `device` that is not in `ours`, if there is one, and if it is in the way: at TC ingress ours gets what that one
/// lets pass.
///
/// # Errors
/// [`LinkError::Busy`] names it.
pub fn refuse_foreign(
    device: &Device,
    mode: AttachMode,
    ours: &[Attachment],
) -> Result<(), LinkError> {
    if mode == AttachMode::Tc {
        return Ok(());
    }
    match foreign(device, ours) {
        Some(program) => Err(LinkError::busy(device, program)),
        None => Ok(()),
    }
}

/// The number of the XDP program on `device` that is not in `ours`, if there is one.
pub fn foreign(device: &Device, ours: &[Attachment]) -> Option<u32> {
    let mut attached = device.xdp.iter().map(|attached| attached.program);
    attached.find(|&program| ours.iter().all(|link| link.program != program))
}
