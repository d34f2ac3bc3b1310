//! What the state says of an apply that is not confirmed, and of the policy before it.

use std::sync::Arc;

use super::{error::Error, live::Live, session::Session};
use crate::{
    datapath::Generation,
    host::Trouble,
    policy::{Action, Entry, Policy},
    state::{ConfirmStage, Confirmed, Kept, Staged, Unconfirmed},
};
use sipguard_ebpf::abi::{ALLOW_CONFIG, DENY_CONFIG, Layer};

impl Session<'_> {
    /// Writes down what becomes of the apply that waits to be confirmed.
    pub(super) fn decide(&mut self, outcome: ConfirmStage) {
        // Where the state was lost, what is in the kernel is to be ended all the same.
        let taken_back = (outcome == ConfirmStage::TakenBack).then(|| self.now().wall);
        let unconfirmed = self.state.unconfirmed.take();
        let unconfirmed = unconfirmed.unwrap_or_else(|| Unconfirmed {
            outcome,
            taken_back,
            config: String::new(),
            before: None,
        });
        self.state.unconfirmed = Some(Unconfirmed {
            outcome,
            taken_back,
            ..unconfirmed
        });
        self.save();
    }

    /// Writes down that nothing is unconfirmed any more.
    pub(super) fn forget_unconfirmed(&mut self) {
        if self.state.unconfirmed.take().is_some() {
            self.save();
        }
    }

    /// Writes down a policy that has come in force for good, unless it is there. Returns whether the state is to be written for it: whether
    /// it can be is told.
    pub(super) fn keep_confirmed(
        &mut self,
        digest: &str,
        confirmed: impl FnOnce() -> Result<Confirmed, Error>,
    ) -> Result<bool, Error> {
        let Self { host, state, .. } = self;
        let kept = state.kept.as_ref();
        let bytes = host.store.confirmed_bytes();
        if kept.is_some_and(|kept| kept.digest == digest && Some(kept.bytes) == bytes) {
            return Ok(false);
        }
        let confirmed = confirmed()?;
        let written = host
            .store
            .stage_confirmed(&confirmed)
            .and_then(Staged::commit);
        if let Err(error) = written {
            host.note(Trouble::Unsaved(error));
            return Ok(false);
        }
        let sources = confirmed.policy.origins.iter();
        let sources = sources.filter_map(|origin| Some((origin.source.clone(), origin.prefixes?)));
        state.kept = Some(Kept {
            digest: confirmed.digest,
            bytes: host.store.confirmed_bytes().unwrap_or_default(),
            sources: sources.collect(),
        });
        Ok(true)
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
        let before = if let Some(live) = live {
            let digest = &live.generation.description.digest;
            self.keep_confirmed(digest, || confirmed(&live.generation))?;
            digest.clone()
        } else {
            // After `down`, what was kept before is still the last that was confirmed.
            let kept = self.host.store.confirmed().unwrap_or_default();
            let kept = kept.unwrap_or_default();
            let digest = kept.digest.clone();
            self.keep_confirmed(&digest, || Ok(kept))?;
            digest
        };
        self.state.unconfirmed = Some(Unconfirmed {
            outcome: ConfirmStage::Pending,
            taken_back: None,
            config: text,
            before: Some(before),
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
        if entry.layer != Layer::Hand {
            return;
        }
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
        config: description.config.clone(),
        policy: Arc::new(Policy {
            interfaces: description.interfaces.clone(),
            mode: description.mode,
            services: description
                .services
                .iter()
                .map(|found| found.service.clone())
                .collect(),
            origins: description.origins.clone(),
            entries,
            live: description.live.clone(),
            dns: description.dns.clone(),
            notify: description.notify.clone(),
            hide: description.hide,
        }),
    })
}
