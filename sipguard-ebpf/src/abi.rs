//! What the kernel program and the loader must agree on: constants, keys, values, counters, answers.
//!
//! Every integer is in host byte order; addresses are turned into host order when they are read from a frame. Structures are
//! `repr(C)` with all padding spelled out, because they are copied into maps byte by byte.

use core::{mem::size_of, num::NonZeroU8};

pub use crate::lengths::{Layer, LayerLengths, Lengths};
use crate::prefix::{Prefix, V4, V6};

/// Changes with every change of what is in pinned maps; those of another version are never adopted.
pub const VERSION: u32 = 6;

/// Changes with [`Counter`] and what [`counter`] says: counters outlive generations, and those of another layout are never adopted.
pub const COUNTERS_VERSION: u32 = 2;

/// The most services a policy may have. A service's number is also its place among the counters.
pub const SERVICES: usize = 16;

/// Stands where a service would, for verdicts that no service gave.
pub const NO_SERVICE: u8 = 16;

/// How many reasons a service's row of counters has room for.
pub const REASONS: usize = 16;

/// How many counters an interface has: one for every service (and none) and every reason.
pub const COUNTERS: usize = (SERVICES + 1) * REASONS;

/// A protocol that has ports where UDP has them: in the first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// UDP, RFC 768.
    Udp = 0,
    /// TCP, RFC 9293.
    Tcp = 1,
    /// SCTP, RFC 9260.
    Sctp = 2,
    /// UDP-Lite, RFC 3828.
    UdpLite = 3,
}

impl Protocol {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Udp, Self::Tcp, Self::Sctp, Self::UdpLite];

    /// This protocol's bit in the mask of guarded protocols.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Why a frame got its verdict, which is also the name of the counter that counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// No business of ours: passed and not counted.
    None = 0,
    /// More VLAN tags or extension headers than are followed.
    TooDeep = 1,
    /// A broken or cut header.
    Malformed = 2,
    /// A fragment that is not the first.
    Fragment = 3,
    /// An entry denies the source.
    Denied = 4,
    /// An entry allows the source.
    Allowed = 5,
    /// No entry covers the source, and the service denies by default.
    Unlisted = 6,
    /// No entry covers the source, and the service allows by default.
    Open = 7,
    /// A fragment that is not the first, of a datagram whose first one was dropped.
    Orphan = 8,
}

impl Reason {
    /// The reasons that are counted.
    pub const COUNTED: [Self; 8] = [
        Self::TooDeep,
        Self::Malformed,
        Self::Orphan,
        Self::Fragment,
        Self::Denied,
        Self::Allowed,
        Self::Unlisted,
        Self::Open,
    ];

    /// The name in JSON, metrics and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::TooDeep => "too_deep",
            Self::Malformed => "malformed",
            Self::Fragment => "fragment",
            Self::Denied => "denied",
            Self::Allowed => "allowed",
            Self::Unlisted => "unlisted",
            Self::Open => "open",
            Self::Orphan => "orphan",
        }
    }

    /// What the policy does with a frame for this reason.
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::None | Self::Fragment | Self::Allowed | Self::Open => Action::Pass,
            Self::TooDeep | Self::Malformed | Self::Orphan | Self::Denied | Self::Unlisted => {
                Action::Drop
            }
        }
    }
}

/// What the policy says is to be done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// Hand it on to the network stack.
    Pass = 0,
    /// Forget it.
    Drop = 1,
}

/// All that the policy says of a guarded port, in one byte that is read once: the service in the upper half; in the lower one its mode and
/// the reason of an unlisted source's verdict. Nothing of a port that no service guards is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Guard(NonZeroU8);

/// Set where the service drops nothing.
const MONITORED: u8 = 1 << 3;

// The reasons of verdicts that a service gives fit below it; what they pass is odd, and what they drop is even.
const _: () = {
    let reasons = [
        Reason::Denied,
        Reason::Allowed,
        Reason::Unlisted,
        Reason::Open,
    ];
    let mut at = 0;
    while at < reasons.len() {
        let reason = reasons[at];
        assert!((reason as u8) < MONITORED);
        assert!(matches!(reason.action(), Action::Drop) == (reason as u8 & 1 == 0));
        at += 1;
    }
};

impl Guard {
    /// Of a service that lets unlisted sources pass, or does not, and drops nothing if it is `monitored`.
    #[must_use]
    pub const fn new(service: u8, default: Action, monitored: bool) -> Self {
        let unlisted = match default {
            Action::Drop => Reason::Unlisted,
            Action::Pass => Reason::Open,
        };
        let monitored = if monitored { MONITORED } else { 0 };
        let byte = service << 4 | monitored | unlisted as u8;
        Self(NonZeroU8::new(byte).expect("the reason is not 0"))
    }

