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

use std::time::Duration;

use super::{error::Error, session::Session};
use crate::{
    datapath::{Pending, attachments},
    host::Host,
    state::ConfirmStage,
};

/// What a confirmation, or a rollback, came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The apply that was waiting.
    pub pending: Pending,
    /// The interfaces that are not filtered any more.
    pub released: Vec<String>,
}

/// Keeps what waits to be confirmed.
///
/// # Errors
/// [`Error::NothingPending`], [`Error::TakenBack`] and [`Error::TooLate`] where it is not to be had any more.
pub fn confirm(host: &Host) -> Result<Decided, Error> {
    decide(host, ConfirmStage::Confirmed)
}

/// Takes back what waits to be confirmed.
///
/// # Errors
/// [`Error::NothingPending`] and [`Error::TakenBack`] where there is nothing to take back.
pub fn rollback(host: &Host) -> Result<Decided, Error> {
    decide(host, ConfirmStage::TakenBack)
}

fn decide(host: &Host, wanted: ConfirmStage) -> Result<Decided, Error> {
    let mut session = Session::open(host)?;
    let before = attachments(host.now())?;
    let outcome = session.state.outcome();
    let Some(pending) = before.iter().find_map(|link| link.pending) else {
        session.settle()?;
        return Err(match session.state.outcome() {
            Some(ConfirmStage::TakenBack) => Error::TakenBack,
            _ => Error::NothingPending,
        });
    };
    let decided = outcome.filter(|&outcome| outcome != ConfirmStage::Pending);
    let now = host.now();
    if decided.is_none() && wanted == ConfirmStage::Confirmed && pending.lapsed(now) {
        session.settle()?;
        let late = now.boot_ns.saturating_sub(pending.deadline);
        return Err(Error::TooLate {
            seconds: Duration::from_nanos(late).as_secs(),
        });
    }
    match decided {
        None => session.decide(wanted),
        // What a crash has cut off is finished below.
        Some(decided) if decided == wanted => {}
        Some(decided) => {
            session.settle()?;
            return Err(match decided {
                ConfirmStage::TakenBack => Error::TakenBack,
                _ => Error::NothingPending,
            });
        }
    }
    session.settle()?;
    let after = attachments(host.now())?;
    let mut released: Vec<_> = before
        .into_iter()
        .map(|link| link.interface)
        .filter(|name| after.iter().all(|link| link.interface != *name))
        .collect();
    // Where an interface was to move from one place to the other, both are there.
    released.dedup();
    Ok(Decided { pending, released })
}
