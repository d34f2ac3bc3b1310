//! Switching the interfaces from what they run to a generation that is loaded and pinned.

use std::time::Duration;

use super::{
    counting::{note_after, note_before},
    error::{Error, Refused},
    live::{Live, is_attached},
    session::Session,
};
use crate::{
    datapath::{self, Attachment, Generation, Pending, Role, Switched, Target},
    device::{self, Device},
    host::Host,
    policy::{AttachMode, Interface, Policy},
    state::ConfirmStage,
};

/// A generation and the interfaces that it is for, with all that is attached before.
pub(super) struct Swap<'s> {
    pub(super) host: &'s Host,
    pub(super) number: u64,
    pub(super) targets: &'s [(Target, Device)],
    pub(super) links: &'s [Attachment],
    /// Where one interface can't be switched, those before it are switched back.
    pub(super) all_or_nothing: bool,
}

/// How each interface came to the generation, and those that did not.
#[derive(Default)]
pub(super) struct Switches {
    pub(super) interfaces: Vec<(String, Switched)>,
    pub(super) refused: Vec<Refused>,
}

impl Swap<'_> {
    /// Turns one interface after the other.
    ///
    /// # Errors
    /// Where none can be switched; all are as they were then.
    pub(super) fn for_good(&self) -> Result<Switches, Error> {
        let switches = self.switch_all(Role::Filter);
        if switches.is_err() {
            for (target, _) in self.targets {
                // The first error is the one to tell; what can't be switched back now, the next command settles.
                let _ = self.switch_back(target);
            }
            let _ = Generation::remove(self.number);
        }
        note_after(self.host);
        switches
    }

    /// The same for a generation that takes itself back; the state says so before the first interface is switched.
    pub(super) fn until_confirmed(
        &self,
        session: &mut Session<'_>,
        before: Option<&Live>,
        text: String,
        lasts: Duration,
    ) -> Result<(Pending, Switches), Error> {
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
            Ok((pending, self.switch_all(Role::Pending)?))
        });
        if begun.is_err() {
            // The first error is the one to tell; what can't be taken back now, the next command takes back.
            session.decide(ConfirmStage::TakenBack);
            if session.settle().is_ok() {
                session.put_back(unconfirmed);
            }
        }
        note_after(self.host);
        begun
    }

    fn now_ns(&self) -> u64 {
        self.host.now().boot_ns
    }

    fn switch_all(&self, role: Role) -> Result<Switches, Error> {
        let mut switches = Switches::default();
        let interfaces = self.targets.iter();
        let interfaces = interfaces.map(|(target, _)| target.interface.name.as_str());
        note_before(self.host, self.number, interfaces);
        for (target, device) in self.targets {
            let name = &target.interface.name;
            match datapath::switch(self.number, role, &target.interface, device, self.now_ns()) {
                Ok(how) => switches.interfaces.push((name.clone(), how)),
                Err(why) => switches.refused.push(Refused::new(name, why)),
            }
            if self.all_or_nothing && !switches.refused.is_empty() {
                break;
            }
        }
        if !switches.refused.is_empty() && (self.all_or_nothing || switches.interfaces.is_empty()) {
            return Err(Error::Refused(switches.refused));
        }
        for refused in &switches.refused {
            // One that is filtered, but can't be as it is to be, is better filtered by the new policy than by the old one. What comes of
            // it is told by `status`; that it is not as wanted is told already.
            let _ = self.switch_as_it_is(role, &refused.interface);
        }
        Ok(switches)
    }

    fn switch_as_it_is(&self, role: Role, name: &str) -> Result<(), Error> {
        if let Some(device) = device::named(name).map_err(Error::Devices)?
            && self.links.iter().any(|link| is_attached(link, &device))
        {
            let interface = Interface {
                name: name.to_owned(),
                mode: AttachMode::Auto,
            };
            datapath::switch(self.number, role, &interface, &device, self.now_ns())?;
        }
        Ok(())
    }

    fn switch_back(&self, target: &Target) -> Result<(), Error> {
        let name = &target.interface.name;
        let was_there = self.links.iter().find(|link| link.interface == *name);
        match was_there.map(|link| link.generation) {
            Some(Some(old)) => {
                // What runs there by now is not what ran when the swap began.
                if let Some(device) = device::named(name).map_err(Error::Devices)? {
                    note_before(self.host, old, [name.as_str()]);
                    datapath::switch(old, Role::Filter, &target.interface, &device, self.now_ns())?;
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
