//! Single entries of the command line, changed in place.

use std::collections::BTreeSet;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sipguard_ebpf::abi::Layer;

use super::{error::Error, live::Live, renew::renew, session::Session};
use crate::{
    datapath::{self, Generation},
    host::Host,
    policy::Action,
    prefix,
    state::{EndedEntry, OwnEntry, State},
    tables::{Now, fills_cells, with_own},
    when,
};

/// What the command line says of some prefixes.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Allow or deny.
    pub action: Action,
    /// When it ends by itself, if it does.
    pub end: Option<End>,
    /// Why it is there.
    pub comment: Option<String>,
}

/// When an entry ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After so long.
    After(SignedDuration),
    /// At this time of the wall clock.
    At(Timestamp),
}

/// What a change came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed {
    /// The services concerned.
    pub services: Vec<String>,
    /// When they end by themselves.
    pub until: Option<Timestamp>,
    /// Whether it is in force; else it waits for the next apply.
    pub in_force: bool,
}

/// What was taken back.
#[derive(Debug, PartialEq, Eq)]
pub struct Removed {
    /// What the command line said until now.
    pub entries: Vec<OwnEntry>,
    /// What it had said, and has ended by itself a while ago.
    pub ended: Vec<EndedEntry>,
}

/// Says something of `prefixes` in one service, or in all.
///
/// # Errors
/// Where the state can't be kept or the kernel refuses.
pub fn add(
    host: &Host,
    prefixes: &[IpNet],
    service: Option<&str>,
    new: &NewEntry,
) -> Result<Changed, Error> {
    let mut session = Session::begin(host)?;
    let live = session.live()?;
    let services = services(live.as_ref(), service)?;
    let now = session.now();
    let until = new.end.map(|end| match end {
        End::After(lasts) => when::after(lasts, now.wall),
        End::At(until) => until,
    });
    let mut changes = forget_ended(&mut session, now);
    let places = services
        .iter()
        .flat_map(|service| prefixes.iter().map(|&prefix| (service.clone(), prefix)));
    changes.extend(places.clone());
    session.state.add(places.map(|(service, prefix)| OwnEntry {
        prefix,
        service,
        action: new.action,
        until,
        lasts_in: matches!(new.end, Some(End::After(_))).then(|| host.boot().to_owned()),
        comment: new.comment.clone(),
        added: now.wall,
    }));
    let in_force = commit(&mut session, live.as_ref(), &changes)?;
    Ok(Changed {
        services,
        until,
        in_force,
    })
}

/// Takes back everything the command line says of `prefixes` in one service, or in all. Returns what was taken back.
///
/// # Errors
/// [`Error::NotOwn`] and [`Error::NoEntry`] where the command line says nothing of them, and has said nothing that ended a while ago.
pub fn remove(host: &Host, prefixes: &[IpNet], service: Option<&str>) -> Result<Removed, Error> {
    let mut session = Session::begin(host)?;
    let live = session.live()?;
    let now = session.now();
    let mut changes = forget_ended(&mut session, now);
    let services = match (&live, service) {
        // Also in those that no config has any more.
        (_, None) => {
            let mut all = said_of(&session.state, prefixes);
            for service in live.iter().flat_map(known) {
                if !all.contains(&service) {
                    all.push(service);
                }
            }
            all
        }
        (_, Some(name))
            if said_of(&session.state, prefixes)
                .iter()
                .any(|it| it == name) =>
        {
            vec![name.to_owned()]
        }
        (_, Some(_)) => services(live.as_ref(), service)?,
    };
    let entries = session.state.remove(prefixes, &services);
    let mut ended: Vec<_> = session.state.ended.iter().cloned().collect();
    ended.retain(|ended| {
        let mut removed = entries.iter();
        prefixes.contains(&ended.prefix)
            && services.contains(&ended.service)
            && !removed.any(|it| (it.prefix, &it.service) == (ended.prefix, &ended.service))
    });
    if entries.is_empty() && ended.is_empty() {
        return Err(nothing_to_remove(live.as_ref(), prefixes, &services)?);
    }
    let places = entries
        .iter()
        .map(|entry| (entry.service.clone(), entry.prefix));
    changes.extend(places);
    if !changes.is_empty() {
        commit(&mut session, live.as_ref(), &changes)?;
    }
    Ok(Removed { entries, ended })
}

/// The services in which the command line says something of one of these prefixes, or did a while ago.
fn said_of(state: &State, prefixes: &[IpNet]) -> Vec<String> {
    let own = state.entries.iter();
    let own = own.map(|entry| (entry.prefix, &entry.service));
    let ended = state.ended.iter();
    let ended = ended.map(|entry| (entry.prefix, &entry.service));
    let services: BTreeSet<_> = own
        .chain(ended)
        .filter(|(prefix, _)| prefixes.contains(prefix))
        .map(|(_, service)| service.clone())
        .collect();
    services.into_iter().collect()
}

