//! Interfaces: attaching a generation's program, turning an interface from one generation to another, letting go.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use aya::programs::{
    ProgramInfo, Xdp,
    links::{FdLink, PinnedLink},
    xdp::{XdpLink, XdpMode},
};
use aya_obj::programs::XdpAttachType;

use super::{Error, Generation, Pending, detach::detach, errno, pins};
use crate::{
    device::{self, Device, Hook},
    kernel,
    policy::{AttachMode, Interface},
    tables::Now,
};

/// Why a program could not be attached to an interface.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Another XDP program is there.
    #[error(
        "{interface} already runs the XDP program {program} (id {id}), which is not ours and is left alone; \
         detach it first (`ip link set dev {interface} xdp off`) or take {interface} out of the config"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The other program's name.
        program: String,
        /// Its number.
        id: u32,
    },
    /// A device above has a program.
    #[error(
        "can't attach to {interface}: {above}, which is above it, has an XDP program already, and then the kernel takes none below; detach \
         that first (`sipguard down`, then `sipguard apply`), or take {interface} out of the config"
    )]
    Below {
        /// The interface.
        interface: String,
        /// The device above it.
        above: String,
    },
    /// Native mode was asked for and is not to be had.
    #[error(
        "{interface} can't run in native mode: {cause}; set mode = \"auto\" to fall back to generic mode"
    )]
    NoNative {
        /// The interface.
        interface: String,
        /// Why.
        cause: String,
    },
    /// Everything else.
    #[error("can't attach to {interface}: {cause}")]
    Failed {
        /// The interface.
        interface: String,
        /// Why.
        cause: String,
    },
    /// The kernel could not be asked.
    #[error(transparent)]
    Kernel(#[from] Error),
}

/// A link of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The interface it was made for.
    pub interface: String,
    /// The generation that filters there now; `None` where its pins are gone, and where the time to confirm is over and nothing filtered
    /// there before.
    pub generation: Option<u64>,
    /// The program's number in the kernel.
    pub program: u32,
    /// The apply that waits to be confirmed there, or waited until its time was over.
    pub pending: Option<Pending>,
}

/// Which of its programs for an interface a generation is to run there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The filter itself.
    Filter,
    /// The one that hands on to the filter until the deadline.
    Pending,
}

impl Role {
    /// What the names of the programs' pins begin with.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Filter => "program-",
            Self::Pending => "pending-",
        }
    }
}

/// How an interface came to a new generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// Where the program runs; `None` where the link was there before and keeps its place.
    pub hook: Option<Hook>,
    /// Why it is not native, where native mode was tried and refused.
    pub fallback: Option<String>,
}

/// All links of ours, by the interfaces' names.
///
/// # Errors
/// Where the pins can't be read.
pub fn attachments(now: Now) -> Result<Vec<Attachment>, Error> {
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
    let mut found = Vec::new();
    for pin in pins::names(&pins::links())? {
        let info = FdLink::from(open(&pin)?)
            .info()
            .map_err(|error| Error::kernel(format!("can't ask about the link {pin}"), &error))?;
        let program = info.program_id();
        let (generation, pending) = owners.get(&program).copied().unwrap_or_default();
        found.push(Attachment {
            interface: pins::interface_name(&pin),
            generation,
            program,
            pending,
        });
    }
    Ok(found)
}

/// The interfaces that a pinned generation has programs for, with the programs' pins.
fn programs(number: u64, role: Role) -> Result<Vec<(String, PathBuf)>, Error> {
    let folder = pins::generation(number);
    Ok(pins::names(&folder)?
        .into_iter()
        .filter_map(|pin| {
            pin.strip_prefix(role.prefix())
                .map(|name| (pins::interface_name(name), folder.join(&pin)))
        })
        .collect())
}

/// The interfaces that a pinned generation has programs for.
///
/// # Errors
/// Where the pins can't be read.
pub fn interfaces(number: u64) -> Result<Vec<String>, Error> {
    Ok(programs(number, Role::Filter)?
        .into_iter()
        .map(|(interface, _)| interface)
        .collect())
}

