//! What packets from a prefix meet now, asked of the kernel: what a change came to, and not what it meant to do.

use ipnet::IpNet;
use sipguard_ebpf::abi::{Layer, Reason};

use super::{error::Error, live::Live};
use crate::{
    datapath::Generation,
    policy::{Action, Mode},
    tables::Now,
};

/// What packets from a prefix to one service meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The prefix that was asked for.
    pub prefix: IpNet,
    /// The service's name.
    pub service: String,
    /// What becomes of packets from the prefix's addresses, save those that a more specific entry covers.
    pub action: Action,
    /// The prefix of the entry that decides; `None` where none does, so that the service's default counts.
    pub by: Option<IpNet>,
    /// The layer of that entry.
    pub layer: Layer,
    /// How many more specific entries in force do the opposite for addresses of the prefix.
    pub exceptions: usize,
    /// Whether the action is carried out; in monitor mode everything passes.
    pub enforced: bool,
}

/// What packets from each of the prefixes meet in each of the services. Looks at every entry where a prefix is more than one address.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn effects(
    live: &Live,
    prefixes: &[IpNet],
    services: &[String],
    now: Now,
) -> Result<Vec<Effect>, Error> {
    let generation = &live.generation;
    let mut effects = Vec::new();
    // Of each effect, the service's number in the kernel.
    let mut slots = Vec::new();
    for &prefix in prefixes {
        for name in services {
            let Some(found) = generation.description.service(name) else {
                continue;
            };
            let decided = decides(generation, found.slot, prefix, now)?;
            effects.push(Effect {
                prefix,
                service: name.clone(),
                action: decided.map_or(found.service.default, |by| action(by.reason)),
                by: decided.map(|by| by.prefix),
                layer: decided.map_or(Layer::Hand, |by| by.layer),
                exceptions: 0,
                enforced: found.service.mode == Mode::Enforce,
            });
            slots.push(found.slot);
        }
    }
    if prefixes
        .iter()
        .all(|prefix| prefix.prefix_len() == prefix.max_prefix_len())
    {
        return Ok(effects);
    }
    generation.for_each(|entry| {
        let Some(reason) = entry.value.live(|| now.boot_ns) else {
            return;
        };
        for (effect, &slot) in effects.iter_mut().zip(&slots) {
            // What is said by hand of the whole prefix, but for `any`, comes before all that lives in it.
            let is_under_hand = entry.layer == Layer::Live
                && effect.layer == Layer::Hand
                && effect.by.is_some_and(|by| by.prefix_len() > 0);
            let is_inside = entry.service == slot
                && !is_under_hand
                && entry.prefix != effect.prefix
                && effect.prefix.contains(&entry.prefix);
            if is_inside && action(reason) != effect.action {
                effect.exceptions += 1;
            }
        }
    })?;
    Ok(effects)
}

/// The entry that decides.
#[derive(Clone, Copy)]
struct By {
    prefix: IpNet,
    layer: Layer,
    reason: Reason,
}

/// As the kernel's program looks it up: the most specific entry by hand, the most specific live one, `any` by hand.
fn decides(
    generation: &Generation,
    slot: u8,
    prefix: IpNet,
    now: Now,
) -> Result<Option<By>, Error> {
    let said = |layer, prefix| -> Result<Option<By>, Error> {
        let value = generation.value(slot, layer, prefix)?;
        let reason = value.and_then(|value| value.live(|| now.boot_ns));
        Ok(reason.map(|reason| By {
            prefix,
            layer,
            reason,
        }))
    };
    let mut any = prefix;
    for layer in [Layer::Hand, Layer::Live] {
        let mut covering = Some(prefix);
        while let Some(net) = covering {
            any = net;
            covering = net.supernet();
            if net.prefix_len() > 0
                && let Some(by) = said(layer, net)?
            {
                return Ok(Some(by));
            }
        }
    }
    said(Layer::Hand, any)
}

/// What packets meet for this reason.
pub(super) fn action(reason: Reason) -> Action {
    match reason.action() {
        sipguard_ebpf::abi::Action::Pass => Action::Allow,
        sipguard_ebpf::abi::Action::Drop => Action::Deny,
    }
}
