//! Bans by other programs, changed in place.
//!
//! First the log, then the kernel, then the note up to where the kernel has followed. What a crash leaves undone in the kernel the next
//! session finishes. A ban reads the log only where the prefix is banned already: what somebody said of it before is replaced then, and
//! what others said stays.

use std::collections::BTreeSet;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sipguard_ebpf::abi::Layer;

use super::{
    error::Error,
    live::{Live, live},
    living::Said,
    renew::renew,
    session::Session,
};
use crate::{
    host::{Host, Trouble},
    policy::least_specific_ban,
    prefix,
    state::{Ban, BanLine, Bans, Staged, Unban},
    tables::spread,
    when,
};

/// At this many bytes a log is read even where that is not needed, so that what is of no use in it goes.
const LONG: u64 = 1 << 20;

/// What a ban came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Banned {
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// The services that it is for; none where nothing is in force, so that it waits for the next apply.
    pub services: Vec<String>,
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
    let live = live(host)?;
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
    let length = append(&session, &lines);
    let known = || -> Result<bool, Error> {
        for generation in live.iter().flat_map(Live::generations) {
            for found in &generation.description.services {
                let used = generation.used(found.slot)?;
                let prefixes = prefixes.iter().filter(|prefix| used.takes(**prefix));
                for prefix in prefixes.flat_map(|prefix| spread(*prefix, used.place(*prefix))) {
                    if generation.value(found.slot, Layer::Live, prefix)?.is_some() {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    };
    let bans = if length.is_none_or(|length| length > LONG) || known()? {
        session.bans()
    } else {
        Bans::default()
    };
    // What could not be written is in force all the same, until the next restart.
    let bans = with(bans, lines);
    put(&mut session, live.as_ref(), &bans, prefixes, length)?;
    Ok(Banned {
        until,
        services: live.as_ref().map_or_else(Vec::new, services),
    })
}

/// Takes bans back: those of one prefix or of all, by one or by everybody. Returns what was banned until now.
///
/// # Errors
/// Where the kernel refuses.
pub fn unban(host: &Host, unbans: &[Unban]) -> Result<Vec<IpNet>, Error> {
    let mut session = Session::begin(host)?;
    let live = live(host)?;
    let mut bans = session.bans();
    let mut lines = Vec::new();
    let mut freed = BTreeSet::new();
    for unban in unbans {
        let line = BanLine::Unban(unban.clone());
        let taken = bans.say(line.clone());
        if !taken.is_empty() {
            freed.extend(taken);
            lines.push(line);
        }
    }
    let freed: Vec<_> = freed.into_iter().collect();
    if freed.is_empty() {
        return Ok(freed);
    }
    let length = append(&session, &lines);
    put(&mut session, live.as_ref(), &bans, &freed, length)?;
    Ok(freed)
}

fn with(mut bans: Bans, lines: Vec<BanLine>) -> Bans {
    for line in lines {
        bans.say(line);
    }
    bans
}

/// The log's length then; none where the disk does not take it, of which the host is told.
fn append(session: &Session<'_>, lines: &[BanLine]) -> Option<u64> {
    match session.host.store.append_bans(&session.lock, lines) {
        Ok(length) => Some(length),
        Err(error) => {
            session.host.note(Trouble::Unsaved(error));
            None
        }
    }
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
    length: Option<u64>,
) -> Result<(), Error> {
    let Some(live) = live else { return Ok(()) };
    let is_full = session.put_in_place(live, |generation| {
        let said = Said::new(session, &generation.description.live, bans);
        said.put(generation, prefixes.iter().copied())?;
        if let Some(length) = length {
            generation.set_revision_of_bans(length)?;
        }
        Ok(())
    })?;
    if is_full {
        renew(session, live)?;
    }
    Ok(())
}

impl Session<'_> {
    /// All bans that were not taken back and have not ended. Where the log has more lines than are of use, it is written anew.
    pub(super) fn bans(&self) -> Bans {
        let mut bans = bans(self.host);
        bans.drop_ended(&self.state.clock, self.now().boot_ns);
        if bans.is_worn() {
            // Else it stays as it is, and is as right.
            let _ = self.host.store.stage_bans(&bans).and_then(Staged::commit);
        }
        bans
    }
}

/// All bans that were not taken back, for those who only read them. Takes no lock.
pub fn bans(host: &Host) -> Bans {
    match host.store.bans() {
        Ok(bans) => bans,
        Err(error) => {
            host.note(Trouble::Unread(error));
            Bans::default()
        }
    }
}
