//! Keys and values: what is said of one prefix in one service, merged.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sipguard_ebpf::{
    abi::{
        ALLOW_CONFIG, ALLOW_OWN, DENY_CONFIG, DENY_OWN, Key, Layer, LayerLengths, Lengths,
        SERVICES, Value,
    },
    prefix::{Prefix, V4, V6},
};

use crate::policy::{Action, Entry};

/// A family of addresses, with its place among the types of prefixes and among the prefix lengths.
pub trait Family: Prefix + Ord {
    /// A prefix of this family.
    type Net: Copy + Into<IpNet>;

    /// The prefix, where it is of this family.
    fn of(prefix: IpNet) -> Option<Self::Net>;
    /// The key of a prefix in a layer of a service, whose number is its slot.
    fn key(prefix: Self::Net, service: u8, layer: Layer) -> Key<Self>;
    /// The prefix of a key.
    fn net(key: &Key<Self>) -> Self::Net;
    /// This family's words.
    fn lengths_mut(lengths: &mut LayerLengths) -> &mut [u64];
    /// Whether there is an entry of all of this family's addresses.
    fn any_mut(lengths: &mut Lengths) -> &mut u64;

    /// Records that a service has an entry of this key's layer and length.
    fn mark_length(lengths: &mut Lengths, key: &Key<Self>) {
        if key.length() == 0 {
            *Self::any_mut(lengths) = 1;
            return;
        }
        let layer = &mut lengths.layers[key.layer() as usize];
        let place = Self::WORDS * 64 - usize::from(key.length());
        Self::lengths_mut(layer)[place / 64] |= 1 << (place % 64);
    }
}

impl Family for V4 {
    type Net = Ipv4Net;

    fn of(prefix: IpNet) -> Option<Ipv4Net> {
        match prefix {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
    }

    fn key(prefix: Ipv4Net, service: u8, layer: Layer) -> Key<Self> {
        Key::new(
            service,
            layer,
            Self(prefix.network().to_bits()),
            prefix.prefix_len(),
        )
    }

    fn net(key: &Key<Self>) -> Ipv4Net {
        Ipv4Net::new_assert(key.address.0.into(), key.length())
    }

    fn lengths_mut(lengths: &mut LayerLengths) -> &mut [u64] {
        &mut lengths.v4
    }

    fn any_mut(lengths: &mut Lengths) -> &mut u64 {
        &mut lengths.any4
    }
}

impl Family for V6 {
    type Net = Ipv6Net;

    fn of(prefix: IpNet) -> Option<Ipv6Net> {
        match prefix {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(net),
        }
    }

    fn key(prefix: Ipv6Net, service: u8, layer: Layer) -> Key<Self> {
        let address = Self::from(prefix.network().to_bits());
        Key::new(service, layer, address, prefix.prefix_len())
    }

    fn net(key: &Key<Self>) -> Ipv6Net {
        let bits = u128::from(key.address);
        Ipv6Net::new_assert(bits.into(), key.length())
    }

    fn lengths_mut(lengths: &mut LayerLengths) -> &mut [u64] {
        &mut lengths.v6
    }

    fn any_mut(lengths: &mut Lengths) -> &mut u64 {
        &mut lengths.any6
    }
}

/// The entries of one family, as the batch call of the kernel takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries<A: Prefix> {
    /// In rising order, each once.
    pub keys: Vec<Key<A>>,
    /// In the order of the keys.
    pub values: Vec<Value>,
}

impl<A: Family> Entries<A> {
    /// Merges the config file's entries and what is said besides; `numbers` are the services' slots.
    pub(super) fn merge(
        entries: &[Entry],
        numbers: &[u8],
        said: &[(IpNet, u8, Layer, Value)],
    ) -> Self {
        let config = entries.iter().filter_map(|entry| {
            let number = numbers[usize::from(entry.service)];
            let key = A::key(A::of(entry.prefix)?, number, Layer::Hand);
            Some((key, config_word(entry)))
        });
        let said = said.iter().filter_map(|&(prefix, service, layer, word)| {
            Some((A::key(A::of(prefix)?, service, layer), word))
        });
        let mut words: Vec<_> = config.chain(said).collect();
        // List files are often sorted, and then this is all.
        if !words.is_sorted_by_key(|&(key, _)| key) {
            words.sort_unstable_by_key(|&(key, _)| key);
        }
        let mut merged = Self {
            keys: Vec::with_capacity(words.len()),
            values: Vec::with_capacity(words.len()),
        };
        for (key, word) in words {
            match merged.values.last_mut() {
                Some(value) if merged.keys.last() == Some(&key) => *value = merge(*value, word),
                _ => {
                    merged.keys.push(key);
                    merged.values.push(word);
                }
            }
        }
        merged
    }

    pub(super) fn mark_lengths(&self, lengths: &mut [Lengths; SERVICES]) {
        for key in &self.keys {
            A::mark_length(&mut lengths[usize::from(key.service())], key);
        }
    }

    /// What is said of one prefix in one service.
    pub fn get(&self, key: &Key<A>) -> Option<Value> {
        Some(self.values[self.place(key)?])
    }

    /// The place of a key, and of its value.
    pub(crate) fn place(&self, key: &Key<A>) -> Option<usize> {
        self.keys.binary_search(key).ok()
    }
}

fn config_word(entry: &Entry) -> Value {
    Value {
        permanent: match entry.action {
            Action::Allow => ALLOW_CONFIG,
            Action::Deny => DENY_CONFIG,
        },
        origin: entry.origin,
        ..Value::default()
    }
}

/// Both words on one prefix, whatever their order: the config file has one word, which is deny where its lists disagree; the command line
/// at most one without an end, which stands in its place, and one with an end. The origin is that of the config file's word; of several
/// sources that say it, the one that stands first.
pub(super) fn merge(one: Value, other: Value) -> Value {
    let rank = |value: &Value| {
        let rank = match value.config() {
            0 => 2,
            config if config & DENY_CONFIG == 0 => 1,
            _ => 0,
        };
        (rank, value.origin)
    };
    let (first, second) = if rank(&one) <= rank(&other) {
        (one, other)
    } else {
        (other, one)
    };
    let config = first.config();
    let own = (first.permanent | second.permanent) & (ALLOW_OWN | DENY_OWN);
    let (permanent, overruled) = if own == 0 { (config, 0) } else { (own, config) };
    Value {
        deny_until: first.deny_until.max(second.deny_until),
        allow_until: first.allow_until.max(second.allow_until),
        permanent,
        overruled,
        ..first
    }
}
