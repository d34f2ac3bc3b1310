//! What the config wants, what the host has and what is in force, looked at once. Planning prints from it, and apply commits it.

use std::{sync::Arc, time::Duration};

use super::{
    config_file::ConfigFile,
    describe::digest,
    error::{Error, Refused},
    instead::{self, Instead},
    live::{Live, is_attached, live, replaceable},
    names::{Renamed, all_renamed, use_kernel_names},
    outlook::Outlook,
    session,
};
use crate::{
    datapath::{Attachment, Generation, Pins, Target, attachments, refuse_foreign},
    device::{self, Device},
    host::Host,
    policy::{Interface, Policy},
    state::{Slots, State},
    tables::{Now, Tables},
    warnings::{Doubt, doubts},
};

/// What is wanted of an apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// It takes itself back after so long, unless it is confirmed.
    pub confirm: Option<Duration>,
    /// Where an interface can't be guarded, nothing is changed.
    pub all_or_nothing: bool,
    /// Nobody is asked for live sources that were never asked for.
    pub offline: bool,
    /// Where there is a doubt whether the lists are what they are meant to be, nothing is changed.
    pub strict: bool,
}

/// See the module.
pub(super) struct Survey {
    /// What is to be in force: the config file's policy, or the last that was in force for good instead.
    pub(super) policy: Arc<Policy>,
    /// Why it is that.
    pub(super) instead: Option<Instead>,
    /// What makes one doubt whether its lists are what they are meant to be.
    pub(super) doubts: Vec<Doubt>,
    /// The fingerprint of the policy.
    pub(super) digest: String,
    /// The policy's interfaces that can be guarded, the lower ones first: below a device that has a program the kernel takes none.
    pub(super) targets: Vec<(Target, Device)>,
    /// Those that can't.
    pub(super) refused: Vec<Refused>,
    /// Those that don't exist now.
    pub(super) absent: Vec<String>,
    /// All links of ours.
    pub(super) links: Vec<Attachment>,
    /// Those that are on an interface which has another name by now.
    pub(super) renamed: Vec<Renamed>,
    /// What is in force, as far as it can be read.
    pub(super) before: Option<Live>,
    /// Slots that were taken from services that are gone.
    pub(super) cleared: Vec<u8>,
    /// When this was.
    pub(super) now: Now,
}

impl Survey {
    /// Looks; gives the policy's services slots in `state`, and changes nothing else.
    pub(super) fn look(
        host: &Host,
        config: &ConfigFile<'_>,
        state: &mut State,
        options: Options,
    ) -> Result<Self, Error> {
        let now = session::now(host, state);
        let links = if Pins::find().is_some() {
            attachments(now)?
        } else {
            Vec::new()
        };
        let (mut policy, instead) = match options.confirm {
            None => instead::wanted(host, state, config, &links, now)?,
            Some(_) => (config.policy().map_err(Error::Config)?, None),
        };
        let (kept, instead) = instead.unzip();
        if options.confirm.is_some() && policy.interfaces.is_empty() {
            return Err(Error::NothingToConfirm);
        }
        let devices = device::all().map_err(Error::Devices)?;
        let mut interfaces = policy.interfaces.clone();
        use_kernel_names(&mut interfaces, &devices)?;
        // There may be a million entries beside them, of which this would make a copy.
        if interfaces != policy.interfaces {
            Arc::make_mut(&mut policy).interfaces = interfaces;
        }
        let (targets, refused) = targets(&policy.interfaces, &devices, &links);
        let absent = absent(&policy, &devices);
        if !absent.is_empty() && absent.len() == policy.interfaces.len() {
            let mut present: Vec<_> = devices.iter().map(|it| it.name.as_str()).collect();
            if present.len() > 1 {
                // Nobody means it.
                present.retain(|name| *name != "lo");
            }
            return Err(Error::NoInterface {
                missing: absent.join(", "),
                present: present.join(", "),
                config: config.path.to_owned(),
            });
        }
        if !refused.is_empty() && (options.all_or_nothing || targets.is_empty()) {
            return Err(Error::Refused(refused));
        }
        let doubts = doubts(&policy, state, now.wall);
        if options.strict && !doubts.is_empty() {
            return Err(Error::Doubts(doubts));
        }
        let before = match options.confirm {
            None => replaceable(live(host))?,
            // It has to come back.
            Some(_) => live(host)?,
        };
        let names = policy.services.iter().map(|service| service.name.as_str());
        let cleared = state.slots.assign(names)?;
        Ok(Self {
            digest: kept.unwrap_or_else(|| digest(&policy, &state.slots)),
            instead,
            doubts,
            policy,
            targets,
            refused,
            absent,
            renamed: all_renamed(&links, &devices),
            links,
            before,
            cleared,
            now,
        })
    }

    /// Whether everything is already as it would become.
    pub(super) fn is_in_force(&self) -> bool {
        let Some(live) = &self.before else {
            return self.targets.is_empty() && self.links.is_empty();
        };
        let behind = live
            .generation
            .revisions()
            .is_ok_and(|revisions| revisions.own == Generation::BEHIND);
        !behind
            && live.generation.description.digest == self.digest
            && live.links.len() == self.targets.len()
            && self.targets.iter().all(|(target, device)| {
                live.links.iter().any(|link| {
                    link.generation == Some(live.number)
                        && is_attached(link, device)
                        && link.is_in_place(device, target.interface.mode)
                })
            })
    }

    /// What becomes of this host.
    pub(super) fn outlook(&self, slots: &Slots, tables: &Tables) -> Result<Outlook, Error> {
        let before = self.before.as_ref();
        let outlook = Outlook::of(before, &self.policy, slots, tables, &self.targets, self.now)?;
        Ok(Outlook {
            doubts: self.doubts.clone(),
            ..outlook
        })
    }
}

/// The interfaces that exist and can be guarded, as they are to be attached to, the lower ones first; and those that can't.
pub(super) fn targets(
    interfaces: &[Interface],
    devices: &[Device],
    links: &[Attachment],
) -> (Vec<(Target, Device)>, Vec<Refused>) {
    let (mut targets, mut refused) = (Vec::new(), Vec::new());
    for interface in interfaces {
        let name = &interface.name;
        let Some(device) = devices.iter().find(|device| device.name == *name) else {
            continue;
        };
        let fits = match &device.link {
            Ok(link) => refuse_foreign(device, interface.mode, links)
                .map(|()| *link)
                .map_err(Error::from),
            Err(why) => Err(Error::Unfit {
                interface: name.clone(),
                why: why.clone(),
            }),
        };
        match fits {
            Ok(link) => targets.push((
                Target {
                    interface: interface.clone(),
                    link,
                },
                device.clone(),
            )),
            Err(why) => refused.push(Refused::new(name, why)),
        }
    }
    targets.sort_by_key(|(_, device)| device::height(device, devices));
    (targets, refused)
}

/// Interfaces of the config that do not exist.
fn absent(policy: &Policy, devices: &[Device]) -> Vec<String> {
    policy
        .interfaces
        .iter()
        .filter(|interface| devices.iter().all(|device| device.name != interface.name))
        .map(|interface| interface.name.clone())
        .collect()
}