/// What has ended by itself is nowhere any more after the next change. Returns the prefixes of which something is gone.
pub(super) fn forget_ended(session: &mut Session<'_>, now: Now) -> Vec<(String, IpNet)> {
    let ended = session.state.drop_ended(now.boot_ns);
    ended
        .into_iter()
        .map(|entry| (entry.service, entry.prefix))
        .collect()
}

fn nothing_to_remove(
    live: Option<&Live>,
    prefixes: &[IpNet],
    services: &[String],
) -> Result<Error, Error> {
    for name in services {
        for &prefix in prefixes {
            let Some(live) = live else { continue };
            let description = &live.generation.description;
            let Some(service) = description.service(name) else {
                continue;
            };
            let value = live.generation.value(service.slot, Layer::Hand, prefix)?;
            // What has ended may still be there.
            let config = value.filter(|value| value.config() != 0);
            if let Some(value) = config {
                let origin = description.origins.get(usize::from(value.origin));
                return Ok(Error::NotOwn {
                    prefix: prefix::format(prefix),
                    service: name.clone(),
                    origin: origin.map_or_else(
                        || "config".to_owned(),
                        |origin| format!("source {}", origin.source),
                    ),
                });
            }
        }
    }
    let prefixes = prefixes.iter().map(|&prefix| prefix::format(prefix));
    let prefix = prefixes.collect::<Vec<_>>().join(" and ");
    Ok(if services.is_empty() {
        Error::NothingSaid { prefix }
    } else {
        Error::NoEntry {
            prefix,
            service: services.join(" and "),
        }
    })
}

/// The services that are meant.
fn services(live: Option<&Live>, wanted: Option<&str>) -> Result<Vec<String>, Error> {
    let Some(live) = live else {
        // Whether there will be such a service, the next apply's config decides.
        let name = wanted
            .filter(|name| crate::policy::is_service_name(name))
            .ok_or(Error::NameService)?;
        return Ok(vec![name.to_owned()]);
    };
    let known = known(live);
    match wanted {
        None => Ok(known),
        Some(name) if known.iter().any(|service| service == name) => Ok(vec![name.to_owned()]),
        Some(name) => Err(Error::NoService {
            name: name.to_owned(),
            known: known.join(", "),
        }),
    }
}

/// The services of all that is in force.
fn known(live: &Live) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for generation in live.generations() {
        for found in &generation.description.services {
            if !known.contains(&found.service.name) {
                known.push(found.service.name.clone());
            }
        }
    }
    known
}

/// First the state, then the kernel, then the note that the kernel has followed. Where a generation has no room for an entry, another one
/// takes its place.
pub(super) fn commit(
    session: &mut Session<'_>,
    live: Option<&Live>,
    changes: &[(String, IpNet)],
) -> Result<bool, Error> {
    session.save();
    let Some(live) = live else { return Ok(false) };
    let mut behind = false;
    for generation in live.generations() {
        match change(generation, session, changes) {
            Err(Error::Datapath(datapath::Error::Full)) => behind = true,
            done => done?,
        }
        behind |= generation.revisions()?.own == Generation::BEHIND;
    }
    match (behind, live.pending) {
        (false, _) => {}
        (true, None) => renew(session, live)?,
        // Both would have to be made anew, and the time to confirm with them.
        (true, Some(_)) => return Err(datapath::Error::Full.into()),
    }
    Ok(true)
}

fn change(
    generation: &Generation,
    session: &Session<'_>,
    changes: &[(String, IpNet)],
) -> Result<(), Error> {
    let now = session.now();
    let shift = generation.description.prefilter_shift;
    let mut crowded = BTreeSet::new();
    for ((name, prefix), said) in session.state.of(changes) {
        let Some(service) = generation.description.service(name) else {
            continue;
        };
        let value = generation.value(service.slot, Layer::Hand, prefix)?;
        let becomes = with_own(value, said, now);
        // `any` leads everything to the entries, and would slow the drops of its service down long after it has ended.
        if value.is_some() && becomes.is_none() && fills_cells(prefix, shift) {
            crowded.insert(service.slot);
        }
        generation.set(service.slot, Layer::Hand, prefix, becomes)?;
    }
    for slot in crowded {
        generation.tidy(slot)?;
    }
    if generation.revisions()?.own != Generation::BEHIND {
        generation.set_revision(session.state.revision)?;
    }
    Ok(())
}
