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

/// The entries of one family. There may be a million, and this is the only form in which all of them are there at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries<A: Prefix> {
    /// In rising order of the keys, each once.
    pub said: Vec<(Key<A>, Value)>,
}

impl<A: Family> Entries<A> {
    /// With room for so many, of which memory is taken as they come.
    pub(super) fn with_room(room: usize) -> Self {
        Self {
            said: Vec::with_capacity(room),
        }
    }

    /// Adds what is said of a prefix, where it is of this family; [`Self::merge`] puts it in its place.
    pub(super) fn add(&mut self, prefix: IpNet, service: u8, layer: Layer, word: Value) {
        if let Some(prefix) = A::of(prefix) {
            self.said.push((A::key(prefix, service, layer), word));
        }
    }

    /// Makes one value of all that is said of a prefix.
    pub(super) fn merge(&mut self) {
        // List files are often sorted, and then this is all.
        if !self.said.is_sorted_by_key(|&(key, _)| key) {
            self.said.sort_unstable_by_key(|&(key, _)| key);
        }
        self.said.dedup_by(|(key, word), (known, value)| {
            let same = key == known;
            if same {
                *value = merge(*value, *word);
            }
            same
        });
    }

    /// Their keys, in rising order.
    pub fn keys(&self) -> impl Iterator<Item = &Key<A>> {
        self.said.iter().map(|(key, _)| key)
    }

    pub(super) fn mark_lengths(&self, lengths: &mut [Lengths; SERVICES]) {
        for key in self.keys() {
            A::mark_length(&mut lengths[usize::from(key.service())], key);
        }
    }

    /// What is said of one prefix in one service.
    pub fn get(&self, key: &Key<A>) -> Option<Value> {
        Some(self.said[self.place(key)?].1)
    }

    /// The place of a key, and of its value.
    pub(crate) fn place(&self, key: &Key<A>) -> Option<usize> {
        self.said.binary_search_by_key(key, |&(key, _)| key).ok()
    }
}

/// The word that an entry of the config file is.
pub(super) fn config_word(entry: &Entry) -> Value {
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
