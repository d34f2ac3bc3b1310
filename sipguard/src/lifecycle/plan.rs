//! What an apply would do, found out without doing any of it.

use std::path::Path;

use super::{
    Error, Live,
    apply::{digest, in_force, replaceable, targets},
    confirm::{Wanted, wanted},
    live, now,
};
use crate::{
    datapath::{Target, attachments, refuse_foreign},
    device::{self, Device},
    difference::{After, Before, Difference},
    policy::{Interface, Policy, Ports},
    state::{Slots, State, Store},
    tables::{Now, PrefixKey, Tables},
    warnings::{Ephemeral, Login, Side, cut_off, ephemeral},
};

/// What becomes of this host where a policy comes in force.
#[derive(Clone, Debug, Default)]
pub struct Outlook {
    /// Where it differs from what is in force.
    pub difference: Difference,
    /// Who is logged in and would lose access to guarded ports, and to which.
    pub cut_off: Option<(Login, Vec<(String, Ports)>)>,
    /// Guarded ports that this host's own connections may get.
    pub ephemeral: Option<Ephemeral>,
}

/// What an apply would do.
#[derive(Debug)]
pub struct Planned {
    /// The policy that would be in force.
    pub policy: Policy,
    /// How many of the command line's entries would be in force with it.
    pub own: usize,
    /// Interfaces of the config that do not exist now.
    pub absent: Vec<String>,
    /// Whether anything would be done at all: there is something to do, too, where the policy is the same but an interface lost its
    /// program, or sipguard is a newer one.
    pub changes: bool,
    /// Whether the last confirmed policy would be taken instead of the config file, which is not confirmed.
    pub kept: bool,
    /// What becomes of this host.
    pub outlook: Outlook,
}

/// Finds out what [`apply`](super::apply) would do with a config file. Takes no lock, and changes nothing on disk or in the kernel.
///
/// # Errors
/// Where the apply would fail before it changes anything.
pub fn plan(file: &Path, confirm: bool) -> Result<Planned, Error> {
    let Wanted {
        policy,
        digest: kept,
        ..
    } = wanted(file, confirm)?;
    let is_kept = kept.is_some();
    let devices = device::all().map_err(Error::Devices)?;
    let targets = targets(&policy, &devices, file)?;
    let links = attachments()?;
    let before = replaceable(live())?;
    for (_, device) in &targets {
        refuse_foreign(device, &links)?;
    }
    let mut state = Store::system().load()?;
    state
        .slots
        .assign(policy.services.iter().map(|service| service.name.as_str()))?;
    let now = now();
    state.drop_ended(now.wall);
    let digest = kept.unwrap_or_else(|| digest(&policy, &state.slots));
    let changes = match &before {
        Some(live) => !in_force(live, &digest, &targets),
        None => !(targets.is_empty() && links.is_empty()),
    };
    let outlook = if changes {
        let State { slots, entries, .. } = &state;
        let tables = Tables::compile(&policy, slots, entries, now)?;
        Outlook::of(before.as_ref(), &policy, slots, &tables, &targets, now)?
    } else {
        Outlook::unchanged(&policy)
    };
    let absent = absent(&policy, &devices);
    Ok(Planned {
        own: state.entries.len(),
        absent,
        changes,
        kept: is_kept,
        outlook,
        policy,
    })
}

/// Interfaces of the config that do not exist.
pub(super) fn absent(policy: &Policy, devices: &[Device]) -> Vec<String> {
    policy
        .interfaces
        .iter()
        .filter(|interface| devices.iter().all(|device| device.name != interface.name))
        .map(|interface| interface.name.clone())
        .collect()
}

impl Outlook {
    /// Where the policy stays.
    pub(super) fn unchanged(policy: &Policy) -> Self {
        Self {
            ephemeral: ephemeral(policy),
            ..Self::default()
        }
    }

    /// Between what is in force and what would be.
    pub(super) fn of(
        before: Option<&Live>,
        policy: &Policy,
        slots: &Slots,
        tables: &Tables,
        targets: &[(Target, &Device)],
        now: Now,
    ) -> Result<Self, Error> {
        let filtered = before.map_or_else(Vec::new, filtered);
        let interfaces: Vec<_> = targets
            .iter()
            .map(|(target, _)| target.interface.clone())
            .collect();
        let difference = Difference::between(
            before.map(|live| Before {
                description: &live.generation.description,
                interfaces: &filtered,
            }),
            After {
                policy,
                slots,
                tables,
                interfaces: &interfaces,
            },
            now.boot_ns,
            |each| match before {
                Some(live) => live.generation.for_each(each),
                None => Ok(()),
            },
        )?;
        let lost = match Login::current().filter(|_| !targets.is_empty()) {
            Some(login) => {
                let after = side_after(policy, slots, tables, now);
                let before = before.map(|live| side_before(live, now));
                let lost = cut_off(login.address, before.as_ref(), &after)?;
                (!lost.is_empty()).then_some((login, lost))
            }
            None => None,
        };
        Ok(Self {
            difference,
            cut_off: lost,
            ephemeral: ephemeral(policy),
        })
    }
}

/// The interfaces that are filtered.
fn filtered(live: &Live) -> Vec<Interface> {
    let wanted = &live.generation.description.interfaces;
    let has_link = |interface: &&Interface| {
        let mut links = live.links.iter();
        links.any(|link| link.interface == interface.name)
    };
    wanted.iter().filter(has_link).cloned().collect()
}

fn side_before(live: &Live, now: Now) -> Side<'_, Error> {
    let services = &live.generation.description.services;
    Side {
        services: services
            .iter()
            .map(|found| (&found.service, found.slot))
            .collect(),
        value: Box::new(|service, prefix| Ok(live.generation.value(service, prefix)?)),
        boot_ns: now.boot_ns,
    }
}

fn side_after<'s>(
    policy: &'s Policy,
    slots: &Slots,
    tables: &'s Tables,
    now: Now,
) -> Side<'s, Error> {
    Side {
        services: policy
            .services
            .iter()
            .filter_map(|service| Some((service, slots.get(&service.name)?)))
            .collect(),
        value: Box::new(|service, prefix| {
            Ok(match PrefixKey::new(prefix, service) {
                PrefixKey::V4(key) => tables.entries4.get(&key),
                PrefixKey::V6(key) => tables.entries6.get(&key),
            })
        }),
        boot_ns: now.boot_ns,
    }
}
