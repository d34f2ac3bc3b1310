//! What becomes of this host where a policy comes in force.

use super::{error::Error, live::Live};
use crate::{
    datapath::Target,
    device::{Device, NativeXdp, driver},
    difference::{After, Before, Difference},
    policy::{AttachMode, Interface, Policy, Ports},
    state::Slots,
    tables::{Now, PrefixKey, Tables},
    warnings::{Doubt, Ephemeral, Login, Side, cut_off, ephemeral},
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
    /// Interfaces that may receive nothing while their drivers take a first program, and for how long.
    pub silent: Vec<(String, &'static str)>,
    /// What makes one doubt whether the lists are what they are meant to be.
    pub doubts: Vec<Doubt>,
}

/// Those whose drivers have no program yet, and are to take one.
fn silent(targets: &[(Target, Device)]) -> Vec<(String, &'static str)> {
    targets
        .iter()
        .filter(|(target, device)| {
            device.xdp.is_empty()
                && target.interface.mode != AttachMode::Tc
                && driver::unsafe_natively(device).is_none()
                && NativeXdp::of(device.index) != Some(NativeXdp::No)
        })
        .filter_map(|(_, device)| Some((device.name.clone(), driver::silence(device)?)))
        .collect()
}

impl Outlook {
    /// Where the policy stays.
    pub(super) fn unchanged(policy: &Policy, doubts: Vec<Doubt>) -> Self {
        Self {
            ephemeral: ephemeral(policy),
            doubts,
            ..Self::default()
        }
    }

    /// Between what is in force and what would be.
    pub(super) fn of(
        before: Option<&Live>,
        policy: &Policy,
        slots: &Slots,
        tables: &Tables,
        targets: &[(Target, Device)],
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
            silent: silent(targets),
            doubts: Vec::new(),
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
        value: Box::new(|service, layer, prefix| {
            Ok(live.generation.value(service, layer, prefix)?)
        }),
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
        value: Box::new(|service, layer, prefix| {
            Ok(match PrefixKey::new(prefix, service, layer) {
                PrefixKey::V4(key) => tables.entries4.get(&key),
                PrefixKey::V6(key) => tables.entries6.get(&key),
            })
        }),
        boot_ns: now.boot_ns,
    }
}
