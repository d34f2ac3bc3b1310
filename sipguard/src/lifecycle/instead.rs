//! What a plain apply takes instead of its config file: the last policy that was in force for good.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;

use super::{config_file::ConfigFile, error::Error};
use crate::{
    config,
    datapath::Attachment,
    host::{Host, Trouble},
    policy::Policy,
    state::{ConfirmStage, Confirmed, State, StateError, Unconfirmed},
    tables::Now,
};

/// Why the last policy that was in force for good is taken, and not the config file.
#[derive(Clone, Debug)]
pub enum Instead {
    /// The config file says what was not confirmed.
    TakenBack {
        /// When that was, where it is known.
        at: Option<Timestamp>,
    },
    /// The config file, or a list that it names, can't be used, and nothing is in force that would stay.
    Unusable(Arc<Error>),
}

/// What is to be in force: the config file's policy, or another one with its fingerprint and why.
pub(super) type Wanted = (Arc<Policy>, Option<(String, Instead)>);

/// What a plain apply is to put in force, `links` being what is attached.
///
/// # Errors
/// What is wrong with the config file, where something is in force that stays, or nothing stands in for it.
pub(super) fn wanted(
    host: &Host,
    state: &State,
    config: &ConfigFile<'_>,
    links: &[Attachment],
    now: Now,
) -> Result<Wanted, Error> {
    if let Some((confirmed, at)) = taken_back(host, state, &config.text, links, now)? {
        return Ok(instead(confirmed, Instead::TakenBack { at }));
    }
    let empty = Error::NothingToFilter {
        config: config.path.to_owned(),
        filtered: !links.is_empty(),
    };
    let found = config.policy();
    let error = match &found {
        Ok(policy) if !policy.interfaces.is_empty() => return Ok((policy.clone(), None)),
        Ok(_) if !links.is_empty() => return Err(empty),
        // `down` is how one says that nothing is to be filtered.
        Ok(policy) if state.down => return Ok((policy.clone(), None)),
        Ok(_) => Arc::new(empty),
        Err(error) => Arc::new(Error::Config(error.clone())),
    };
    match stand_in(host, config, links) {
        Some(confirmed) => Ok(instead(confirmed, Instead::Unusable(error))),
        None => Ok((found.map_err(Error::Config)?, None)),
    }
}

fn instead(confirmed: Confirmed, why: Instead) -> Wanted {
    (confirmed.policy, Some((confirmed.digest, why)))
}

/// What was in force before nothing was: a restart came in between. Whoever names another file than that of the boot, and may have mistyped
/// it, gets that one's policy or none.
fn stand_in(host: &Host, config: &ConfigFile<'_>, links: &[Attachment]) -> Option<Confirmed> {
    if !links.is_empty() {
        return None;
    }
    match host.store.confirmed() {
        Ok(confirmed) => confirmed.filter(|confirmed| {
            let path = config.absolute();
            (path == confirmed.config || path == Path::new(config::PATH))
                && !confirmed.policy.interfaces.is_empty()
        }),
        Err(error) => {
            host.note(Trouble::Unread(error));
            None
        }
    }
}

/// Whether a plain apply does not take a config file with this text: it was not confirmed.
pub(crate) fn is_taken_back(
    unconfirmed: &Unconfirmed,
    text: &str,
    links: &[Attachment],
    now: Now,
) -> bool {
    let waits = links
        .iter()
        .any(|link| link.pending.is_some_and(|pending| !pending.lapsed(now)));
    match unconfirmed.outcome {
        ConfirmStage::Pending if links.is_empty() => true,
        ConfirmStage::Pending if waits => false,
        // Pending no more: what is left of it is cleared up before anything is applied.
        ConfirmStage::Pending | ConfirmStage::TakenBack => unconfirmed.config == text,
        ConfirmStage::Confirmed => false,
    }
}

/// The policy before one that was not confirmed, and when that was taken back, where a plain apply takes it instead of the config file with
/// this text.
///
/// # Errors
/// Where it should and can't, and something is in force. Where nothing is, the config file's policy is better than none.
fn taken_back(
    host: &Host,
    state: &State,
    text: &str,
    links: &[Attachment],
    now: Now,
) -> Result<Option<(Confirmed, Option<Timestamp>)>, Error> {
    let Some(unconfirmed) = &state.unconfirmed else {
        return Ok(None);
    };
    if !is_taken_back(unconfirmed, text, links, now) {
        return Ok(None);
    }
    let error = match host.store.confirmed() {
        Ok(Some(confirmed)) if unconfirmed.is_before(&confirmed) => {
            return Ok(Some((confirmed, unconfirmed.taken_back)));
        }
        // One that is left from an earlier apply, on a disk that could not be written since.
        Ok(_) => StateError::Missing {
            file: host.store.confirmed_file(),
        },
        Err(error) => error,
    };
    if links.is_empty() {
        host.note(Trouble::Unconfirmed(error));
        Ok(None)
    } else {
        Err(error.into())
    }
}
