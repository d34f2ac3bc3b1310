//! What is on an interface, as `apply`, `status` and `doctor` tell it.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{
    datapath::{self, Attachment},
    device::{self, Device, Hook},
    host::Host,
    lifecycle::{self, Live},
};

/// Whether an interface is filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InterfaceState {
    /// It is.
    Attached,
    /// It does not exist now.
    Absent,
    /// It exists and is not filtered.
    Detached,
}

/// One interface, in the JSON of `apply` and `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InterfaceReport {
    /// As the config names it.
    pub name: String,
    /// `attached`, `absent` or `detached`.
    pub state: InterfaceState,
    /// Where the program runs: `native`, `tc`, `offloaded`, or `generic` until the first apply of this version.
    pub mode: Option<Hook>,
    /// Why it is not native, where that was tried.
    pub cause: Option<String>,
    /// The program's number in the kernel.
    pub program: Option<u32>,
    /// Which generation filters there: another one than the newest after a crash, until the next command that changes something.
    pub generation: Option<u64>,
    /// An XDP program there that is not sipguard's.
    pub foreign: Option<ForeignProgram>,
    /// The programs at TC ingress that run before sipguard's.
    pub before: Vec<ForeignProgram>,
    /// Other names that it has. Only there where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alt_names: Vec<String>,
    /// What it is called now, where it was renamed since it was attached to. Only there where it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renamed: Option<String>,
    /// Why what comes in there is not judged, though it is attached: the device was changed since. Only there where it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfit: Option<String>,
}

/// Somebody else's program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForeignProgram {
    /// Its number in the kernel.
    pub id: u32,
    /// Its name.
    pub name: String,
}

impl ForeignProgram {
    fn numbered(id: u32) -> Self {
        Self {
            id,
            name: datapath::program_name(id),
        }
    }
}

/// What is in force, with the interfaces that are to be filtered and what is there now.
///
/// `causes` are why interfaces run behind the driver, by name.
///
/// # Errors
/// Those of [`lifecycle::live`], and where the kernel does not say which interfaces there are.
pub fn interfaces(
    host: &Host,
    causes: &BTreeMap<String, String>,
) -> Result<Option<(Live, Vec<InterfaceReport>)>, lifecycle::Error> {
    let mut tries = 0;
    loop {
        let Some(live) = lifecycle::live(host)? else {
            return Ok(None);
        };
        let interfaces = all(&live, causes)?;
        let changing = interfaces
            .iter()
            .any(|interface| interface.state == InterfaceState::Detached);
        // An apply may have turned an interface to its next generation between the two looks.
        if !changing || tries == 3 {
            return Ok(Some((live, interfaces)));
        }
        tries += 1;
    }
}

fn all(
    live: &Live,
    causes: &BTreeMap<String, String>,
) -> Result<Vec<InterfaceReport>, lifecycle::Error> {
    let devices = device::all().map_err(lifecycle::Error::Devices)?;
    // What the previous policy filters besides, it filters until the new one is confirmed.
    let mut wanted: Vec<&String> = Vec::new();
    for generation in live.generations() {
        for interface in &generation.description.interfaces {
            if !wanted.contains(&&interface.name) {
                wanted.push(&interface.name);
            }
        }
    }
    let mut interfaces = Vec::new();
    for name in wanted {
        let links: Vec<_> = live
            .links
            .iter()
            .filter(|link| link.interface == *name)
            .collect();
        let device = devices.iter().find(|device| device.name == *name);
        // What it was attached to keeps its program under another name, and another one may have got this one.
        let renamed = links
            .iter()
            .find_map(|link| lifecycle::renamed(link, &devices));
        let cause = causes.get(name);
        if let Some(renamed) = renamed {
            interfaces.push(InterfaceReport {
                renamed: Some(renamed.name.clone()),
                ..one(name, Some(renamed), &links, live, cause)
            });
        }
        if renamed.is_none() || device.is_some() {
            interfaces.push(one(name, device, &links, live, cause));
        }
    }
    Ok(interfaces)
}

/// What is on a device, `links` being those that were made for the interface of this name.
fn one(
    name: &str,
    device: Option<&Device>,
    links: &[&Attachment],
    live: &Live,
    cause: Option<&String>,
) -> InterfaceReport {
    let running = device.and_then(|device| {
        let mut links = links.iter();
        links.find_map(|link| Some((link, link.hook(device)?)))
    });
    let (link, hook) = running.unzip();
    let foreign = device.and_then(|device| datapath::foreign(device, &live.links));
    let before = link
        .zip(device)
        .map_or_else(Vec::new, |(link, device)| link.before(device));
    let unfit = device.and_then(|device| device.link.as_ref().err());
    InterfaceReport {
        name: name.to_owned(),
        state: match (device, hook) {
            (None, _) => InterfaceState::Absent,
            (Some(_), None) => InterfaceState::Detached,
            (Some(_), Some(_)) => InterfaceState::Attached,
        },
        mode: hook,
        cause: cause
            .filter(|_| matches!(hook, Some(Hook::Generic | Hook::Tc)))
            .cloned(),
        program: link.map(|link| link.program),
        generation: link.and_then(|link| link.generation),
        foreign: foreign.map(ForeignProgram::numbered),
        before: before.into_iter().map(ForeignProgram::numbered).collect(),
        alt_names: device.map_or_else(Vec::new, |device| device.alt_names.clone()),
        renamed: None,
        unfit: unfit.filter(|_| hook.is_some()).map(ToString::to_string),
    }
}

impl InterfaceReport {
    /// The name, and others beside it.
    pub fn names(&self) -> String {
        let name = &self.name;
        match &self.renamed {
            Some(renamed) => format!("{name} (now {renamed})"),
            None if self.alt_names.is_empty() => name.clone(),
            None => format!("{name} ({})", self.alt_names.join(", ")),
        }
    }
}

/// What comes after the interface's name.
impl fmt::Display for InterfaceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.state, self.mode) {
            (InterfaceState::Absent, _) => {
                f.write_str("absent: run `sipguard apply` once it is there")?;
            }
            (InterfaceState::Detached, _) | (InterfaceState::Attached, None) => {
                f.write_str("not filtered: run `sipguard apply`")?;
            }
            (InterfaceState::Attached, Some(hook)) => f.write_str(hook.name())?,
        }
        if let Some(cause) = &self.cause {
            write!(f, " ({cause})")?;
        }
        if let Some(ForeignProgram { id, name }) = &self.foreign {
            write!(
                f,
                "; the XDP program {name} (id {id}) is there, which is not sipguard's"
            )?;
        }
        for ForeignProgram { id, name } in &self.before {
            write!(
                f,
                "; the TC program {name} (id {id}) runs before it and may take packets that it then never sees: run `sipguard apply`"
            )?;
        }
        if let Some(renamed) = &self.renamed {
            write!(
                f,
                "; it was renamed: name {renamed} in the config, or a `sipguard apply` that guards others lets go of it"
            )?;
        }
        if let Some(unfit) = &self.unfit {
            write!(f, "; what comes in is not judged any more: {unfit}")?;
        }
        Ok(())
    }
}
