//! Interfaces' XDP links: one a program, pinned below the interface's name.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use aya::programs::{
    Xdp,
    links::{FdLink, PinnedLink},
    xdp::{XdpLink, XdpMode},
};
use aya_obj::programs::XdpAttachType;

use super::{
    Error, LinkError,
    detach::detach as detach_link,
    errno,
    link_error::chain,
    pins::{self, Links},
};
use crate::{
    device::{self, Device, Hook, NativeXdp, driver},
    kernel,
};

/// Why the driver does not run a program, where that is no reason to give up.
pub(super) enum Refused {
    /// It can't, and why.
    NotNative(String),
    /// All else.
    Error(LinkError),
}

impl<E: Into<LinkError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Where a program runs on a device.
pub(super) fn hook(program: u32, device: &Device) -> Option<Hook> {
    let mut attached = device.xdp.iter();
    let attached = attached.find(|attached| attached.program == program)?;
    Some(attached.hook)
}

/// All our links: the interfaces they were made for, and the programs they run.
pub(super) fn links() -> Result<Vec<(String, u32)>, Error> {
    let names = Links::Xdp.names()?;
    let link = |pin: String| Ok((pins::interface_name(&pin), program(&pin)?));
    names.into_iter().map(link).collect()
}

/// Where our program runs on a device.
pub(super) fn running(device: &Device) -> Result<Option<Hook>, Error> {
    let pin = pins::pin_name(&device.name);
    if !Links::Xdp.pin(&pin).exists() {
        return Ok(None);
    }
    Ok(hook(program(&pin)?, device))
}

fn open(pin: &str) -> Result<FdLink, Error> {
    let path = Links::Xdp.pin(pin);
    PinnedLink::from_pin(&path)
        .map(FdLink::from)
        .map_err(|error| Error::kernel(format!("can't open {}", path.display()), &error))
}

fn program(pin: &str) -> Result<u32, Error> {
    open(pin)?
        .info()
        .map(|info| info.program_id())
        .map_err(|error| Error::kernel(format!("can't ask about the link {pin}"), &error))
}

fn load(path: &Path) -> Result<Xdp, Error> {
    Xdp::from_pin(path, XdpAttachType::Interface)
        .map_err(|error| Error::kernel(format!("can't open {}", path.display()), &error))
}

/// The numbers of two programs.
pub(super) struct Replaced {
    pub(super) old: u32,
    pub(super) new: u32,
}

/// Has the link that is there run another program, in one step.
pub(super) fn replace(path: &Path, device: &Device) -> Result<Replaced, LinkError> {
    let asked = |error| Error::kernel("can't ask about a program", &error);
    let mut program = load(path)?;
    let pin = pins::pin_name(&device.name);
    let link = open(&pin)?;
    let replaced = Replaced {
        old: link
            .info()
            .map_err(|error| Error::kernel(format!("can't ask about the link {pin}"), &error))?
            .program_id(),
        new: program.info().map_err(asked)?.id(),
    };
    let link = XdpLink::try_from(link).map_err(|error| Error::kernel("not an XDP link", &error))?;
    let id = program
        .attach_to_link(link)
        .map_err(|error| Error::kernel("can't replace the program", &error))?;
    // The pin keeps the link; this process must not end it by dropping the program.
    drop(program.take_link(id).map(FdLink::try_from));
    Ok(replaced)
}

/// Lets go of a device.
///
/// # Errors
/// Where it would not: [`Error::HoldsOn`].
pub(super) fn detach(device: &Device) -> Result<(), Error> {
    if running(device)? == Some(Hook::Native) && driver::holds_on(device) {
        return Err(Error::HoldsOn {
            interface: device.name.clone(),
            largest: driver::largest_mtu(device),
        });
    }
    forget(&device.name)
}

/// Takes away the link of an interface that may be gone.
pub(super) fn forget(interface: &str) -> Result<(), Error> {
    detach_link(Links::Xdp, interface)
}