    /// What [`Guard::byte`] has told; nothing where no service guards the port.
    #[must_use]
    #[inline(always)]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match NonZeroU8::new(byte) {
            Some(byte) => Some(Self(byte)),
            None => None,
        }
    }

    /// As a number.
    #[must_use]
    #[inline(always)]
    pub const fn byte(self) -> u8 {
        self.0.get()
    }

    /// The service's number.
    #[must_use]
    #[inline(always)]
    pub const fn service(self) -> u8 {
        self.byte() >> 4
    }

    /// Twice the service's number in the upper half of a word.
    #[must_use]
    #[inline(always)]
    pub const fn service_above(self) -> u64 {
        ((self.byte() & 0xf0) as u64) << 29
    }

    /// Why a source gets its verdict that no entry covers.
    #[must_use]
    #[inline(always)]
    pub const fn unlisted(self) -> Reason {
        if self.byte() & 1 == 0 {
            Reason::Unlisted
        } else {
            Reason::Open
        }
    }
}

/// The bytes of all ports' guards: by the number of a [`Protocol`], and by the port as it stands in the frame, taken for a number of this machine's.
pub type Guards = [[u8; 1 << 16]; Protocol::ALL.len()];

/// What becomes of a packet to a guarded port, and why: a [`Guard`] whose reason is the packet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Fate(u8);

impl Fate {
    /// Of a source that no entry covers.
    #[must_use]
    #[inline(always)]
    pub const fn unlisted(guard: Guard) -> Self {
        Self(guard.byte())
    }

    /// Of a source that an entry allows or denies: `reason` is one of these two.
    #[must_use]
    #[inline(always)]
    pub const fn listed(guard: Guard, reason: Reason) -> Self {
        Self(guard.byte() & (0xf0 | MONITORED) | reason as u8)
    }

    /// Which counter counts it.
    #[must_use]
    #[inline(always)]
    pub const fn counter(self) -> u32 {
        (self.0 & !MONITORED) as u32
    }

    /// Whether the packet is dropped; not in monitor mode.
    #[must_use]
    #[inline(always)]
    pub const fn drops(self) -> bool {
        self.0 & (MONITORED | 1) == 0
    }
}

const _: () = assert!(REASONS == 16 && SERVICES == 16);

/// What an interface's frames begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LinkKind {
    /// An Ethernet header.
    Ethernet = 0,
    /// An IP header: tun, wireguard, ppp.
    Ip = 1,
}

/// Where the program of an apply that waits to be confirmed finds the new generation's program.
pub const NEW: u32 = 0;

/// Where it finds the program that was there before; nothing where there was none.
pub const OLD: u32 = 1;

/// The key of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Key<A: Prefix> {
    /// The prefix's address, host bits zero.
    pub address: A,
    /// The layer's number in the lowest byte's highest bit, the service's below it; the prefix's length in the second byte.
    tag: A::Tag,
}

impl<A: Prefix> Key<A> {
    /// The key of `address/length` in a layer of `service`; the address's host bits must be zero.
    #[inline(always)]
    pub fn new(service: u8, layer: Layer, address: A, length: u8) -> Self {
        let tag = u32::from(service) | (layer as u32) << 7 | u32::from(length) << 8;
        Self {
            address,
            tag: A::Tag::from(tag),
        }
    }

    /// All but the address, as a number.
    #[inline(always)]
    pub fn tag(&self) -> u64 {
        self.tag.into()
    }

    /// The layer.
    pub fn layer(&self) -> Layer {
        match self.tag.into() & 0x80 {
            0 => Layer::Hand,
            _ => Layer::Live,
        }
    }

    /// The service's number.
    pub fn service(&self) -> u8 {
        self.tag.into() as u8 & 0x7f
    }

    /// The prefix's length in bits.
    pub fn length(&self) -> u8 {
        (self.tag.into() >> 8) as u8
    }
}

const _: () = assert!(size_of::<Key<V4>>() == 8 && size_of::<Key<V6>>() == 24);

/// An entry of the config file allows.
pub const ALLOW_CONFIG: u8 = 1;
/// An entry of the config file denies.
pub const DENY_CONFIG: u8 = 2;
/// An entry of the command line allows.
pub const ALLOW_OWN: u8 = 4;
/// An entry of the command line denies.
pub const DENY_OWN: u8 = 8;

