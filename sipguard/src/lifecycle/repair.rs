//! Where programs run is looked after: one that its driver has forgotten, or never runs, and one that could run in the driver by now.

use super::{
    error::{Error, Refused},
    fallbacks::note_fallbacks,
    live::{is_attached, live, replaceable},
    session::Session,
};
use crate::{
    datapath::{self, NEVER_RAN, RAN_IN_PART, Role, Switched, Trust, attachments},
    device::{self, Device, Hook, NativeXdp},
    host::Host,
    policy::{AttachMode, Interface},
};

/// What a repair came to.
#[derive(Debug, Default)]
pub struct Repaired {
    /// The interfaces where something had to be done, and how each is filtered now.
    pub interfaces: Vec<(String, Switched)>,
    /// Those where it could not be done.
    pub refused: Vec<Refused>,
    /// How many entries of bans and live sources the kernel had not, or had too many.
    pub entries: usize,
}

/// Has what is in force filter again wherever an interface has lost it: the config file is not read. Takes back what was not confirmed in
/// time, guards interfaces that came since, and has drivers take their programs again where these do not run.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn repair(host: &Host) -> Result<Repaired, Error> {
    let mut session = Session::begin(host)?;
    let mut repaired = Repaired {
        interfaces: session.guarded.clone(),
        refused: Vec::new(),
        entries: 0,
    };
    let Some(live) = replaceable(live(host))? else {
        return Ok(repaired);
    };
    let role = live.pending.map_or(Role::Filter, |_| Role::Pending);
    let interfaces = live.generation.description.interfaces.clone();
    session.look_after(
        live.number,
        role,
        &interfaces,
        Trust::Nothing,
        &mut repaired,
    )?;
    for generation in live.generations() {
        repaired.entries += session.compare_live(generation)?;
    }
    let before = session.state.fallbacks.clone();
    note_fallbacks(&mut session.state, &repaired.interfaces);
    if before != session.state.fallbacks {
        session.save();
    }
    Ok(repaired)
}

/// Makes what the kernel has of live sources and bans what is said of them, whatever it says that it has followed, and whenever that was done
/// last. Returns how many entries were others.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn compare(host: &Host) -> Result<usize, Error> {
    let session = Session::begin(host)?;
    let mut entries = 0;
    if let Some(live) = replaceable(live(host))? {
        for generation in live.generations() {
            entries += session.reconcile(generation)?;
        }
    }
    Ok(entries)
}

impl Session<'_> {
    /// Looks after these interfaces of a generation, all of which may be gone.
    pub(super) fn look_after(
        &mut self,
        number: u64,
        role: Role,
        interfaces: &[Interface],
        trust: Trust,
        repaired: &mut Repaired,
    ) -> Result<(), Error> {
        let now = self.host.now();
        let links = attachments(now)?;
        let devices = device::all().map_err(Error::Devices)?;
        for interface in interfaces {
            let name = &interface.name;
            let Some(device) = devices.iter().find(|device| device.name == *name) else {
                continue;
            };
            let mut hooks = links.iter().filter(|link| is_attached(link, device));
            let hook = hooks.find_map(|link| link.hook(device));
            let done = match hook {
                Some(Hook::Native) => {
                    datapath::revive(number, role, interface, device, trust, now.boot_ns)
                }
                Some(Hook::Tc) if role == Role::Filter && self.may_climb(interface, device) => {
                    datapath::climb(number, interface, device, now.boot_ns)
                }
                _ => Ok(None),
            };
            match done {
                Ok(Some(Switched {
                    hook: None,
                    fallback: Some(cause),
                })) => {
                    let known = self.state.fallbacks.insert(name.clone(), cause);
                    if known.as_ref() != self.state.fallbacks.get(name) {
                        self.save();
                    }
                }
                Ok(Some(switched)) => repaired.interfaces.push((name.clone(), switched)),
                Ok(None) => {}
                Err(why) => repaired.refused.push(Refused::new(name, why)),
            }
        }
        Ok(())
    }

    /// Whether the driver might run what it refused before, or was never asked to, because the config wanted it behind the driver.
    fn may_climb(&self, interface: &Interface, device: &Device) -> bool {
        let cause = self.state.fallbacks.get(&interface.name);
        interface.mode == AttachMode::Auto
            && cause.is_none_or(|cause| {
                ![NEVER_RAN, RAN_IN_PART].contains(&cause.as_str())
                    && !cause.ends_with("no native XDP")
            })
            && NativeXdp::of(device.index) != Some(NativeXdp::No)
    }
}
