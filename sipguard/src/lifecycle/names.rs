//! Interfaces' names: other ones that they have, and new ones that they got.

use std::fmt;

use super::{error::Error, live::is_attached};
use crate::{
    datapath::{Attachment, attachments},
    device::{self, Device},
    host::{Host, Trouble},
    policy::Interface,
};

/// An interface that has another name than when it was attached to; what is attached stays with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// What it was called.
    pub was: String,
    /// What it is called.
    pub now: String,
}

impl fmt::Display for Renamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (was {})", self.now, self.was)
    }
}

/// Calls a policy's interfaces as the kernel does, where the config uses another name that they have (`altname` in `ip link`).
///
/// # Errors
/// [`Error::SameInterface`].
pub fn use_kernel_names(interfaces: &mut [Interface], devices: &[Device]) -> Result<(), Error> {
    for index in 0..interfaces.len() {
        let name = &interfaces[index].name;
        let Some(device) = devices.iter().find(|it| it.alt_names.contains(name)) else {
            continue;
        };
        if interfaces.iter().any(|it| it.name == device.name) {
            return Err(Error::SameInterface {
                name: device.name.clone(),
                other: name.clone(),
            });
        }
        interfaces[index].name.clone_from(&device.name);
    }
    Ok(())
}

/// The device that a link runs on, where that is not the one it was made for: that was renamed.
pub(crate) fn renamed<'d>(link: &Attachment, devices: &'d [Device]) -> Option<&'d Device> {
    if devices.iter().any(|device| is_attached(link, device)) {
        return None;
    }
    let runs = |device: &&Device| link.hook(device).is_some();
    devices.iter().filter(runs).find(|device| {
        // A bond shows its program on its ports, too.
        let controller = devices
            .iter()
            .find(|it| device.controller == Some(it.index));
        controller.is_none_or(|controller| !runs(&controller))
    })
}

/// All of them.
pub(super) fn all_renamed(links: &[Attachment], devices: &[Device]) -> Vec<Renamed> {
    let renamed = |link: &Attachment| {
        Some(Renamed {
            was: link.interface.clone(),
            now: renamed(link, devices)?.name.clone(),
        })
    };
    let mut found: Vec<_> = links.iter().filter_map(renamed).collect();
    // It may be attached in two places.
    found.dedup();
    found
}

/// Tells of those that are not filtered any more, because the policy has another interface of that name, or none.
pub(super) fn tell_let_go(host: &Host, before: Vec<Renamed>) -> Result<(), Error> {
    if before.is_empty() {
        return Ok(());
    }
    let links = attachments(host.now())?;
    let devices = device::all().map_err(Error::Devices)?;
    let is_filtered = |renamed: &Renamed| {
        let device = devices.iter().find(|device| device.name == renamed.now);
        device.is_none_or(|device| links.iter().any(|link| link.hook(device).is_some()))
    };
    let gone: Vec<_> = before.into_iter().filter(|it| !is_filtered(it)).collect();
    if !gone.is_empty() {
        host.note(Trouble::LetGo(gone));
    }
    Ok(())
}