/// Attaches a program in the driver.
pub(super) fn attach(path: &Path, device: &Device) -> Result<(), Refused> {
    if device.link != Ok(sipguard_ebpf::abi::LinkKind::Ethernet) {
        // No such driver has native XDP; and there, nothing would say what a frame begins with.
        let cause = native_cause(Some(libc::EOPNOTSUPP), device, None, String::new());
        return Err(Refused::NotNative(cause));
    }
    if let Some(known) = driver::unsafe_natively(device) {
        return Err(Refused::NotNative(known.to_owned()));
    }
    refuse_below(device)?;
    let mut program = load(path)?;
    // A link whose interface is gone, or that somebody has detached.
    forget(&device.name)?;
    let attached = program.attach_to_if_index(device.index, XdpMode::Driver);
    let id = attached.map_err(|error| match errno(&error) {
        Some(libc::EBUSY | libc::EEXIST) => Refused::Error(now_busy(device)),
        Some(libc::EPERM) => Refused::Error(Error::NotPermitted.into()),
        number => {
            let sentence = program
                .fd()
                .ok()
                .and_then(|program| device::refusal(device.index, program.as_fd().as_raw_fd()));
            Refused::NotNative(native_cause(number, device, sentence, chain(&error)))
        }
    })?;
    let failed = |cause: String| LinkError::Failed {
        interface: device.name.clone(),
        cause,
    };
    let link = program
        .take_link(id)
        .map_err(|error| failed(chain(&error)))?;
    // Anything but a link by file descriptor ends with this process: the kernel took the old way of attaching.
    let link = FdLink::try_from(link)
        .map_err(|_| failed("this kernel makes no links that outlive a process".to_owned()))?;
    link.pin(Links::Xdp.pin(&pins::pin_name(&device.name)))
        .map_err(|error| failed(chain(&error)))?;
    Ok(())
}

/// The kernel attaches no program below a device that has one (`dev_xdp_attach` in net/core/dev.c, since XDP on bonds).
fn refuse_below(device: &Device) -> Result<(), LinkError> {
    if !kernel::at_least(5, 15) {
        return Ok(());
    }
    let devices = devices()?;
    match device::above(device, &devices).find(|above| !above.xdp.is_empty()) {
        Some(above) => Err(LinkError::Below {
            interface: device.name.clone(),
            above: above.name.clone(),
        }),
        None => Ok(()),
    }
}

fn devices() -> Result<Vec<Device>, Error> {
    device::all().map_err(|error| Error::kernel("can't ask the kernel for its interfaces", &error))
}

/// A link stays with its interface when that is renamed: gives its pin the new name.
pub(super) fn follow_name(device: &Device) -> Result<(), Error> {
    // A bond shows its program on its ports, too.
    let controller = match device.controller {
        Some(index) => devices()?.into_iter().find(|it| it.index == index),
        None => None,
    };
    let controller = controller.map(|it| pins::pin_name(&it.name));
    let pin = pins::pin_name(&device.name);
    for other in Links::Xdp.names()? {
        if other != pin
            && Some(&other) != controller.as_ref()
            && let Ok(program) = program(&other)
            && hook(program, device).is_some()
        {
            return Ok(Links::Xdp.rename(&other, &pin)?);
        }
    }
    Ok(())
}

/// Somebody attached between our look and our call, or where we can't look.
fn now_busy(device: &Device) -> LinkError {
    let now = device::named(&device.name).ok().flatten();
    match now.as_ref().and_then(|now| now.xdp.first()) {
        Some(attached) => LinkError::busy(device, attached.program),
        None => LinkError::Below {
            interface: device.name.clone(),
            above: "a device of another network namespace".to_owned(),
        },
    }
}

/// Why native mode was refused, in our words and in the kernel's: a link gives no message, asking by netlink does.
fn native_cause(
    number: Option<i32>,
    device: &Device,
    sentence: Option<String>,
    error: String,
) -> String {
    /// What the kernel says itself where the driver has nothing to ask (`dev_xdp_attach` in net/core/dev.c).
    const NOTHING_TO_ASK: &str = "does not support XDP in native mode";
    let has_nothing = match &sentence {
        Some(sentence) => sentence.contains(NOTHING_TO_ASK),
        None => NativeXdp::of(device.index) != Some(NativeXdp::Yes),
    };
    let ours = match number {
        Some(libc::EOPNOTSUPP) if has_nothing => {
            return match &device.kind {
                Some(kind) => format!("a {kind} device has no native XDP"),
                None => "its driver has no native XDP".to_owned(),
            };
        }
        Some(libc::ERANGE) => format!("its MTU of {} is too large for native XDP", device.mtu),
        Some(libc::EINVAL | libc::EOPNOTSUPP) => {
            "its driver refuses native XDP with the present settings (MTU, offloads or queues)"
                .to_owned()
        }
        // Of a veth pair, whose queues are its settings.
        Some(libc::ENOSPC) => "it has fewer receive queues than its other end sends by".to_owned(),
        Some(libc::ENOMEM) => "no memory for native XDP".to_owned(),
        _ => error,
    };
    match sentence {
        Some(sentence) => format!("{ours}: \"{}\"", sentence.trim_end_matches('.')),
        None => ours,
    }
}
