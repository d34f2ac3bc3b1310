//! In what ways a case differs from one plain packet.

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
    /// A tag with a number, which belongs to a VLAN device that is not there.
    VlanTag,
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

/// The mutations of one case.
#[derive(Clone, Debug, Default)]
pub(super) struct Mutations(Vec<Mutation>);

impl Mutations {
    /// None to four.
    pub(super) fn choose(random: &mut Random) -> Self {
        let mut chosen = Vec::new();
        for _ in 0..[0, 1, 1, 1, 2, 2, 2, 3, 3, 4][random.below(10)] {
            chosen.push(*random.choose(Mutation::ALL));
        }
        chosen.sort_unstable();
        chosen.dedup();
        Self(chosen)
    }

    /// Whether this one is among them.
    pub(super) fn has(&self, mutation: Mutation) -> bool {
        self.0.contains(&mutation)
    }

    /// Whether the packet comes in fragments.
    pub(super) fn fragments(&self) -> bool {
        fragment(&self.0)
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Mutation] {
        &self.0
    }
}

/// Whether these mutations make fragments.
pub(super) fn fragment(mutations: &[Mutation]) -> bool {
    use Mutation::{
        DuplicatedFragment, FragmentField, FragmentProtocol, Fragments, MissingFragment, MixedTags,
        NestedFragment, Overlapping, Reordered, SecondFirstFragment, TinyFragments,
    };
    mutations.iter().any(|mutation| {
        matches!(
            mutation,
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
                | MixedTags
        )
    })
}