/// What is said of one prefix in one service. The config file's word and the command line's are kept apart so that taking
/// one back leaves the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Value {
    /// Denied until then, nanoseconds of the boot clock; 0 where there is no timed deny.
    pub deny_until: u64,
    /// Allowed until then, nanoseconds of the boot clock; 0 where there is no timed allow.
    pub allow_until: u64,
    /// [`ALLOW_CONFIG`], [`DENY_CONFIG`], [`ALLOW_OWN`], [`DENY_OWN`] or none of them.
    pub permanent: u8,
    /// [`ALLOW_CONFIG`] or [`DENY_CONFIG`], where the command line's permanent word stands in its place: it decides nothing, and is there to
    /// be given back.
    pub overruled: u8,
    /// Always zero.
    pub padding: [u8; 4],
    /// Which of the generation's origins the config file's word comes from.
    pub origin: u16,
}

const _: () = assert!(size_of::<Value>() == 24);

impl Value {
    /// What the config file says, whether it counts or not: [`ALLOW_CONFIG`], [`DENY_CONFIG`] or nothing.
    #[must_use]
    pub const fn config(&self) -> u8 {
        (self.permanent | self.overruled) & (ALLOW_CONFIG | DENY_CONFIG)
    }

    /// What the entry decides, if anything of it is in force. On one prefix a timed deny comes before a timed allow, that before a
    /// permanent deny, that before a permanent allow. The clock (boot time, nanoseconds) is asked only where something is timed.
    #[inline(always)]
    pub fn live(&self, now: impl FnOnce() -> u64) -> Option<Reason> {
        if self.deny_until | self.allow_until != 0 {
            let now = now();
            if self.deny_until > now {
                return Some(Reason::Denied);
            }
            if self.allow_until > now {
                return Some(Reason::Allowed);
            }
        }
        if self.permanent & (DENY_CONFIG | DENY_OWN) != 0 {
            Some(Reason::Denied)
        } else if self.permanent != 0 {
            Some(Reason::Allowed)
        } else {
            None
        }
    }
}

/// One counter of one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Frames.
    pub packets: u64,
    /// Bytes of those frames, as long as they arrived.
    pub bytes: u64,
}

const _: () = assert!(size_of::<Counter>() == 16);

/// Which counter counts a verdict.
#[must_use]
#[inline(always)]
pub const fn counter(service: u8, reason: Reason) -> u32 {
    service as u32 * REASONS as u32 + reason as u32
}

/// The whole verdict on one frame, as the checking program leaves it behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Answer {
    /// A [`Reason`] as its number.
    pub reason: u8,
    /// The service's number or [`NO_SERVICE`].
    pub service: u8,
    /// The length of the prefix that decided; 0 where none did.
    pub length: u8,
    /// 4 or 6; 0 where the frame was not parsed as far as the ports.
    pub family: u8,
    /// A [`Protocol`] as its number.
    pub protocol: u8,
    /// The [`Layer`] of the entry that decided, as its number; 0 where none did.
    pub layer: u8,
    /// Destination port.
    pub port: u16,
    /// The source address; an IPv4 address stands in the second word.
    pub source: [u64; 2],
}

const _: () = assert!(size_of::<Answer>() == 24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefix::{HALF_MAX, HALF_MIN, cell_bit, cell_bit_of, cells};

    #[test]
    fn a_byte_says_all_of_a_guarded_port() {
        assert_eq!(Guard::from_byte(0), None);
        for service in 0..SERVICES as u8 {
            for default in [Action::Drop, Action::Pass] {
                for monitored in [false, true] {
                    let guard = Guard::new(service, default, monitored);
                    assert_eq!(Guard::from_byte(guard.byte()), Some(guard));
                    assert_eq!(guard.service(), service);
                    assert_eq!(guard.unlisted().action(), default);
                    for shift in 32 - HALF_MAX..=32 - HALF_MIN {
                        let cell = 0xcb00_7100;
                        assert_eq!(
                            cell_bit_of(guard.service_above(), cell, shift),
                            cells(service, shift) | cell_bit(cell, shift)
                        );
                    }
                    for (fate, reason) in [
                        (Fate::unlisted(guard), guard.unlisted()),
                        (Fate::listed(guard, Reason::Allowed), Reason::Allowed),
                        (Fate::listed(guard, Reason::Denied), Reason::Denied),
                    ] {
                        assert_eq!(fate.counter(), counter(service, reason));
                        let drops = reason.action() == Action::Drop && !monitored;
                        assert_eq!(fate.drops(), drops, "{guard:?} {reason:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_timed_ends_at_its_end() {
        let value = Value {
            deny_until: 20,
            allow_until: 30,
            ..Value::default()
        };
        for (now, wanted) in [
            (19, Some(Reason::Denied)),
            (20, Some(Reason::Allowed)),
            (29, Some(Reason::Allowed)),
            (30, None),
        ] {
            assert_eq!(value.live(|| now), wanted, "at {now}");
        }
    }
}
