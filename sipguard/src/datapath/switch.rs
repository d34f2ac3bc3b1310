//! Turning an interface from one generation to another, and from one place to the other. Where it moves, the new program is attached before
//! the old one is taken away, so that there is always one.

use std::path::Path;

use aya::programs::ProgramInfo;

use super::{
    Error, LinkError, Place, Role, pins,
    proof::{Proof, watch},
    tc,
    xdp::{self, Refused},
};
use crate::{
    device::{self, Device, Hook, driver},
    policy::{AttachMode, Interface},
};

/// Why native mode was given up where the driver takes a program and no packet ever comes to it. It is not tried again by itself.
pub const NEVER_RAN: &str =
    "its driver takes a native program and never runs it: packets arrived, and it did not see them";

/// How an interface came to a new generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// Where the program runs; `None` where one ran before and stays behind the driver, or in it.
    pub hook: Option<Hook>,
    /// Why it is not native, where native mode was tried and refused.
    pub fallback: Option<String>,
}

/// Turns an interface to its program in a pinned generation: in the place of the one that is there, in one step, or in the other place.
///
/// # Errors
/// What was there before goes on filtering.
pub fn switch(
    number: u64,
    role: Role,
    interface: &Interface,
    device: &Device,
) -> Result<Switched, LinkError> {
    let program = |place| pins::program(number, place, role, &interface.name);
    xdp::follow_name(device)?;
    tc::follow_name(device)?;
    let at_xdp = xdp::running(device)?;
    let at_tc = tc::is_running(device)?;
    let at = |hook| Switched {
        hook,
        fallback: None,
    };
    let to_tc = || -> Result<(), LinkError> {
        tc::put(&program(Place::Tc), device)?;
        Ok(xdp::detach(device)?)
    };
    match (interface.mode, at_xdp) {
        // It took the program before its MTU was changed, or before this version.
        (AttachMode::Auto, Some(Hook::Native))
            if let Some(cause) = driver::unsafe_natively(device) =>
        {
            to_tc()?;
            return Ok(Switched {
                hook: Some(Hook::Tc),
                fallback: Some(cause.to_owned()),
            });
        }
        (AttachMode::Auto | AttachMode::Native, Some(Hook::Native | Hook::Offloaded)) => {
            xdp::replace(&program(Place::Xdp), device)?;
            tc::detach(&device.name)?;
            return Ok(at(None));
        }
        (AttachMode::Tc, _) => {
            to_tc()?;
            return Ok(at((!at_tc).then_some(Hook::Tc)));
        }
        // Where it fell back once it stays; in generic XDP it was before this version.
        (AttachMode::Auto, at_xdp) if at_tc || at_xdp.is_some() => {
            to_tc()?;
            return Ok(at(None));
        }
        // From generic XDP there is no direct way: the kernel runs XDP in one mode only.
        (AttachMode::Native, Some(_)) => to_tc()?,
        (AttachMode::Auto | AttachMode::Native, _) => {}
    }
    match attach_natively(&program(Place::Xdp), device) {
        Ok(()) => {
            tc::detach(&device.name)?;
            Ok(at(Some(Hook::Native)))
        }
        Err(Refused::NotNative(cause)) if interface.mode == AttachMode::Native => {
            Err(LinkError::NoNative {
                interface: interface.name.clone(),
                cause,
            })
        }
        Err(Refused::NotNative(cause)) => {
            to_tc()?;
            Ok(Switched {
                hook: Some(Hook::Tc),
                fallback: Some(cause),
            })
        }
        Err(Refused::Error(error)) => Err(error),
    }
}

/// Attaches a program in the driver, and lets it stay there only if it runs, as far as that can be told.
fn attach_natively(path: &Path, device: &Device) -> Result<(), Refused> {
    xdp::attach(path, device)?;
    if is_blind(path, device) {
        xdp::detach(device)?;
        return Err(Refused::NotNative(NEVER_RAN.to_owned()));
    }
    Ok(())
}

/// Whether packets arrive at an interface of real hardware and the program in its driver does not run. The kernel's own devices run what
/// they take. Asked in every network namespace: what is known of a driver is not, where `/sys` is another one's.
fn is_blind(path: &Path, device: &Device) -> bool {
    if device.kind.is_some() {
        return false;
    }
    let Ok(program) = ProgramInfo::from_pin(path) else {
        return false;
    };
    let proofs = watch(&[(device.index, program.id())]);
    proofs.is_ok_and(|proofs| proofs == [Proof::Blind])
}

/// Moves an interface from behind its driver into it, where that is possible by now. What was there filters until then, or stays: then the
/// answer has no hook, and the driver's cause.
///
/// # Errors
/// Where its old program can't be taken away.
pub fn climb(
    number: u64,
    interface: &Interface,
    device: &Device,
) -> Result<Option<Switched>, LinkError> {
    let path = pins::program(number, Place::Xdp, Role::Filter, &interface.name);
    if !path.exists() {
        return Ok(None);
    }
    match attach_natively(&path, device) {
        Ok(()) => {
            tc::detach(&device.name)?;
            Ok(Some(Switched {
                hook: Some(Hook::Native),
                fallback: None,
            }))
        }
        Err(Refused::NotNative(cause)) => Ok(Some(Switched {
            hook: None,
            fallback: Some(cause),
        })),
        Err(Refused::Error(_)) => Ok(None),
    }
}

/// Has an interface's driver take its program again, where it takes packets and does not run it: some forget it (vmxnet3, when the interface
/// goes down) and go on naming it. Where that does not help, the program moves behind the driver.
///
/// # Errors
/// Where it can't move, or `mode` forbids it.
pub fn revive(
    number: u64,
    role: Role,
    interface: &Interface,
    device: &Device,
) -> Result<Option<Switched>, LinkError> {
    let path = pins::program(number, Place::Xdp, role, &interface.name);
    if !path.exists() || xdp::running(device)? != Some(Hook::Native) || !is_blind(&path, device) {
        return Ok(None);
    }
    xdp::replace(&path, device)?;
    if !is_blind(&path, device) {
        return Ok(Some(Switched {
            hook: Some(Hook::Native),
            fallback: None,
        }));
    }
    if interface.mode == AttachMode::Native {
        return Err(LinkError::NoNative {
            interface: interface.name.clone(),
            cause: NEVER_RAN.to_owned(),
        });
    }
    tc::put(
        &pins::program(number, Place::Tc, role, &interface.name),
        device,
    )?;
    xdp::detach(device)?;
    Ok(Some(Switched {
        hook: Some(Hook::Tc),
        fallback: Some(NEVER_RAN.to_owned()),
    }))
}

/// Lets go of an interface: nothing of ours filters there any more when this returns.
///
/// # Errors
/// Where something can't be removed.
pub fn detach(interface: &str) -> Result<(), Error> {
    let device = device::named(interface)
        .map_err(|error| Error::io("can't ask the kernel for its interfaces", &error))?;
    match device {
        Some(device) => xdp::detach(&device)?,
        None => xdp::forget(interface)?,
    }
    tc::detach(interface)
}
