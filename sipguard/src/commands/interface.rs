//! What is on an interface, as `apply` and `status` tell it.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, Result};
use serde::Serialize;
use sipguard::{
    datapath::{self, LinkError},
    device::{self, Hook},
    host::Host,
    lifecycle::{self, Live},
};

/// Whether an interface is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It is.
    Attached,
    /// It does not exist now.
    Absent,
    /// It exists and is not filtered.
    Detached,
}

/// One interface, in the JSON of `apply` and `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Interface {
    pub(super) name: String,
    /// `attached`, `absent` or `detached`.
    pub(super) state: State,
    /// Where the program runs: `native`, `generic` or `offloaded`.
    pub(super) mode: Option<Hook>,
    /// Why it is not native, where that was tried.
    pub(super) cause: Option<String>,
    /// The program's number in the kernel.
    pub(super) program: Option<u32>,
    /// Which generation filters there: another one than the newest after a crash, until the next command that changes something.
    pub(super) generation: Option<u64>,
    /// A program there that is not sipguard's.
    pub(super) foreign: Option<Foreign>,
}

/// Somebody else's XDP program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Foreign {
    pub(super) id: u32,
    pub(super) name: String,
}

/// What is in force, with the interfaces that are to be filtered and what is there now.
pub(super) fn look(
    host: &Host,
    causes: &BTreeMap<String, String>,
) -> Result<Option<(Live, Vec<Interface>)>> {
    let mut tries = 0;
    loop {
        let Some(live) = lifecycle::live(host)? else {
            return Ok(None);
        };
        let interfaces = all(&live, causes)?;
        let changing = interfaces
            .iter()
            .any(|interface| interface.state == State::Detached);
        // An apply may have turned an interface to its next generation between the two looks.
        if !changing || tries == 3 {
            return Ok(Some((live, interfaces)));
        }
        tries += 1;
    }
}

fn all(live: &Live, causes: &BTreeMap<String, String>) -> Result<Vec<Interface>> {
    let devices = device::all().context("can't ask the kernel for its interfaces")?;
    // What the previous policy filters besides, it filters until the new one is confirmed.
    let mut wanted: Vec<&String> = Vec::new();
    for generation in live.generations() {
        for interface in &generation.description.interfaces {
            if !wanted.contains(&&interface.name) {
                wanted.push(&interface.name);
            }
        }
    }
    Ok(wanted
        .into_iter()
        .map(|name| {
            let device = devices.iter().find(|device| device.name == *name);
            let link = live.links.iter().find(|link| link.interface == *name);
            // A link may lead to an interface that is gone, and another one may have got its name.
            let hook = link.zip(device).and_then(|(link, device)| {
                let attached = device.xdp.iter();
                attached
                    .clone()
                    .find(|attached| attached.program == link.program)
                    .map(|attached| attached.hook)
            });
            let foreign =
                device.and_then(
                    |device| match datapath::refuse_foreign(device, &live.links) {
                        Err(LinkError::Busy { program, id, .. }) => {
                            Some(Foreign { id, name: program })
                        }
                        _ => None,
                    },
                );
            let link = link.filter(|_| hook.is_some());
            Interface {
                name: name.clone(),
                state: match (device, hook) {
                    (None, _) => State::Absent,
                    (Some(_), None) => State::Detached,
                    (Some(_), Some(_)) => State::Attached,
                },
                mode: hook,
                cause: causes
                    .get(name)
                    .filter(|_| hook == Some(Hook::Generic))
                    .cloned(),
                program: link.map(|link| link.program),
                generation: link.and_then(|link| link.generation),
                foreign,
            }
        })
        .collect())
}

/// What comes after the interface's name.
impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.state, self.mode) {
            (State::Absent, _) => f.write_str("absent: run `sipguard apply` once it is there")?,
            (State::Detached, _) | (State::Attached, None) => {
                f.write_str("not filtered: run `sipguard apply`")?;
            }
            (State::Attached, Some(hook)) => f.write_str(hook.name())?,
        }
        if let Some(cause) = &self.cause {
            write!(f, " ({cause})")?;
        }
        if let Some(Foreign { id, name }) = &self.foreign {
            write!(
                f,
                "; the XDP program {name} (id {id}) is there, which is not sipguard's"
            )?;
        }
        Ok(())
    }
}
