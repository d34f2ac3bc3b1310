//! In what ways a case differs from one plain packet.

use sipguard_ebpf::abi::LinkKind;

use super::Carrier;
use crate::random::Random;

macro_rules! mutations {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// One way to differ from a plain packet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Mutation {
            $($(#[doc = $doc])+ $name),+
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];
        }
    };
}

mutations! {
    /// One to six tags without a number, which only carry a priority: Linux takes them off, VLAN devices or not.
    PriorityTags,
    /// A tag with a number: of a VLAN device, or of none.
    VlanTag,
    /// Two tags with numbers, of VLAN devices on VLAN devices.
    QinQ,
    /// A PPPoE session, its protocol field compressed or not.
    Session,
    /// A broadcast or multicast address.
    Destination,
    /// IPv4 options that mean nothing.
    Options,
    /// IPv4 options that mean something: routes, time stamps, the end of the list.
    MeaningfulOptions,
    /// One to four extension headers in any order.
    Extensions,
    /// Five to ten extension headers.
    ManyExtensions,
    /// An authentication header.
    Authentication,
    /// A jumbo payload option (RFC 2675).
    Jumbo,
    /// A fragment header that makes no fragment (RFC 6946).
    AtomicFragment,
    /// A fragment header behind a fragment header.
    NestedFragment,
    /// The header chain ends with "no next header".
    NoNextHeader,
    /// Fragments in order.
    Fragments,
    /// Fragments of eight bytes.
    TinyFragments,
    /// Fragments in any order.
    Reordered,
    /// A fragment twice.
    DuplicatedFragment,
    /// A fragment that reaches into its neighbour.
    Overlapping,
    /// Two first fragments, to different ports.
    SecondFirstFragment,
    /// A fragment is not there.
    MissingFragment,
    /// Flags or offset of a fragment are changed.
    FragmentField,
    /// A second fragment names another protocol or other extension headers.
    FragmentProtocol,
    /// A first fragment that ends where an IPv6 extension header begins, with bytes behind it that go on as if they were its own.
    FalseTail,
    /// Options or a routing header in front of a fragment header, which calls what it carries by another name than that header's.
    Misread,
    /// Fragments whose tags differ.
    MixedTags,
    /// The same frame twice.
    DuplicatedFrame,
    /// A UDP checksum of zero.
    NoChecksum,
    /// A wrong checksum.
    WrongChecksum,
    /// The IP header's length field, too large or too small.
    IpLength,
    /// The UDP length, the TCP data offset.
    TransportLength,
    /// The IPv4 header's own length.
    HeaderLength,
    /// The IP version.
    Version,
    /// The number of the next header.
    Protocol,
    /// The EtherType.
    EtherType,
    /// The reserved bit, "don't fragment", type of service, hop limit.
    Harmless,
    /// TCP flags; a source port that is guarded.
    Flags,
    /// The frame ends early.
    Truncated,
    /// Bytes behind the packet.
    Trailing,
    /// One byte, with IPv4's header checksum right again.
    Byte,
    /// Whatever random mutation does.
    Random,
}

impl Mutation {
    /// Whether frames of this kind can differ in this way.
    #[must_use]
    pub fn fits(self, carrier: Carrier) -> bool {
        use Mutation::{EtherType, MixedTags, PriorityTags, QinQ, Session, VlanTag};
        match self {
            PriorityTags | VlanTag | QinQ | Session | MixedTags => carrier.has_ether_types(),
            EtherType => carrier.link() == LinkKind::Ethernet,
            _ => true,
        }
    }

    /// Whether the packet then comes in fragments.
    fn fragments(self) -> bool {
        use Mutation::{
            DuplicatedFragment, FalseTail, FragmentField, FragmentProtocol, Fragments, Misread,
            MissingFragment, MixedTags, NestedFragment, Overlapping, Reordered,
            SecondFirstFragment, TinyFragments,
        };
        matches!(
            self,
            NestedFragment
                | Fragments
                | TinyFragments
                | Reordered
                | DuplicatedFragment
                | Overlapping
                | SecondFirstFragment
                | MissingFragment
                | FragmentField
                | FragmentProtocol
                | FalseTail
                | Misread
                | MixedTags
        )
    }
}

/// What a case is made by. Everything but the mutations is drawn from the seed, and each mutation draws for itself: to leave one out
/// changes nothing else.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Makes the same frames again, but for the identity.
    pub seed: u64,
    /// What carries the frames.
    pub carrier: Carrier,
    /// In what ways the case differs from a plain packet; in order, each once.
    pub mutations: Vec<Mutation>,
    /// Whether the payload is no more than the identity.
    pub short: bool,
}

impl Recipe {
    /// The recipe of this seed, with none to four mutations.
    #[must_use]
    pub fn new(seed: u64, carrier: Carrier) -> Self {
        let mut random = Random::apart(seed, u64::MAX - 1);
        let mut mutations = Vec::new();
        let many = [0, 1, 1, 1, 2, 2, 2, 3, 3, 4][random.below(10)];
        while mutations.len() < many {
            let mutation = *random.choose(Mutation::ALL);
            if mutation.fits(carrier) {
                mutations.push(mutation);
            }
        }
        mutations.sort_unstable();
        mutations.dedup();
        Self {
            seed,
            carrier,
            mutations,
            short: false,
        }
    }

    /// The same with the mutation at this place left out.
    #[must_use]
    pub fn without(&self, place: usize) -> Self {
        let mut fewer = self.clone();
        fewer.mutations.remove(place);
        fewer
    }

    /// Where what the seed alone decides is drawn from.
    pub(super) fn plain(&self) -> Random {
        Random::apart(self.seed, u64::MAX - 2)
    }

    /// Where a mutation draws from. The same again each time it is asked.
    pub(super) fn dice(&self, mutation: Mutation) -> Random {
        Random::apart(self.seed, mutation as u64)
    }

    /// The same where the mutation is one of this recipe's.
    pub(super) fn chosen(&self, mutation: Mutation) -> Option<Random> {
        self.has(mutation).then(|| self.dice(mutation))
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn has(&self, mutation: Mutation) -> bool {
        self.mutations.contains(&mutation)
    }

    /// Whether the packet comes in fragments.
    #[must_use]
    pub fn in_fragments(&self) -> bool {
        self.mutations.iter().any(|mutation| mutation.fragments())
    }
}
