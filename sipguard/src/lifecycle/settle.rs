//! What a crash left is brought to the one end or the other, and interfaces that came meanwhile are guarded.

use std::collections::BTreeMap;

use super::{
    counting::{note_after, note_before},
    error::Error,
    live::is_attached,
    names::{all_renamed, tell_let_go},
    session::Session,
    tasks::tasks_of,
    unconfirmed::confirmed,
};
use sipguard_ebpf::abi::Layer;

use crate::{
    datapath::{
        self, Attachment, Generation, LinkError, Pending, Role, Switched, Target, attachments,
    },
    device::{self, Device},
    host::Host,
    policy::{AttachMode, Interface},
    state::{ConfirmStage, OwnEntry, State},
    tables::{Now, with_own},
};

/// What the links are to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// A generation that waits to be confirmed; interfaces that it is not for stay with the one before.
    Pending(Pending),
    /// One generation, and nothing else.
    Generation(u64),
    /// Nothing: what filtered was never confirmed, and there was nothing before. Or nothing filters anyway.
    Nothing,
}

impl Goal {
    /// The generations that are needed for it.
    fn generations(self) -> Vec<u64> {
        match self {
            Self::Pending(pending) => [Some(pending.generation), pending.previous]
                .into_iter()
                .flatten()
                .collect(),
            Self::Generation(number) => vec![number],
            Self::Nothing => Vec::new(),
        }
    }
}

impl<'h> Session<'h> {
    /// Waits for other commands to finish, and clears up what a crash has left.
    ///
    /// # Errors
    /// Where the pins can't be kept, or the kernel can't be asked.
    pub fn begin(host: &'h Host) -> Result<Self, Error> {
        let mut session = Self::open(host)?;
        session.settle()?;
        Ok(session)
    }

    /// Finishes a swap that was cut off, takes back what was not confirmed in time, guards interfaces that came since, removes generations
    /// that nothing runs, and brings entries that the state has and the kernel has not (or the other way round) into line.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        let now = self.now();
        let links = attachments(now)?;
        let goal = self.goal(&links, now);
        let devices = device::all().map_err(Error::Devices)?;
        let renamed = all_renamed(&links, &devices);
        let host = self.host;
        let needed = goal.generations();
        // Of another version it can be switched to all the same.
        let opened = |&number: &u64| Some((number, Generation::open(number).ok()?));
        let opened: BTreeMap<_, _> = needed.iter().filter_map(opened).collect();
        let switching = |number, pending| Switching {
            host,
            number,
            generation: opened.get(&number),
            pending,
            links: &links,
            devices: &devices,
        };
        match goal {
            Goal::Pending(pending) => {
                let switching_to = switching(pending.generation, Some(pending));
                let (wanted, guarded) = switching_to.switch_all()?;
                self.guarded.extend(guarded);
                // What the new policy drops stays with the one before until then.
                if let Some(previous) = pending.previous {
                    let switching_back = switching(previous, None);
                    let (_, guarded) = switching_back.switch_all_but(&wanted)?;
                    self.guarded.extend(guarded);
                }
            }
            Goal::Generation(number) => {
                let (wanted, guarded) = switching(number, None).switch_all()?;
                self.guarded.extend(guarded);
                release(
                    links
                        .iter()
                        .filter(|link| !wanted.contains(&link.interface)),
                )?;
                Pending::remove(number)?;
            }
            Goal::Nothing => release(links.iter().filter(|link| link.pending.is_some()))?,
        }
        note_after(host);
        tell_let_go(self.host, renamed)?;
        for number in Generation::all()? {
            if !needed.contains(&number) {
                Generation::remove(number)?;
            }
        }
        for (number, generation) in opened {
            let revisions = generation.revisions()?;
            let followed = if revisions.own == self.state.revision {
                Ok(())
            } else {
                follow(&generation, &self.state, now)
            };
            let followed = followed.and_then(|()| self.follow_live(&generation, &revisions));
            match followed {
                // The next change makes room, and must not be kept from it.
                Err(Error::Datapath(datapath::Error::Full)) => {
                    generation.set_revision(Generation::BEHIND)?;
                }
                followed => followed?,
            }
            self.read.insert(number, generation);
        }
        if goal != Goal::Nothing {
            // What was taken back is not to be asked for any more. A version that can't be read has nothing that could be.
            let tasks = tasks_of(self.read.values().rev());
            self.write_tasks(&tasks);
        }
        if self.state.outcome() == Some(ConfirmStage::Confirmed) {
            if let Goal::Generation(number) = goal
                && let Ok(generation) = Generation::open(number)
            {
                let digest = &generation.description.digest;
                self.keep_confirmed(digest, || confirmed(&generation))?;
            }
            self.forget_unconfirmed();
        }
        Ok(())
    }

    /// The state on disk says what was decided, and where it says nothing the clock does.
    fn goal(&mut self, links: &[Attachment], now: Now) -> Goal {
        let outcome = self.state.outcome();
        let Some(pending) = links.iter().find_map(|link| link.pending) else {
            // A crash came before anything was switched. Where no link is left, it may have been a reboot, which the apply after it tells.
            if outcome == Some(ConfirmStage::Pending) && !links.is_empty() {
                self.decide(ConfirmStage::TakenBack);
            }
            let newest = links.iter().filter_map(|link| link.generation).max();
            return newest.map_or(Goal::Nothing, Goal::Generation);
        };
        let before = pending.previous.map_or(Goal::Nothing, Goal::Generation);
        match outcome {
            Some(ConfirmStage::Confirmed) => Goal::Generation(pending.generation),
            Some(ConfirmStage::TakenBack) => before,
            _ if pending.lapsed(now) => {
                self.decide(ConfirmStage::TakenBack);
                before
            }
            _ => Goal::Pending(pending),
        }
    }
}

