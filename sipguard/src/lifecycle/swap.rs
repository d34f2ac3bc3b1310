//! Turning the interfaces from what they run to a generation that is loaded and pinned.

use std::time::Duration;

use super::{Error, Live, Session};
use crate::{
    datapath::{self, Attachment, Generation, Pending, Role, Switched, Target},
    device::{self, Device},
    policy::Policy,
    state::Outcome,
};

/// A generation and the interfaces that it is for, with all that is attached before.
pub(super) struct Swap<'s> {
    pub(super) number: u64,
    pub(super) targets: &'s [(Target, &'s Device)],
    pub(super) links: &'s [Attachment],
}

impl Swap<'_> {
    /// Turns one interface after the other; where one can't be, those before it are turned back.
    pub(super) fn for_good(&self) -> Result<Vec<(String, Switched)>, Error> {
        let switched = self.switch(Role::Filter);
        if switched.is_err() {
            for (target, _) in self.targets {
                // The first error is the one to tell; what can't be turned back now, the next command settles.
                let _ = self.turn_back(target);
            }
            let _ = Generation::remove(self.number);
        }
        switched
    }

    /// The same for a generation that takes itself back; the state says so before the first interface is turned.
    pub(super) fn until_confirmed(
        &self,
        session: &mut Session,
        before: Option<&Live>,
        text: String,
        lasts: Duration,
    ) -> Result<(Pending, Vec<(String, Switched)>), Error> {
        let unconfirmed = session.state().unconfirmed.clone();
        let targets: Vec<_> = self
            .targets
            .iter()
            .map(|(target, _)| target.clone())
            .collect();
        let begun = session.keep(before, text).and_then(|()| {
            let previous = before.map(|live| live.number);
            let pending = Pending::create(self.number, previous, &targets, lasts)?;
            Ok((pending, self.switch(Role::Pending)?))
        });
        if begun.is_err() {
            // The first error is the one to tell; what can't be taken back now, the next command takes back.
            let _ = session
                .decide(Outcome::TakenBack)
                .and_then(|()| session.settle())
                .and_then(|()| session.put_back(unconfirmed));
        }
        begun
    }

    fn switch(&self, role: Role) -> Result<Vec<(String, Switched)>, Error> {
        let turned = self.targets.iter().map(|(target, device)| {
            let switched = datapath::switch(self.number, role, &target.interface, device)?;
            Ok((target.interface.name.clone(), switched))
        });
        turned.collect()
    }

    fn turn_back(&self, target: &Target) -> Result<(), Error> {
        let name = &target.interface.name;
        let was_there = self.links.iter().find(|link| link.interface == *name);
        match was_there.map(|link| link.generation) {
            Some(Some(old)) => {
                // What runs there by now is not what ran when the swap began.
                if let Some(device) = device::named(name).map_err(Error::Devices)? {
                    datapath::switch(old, Role::Filter, &target.interface, &device)?;
                }
            }
            // Nothing leads back, and filtering by the new policy is better than none.
            Some(None) => {}
            None => datapath::detach(name)?,
        }
        Ok(())
    }

    /// Lets go of the interfaces that are not to be guarded any more, and returns them.
    pub(super) fn release(&self, policy: &Policy) -> Result<Vec<String>, Error> {
        let mut released = Vec::new();
        for link in self.links {
            let name = &link.interface;
            if self
                .targets
                .iter()
                .any(|(target, _)| target.interface.name == *name)
            {
                continue;
            }
            datapath::detach(name)?;
            let renamed = self.targets.iter().any(|(_, device)| {
                let mut attached = device.xdp.iter();
                attached.any(|attached| attached.program == link.program)
            });
            // What the policy still wants is gone by itself; its link leads nowhere.
            if !renamed
                && policy
                    .interfaces
                    .iter()
                    .all(|interface| interface.name != *name)
            {
                released.push(name.clone());
            }
        }
        Ok(released)
    }
}
