//! Turning an interface from one generation to another, and from one place to the other. Where it moves, the new program is attached before
//! the old one is taken away, so that there is always one.

use std::path::Path;

use aya::programs::ProgramInfo;

use super::{
    Error, LinkError, Place, Role, pins,
    proof::{Proof, Trust, may_run_in_part, note_attached, note_replaced, proofs},
    tc,
    xdp::{self, Refused, Replaced},
};
use crate::{
    device::{self, Device, Hook, driver},
    policy::{AttachMode, Interface},
};

/// Why native mode was given up where the driver takes a program and no packet ever comes to it. It is not tried again by itself.
pub const NEVER_RAN: &str =
    "its driver takes a native program and never runs it: packets arrived, and it did not see them";

/// The same where it runs for some packets only.
pub const RAN_IN_PART: &str =
    "its driver does not run a native program for all packets: more arrived than it saw";

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
    now_ns: u64,
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
            let Replaced { old, new } = xdp::replace(&program(Place::Xdp), device)?;
            note_replaced(old, new, now_ns);
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
    match attach_natively(&program(Place::Xdp), device, now_ns) {
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
fn attach_natively(path: &Path, device: &Device, now_ns: u64) -> Result<(), Refused> {
    xdp::attach(path, device)?;
    // A device of the kernel's own begins well.
    if device.kind.is_some() {
        if let Ok(program) = ProgramInfo::from_pin(path) {
            note_attached(program.id(), device, now_ns);
        }
        return Ok(());
    }
    if let Some(cause) = against(path, device, Trust::Nothing, now_ns) {
        xdp::detach(device)?;
        return Err(Refused::NotNative(cause.to_owned()));
    }
    Ok(())
}

/// What is proven against a program in the driver of real hardware, or of a veth that may run it for some packets only; `None` where nothing is.
/// All other devices of the kernel's own run what they take. Asked in every network namespace: what is known of a driver is not, where `/sys` is
/// another one's.
fn against(path: &Path, device: &Device, trust: Trust, now_ns: u64) -> Option<&'static str> {
    if device.kind.is_some() && !may_run_in_part(device) {
        return None;
    }
    let program = ProgramInfo::from_pin(path).ok()?;
    match proofs(&[(device, program.id())], trust, now_ns).ok()?[..] {
        [Proof::Blind] => Some(NEVER_RAN),
        [Proof::Partly] => Some(RAN_IN_PART),
        _ => None,
    }
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
    now_ns: u64,
) -> Result<Option<Switched>, LinkError> {
    let path = pins::program(number, Place::Xdp, Role::Filter, &interface.name);
    if !path.exists() {
        return Ok(None);
    }
    match attach_natively(&path, device, now_ns) {
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

/// Has an interface's driver take its program again, where it takes packets and does not run it, or not for all of them: some forget it
/// (virtio_net, when the machine sleeps; a veth, for the receive queues that it gets) and go on naming it. Where that does not help, the program
/// moves behind the driver.
///
/// # Errors
/// Where it can't move, or `mode` forbids it: it filters there all the same, for else nothing would.
pub fn revive(
    number: u64,
    role: Role,
    interface: &Interface,
    device: &Device,
    trust: Trust,
    now_ns: u64,
) -> Result<Option<Switched>, LinkError> {
    let path = pins::program(number, Place::Xdp, role, &interface.name);
    if !path.exists() || xdp::running(device)? != Some(Hook::Native) {
        return Ok(None);
    }
    let Some(cause) = against(&path, device, trust, now_ns) else {
        return Ok(None);
    };
    // A link does not hand its driver the program that it has (`bpf_xdp_link_update` in net/core/dev.c). So a new one does, and what filters
    // meanwhile is behind the driver.
    tc::put(
        &pins::program(number, Place::Tc, role, &interface.name),
        device,
    )?;
    xdp::detach(device)?;
    let cause = match xdp::attach(&path, device) {
        Ok(()) => against(&path, device, Trust::Nothing, now_ns).map(str::to_owned),
        Err(Refused::NotNative(cause)) => Some(cause),
        Err(Refused::Error(_)) => Some(cause.to_owned()),
    };
    let Some(cause) = cause else {
        tc::detach(&device.name)?;
        return Ok(Some(Switched {
            hook: Some(Hook::Native),
            fallback: None,
        }));
    };
    xdp::detach(device)?;
    if interface.mode == AttachMode::Native {
        return Err(LinkError::NoNative {
            interface: interface.name.clone(),
            cause,
        });
    }
    Ok(Some(Switched {
        hook: Some(Hook::Tc),
        fallback: Some(cause),
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
