//! Interfaces' programs at TC ingress: before all others there, so that none of those can take a packet away unjudged.
//!
//! From Linux 6.6 on these are TCX links, one a program, pinned below the interface's name. Older kernels have no links there; what is
//! attached to them holds by itself, see `clsact.rs`.

use std::path::Path;

use aya::programs::{
    ProgramError, ProgramInfo, SchedClassifier, TcAttachType,
    links::{FdLink, LinkOrder, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
};

use super::{
    Error, LinkError, clsact,
    detach::{detach as detach_link, detach_at},
    errno,
    link_error::chain,
    pins::{self, Links},
};
use crate::{
    device::{self, Device},
    kernel,
};

/// Whether this kernel has links at TC ingress.
fn has_links() -> bool {
    kernel::at_least(6, 6)
}

/// The programs at a device's TC ingress, by their numbers, in the order in which they run: as far as ours can be among them.
pub(super) fn line(device: &Device) -> Result<Vec<u32>, Error> {
    if !has_links() {
        return clsact::line(device.index);
    }
    match SchedClassifier::query_tcx(&device.name, TcAttachType::Ingress) {
        Ok((_, programs)) => Ok(programs.iter().map(ProgramInfo::id).collect()),
        // Nothing was ever attached there, or it has gone.
        Err(error) if matches!(errno(&error), Some(libc::ENOENT | libc::ENODEV)) => Ok(Vec::new()),
        Err(error) => Err(Error::kernel(
            format!("can't ask for the TC programs of {}", device.name),
            &error,
        )),
    }
}

/// A program of ours.
pub(super) struct Link {
    /// The interface it was made for.
    pub(super) interface: String,
    /// Its number.
    pub(super) program: u32,
    /// The number of the device that it runs on, if there is one.
    pub(super) on: Option<u32>,
}

/// All of ours.
pub(super) fn links() -> Result<Vec<Link>, Error> {
    let names = Links::Tc.names()?;
    if has_links() && names.is_empty() {
        return Ok(Vec::new());
    }
    let mut devices = device::all().map_err(|error| asking(&error))?;
    let mut found = Vec::new();
    if has_links() {
        for pin in names {
            let (interface, program) = (pins::interface_name(&pin), program(&pin)?);
            // Its own first; it may have another name by now.
            devices.sort_by_key(|device| device.name != interface);
            let mut on = None;
            for device in &devices {
                if line(device)?.contains(&program) {
                    on = Some(device.index);
                    break;
                }
            }
            found.push(Link {
                interface,
                program,
                on,
            });
        }
        return Ok(found);
    }
    for device in devices {
        if let Some(filter) = clsact::own(device.index)? {
            found.push(Link {
                interface: device.name,
                program: filter.program,
                on: Some(device.index),
            });
        }
    }
    Ok(found)
}

fn asking(error: &std::io::Error) -> Error {
    Error::io("can't ask the kernel for its interfaces", error)
}

/// Whether our program runs on a device.
pub(super) fn is_running(device: &Device) -> Result<bool, Error> {
    if !has_links() {
        return Ok(clsact::own(device.index)?.is_some());
    }
    let pin = pins::pin_name(&device.name);
    Ok(Links::Tc.pin(&pin).exists() && line(device)?.contains(&program(&pin)?))
}

fn open(path: &Path) -> Result<FdLink, Error> {
    PinnedLink::from_pin(path)
        .map(FdLink::from)
        .map_err(|error| Error::kernel(format!("can't open {}", path.display()), &error))
}

fn program(pin: &str) -> Result<u32, Error> {
    open(&Links::Tc.pin(pin))?
        .info()
        .map(|info| info.program_id())
        .map_err(|error| Error::kernel(format!("can't ask about the link {pin}"), &error))
}

/// Has the interface run this program: in the place of the one that is there, in one step; where there is none, or others have come before
/// it, through a new link, before the old one is ended.
pub(super) fn put(path: &Path, device: &Device) -> Result<(), LinkError> {
    let mut program = SchedClassifier::from_pin(path).map_err(|error| {
        if path.exists() {
            Error::kernel(format!("can't open {}", path.display()), &error)
        } else {
            // It was made when there were none.
            Error::OtherVersion {
                path: path.display().to_string(),
            }
        }
    })?;
    if !has_links() {
        return clsact::put(&mut program, device);
    }
    let pin = pins::pin_name(&device.name);
    let link_path = Links::Tc.pin(&pin);
    let refused = |error: ProgramError| LinkError::failed(device, &error);
    if link_path.exists() {
        let link = open(&link_path)?;
        let running = link
            .info()
            .map_err(|error| LinkError::failed(device, &error))?;
        if line(device)?.first() == Some(&running.program_id()) {
            let link = SchedClassifierLink::try_from(link)
                .map_err(|error| Error::kernel("not a TCX link", &error))?;
            let id = program.attach_to_link(link).map_err(refused)?;
            // The pin keeps the link; this process must not end it by dropping the program.
            drop(program.take_link(id).map(FdLink::try_from));
            return Ok(());
        }
    }
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program
        .attach_with_options(&device.name, TcAttachType::Ingress, first)
        .map_err(refused)?;
    let failed = |cause: String| LinkError::Failed {
        interface: device.name.clone(),
        cause,
    };
    let link = program.take_link(id).map_err(refused)?;
    let link = FdLink::try_from(link).map_err(|error| failed(chain(&error)))?;
    if link_path.exists() {
        let between = Links::Tc.pin(pins::BETWEEN);
        link.pin(&between).map_err(|error| failed(chain(&error)))?;
        Links::Tc.rename(pins::BETWEEN, &pin).map_err(Error::from)?;
        // The names were exchanged, so that neither link was without one.
        detach_at(&between, &device.name)?;
    } else {
        link.pin(&link_path)
            .map_err(|error| failed(chain(&error)))?;
    }
    Ok(())
}

/// A link stays with its interface when that is renamed: gives its pin the new name.
pub(super) fn follow_name(device: &Device) -> Result<(), Error> {
    if !has_links() {
        return Ok(());
    }
    let pin = pins::pin_name(&device.name);
    let line = line(device)?;
    for other in Links::Tc.names()? {
        if other != pin && line.contains(&program(&other)?) {
            return Ok(Links::Tc.rename(&other, &pin)?);
        }
    }
    Ok(())
}

/// Lets go of an interface.
pub(super) fn detach(interface: &str) -> Result<(), Error> {
    if has_links() {
        return detach_link(Links::Tc, interface);
    }
    match device::named(interface).map_err(|error| asking(&error))? {
        Some(device) => clsact::remove(&device),
        None => Ok(()),
    }
}
