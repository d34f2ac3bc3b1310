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
    swap::Swap,
};
use crate::{
    datapath::{
        self, Attachment, Description, Generation, Pending, ServiceDescription, Switched, Target,
        attachments,
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
    refuse_pending(&links)?;
    if confirm.is_none() {
        session.heed(kept.is_some(), &text)?;
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
    let nothing_to_do = match &before {
        Some(live) => in_force(live, &digest, &targets),
        None => targets.is_empty() && links.is_empty(),
    };
    if nothing_to_do {
        if !ended.is_empty() {
            change::commit(&session, before.as_ref(), &ended)?;
        }
        if !is_kept {
            session.forget_unconfirmed()?;
        }
        applied.interfaces = as_they_are(&targets, &session);
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

    let number = next_number(&mut session)?;
    applied.changed = true;

    applied.generation = None;
    if !targets.is_empty() {
        let description = describe(&applied.policy, &session.state.slots, &tables, file, digest);
        for slot in cleared {
            datapath::clear_service(slot)?;
        }
        let targets: Vec<_> = targets.iter().map(|(target, _)| target.clone()).collect();
        let revision = session.state.revision;
        Generation::create(number, &tables, description, &targets, revision)?;
        applied.generation = Some(number);
    }
    let swap = Swap {
        number,
        targets: &targets,
        links: &links,
    };
    turn(
        &swap,
        confirm.map(|lasts| (lasts, text)),
        before.as_ref(),
        &mut session,
        &mut applied,
    )?;
    remember_fallbacks(&mut session, &applied)?;
    Ok(applied)
}

/// Turns the interfaces to what was made; to be confirmed, where it is said for how long and what the config file says.
fn turn(
    swap: &Swap<'_>,
    confirm: Option<(Duration, String)>,
    before: Option<&Live>,
    session: &mut Session,
    applied: &mut Applied,
) -> Result<(), Error> {
    if let Some((lasts, text)) = confirm {
        let (pending, interfaces) = swap.until_confirmed(session, before, text, lasts)?;
        applied.pending = Some(pending);
        applied.interfaces = interfaces;
        return Ok(());
    }
    if !applied.kept {
        session.forget_unconfirmed()?;
    }
    applied.interfaces = swap.for_good()?;
    applied.released = swap.release(&applied.policy)?;
    for old in Generation::all()? {
        if Some(old) != applied.generation {
            Generation::remove(old)?;
        }
    }
    Ok(())
}

/// Never used before, whatever became of the state on disk.
fn next_number(session: &mut Session) -> Result<u64, Error> {
    let pinned = Generation::all()?.last().map_or(0, |newest| newest + 1);
    let number = session.state.next_generation().max(pinned);
    session.state.generation = number;
    session.store.save(&session.state)?;
    Ok(number)
}

fn refuse_pending(links: &[Attachment]) -> Result<(), Error> {
    match links.iter().find_map(|link| link.pending) {
        Some(pending) => Err(Error::Pending {
            generation: pending.generation,
            seconds: pending.left(now()).unwrap_or_default().as_secs(),
        }),
        None => Ok(()),
    }
}

/// The interfaces where nothing changes.
fn as_they_are(targets: &[(Target, &Device)], session: &Session) -> Vec<(String, Switched)> {
    let unchanged = |(target, _): &(Target, &Device)| {
        let name = target.interface.name.clone();
        let fallback = session.state.fallbacks.get(&name).cloned();
        let switched = Switched {
            hook: None,
            fallback,
        };
        (name, switched)
    };
    targets.iter().map(unchanged).collect()
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

/// The config's interfaces that exist, as they are to be attached to, the lower ones first: below a device that has a program the
/// kernel takes none.
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
        let link = device.link.clone().map_err(|why| Error::Unfit {
            interface: interface.name.clone(),
            why,
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
    targets.sort_by_key(|(_, device)| device::height(device, devices));
    Ok(targets)
}

/// Whether everything is already as it would become.
pub(super) fn in_force(live: &Live, digest: &str, targets: &[(Target, &Device)]) -> bool {
    let behind = live.generation.revision().ok() == Some(Generation::BEHIND);
    !behind
        && live.generation.description.digest == digest
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
