//! An apply that takes itself back unless it is confirmed.
//!
//! `apply --confirm` makes a generation as every apply does, but turns the links to its *pending* programs (see `datapath/pending.rs`),
//! which ask the clock and hand on to the new generation or to the one before. So no process has to live until the deadline. Both
//! generations stay pinned, and single entries are changed in both. Interfaces that the new policy drops stay with the old one;
//! interfaces that it adds are unfiltered again after the deadline.
//!
//! `confirm` and `rollback` each write one word into the state on disk, which is the moment that counts, and leave the rest to what
//! every command does at its beginning: `settle.rs` turns the links to what the state says. After the deadline the next command that
//! changes something writes that word itself.
//!
//! After a reboot nothing is in force and nothing is pending, and `sipguard apply` runs, whose config file holds what was not
//! confirmed. Therefore `apply --confirm` also keeps the policy that was in force before, on disk, and the config's text
//! (`state/confirmed.rs`). A plain apply takes that policy instead of the config file
//! - where the state says that an apply is pending and no link is there: there was a reboot in between, and whatever the config file says
//!   by now was never in force;
//! - where the config file still says what was taken back, however often it is applied.
//!
//! It does so until the config file says something else, or is confirmed. Where nothing was in force before, nothing is put in force.

use std::{fs, path::Path, time::Duration};

use sipguard_ebpf::abi::{ALLOW_CONFIG, DENY_CONFIG};

use super::{Error, Live, Session, now};
use crate::{
    config,
    datapath::{Generation, Pending, Pins, attachments},
    policy::{Action, Entry, Policy},
    state::{Confirmed, Outcome, Store, Unconfirmed},
};

/// What a confirmation, or a rollback, came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The apply that was waiting.
    pub pending: Pending,
    /// The interfaces that are not filtered any more.
    pub released: Vec<String>,
}

/// The apply that waits to be confirmed, or waited until its time was over and was not cleared up yet. Takes no lock.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn pending() -> Result<Option<Pending>, Error> {
    Ok(attachments()?.iter().find_map(|link| link.pending))
}

/// Keeps what waits to be confirmed.
///
/// # Errors
/// [`Error::NothingPending`], [`Error::TakenBack`] and [`Error::TooLate`] where it is not to be had any more.
pub fn confirm() -> Result<Decided, Error> {
    decide(Outcome::Confirmed)
}

/// Takes back what waits to be confirmed.
///
/// # Errors
/// [`Error::NothingPending`] and [`Error::TakenBack`] where there is nothing to take back.
pub fn rollback() -> Result<Decided, Error> {
    decide(Outcome::TakenBack)
}

fn decide(wanted: Outcome) -> Result<Decided, Error> {
    let mut session = Session::open()?;
    let before = attachments()?;
    let outcome = session.state.outcome();
    let Some(pending) = before.iter().find_map(|link| link.pending) else {
        session.settle()?;
        return Err(match session.state.outcome() {
            Some(Outcome::TakenBack) => Error::TakenBack,
            _ => Error::NothingPending,
        });
    };
    let decided = outcome.filter(|&outcome| outcome != Outcome::Pending);
    let now = now();
    if decided.is_none() && wanted == Outcome::Confirmed && pending.lapsed(now) {
        session.settle()?;
        let late = now.boot_ns.saturating_sub(pending.deadline);
        return Err(Error::TooLate {
            seconds: Duration::from_nanos(late).as_secs(),
        });
    }
    match decided {
        None => session.decide(wanted)?,
        // What a crash has cut off is finished below.
        Some(decided) if decided == wanted => {}
        Some(decided) => {
            session.settle()?;
            return Err(match decided {
                Outcome::TakenBack => Error::TakenBack,
                _ => Error::NothingPending,
            });
        }
    }
    session.settle()?;
    let after = attachments()?;
    let released = before
        .into_iter()
        .map(|link| link.interface)
        .filter(|name| after.iter().all(|link| link.interface != *name))
        .collect();
    Ok(Decided { pending, released })
}

impl Session {
    /// Writes down what becomes of the apply that waits to be confirmed.
    pub(super) fn decide(&mut self, outcome: Outcome) -> Result<(), Error> {
        match &mut self.state.unconfirmed {
            Some(unconfirmed) => unconfirmed.outcome = outcome,
            // The state was lost; what is in the kernel is to be ended all the same.
            None => {
                self.state.unconfirmed = Some(Unconfirmed {
                    outcome,
                    config: String::new(),
                });
            }
        }
        Ok(self.store.save(&self.state)?)
    }

    /// Writes down that nothing is unconfirmed any more.
    pub(super) fn forget_unconfirmed(&mut self) -> Result<(), Error> {
        if self.state.unconfirmed.take().is_some() {
            self.store.save(&self.state)?;
            self.store.forget_confirmed()?;
        }
        Ok(())
    }