fn program_id(path: &PathBuf) -> Result<u32, Error> {
    ProgramInfo::from_pin(path)
        .map(|info| info.id())
        .map_err(|error| Error::kernel(format!("can't open {}", path.display()), &error))
}

fn open(pin: &str) -> Result<PinnedLink, Error> {
    let path = pins::links().join(pin);
    PinnedLink::from_pin(&path)
        .map_err(|error| Error::kernel(format!("can't open {}", path.display()), &error))
}

/// The program on `device` that is not in `ours`, if there is one.
///
/// # Errors
/// [`LinkError::Busy`] names it.
pub fn refuse_foreign(device: &Device, ours: &[Attachment]) -> Result<(), LinkError> {
    let foreign = device
        .xdp
        .iter()
        .find(|attached| ours.iter().all(|link| link.program != attached.program));
    match foreign {
        Some(attached) => Err(busy(device, attached.program)),
        None => Ok(()),
    }
}

fn busy(device: &Device, id: u32) -> LinkError {
    let name = aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .and_then(|program| program.name_as_str().map(str::to_owned))
        .unwrap_or_else(|| "without a name".to_owned());
    LinkError::Busy {
        interface: device.name.clone(),
        program: name,
        id,
    }
}

/// Turns an interface to its program in a pinned generation: through the link that is there, in one step, or through a new one.
///
/// # Errors
/// What was there before goes on filtering.
pub fn switch(
    number: u64,
    role: Role,
    interface: &Interface,
    device: &Device,
) -> Result<Switched, LinkError> {
    let pin = pins::pin_name(&interface.name);
    let path = pins::generation(number).join(format!("{}{pin}", role.prefix()));
    let mut program = Xdp::from_pin(&path, XdpAttachType::Interface)
        .map_err(|error| Error::kernel(format!("can't open {}", path.display()), &error))?;
    let link_path = pins::links().join(&pin);
    follow_name(device, &pin)?;
    if link_path.exists() {
        let link = FdLink::from(open(&pin)?);
        let running = link
            .info()
            .map_err(|error| Error::kernel("can't ask about a link", &error))?
            .program_id();
        let hook = device
            .xdp
            .iter()
            .find(|attached| attached.program == running)
            .map(|attached| attached.hook);
        let keeps = match (interface.mode, hook) {
            (AttachMode::Auto, Some(_))
            | (AttachMode::Native, Some(Hook::Native))
            | (AttachMode::Generic, Some(Hook::Generic)) => true,
            // Another mode is wanted, or the interface went away and came back under the same name.
            _ => false,
        };
        if keeps {
            let link = XdpLink::try_from(link)
                .map_err(|error| Error::kernel("not an XDP link", &error))?;
            let id = program
                .attach_to_link(link)
                .map_err(|error| Error::kernel("can't replace the program", &error))?;
            // The pin keeps the link; this process must not end it by dropping the program.
            drop(program.take_link(id).map(FdLink::try_from));
            return Ok(Switched {
                hook: None,
                fallback: None,
            });
        }
        drop(link);
        refuse_below(device)?;
        let before = hook.zip(by_id(running));
        // The kernel runs nothing in two modes at once, so that this can't be one step.
        detach(&interface.name)?;
        let attached = attach(&mut program, interface, device, &link_path);
        if attached.is_err()
            && let Some((hook, mut running)) = before
        {
            let before = Interface {
                mode: match hook {
                    Hook::Generic => AttachMode::Generic,
                    Hook::Native | Hook::Offloaded => AttachMode::Native,
                },
                ..interface.clone()
            };
            // The first error is the one to tell.
            let _ = attach(&mut running, &before, device, &link_path);
        }
        return attached;
    }
    refuse_below(device)?;
    attach(&mut program, interface, device, &link_path)
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
fn follow_name(device: &Device, pin: &str) -> Result<(), Error> {
    // A bond shows its program on its ports, too.
    let controller = match device.controller {
        Some(index) => devices()?.into_iter().find(|it| it.index == index),
        None => None,
    };
    let controller = controller.map(|it| pins::pin_name(&it.name));
    for other in pins::names(&pins::links())? {
        if other != pin
            && Some(&other) != controller.as_ref()
            && let Ok(info) = FdLink::from(open(&other)?).info()
            && device
                .xdp
                .iter()
                .any(|attached| attached.program == info.program_id())
        {
            return Ok(pins::rename_link(&other, pin)?);
        }
    }
    Ok(())
}

/// A program that runs somewhere.
fn by_id(id: u32) -> Option<Xdp> {
    let info = aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)?;
    Xdp::from_program_info(info, "before".into(), XdpAttachType::Interface).ok()
}

