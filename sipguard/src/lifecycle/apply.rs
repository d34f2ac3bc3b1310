//! Making the config what the kernel does.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
    time::Duration,
};

use sipguard_ebpf::abi::VERSION;

use super::{
    Error, Live, Session, change,
    confirm::{Wanted, wanted},
    live, now,
    plan::{Outlook, absent},
};
use crate::{
    datapath::{
        self, Attachment, Description, Generation, Pending, Role, ServiceDescription, Switched,
        Target, attachments,
    },
    device::{self, Device},
    policy::Policy,
    state::Slots,
    tables::Tables,
};

/// What an apply did.
#[derive(Debug)]
pub struct Applied {
    /// The generation in force; `None` where no interface is to be guarded.
    pub generation: Option<u64>,
    /// Whether anything had to change.
    pub changed: bool,
    /// The policy that is in force.
    pub policy: Policy,
    /// How many of the command line's entries are in force with it.
    pub own: usize,
    /// The interfaces, and how each came to this generation.
    pub interfaces: Vec<(String, Switched)>,
    /// Interfaces of the config that do not exist now.
    pub absent: Vec<String>,
    /// Interfaces that were guarded before and are not any more.
    pub released: Vec<String>,
    /// Until when it is to be confirmed, where it takes itself back.
    pub pending: Option<Pending>,
    /// Whether the last confirmed policy was taken instead of the config file, which is not confirmed.
    pub kept: bool,
    /// Where the policy differs from what was in force before, and what to mind.
    pub outlook: Outlook,
}

/// Reads the config file and makes it, with the command line's kept entries, what the kernel does. Where that is so already, nothing
/// changes. With `confirm`, what was before is in force again after so long, unless it is confirmed; see `confirm.rs`.
///
/// # Errors
/// What was wrong; what was in force before still is.
pub fn apply(file: &Path, confirm: Option<Duration>) -> Result<Applied, Error> {
    let Wanted {
        policy,
        text,
        digest: kept,
    } = wanted(file, confirm.is_some())?;
    if confirm.is_some() && policy.interfaces.is_empty() {
        return Err(Error::NothingToConfirm);
    }
    // Before anything is made on this machine, and again once nobody else changes anything.
    targets(&policy, &device::all().map_err(Error::Devices)?, file)?;
    let mut session = Session::begin()?;
    let devices = device::all().map_err(Error::Devices)?;
    let targets = targets(&policy, &devices, file)?;
    let absent = absent(&policy, &devices);

    let links = attachments()?;
    if let Some(pending) = links.iter().find_map(|link| link.pending) {
        return Err(Error::Pending {
            generation: pending.generation,
            seconds: pending.left(now()).unwrap_or_default().as_secs(),
        });
    }
    if kept.is_some() {
        session.end_by_reboot(&text)?;
    } else if confirm.is_none() && session.took_back(&text) {
        // While the config was read, the time to confirm it ended.
        return Err(Error::TakenBack);
    }
    let before = match confirm {
        None => replaceable(live())?,
        // It has to come back.
        Some(_) => live()?,
    };
    for (_, device) in &targets {
        datapath::refuse_foreign(device, &links)?;
    }
    let cleared = session
        .state
        .slots
        .assign(policy.services.iter().map(|service| service.name.as_str()))?;
    let now = now();
    let ended = change::forget_ended(&mut session, now.wall);
    let is_kept = kept.is_some();
    let digest = kept.unwrap_or_else(|| digest(&policy, &session.state.slots));
    let mut applied = Applied {
        generation: before.as_ref().map(|live| live.number),
        changed: false,
        own: session.state.entries.len(),
        interfaces: Vec::new(),
        absent,
        released: Vec::new(),
        pending: None,
        kept: is_kept,
        outlook: Outlook::unchanged(&policy),
        policy,
    };
    if let Some(live) = &before
        && in_force(live, &digest, &targets)
    {
        if !ended.is_empty() {
            change::commit(&session, Some(live), &ended)?;
        }
        let unchanged = |(target, _): &(Target, &Device)| {
            (
                target.interface.name.clone(),
                Switched {
                    hook: None,
                    fallback: session.state.fallbacks.get(&target.interface.name).cloned(),
                },
            )
        };
        applied.interfaces = targets.iter().map(unchanged).collect();
        if !is_kept {
            session.forget_unconfirmed()?;
        }
        return Ok(applied);
    }
    if targets.is_empty() && links.is_empty() {
        if !is_kept {
            session.forget_unconfirmed()?;
        }
        return Ok(applied);
    }

    let tables = Tables::compile(
        &applied.policy,
        &session.state.slots,
        &session.state.entries,
        now,
    )?;
    applied.outlook = Outlook::of(
        before.as_ref(),
        &applied.policy,
        &session.state.slots,
        &tables,
        &targets,
        now,
    )?;

    let number = session
        .state
        .next_generation()
        .max(Generation::all()?.last().map_or(0, |newest| newest + 1));
    session.state.generation = number;
    session.store.save(&session.state)?;
    applied.changed = true;

    if targets.is_empty() {
        applied.generation = None;
    } else {
        let description = describe(&applied.policy, &session.state.slots, &tables, file, digest);
        for slot in cleared {
            datapath::clear_service(slot)?;
        }
        let wanted: Vec<_> = targets.iter().map(|(target, _)| target.clone()).collect();
        Generation::create(
            number,
            &tables,
            description,
            &wanted,
            session.state.revision,
        )?;
        applied.generation = Some(number);
        if let Some(lasts) = confirm {
            let unconfirmed = session.state.unconfirmed.clone();
            let switched = session.keep(before.as_ref(), text).and_then(|()| {
                let previous = before.as_ref().map(|live| live.number);
                let pending = Pending::create(number, previous, &wanted, lasts)?;
                applied.pending = Some(pending);
                switch_all(number, Role::Pending, &links, &targets)
            });
            if switched.is_err() {
                // The first error is the one to tell; what can't be undone now, the next command settles.
                session.state.unconfirmed = unconfirmed;
                let _ = session.store.save(&session.state);
                let _ = Generation::remove(number);
            }
            applied.interfaces = switched?;
            remember_fallbacks(&mut session, &applied)?;
            return Ok(applied);
        }
    }
    if !is_kept {
        session.forget_unconfirmed()?;
    }
    if !targets.is_empty() {
        applied.interfaces = switch_all(number, Role::Filter, &links, &targets)?;
    }
    applied.released = release(&links, &applied.policy, &targets)?;
    for old in Generation::all()? {
        if Some(old) != applied.generation {
            Generation::remove(old)?;
        }
    }
    remember_fallbacks(&mut session, &applied)?;
    Ok(applied)
}

