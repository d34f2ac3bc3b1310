//! Turning the interfaces from what they run to a generation that is loaded and pinned.

use std::time::Duration;

use super::{
    error::{Error, Refused},
    live::{Live, is_attached},
    session::Session,
};
use crate::{
    datapath::{self, Attachment, Generation, Pending, Role, Switched, Target},
    device::{self, Device},
    policy::{AttachMode, Interface, Policy},
    state::Outcome,
};

/// A generation and the interfaces that it is for, with all that is attached before.
pub(super) struct Swap<'s> {
    pub(super) number: u64,
    pub(super) targets: &'s [(Target, Device)],
    pub(super) links: &'s [Attachment],
    /// Where one interface can't be turned, those before it are turned back.
    pub(super) all_or_nothing: bool,
}

/// How each interface came to the generation, and those that did not.
#[derive(Default)]
pub(super) struct Turned {
    pub(super) interfaces: Vec<(String, Switched)>,
    pub(super) refused: Vec<Refused>,
}

impl Swap<'_> {
    /// Turns one interface after the other.
    ///
    /// # Errors
    /// Where none can be turned; all are as they were then.
    pub(super) fn for_good(&self) -> Result<Turned, Error> {
        let turned = self.turn(Role::Filter);
        if turned.is_err() {
            for (target, _) in self.targets {
                // The first error is the one to tell; what can't be turned back now, the next command settles.
                let _ = self.turn_back(target);
            }
            let _ = Generation::remove(self.number);
        }
        turned
    }

    /// The same for a generation that takes itself back; the state says so before the first interface is turned.
    pub(super) fn until_confirmed(
        &self,
        session: &mut Session<'_>,
        before: Option<&Live>,
        text: String,
        lasts: Duration,
    ) -> Result<(Pending, Turned), Error> {
        let unconfirmed = session.state().unconfirmed.clone();
        let targets: Vec<_> = self
            .targets
            .iter()
            .map(|(target, _)| target.clone())
            .collect();
        let begun = session.keep(before, text).and_then(|()| {
            let previous = before.map(|live| live.number);
            let now = session.host.now();
            let pending = Pending::create(self.number, previous, &targets, lasts, now)?;
            Ok((pending, self.turn(Role::Pending)?))
        });
        if begun.is_err() {
            // The first error is the one to tell; what can't be taken back now, the next command takes back.
            session.decide(Outcome::TakenBack);
            if session.settle().is_ok() {
                session.put_back(unconfirmed);
            }
        }
        begun
    }

    fn turn(&self, role: Role) -> Result<Turned, Error> {
        let mut turned = Turned::default();
        for (target, device) in self.targets {
            let name = &target.interface.name;
            match datapath::switch(self.number, role, &target.interface, device) {
                Ok(switched) => turned.interfaces.push((name.clone(), switched)),
                Err(why) => turned.refused.push(Refused::new(name, why)),
            }
            if self.all_or_nothing && !turned.refused.is_empty() {
                break;
            }
        }
        if !turned.refused.is_empty() && (self.all_or_nothing || turned.interfaces.is_empty()) {
            return Err(Error::Refused(turned.refused));
        }
        for refused in &turned.refused {
            // One that is filtered, but can't be as it is to be, is better filtered by the new policy than by the old one. What comes of
            // it is told by `status`; that it is not as wanted is told already.
            let _ = self.turn_as_it_is(role, &refused.interface);
        }
        Ok(turned)
    }

    fn turn_as_it_is(&self, role: Role, name: &str) -> Result<(), Error> {
        if let Some(device) = device::named(name).map_err(Error::Devices)?
            && self.links.iter().any(|link| is_attached(link, &device))
        {
            let interface = Interface {
                name: name.to_owned(),
                mode: AttachMode::Auto,
            };
            datapath::switch(self.number, role, &interface, &device)?;
        }
        Ok(())
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
            let renamed = self
                .targets
                .iter()
                .any(|(_, device)| link.hook(device).is_some());
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
