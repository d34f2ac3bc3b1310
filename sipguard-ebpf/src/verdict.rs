//! The decision: from what a frame is about to pass or drop, and why. No map, no pointer, no clock of its own.

use crate::{
    abi::{Action, Key, Lengths, LinkKind, NO_SERVICE, Protocol, Reason, Value},
    datagram::Datagram,
    frame::Frame,
    header::Family,
    lengths::from_lowest,
    parse::{Packet, Source, general, parse},
    prefix::{Prefix, V4, V6, cell_bit, marker_bit, region},
};

/// The policy as the decision asks for it: maps and read-only constants in the kernel, memory on the host.
pub trait Tables: Entries<V4> + Entries<V6> {
    /// What the interface's frames begin with.
    fn link(&self) -> LinkKind;
    /// The mask of guarded protocols, see [`Protocol::bit`].
    fn protocols(&self) -> u32;
    /// The service that guards this port for this protocol. As it stands in the frame: the compiler then swaps none, and the verifier of kernels
    /// that forget how large a swapped number can be (seen on 5.10 and 6.1) knows that these are bytes.
    fn service(&self, protocol: Protocol, port: [u8; 2]) -> Option<u8>;
    /// Whether the service lets unlisted sources pass.
    fn allows_by_default(&self, service: u8) -> bool;
    /// 32 less the size of a service's region of the prefilter, in bits as a power of two.
    fn prefilter_shift(&self) -> u32;
    /// One bit of the prefilter, counted from the first service's region on.
    fn prefilter(&self, bit: u64) -> bool;
    /// The prefix lengths that the service has entries of.
    fn lengths(&self, service: u8) -> Option<&Lengths>;
    /// The boot clock in nanoseconds.
    fn now(&self) -> u64;
}

/// The memory of datagrams whose first fragment was dropped.
pub trait Memory {
    /// The service whose port a datagram went to whose first fragment was dropped a moment ago.
    fn dropped(&self, datagram: &Datagram) -> Option<u8>;
    /// Remembers for a moment that a datagram's first fragment, to a port of this service, was dropped.
    fn remember(&self, datagram: &Datagram, service: u8);
}

/// The entries of one family of addresses.
pub trait Entries<A: Prefix> {
    /// What is said of one prefix in one service.
    fn entry(&self, key: &Key<A>) -> Option<Value>;

    /// As [`most_specific`], which may be a function by itself.
    #[inline(always)]
    fn most_specific(&self, service: u8, address: A) -> Option<(Reason, u8)>
    where
        Self: Tables + Sized,
    {
        most_specific(self, service, address)
    }
}

/// What happens to a frame, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why; the action follows from it.
    pub reason: Reason,
    /// The service whose port the frame goes to, or [`NO_SERVICE`].
    pub service: u8,
    /// The length of the prefix whose entry decided; 0 where none did.
    pub length: u8,
}

impl Verdict {
    /// A verdict that no service gave.
    #[must_use]
    #[inline(always)]
    pub const fn without_service(reason: Reason) -> Self {
        Self {
            reason,
            service: NO_SERVICE,
            length: 0,
        }
    }

    /// What the policy says is to be done.
    #[must_use]
    #[inline(always)]
    pub const fn action(self) -> Action {
        self.reason.action()
    }
}

/// The verdict on a frame by itself, with what was found in it.
#[inline(always)]
pub fn judge(frame: &(impl Frame + ?Sized), tables: &impl Tables) -> (Option<Packet>, Verdict) {
    judged(parse(frame, tables.link(), tables.protocols()), tables)
}

/// The verdict on a frame that [`crate::parse::plain`] leaves. That on a fragment depends on what became of others: what is left of a datagram whose
/// first fragment was dropped would fill the room that the kernel has for those that can be put together. Row 4's first half.
#[inline(always)]
pub fn judge_general(
    frame: &(impl Frame + ?Sized),
    tables: &impl Tables,
    memory: &impl Memory,
) -> (Option<Packet>, Verdict) {
    let parsed = general(frame, tables.link(), tables.protocols());
    let (packet, verdict) = judged(parsed, tables);
    let first = packet.is_some_and(Packet::is_first_fragment) && verdict.action() == Action::Drop;
    let later = verdict.reason == Reason::Fragment;
    if (first || later)
        && let Some(datagram) = Datagram::of(frame, tables.link())
    {
        if first {
            memory.remember(&datagram, verdict.service);
        } else if let Some(service) = memory.dropped(&datagram) {
            // It is the service's that dropped the first one: in monitor mode that drops neither.
            let orphan = Verdict {
                service,
                ..Verdict::without_service(Reason::Orphan)
            };
            return (None, orphan);
        }
    }
    (packet, verdict)
}

/// The verdict on what was found in a frame.
#[inline(always)]
fn judged(parsed: Result<Packet, Reason>, tables: &impl Tables) -> (Option<Packet>, Verdict) {
    match parsed {
        Ok(packet) => (Some(packet), decide(&packet, tables)),
        Err(reason) => (None, Verdict::without_service(reason)),
    }
}

/// Rows 7 to 11 of the verdict table.
#[inline(always)]
pub fn decide(packet: &Packet, tables: &impl Tables) -> Verdict {
    let Some(service) = tables.service(packet.protocol, packet.port) else {
        return Verdict::without_service(Reason::None);
    };
    let Source { family, words } = packet.source;
    let found = match family {
        Family::V4 => look_up(tables, service, V4(words[1] as u32)),
        Family::V6 => look_up(tables, service, V6(words)),
    };
    let (reason, length) = found.unwrap_or_else(|| {
        let reason = if tables.allows_by_default(service) {
            Reason::Open
        } else {
            Reason::Unlisted
        };
        (reason, 0)
    });
    Verdict {
        reason,
        service,
        length,
    }
}

/// What the entries say of an address, and the length of the prefix that decides.
#[inline(always)]
fn look_up<A: Prefix>(
    tables: &(impl Tables + Entries<A>),
    service: u8,
    address: A,
) -> Option<(Reason, u8)> {
    let shift = tables.prefilter_shift();
    if !tables.prefilter(region(service, shift) | cell_bit(address.cell(), shift)) {
        return None;
    }
    tables.most_specific(service, address)
}

/// The most specific entry in force, and its prefix length. An entry of which nothing is in force is as if it were not there.
#[inline(always)]
pub fn most_specific<A: Prefix>(
    tables: &(impl Tables + Entries<A>),
    service: u8,
    address: A,
) -> Option<(Reason, u8)> {
    let shift = tables.prefilter_shift();
    let region = region(service, shift);
    let lengths = A::lengths(tables.lengths(service)?);
    let mut word = 0;
    while word < A::WORDS {
        let mut in_use = lengths[word];
        // A bound that the verifier sees: as many as there are lengths left, from the address's down to 0.
        let turns = (usize::from(A::BITS) + 1 - word * 64).min(64);
        let mut turn = 0;
        while in_use != 0 && turn < turns {
            turn += 1;
            let length = A::BITS
                .wrapping_sub(word as u8 * 64 + 64)
                .wrapping_add(from_lowest(in_use));
            in_use &= in_use - 1;
            let prefix = address.masked(length);
            if !tables.prefilter(region | marker_bit(prefix, length, shift)) {
                continue;
            }
            let Some(value) = tables.entry(&Key::new(service, prefix, length)) else {
                continue;
            };
            if let Some(reason) = value.live(|| tables.now()) {
                return Some((reason, length));
            }
        }
        word += 1;
    }
    None
}
