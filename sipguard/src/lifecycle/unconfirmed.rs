//! What the state says of an apply that is not confirmed, and what a plain apply takes instead of its config file.

use super::{error::Error, live::Live, session::Session};
use crate::{
    datapath::{Attachment, Generation},
    host::{Host, Trouble},
    policy::{Action, Entry, Policy},
    state::{ConfirmStage, Confirmed, Staged, State, StateError, Unconfirmed},
    tables::Now,
};
use sipguard_ebpf::abi::{ALLOW_CONFIG, DENY_CONFIG};

impl Session<'_> {
    /// Writes down what becomes of the apply that waits to be confirmed.
    pub(super) fn decide(&mut self, outcome: ConfirmStage) {
        match &mut self.state.unconfirmed {
            Some(unconfirmed) => unconfirmed.outcome = outcome,
            // The state was lost; what is in the kernel is to be ended all the same.
            None => {
                self.state.unconfirmed = Some(Unconfirmed {
                    outcome,
                    config: String::new(),
                    before: None,
                });
            }
        }
        self.save();
    }

    /// Writes down that nothing is unconfirmed any more.
    pub(super) fn forget_unconfirmed(&mut self) {
        if self.state.unconfirmed.take().is_some() {
            self.save();
            if let Err(error) = self.host.store.forget_confirmed() {
                self.host.note(Trouble::Unsaved(error));
            }
        }
    }

    /// Writes down again what was unconfirmed before an apply that failed.
    pub(super) fn put_back(&mut self, unconfirmed: Option<Unconfirmed>) {
        self.state.unconfirmed = unconfirmed;
        self.save();
    }

    /// Before a plain apply that takes the last confirmed policy: writes down that what was pending is gone.
    pub(super) fn forget_what_was_pending(&mut self, text: &str) {
        if let Some(unconfirmed) = &mut self.state.unconfirmed
            && unconfirmed.outcome == ConfirmStage::Pending
        {
            // There was a reboot. Whatever the config file says by now was never in force.
            text.clone_into(&mut unconfirmed.config);
            self.decide(ConfirmStage::TakenBack);
        }
    }

    /// Writes down that the config file `text` is going to be on trial, and what was before.
    pub(super) fn keep(&mut self, live: Option<&Live>, text: String) -> Result<(), Error> {
        let store = &self.host.store;
        let confirmed = match live {
            Some(live) => confirmed(&live.generation)?,
            // After `down`, what was kept before is still the last that was confirmed.
            None => store.confirmed().unwrap_or_default().unwrap_or_default(),
        };
        let before = Some(confirmed.digest.clone());
        let kept = store.stage_confirmed(&confirmed).and_then(Staged::commit);
        if let Err(error) = kept {
            self.host.note(Trouble::Unsaved(error));
        }
        self.state.unconfirmed = Some(Unconfirmed {
            outcome: ConfirmStage::Pending,
            config: text,
            before,
        });
        self.save();
        Ok(())
    }
}

/// The policy of a generation without the command line's entries, read back from the kernel.
pub(super) fn confirmed(generation: &Generation) -> Result<Confirmed, Error> {
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

/// The last confirmed policy, where a plain apply takes that instead of the config file with this text.
///
/// # Errors
/// Where it should and can't, and something is in force. Where nothing is, the config file's policy is better than none.
pub(super) fn kept(
    host: &Host,
    state: &State,
    text: &str,
    links: &[Attachment],
    now: Now,
) -> Result<Option<Confirmed>, Error> {
    let Some(unconfirmed) = &state.unconfirmed else {
        return Ok(None);
    };
    let waits = links
        .iter()
        .any(|link| link.pending.is_some_and(|pending| !pending.lapsed(now)));
    let kept = match unconfirmed.outcome {
        ConfirmStage::Pending if links.is_empty() => true,
        ConfirmStage::Pending if waits => false,
        // Pending no more: what is left of it is cleared up before anything is applied.
        ConfirmStage::Pending | ConfirmStage::TakenBack => unconfirmed.config == text,
        ConfirmStage::Confirmed => false,
    };
    if !kept {
        return Ok(None);
    }
    let error = match host.store.confirmed() {
        Ok(Some(confirmed)) if unconfirmed.is_before(&confirmed) => return Ok(Some(confirmed)),
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
