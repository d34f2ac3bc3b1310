//! From a policy to what the kernel program looks things up in: the only place that knows how entries become keys, values and bits.
//!
//! That the most specific entry wins comes about in the look-up, which asks for the longest prefix first. Here all that is said of one
//! prefix in one service becomes one value. In the kernel a service's number is its counter slot, which outlives the policy.

mod entries;
mod host;
mod live;
mod own;
mod ports;
mod prefilter;

use ipnet::IpNet;
use sipguard_ebpf::{
    abi::{Key, Layer, Lengths, SERVICES},
    prefix::{V4, V6},
};
use thiserror::Error;

use self::entries::config_word;
pub use self::{
    entries::{Entries, Family},
    host::HostTables,
    live::{Used, Word, banned, spread, value_of, values},
    own::with_own,
    ports::Constants,
    prefilter::{Region, fills_cells, is_crowded, prefilter_words, region_words, samples},
};
pub use crate::clock::Now;
use crate::{
    policy::Policy,
    state::{OwnEntry, Slots},
};

/// Why a policy can't become tables.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum CompileError {
    /// Slots are to be assigned first.
    #[error("the service {0} has no counter slot")]
    NoSlot(String),
}

/// Everything a generation's programs and maps hold, save what differs between interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Read-only constants.
    pub constants: Constants,
    /// Of IPv4 prefixes.
    pub entries4: Entries<V4>,
    /// Of IPv6 prefixes.
    pub entries6: Entries<V6>,
    /// By service.
    pub lengths: [Lengths; SERVICES],
    /// One region after the other, up to the highest slot in use.
    pub prefilter: Vec<u64>,
}

impl Tables {
    /// Compiles a policy with the command line's entries and what is said live. Entries of services that the policy has not are left out, as is
    /// what has ended.
    pub fn compile(
        policy: &Policy,
        slots: &Slots,
        own: &[OwnEntry],
        live: Vec<Word>,
        now: Now,
    ) -> Result<Self, CompileError> {
        let numbers = policy
            .services
            .iter()
            .map(|service| {
                let number = slots.get(&service.name);
                number.ok_or_else(|| CompileError::NoSlot(service.name.clone()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let used = Used::best(&live);
        let is_spread = live
            .iter()
            .any(|word| used.place(word.prefix) != word.prefix.prefix_len());
        let room = policy.entries.len() + live.len() * numbers.len();
        let (mut entries4, mut entries6) = (
            Entries::<V4>::with_room(room),
            Entries::<V6>::with_room(room),
        );
        let mut add = |prefix, number, layer, word| {
            entries4.add(prefix, number, layer, word);
            entries6.add(prefix, number, layer, word);
        };
        for entry in &policy.entries {
            let number = numbers[usize::from(entry.service)];
            add(entry.prefix, number, Layer::Hand, config_word(entry));
        }
        for entry in own {
            let mut services = policy.services.iter();
            let index = services.position(|service| service.name == entry.service);
            if let (Some(index), Some(word)) = (index, own::alone(entry, now)) {
                add(entry.prefix, numbers[index], Layer::Hand, word);
            }
        }
        let services: Vec<_> = numbers.iter().map(|&number| (number, used)).collect();
        values(live, &policy.live, &services, |prefix, number, word| {
            add(prefix, number, Layer::Live, word);
        });
        entries4.merge();
        entries6.merge();
        let mut lengths = [Lengths::default(); SERVICES];
        entries4.mark_lengths(&mut lengths);
        entries6.mark_lengths(&mut lengths);
        if is_spread {
            // What comes in place later is to be spread in the same way.
            for &number in &numbers {
                lengths[usize::from(number)].layers[Layer::Live as usize] = used.lengths();
            }
        }
        let regions = numbers.iter().max().map_or(0, |&highest| highest + 1);
        let (prefilter_shift, prefilter) = prefilter::build(&entries4, &entries6, regions);
        let numbered = policy.services.iter().zip(numbers);
        Ok(Self {
            constants: Constants::new(policy.mode, numbered, prefilter_shift),
            entries4,
            entries6,
            lengths,
            prefilter,
        })
    }
}

/// The key of an entry, of whichever family its prefix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixKey {
    /// Of [`Tables::entries4`].
    V4(Key<V4>),
    /// Of [`Tables::entries6`].
    V6(Key<V6>),
}

impl PrefixKey {
    /// The key of a prefix in a layer of a service, whose number is its slot.
    pub fn new(prefix: IpNet, service: u8, layer: Layer) -> Self {
        match prefix {
            IpNet::V4(net) => Self::V4(V4::key(net, service, layer)),
            IpNet::V6(net) => Self::V6(V6::key(net, service, layer)),
        }
    }
}

#[cfg(test)]
mod tests;