/// What is in force, as far as it is known: what can't be read filters all the same, and is replaced like anything else.
pub(super) fn replaceable(found: Result<Option<Live>, Error>) -> Result<Option<Live>, Error> {
    match found {
        Err(Error::Orphaned { .. } | Error::Datapath(datapath::Error::OtherVersion { .. })) => {
            Ok(None)
        }
        found => found,
    }
}

/// The config's interfaces that exist, as they are to be attached to.
pub(super) fn targets<'d>(
    policy: &Policy,
    devices: &'d [Device],
    file: &Path,
) -> Result<Vec<(Target, &'d Device)>, Error> {
    let mut targets = Vec::new();
    for interface in &policy.interfaces {
        let Some(device) = devices.iter().find(|device| device.name == interface.name) else {
            continue;
        };
        let link = device.link.clone().map_err(|kind| Error::Unreadable {
            interface: interface.name.clone(),
            kind,
        })?;
        targets.push((
            Target {
                interface: interface.clone(),
                link,
            },
            device,
        ));
    }
    if targets.is_empty() && !policy.interfaces.is_empty() {
        let names = |names: Vec<&str>| names.join(", ");
        return Err(Error::NoInterface {
            missing: names(
                policy
                    .interfaces
                    .iter()
                    .map(|interface| interface.name.as_str())
                    .collect(),
            ),
            present: names(devices.iter().map(|device| device.name.as_str()).collect()),
            config: file.to_owned(),
        });
    }
    Ok(targets)
}

/// Whether everything is already as it would become.
pub(super) fn in_force(live: &Live, digest: &str, targets: &[(Target, &Device)]) -> bool {
    live.generation.description.digest == digest
        && live.links.len() == targets.len()
        && targets.iter().all(|(target, device)| {
            live.links.iter().any(|link| {
                link.interface == target.interface.name
                    && link.generation == Some(live.number)
                    && device
                        .xdp
                        .iter()
                        .any(|attached| attached.program == link.program)
            })
        })
}