    /// Writes down again what was unconfirmed before an apply that failed.
    pub(super) fn put_back(&mut self, unconfirmed: Option<Unconfirmed>) -> Result<(), Error> {
        self.state.unconfirmed = unconfirmed;
        Ok(self.store.save(&self.state)?)
    }

    /// Before a plain apply: writes down that what was pending is gone, where that is found out by what it takes instead of the config
    /// file.
    pub(super) fn heed(&mut self, kept: bool, text: &str) -> Result<(), Error> {
        let Some(unconfirmed) = &mut self.state.unconfirmed else {
            return Ok(());
        };
        match unconfirmed.outcome {
            // There was a reboot. Whatever the config file says by now was never in force.
            Outcome::Pending if kept => {
                text.clone_into(&mut unconfirmed.config);
                self.decide(Outcome::TakenBack)
            }
            // While the config was read, the time to confirm it ended.
            Outcome::TakenBack if !kept && unconfirmed.config == text => Err(Error::TakenBack),
            _ => Ok(()),
        }
    }

    /// Writes down that the config file `text` is going to be on trial, and what was before.
    pub(super) fn keep(&mut self, live: Option<&Live>, text: String) -> Result<(), Error> {
        let confirmed = match live {
            Some(live) => confirmed(&live.generation)?,
            // After `down`, what was kept before is still the last that was confirmed.
            None => self.store.confirmed()?.unwrap_or_default(),
        };
        self.store.stage_confirmed(&confirmed)?.commit()?;
        self.state.unconfirmed = Some(Unconfirmed {
            outcome: Outcome::Pending,
            config: text,
        });
        Ok(self.store.save(&self.state)?)
    }
}

/// The policy of a generation without the command line's entries, read back from the kernel.
fn confirmed(generation: &Generation) -> Result<Confirmed, Error> {
    let description = &generation.description;
    let mut services = [None; 256];
    for (index, service) in (0u8..).zip(&description.services) {
        services[usize::from(service.slot)] = Some(index);
    }
    let mut entries = Vec::with_capacity(description.entries);
    generation.for_each(|entry| {
        let Some(service) = services[usize::from(entry.service)] else {
            return;
        };
        for (bit, action) in [(ALLOW_CONFIG, Action::Allow), (DENY_CONFIG, Action::Deny)] {
            if entry.value.config() & bit != 0 {
                entries.push(Entry {
                    prefix: entry.prefix,
                    service,
                    action,
                    origin: entry.value.origin,
                });
            }
        }
    })?;
    Ok(Confirmed {
        digest: description.digest.clone(),
        policy: Policy {
            interfaces: description.interfaces.clone(),
            mode: description.mode,
            services: description
                .services
                .iter()
                .map(|found| found.service.clone())
                .collect(),
            origins: description.origins.clone(),
            entries,
        },
    })
}

/// What an apply is to put in force.
pub(super) struct Wanted {
    pub(super) policy: Policy,
    /// The config file's text, which may say something else.
    pub(super) text: String,
    /// Where the policy is not the config file's but the last that was confirmed: its generation's digest.
    pub(super) digest: Option<String>,
}

/// What the config file says, or the last confirmed policy where a plain apply takes that.
pub(super) fn wanted(file: &Path, confirm: bool) -> Result<Wanted, Error> {
    // Where it can't be read, reading it as a config tells why.
    let text = fs::read_to_string(file).unwrap_or_default();
    let kept = if confirm { None } else { kept(&text)? };
    Ok(match kept {
        Some(Confirmed { digest, policy }) => Wanted {
            policy,
            text,
            digest: Some(digest),
        },
        None => Wanted {
            policy: config::load(file)?,
            text,
            digest: None,
        },
    })
}

fn kept(text: &str) -> Result<Option<Confirmed>, Error> {
    // In this order: another apply after a reboot writes the state before it attaches.
    let links = if Pins::find().is_some() {
        attachments()?
    } else {
        Vec::new()
    };
    let store = Store::system();
    let Some(unconfirmed) = store.load()?.unconfirmed else {
        return Ok(None);
    };
    let waits = links
        .iter()
        .any(|link| link.pending.is_some_and(|pending| !pending.lapsed(now())));
    let kept = match unconfirmed.outcome {
        Outcome::Pending if links.is_empty() => true,
        Outcome::Pending if waits => false,
        // Pending no more: what is left of it is cleared up before anything is applied.
        Outcome::Pending | Outcome::TakenBack => unconfirmed.config == text,
        Outcome::Confirmed => false,
    };
    if kept {
        Ok(store.confirmed()?)
    } else {
        Ok(None)
    }
}
