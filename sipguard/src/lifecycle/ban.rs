//! Bans by other programs, changed in place.
//!
//! First the log, then the kernel, then the note up to where the kernel has followed. What a crash leaves undone in the kernel the next
//! session finishes. A ban reads the log only where the prefix is banned already: what somebody said of it before is replaced then, and
//! what others said stays. What the log does not take goes into the state, whose copy in the kernel needs no disk, and from there into the
//! log as soon as it can.

use std::collections::BTreeSet;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sipguard_ebpf::abi::Layer;

use super::{
    error::Error,
    live::{Live, replaceable},
    living::{Said, put_in_place},
    renew::renew,
    session::Session,
};
use crate::{
    host::Host,
    policy::least_specific_ban,
    prefix,
    state::{Ban, BanLine, Bans, Unban},
    tables::spread,
    when,
};

/// Each time so many bytes more are in the log it is read even where that is not needed, so that what is of no use in it goes.
const LOOK: u64 = 1 << 20;

/// What a ban came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Banned {
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// The services that it is for; none where nothing is in force, so that it waits for the next apply.
    pub services: Vec<String>,
    /// Whether somebody had banned one of them already.
    pub again: bool,
}

/// Bans prefixes from all services, for so long.
///
/// # Errors
/// [`Error::TooWide`], and where the kernel refuses.
pub fn ban(
    host: &Host,
    prefixes: &[IpNet],
    by: Option<&str>,
    lasts: Option<SignedDuration>,
) -> Result<Banned, Error> {
    if let Some(&wide) = prefixes
        .iter()
        .find(|prefix| prefix.prefix_len() < least_specific_ban(**prefix))
    {
        return Err(Error::TooWide {
            prefix: prefix::format(wide),
            least: least_specific_ban(wide),
        });
    }
    let mut session = Session::begin(host)?;
    let live = replaceable(session.live())?;
    let now = session.now();
    let until = lasts.map(|lasts| when::after(lasts, now.wall));
    let lines = prefixes.iter().map(|&prefix| {
        BanLine::Ban(Ban {
            prefix,
            by: by.map(str::to_owned),
            until,
            lasts_in: host.boot().to_owned(),
            added: now.wall,
        })
    });
    let lines: Vec<_> = lines.collect();
    let before = host.store.bans_length();
    session.log(&lines);
    let is_long = before / LOOK != host.store.bans_length() / LOOK;
    let mut bans = Bans::default();
    let again = is_banned(live.as_ref(), prefixes)?;
    if is_long || again {
        bans = session.bans();
        session.tidy(&bans);
    }
    // Where the log can't be read these count all the same.
    for line in lines {
        bans.say(line);
    }
    put(&mut session, live.as_ref(), &bans, prefixes)?;
    Ok(Banned {
        until,
        services: live.as_ref().map_or_else(Vec::new, services),
        again,
    })
}

/// Whether somebody has said something of one of these.
fn is_banned(live: Option<&Live>, prefixes: &[IpNet]) -> Result<bool, Error> {
    for generation in live.iter().copied().flat_map(Live::generations) {
        for found in &generation.description.services {
            let used = generation.used(found.slot, Layer::Live)?;
            let prefixes = prefixes.iter().filter(|prefix| used.takes(**prefix));
            for prefix in prefixes.flat_map(|prefix| spread(*prefix, used.place(*prefix))) {
                if generation.value(found.slot, Layer::Live, prefix)?.is_some() {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Takes bans back: those of one prefix or of all, by one or by everybody. Returns what was banned until now.
///
/// # Errors
/// Where the kernel refuses.
pub fn unban(host: &Host, unbans: &[Unban]) -> Result<Vec<IpNet>, Error> {
    let mut session = Session::begin(host)?;
    let live = replaceable(session.live())?;
    let mut bans = session.bans();
    let mut lines = Vec::new();
    let mut freed = BTreeSet::new();
    for unban in unbans {
        let unban = BanLine::Unban(unban.clone());
        let taken = bans.say(unban.clone());
        if !taken.is_empty() {
            freed.extend(taken);
            lines.push(unban);
        }
    }
    let freed: Vec<_> = freed.into_iter().collect();
    if freed.is_empty() {
        return Ok(freed);
    }
    session.log(&lines);
    session.tidy(&bans);
    put(&mut session, live.as_ref(), &bans, &freed)?;
    Ok(freed)
}

/// The services of all that is in force.
fn services(live: &Live) -> Vec<String> {
    let services = live.generation.description.services.iter();
    services.map(|found| found.service.name.clone()).collect()
}

/// Makes what the kernel has of these prefixes what is said of them, with these bans.
fn put(
    session: &mut Session<'_>,
    live: Option<&Live>,
    bans: &Bans,
    prefixes: &[IpNet],
) -> Result<(), Error> {
    let Some(live) = live else { return Ok(()) };
    let needs_room = put_in_place(live, |generation| {
        let said = Said::new(session, &generation.description.live, bans);
        said.put(generation, prefixes.iter().copied())?;
        // Where there was no room it has not followed, which the next session sees.
        Ok(generation.set_revision_of_bans(session.host.store.bans_length())?)
    })?;
    if needs_room {
        renew(session, live)?;
    }
    Ok(())
}
