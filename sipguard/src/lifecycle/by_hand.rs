//! Entries by hand, and what lives below them and decides nothing there.

use ipnet::IpNet;
use jiff::Timestamp;
use sipguard_ebpf::abi::Layer;
use sipguard_lists::found::Entry;

use super::effect::action;
use crate::{
    datapath::{self, Generation},
    policy::{Action, LiveSource},
    sources::{Circumstances, Copy},
    tables::{Now, Used},
};

/// The entry by hand that decides for a prefix, and not what lives there: the most specific one in force, but for `any`, which comes last.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn by_hand(
    generation: &Generation,
    slot: u8,
    prefix: IpNet,
    now: Now,
) -> Result<Option<(IpNet, Action)>, datapath::Error> {
    let used = generation.used(slot, Layer::Hand)?;
    decides(generation, slot, &used, prefix, now)
}

/// The same where it is known of which lengths there are entries.
fn decides(
    generation: &Generation,
    slot: u8,
    used: &Used,
    prefix: IpNet,
    now: Now,
) -> Result<Option<(IpNet, Action)>, datapath::Error> {
    for net in used.covering(prefix) {
        let said = generation.value(slot, Layer::Hand, net)?;
        if let Some(reason) = said.and_then(|said| said.live(|| now.boot_ns)) {
            return Ok(Some((net, action(reason))));
        }
    }
    Ok(None)
}

/// An entry of a source of which a person has said the opposite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overruled {
    /// The entry.
    pub entry: Entry,
    /// What the source says of it.
    pub action: Action,
    /// The entry by hand that decides.
    pub by: IpNet,
}

/// The prefixes that entries by hand in force cover, in any service.
#[derive(Debug, Default)]
pub struct ByHand {
    allowed: Vec<IpNet>,
    denied: Vec<IpNet>,
}

impl ByHand {
    /// How many of them are looked at. Who has more by hand lives by lists of his own, and looking them all up would take memory.
    const MOST: usize = 65_536;

    /// Those of a generation.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    pub fn of(generation: &Generation, now: Now) -> Result<Self, datapath::Error> {
        let mut all = Self::default();
        generation.for_each(|entry| all.see(&entry, now))?;
        Ok(all.seen())
    }

    /// Notes an entry of the kernel. All of them come before [`Self::seen`].
    pub fn see(&mut self, entry: &datapath::Entry, now: Now) {
        if entry.layer != Layer::Hand || entry.prefix.prefix_len() == 0 {
            return;
        }
        let Some(reason) = entry.value.live(|| now.boot_ns) else {
            return;
        };
        let nets = match action(reason) {
            Action::Allow => &mut self.allowed,
            Action::Deny => &mut self.denied,
        };
        if nets.len() < Self::MOST {
            nets.push(entry.prefix);
        }
    }

    /// In the order in which copies are searched.
    #[must_use]
    pub fn seen(self) -> Self {
        Self {
            allowed: IpNet::aggregate(&self.allowed),
            denied: IpNet::aggregate(&self.denied),
        }
    }

    /// Hands on the entries of a source, of which this is the last good copy, that an entry by hand overrules in one of the services which use
    /// them; where `after` is said, of those alone that were first seen after that. A copy that can't be read to its end is told of elsewhere.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    pub fn overrules(
        &self,
        generation: &Generation,
        source: &LiveSource,
        copy: &Copy,
        after: Option<Timestamp>,
        now: Now,
        mut each: impl FnMut(Overruled),
    ) -> Result<(), datapath::Error> {
        let services = &generation.description.services;
        let circumstances = Circumstances {
            now: now.wall,
            own: &[],
        };
        for (action, opposite, nets) in [
            (Action::Allow, Action::Deny, &self.denied),
            (Action::Deny, Action::Allow, &self.allowed),
        ] {
            let uses = source.uses.iter().filter(|it| it.action == action);
            let services = uses.filter_map(|it| services.get(usize::from(it.service)));
            let slots =
                services.map(|found| Ok((found.slot, generation.used(found.slot, Layer::Hand)?)));
            let slots: Vec<(u8, Used)> = slots.collect::<Result<_, datapath::Error>>()?;
            if slots.is_empty() {
                continue;
            }
            let mut failed = Ok(());
            let _ = copy.under(nets, circumstances, |entry| {
                let is_new = Some(entry.first) > after;
                if !is_new || entry.end.is_some_and(|end| end <= now.wall) {
                    return;
                }
                for (slot, used) in &slots {
                    match decides(generation, *slot, used, entry.prefix, now) {
                        Ok(Some((by, said))) if said == opposite => {
                            return each(Overruled { entry, action, by });
                        }
                        Ok(_) => {}
                        Err(error) => failed = Err(error),
                    }
                }
            });
            failed?;
        }
        Ok(())
    }
}
