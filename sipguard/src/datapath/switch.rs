//! Turning an interface from one generation to another, and from one place to the other. Where it moves, the new program is attached before
//! the old one is taken away, so that there is always one.

use super::{
    Error, LinkError, Place, Role,
    detach::detach as detach_link,
    pins::{self, Links},
    tc,
    xdp::{self, Refused},
};
use crate::{
    device::{Device, Hook},
    policy::{AttachMode, Interface},
};

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
        Ok(detach_link(Links::Xdp, &device.name)?)
    };
    match (interface.mode, at_xdp) {
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
    match xdp::attach(&program(Place::Xdp), device) {
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

/// Lets go of an interface: nothing of ours filters there any more when this returns.
///
/// # Errors
/// Where something can't be removed.
pub fn detach(interface: &str) -> Result<(), Error> {
    detach_link(Links::Xdp, interface)?;
    tc::detach(interface)
}