fn attach(
    program: &mut Xdp,
    interface: &Interface,
    device: &Device,
    pin: &Path,
) -> Result<Switched, LinkError> {
    let failed = |cause: String| LinkError::Failed {
        interface: interface.name.clone(),
        cause,
    };
    let mut fallback = None;
    let mut hook = Hook::Native;
    let attached = match interface.mode {
        AttachMode::Native | AttachMode::Auto => {
            program.attach_to_if_index(device.index, XdpMode::Driver)
        }
        AttachMode::Generic => {
            hook = Hook::Generic;
            program.attach_to_if_index(device.index, XdpMode::Skb)
        }
    };
    let attached = match attached {
        Err(error) if interface.mode != AttachMode::Generic => {
            let number = errno(&error);
            if matches!(number, Some(libc::EBUSY | libc::EEXIST)) {
                return Err(now_busy(device));
            }
            let cause = native_cause(number, device, &error);
            if interface.mode == AttachMode::Native {
                return Err(LinkError::NoNative {
                    interface: interface.name.clone(),
                    cause,
                });
            }
            fallback = Some(cause);
            hook = Hook::Generic;
            program.attach_to_if_index(device.index, XdpMode::Skb)
        }
        other => other,
    };
    let id = attached.map_err(|error| match errno(&error) {
        Some(libc::EBUSY | libc::EEXIST) => now_busy(device),
        Some(libc::EPERM) => LinkError::Kernel(Error::NotPermitted),
        _ => failed(chain(&error)),
    })?;
    let link = program
        .take_link(id)
        .map_err(|error| failed(chain(&error)))?;
    // Anything but a link by file descriptor ends with this process: the kernel took the old way of attaching.
    let link = FdLink::try_from(link)
        .map_err(|_| failed("this kernel makes no links that outlive a process".to_owned()))?;
    link.pin(pin).map_err(|error| failed(chain(&error)))?;
    Ok(Switched {
        hook: Some(hook),
        fallback,
    })
}

/// Somebody attached between our look and our call, or where we can't look.
fn now_busy(device: &Device) -> LinkError {
    let now = device::named(&device.name).ok().flatten();
    match now.as_ref().and_then(|now| now.xdp.first()) {
        Some(attached) => busy(device, attached.program),
        None => LinkError::Below {
            interface: device.name.clone(),
            above: "a device of another network namespace".to_owned(),
        },
    }
}

/// Why native mode was refused, in words: a link gives no message.
fn native_cause(
    number: Option<i32>,
    device: &Device,
    error: &aya::programs::ProgramError,
) -> String {
    match number {
        Some(libc::EOPNOTSUPP) => match &device.kind {
            Some(kind) => format!("a {kind} device has no native XDP"),
            None => "its driver has no native XDP".to_owned(),
        },
        Some(libc::ERANGE) => format!("its MTU of {} is too large for native XDP", device.mtu),
        Some(libc::EINVAL) => {
            "its driver refuses native XDP with the present settings (MTU, offloads or queues)"
                .to_owned()
        }
        // Of a veth pair, whose queues are its settings.
        Some(libc::ENOSPC) => "it has fewer receive queues than its other end sends by".to_owned(),
        Some(libc::ENOMEM) => "no memory for native XDP".to_owned(),
        _ => chain(error),
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    match Error::kernel("", error) {
        Error::Kernel { cause, .. } => cause,
        other => other.to_string(),
    }
}