/// The interfaces that a generation is for, and those of them that were not filtered before.
type Switches = (Vec<String>, Vec<(String, Switched)>);

/// Switching links to a generation: those that run something else, because a swap was cut off, and those that are missing, because the
/// interface came, or came back, after it was made.
struct Switching<'t> {
    host: &'t Host,
    number: u64,
    /// Where it can be read.
    generation: Option<&'t Generation>,
    /// Where it waits to be confirmed.
    pending: Option<Pending>,
    links: &'t [Attachment],
    devices: &'t [Device],
}

impl Switching<'_> {
    fn switch_all(&self) -> Result<Switches, Error> {
        self.switch_all_but(&[])
    }

    /// Leaves these interfaces as they are.
    fn switch_all_but(&self, others: &[String]) -> Result<Switches, Error> {
        let mut wanted = datapath::interfaces(self.number)?;
        let described = self
            .generation
            .map_or(&[][..], |generation| &generation.description.interfaces);
        for interface in described {
            if !wanted.contains(&interface.name) {
                wanted.push(interface.name.clone());
            }
        }
        wanted.retain(|name| !others.contains(name));
        let mut present: Vec<_> = self
            .devices
            .iter()
            .filter(|device| wanted.contains(&device.name))
            .collect();
        present.sort_by_key(|device| device::height(device, self.devices));
        let mut guarded = Vec::new();
        for device in present {
            let interface = described.iter().find(|it| it.name == device.name);
            let interface = interface.cloned().unwrap_or_else(|| Interface {
                name: device.name.clone(),
                mode: AttachMode::Auto,
            });
            match self.switch_one(interface, device) {
                Ok(Some(switched)) => guarded.push((device.name.clone(), switched)),
                // It came back with somebody else's program on it, or can't be guarded as it is to be. That is told by `status` and `apply`,
                // and is no reason to leave the rest undone.
                Ok(None)
                | Err(
                    Error::Unfit { .. }
                    | Error::Link(
                        LinkError::Busy { .. }
                        | LinkError::Below { .. }
                        | LinkError::NoNative { .. }
                        | LinkError::Failed { .. },
                    ),
                ) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((wanted, guarded))
    }

    /// Returns how it came to its program where nothing filtered there.
    fn switch_one(&self, interface: Interface, device: &Device) -> Result<Option<Switched>, Error> {
        let mut links = self.links.iter().filter(|link| is_attached(link, device));
        let attached = links.next();
        let runs = attached.is_some_and(|link| match self.pending {
            None => link.generation == Some(self.number) && link.pending.is_none(),
            Some(_) => link.pending.is_some(),
        });
        // Where it was to move from one place to the other, there may be two.
        let runs = runs && links.next().is_none();
        if runs {
            return Ok(None);
        }
        datapath::refuse_foreign(device, interface.mode, self.links)?;
        let role = self.pending.map_or(Role::Filter, |_| Role::Pending);
        let now_ns = self.host.now().boot_ns;
        if attached.is_none()
            && let Some(generation) = self.generation
        {
            // It may be another kind of device than the one that had this name before, so that the program that is there may not do.
            let link = device.link.clone().map_err(|why| Error::Unfit {
                interface: device.name.clone(),
                why,
            })?;
            let target = Target { interface, link };
            generation.add(self.number, &target)?;
            if let Some(pending) = self.pending {
                add_to_previous(pending, &target)?;
                pending.extend(&device.name)?;
            }
            note_before(self.host, self.number, [device.name.as_str()]);
            let switched = datapath::switch(self.number, role, &target.interface, device, now_ns)?;
            return Ok(Some(switched));
        }
        note_before(self.host, self.number, [device.name.as_str()]);
        let switched = datapath::switch(self.number, role, &interface, device, now_ns)?;
        Ok(attached.is_none().then_some(switched))
    }
}

/// The generation before guards what it names, too, as soon as it is in force again. One of another version can't be added to.
fn add_to_previous(pending: Pending, target: &Target) -> Result<(), Error> {
    if let Some(number) = pending.previous
        && let Ok(previous) = Generation::open(number)
        && let Some(interface) = previous
            .description
            .interfaces
            .iter()
            .find(|interface| interface.name == target.interface.name)
    {
        let target = Target {
            interface: interface.clone(),
            ..target.clone()
        };
        previous.add(number, &target)?;
    }
    Ok(())
}

fn release<'l>(links: impl Iterator<Item = &'l Attachment>) -> Result<(), Error> {
    for link in links {
        datapath::detach(&link.interface)?;
    }
    Ok(())
}

/// Makes the kernel's own entries those of the state.
fn follow(generation: &Generation, state: &State, now: Now) -> Result<(), Error> {
    let mut own = Vec::new();
    generation.for_each(|entry| {
        if entry.layer != Layer::Hand {
            return;
        }
        let timed = entry.value.allow_until | entry.value.deny_until != 0;
        if timed
            || entry.value.permanent
                & (sipguard_ebpf::abi::ALLOW_OWN | sipguard_ebpf::abi::DENY_OWN)
                != 0
        {
            own.push((entry.service, entry.prefix));
        }
    })?;
    let mut words = BTreeMap::<_, Vec<&OwnEntry>>::new();
    for entry in &state.entries {
        if let Some(service) = generation.description.service(&entry.service) {
            let key = (service.slot, entry.prefix);
            own.push(key);
            words.entry(key).or_default().push(entry);
        }
    }
    for key in own {
        let (slot, prefix) = key;
        let value = generation.value(slot, Layer::Hand, prefix)?;
        let words = words.get(&key).into_iter().flatten().copied();
        generation.set(slot, Layer::Hand, prefix, with_own(value, words, now))?;
    }
    Ok(generation.set_revision(state.revision)?)
}