/// Turns one interface after the other to the new generation; where one can't be, those before it are turned back.
fn switch_all(
    number: u64,
    role: Role,
    before: &[Attachment],
    targets: &[(Target, &Device)],
) -> Result<Vec<(String, Switched)>, Error> {
    let mut done = Vec::new();
    for (target, device) in targets {
        match datapath::switch(number, role, &target.interface, device) {
            Ok(switched) => done.push((target.interface.name.clone(), switched)),
            Err(error) => {
                for ((target, device), _) in targets.iter().zip(&done) {
                    let name = &target.interface.name;
                    let was_there = before.iter().find(|link| link.interface == *name);
                    // What runs there has changed since we looked.
                    let now = device::named(name).ok().flatten();
                    let device = now.as_ref().unwrap_or(device);
                    // The first error is the one to tell; what can't be turned back now, the next command settles.
                    let _ = match was_there.map(|link| link.generation) {
                        Some(Some(old)) => {
                            datapath::switch(old, Role::Filter, &target.interface, device).map(drop)
                        }
                        // Nothing leads back, and filtering by the new policy is better than none.
                        Some(None) => Ok(()),
                        None => datapath::detach(name).map_err(Into::into),
                    };
                }
                // The first error is the one to tell, as above.
                let _ = Generation::remove(number);
                return Err(error.into());
            }
        }
    }
    Ok(done)
}

/// Lets go of the interfaces that are not to be guarded any more, and returns them.
fn release(
    links: &[Attachment],
    policy: &Policy,
    targets: &[(Target, &Device)],
) -> Result<Vec<String>, Error> {
    let mut released = Vec::new();
    for link in links {
        let name = &link.interface;
        if targets
            .iter()
            .any(|(target, _)| target.interface.name == *name)
        {
            continue;
        }
        datapath::detach(name)?;
        let renamed = targets.iter().any(|(_, device)| {
            let mut attached = device.xdp.iter();
            attached.any(|attached| attached.program == link.program)
        });
        // What the policy still wants is gone by itself; its link leads nowhere.
        if !renamed
            && policy
            .interfaces
            .iter()
            .all(|interface| interface.name != *name)
        {
            released.push(name.clone());
        }
    }
    Ok(released)
}

pub(crate) fn describe(
    policy: &Policy,
    slots: &Slots,
    tables: &Tables,
    file: &Path,
    digest: String,
) -> Description {
    let services = policy.services.iter().filter_map(|service| {
        Some(ServiceDescription {
            slot: slots.get(&service.name)?,
            service: service.clone(),
        })
    });
    Description {
        abi: VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        applied: now().wall,
        config: std::path::absolute(file).unwrap_or_else(|_| file.to_owned()),
        digest,
        mode: policy.mode,
        services: services.collect(),
        interfaces: policy.interfaces.clone(),
        origins: policy.origins.clone(),
        entries: policy.entries.len(),
        prefilter_shift: tables.constants.prefilter_shift,
    }
}

/// A fingerprint of the program and of everything the config says.
pub(super) fn digest(policy: &Policy, slots: &Slots) -> String {
    let mut hasher = DefaultHasher::new();
    datapath::object_bytes().hash(&mut hasher);
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    // Structures with derived serialisers and string keys have nothing in them that can't be written.
    let text = serde_json::to_string(&(
        policy.mode,
        &policy.services,
        &policy.interfaces,
        &policy.origins,
        slots,
    ))
    .unwrap_or_default();
    text.hash(&mut hasher);
    for entry in &policy.entries {
        (entry.prefix, entry.service, entry.action, entry.origin).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

/// Keeps the causes of generic mode for `status`: the kernel does not.
fn remember_fallbacks(session: &mut Session, applied: &Applied) -> Result<(), Error> {
    let mut fallbacks = session.state.fallbacks.clone();
    fallbacks.retain(|name, _| {
        // Until it is confirmed, the other interfaces stay as they are.
        applied.pending.is_some()
            || applied
                .interfaces
                .iter()
                .any(|(interface, _)| interface == name)
    });
    for (interface, switched) in &applied.interfaces {
        if switched.hook.is_some() {
            match &switched.fallback {
                Some(cause) => fallbacks.insert(interface.clone(), cause.clone()),
                None => fallbacks.remove(interface),
            };
        }
    }
    if fallbacks != session.state.fallbacks {
        session.state.fallbacks = fallbacks;
        session.store.save(&session.state)?;
    }
    Ok(())
}
