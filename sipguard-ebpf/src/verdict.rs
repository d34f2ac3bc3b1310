//! The decision: from what a frame is about to pass or drop, and why. No map, no pointer, no clock of its own.

use crate::{
    abi::{Action, Guard, Key, Layer, Lengths, LinkKind, NO_SERVICE, Protocol, Reason, Value},
    datagram::Datagram,
    frame::Frame,
    header::Family,
    lengths::from_lowest,
    parse::{Packet, Source, general, parse},
    prefix::{Prefix, V4, V6, cell_bit_of, marker_bit, markers},
};

/// The policy as the decision asks for it: maps and read-only constants in the kernel, memory on the host.
pub trait Tables: Entries<V4> + Entries<V6> {
    /// What the interface's frames begin with.
    fn link(&self) -> LinkKind;
    /// The mask of guarded protocols, see [`Protocol::bit`].
    fn protocols(&self) -> u32;
    /// What guards this port for this protocol. As [`Packet::port`] has it: the compiler then swaps none, and the verifier of kernels
    /// that forget how large a swapped number can be (seen on 5.10 and 6.1) knows that it is half a word.
    fn guard(&self, protocol: Protocol, port: u16) -> Option<Guard>;
    /// 32 less the size of half of a service's region of the prefilter, in bits as a power of two.
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
    fn most_specific(&self, service: u8, layer: Layer, address: A) -> Option<(Reason, u8)>
    where
        Self: Tables + Sized,
    {
        most_specific(self, service, layer, address)
    }

    /// As [`behind_hand`], which may be a function by itself.
    #[inline(always)]
    fn behind_hand(&self, service: u8, address: A) -> Option<Decided>
    where
        Self: Tables + Sized,
    {
        behind_hand(self, service, address)
    }
}

/// What an entry decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// [`Reason::Allowed`] or [`Reason::Denied`].
    pub reason: Reason,
    /// The length of its prefix.
    pub length: u8,
    /// Its layer.
    pub layer: Layer,
}

/// What happens to a frame, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
// Larger than a word: of what fits into one the compiler makes one number, which it puts together and takes apart again.
#[repr(align(16))]
pub struct Verdict {
    /// Why; the action follows from it.
    pub reason: Reason,
    /// The service whose port the frame goes to, or [`NO_SERVICE`].
    pub service: u8,
    /// The length of the prefix whose entry decided; 0 where none did.
    pub length: u8,
    /// The layer of that entry; [`Layer::Hand`] where none did.
    pub layer: Layer,
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
            layer: Layer::Hand,
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

/// The verdict on what was found in a frame.
#[inline(always)]
pub fn judged(parsed: Result<Packet, Reason>, tables: &impl Tables) -> (Option<Packet>, Verdict) {
    match parsed {
        Ok(packet) => (Some(packet), decide(&packet, tables)),
        Err(reason) => (None, Verdict::without_service(reason)),
    }
}

/// The verdict on a frame that [`crate::parse::plain`] leaves. That on a fragment depends on what became of others: what is left of a datagram whose
/// first fragment was dropped would fill the room that the kernel has for those that can be put together. Row 4's first half.
///
/// Nothing where the frame is no business of ours.
#[inline(always)]
pub fn judge_general(
    frame: &(impl Frame + ?Sized),
    tables: &impl Tables,
    memory: &impl Memory,
) -> Option<(Option<Packet>, Verdict)> {
    // Those leave first: they pay for nothing that the others need.
    let (packet, verdict) = match general(frame, tables.link(), tables.protocols()) {
        Ok(packet) => {
            let guard = tables.guard(packet.protocol, packet.port)?;
            (Some(packet), decide_guarded(packet.source, guard, tables))
        }
        Err(Reason::None) => return None,
        Err(reason) => (None, Verdict::without_service(reason)),
    };
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
            return Some((None, orphan));
        }
    }
    Some((packet, verdict))
}

/// Rows 7 to 11 of the verdict table.
#[inline(always)]
pub fn decide(packet: &Packet, tables: &impl Tables) -> Verdict {
    match tables.guard(packet.protocol, packet.port) {
        Some(guard) => decide_guarded(packet.source, guard, tables),
        None => Verdict::without_service(Reason::None),
    }
}

/// Rows 8 to 11, for what goes to a guarded port.
#[inline(always)]
fn decide_guarded(source: Source, guard: Guard, tables: &impl Tables) -> Verdict {
    let Decided {
        reason,
        length,
        layer,
    } = listed(source, guard, tables).unwrap_or_else(|| Decided {
        reason: guard.unlisted(),
        length: 0,
        layer: Layer::Hand,
    });
    Verdict {
        reason,
        service: guard.service(),
        length,
        layer,
    }
}

/// Rows 8 and 9: what the entries say of a source; those by hand are asked first. Nothing of an unlisted one, which is most often seen by one bit
/// that says so for both families.
#[inline(always)]
pub fn listed(source: Source, guard: Guard, tables: &impl Tables) -> Option<Decided> {
    let shift = tables.prefilter_shift();
    let bit = cell_bit_of(guard.service_above(), source.cell(), shift);
    if !tables.prefilter(bit) {
        return None;
    }
    let service = guard.service();
    let Source { family, words } = source;
    match family {
        Family::V4 => look_up(tables, service, V4(words[1] as u32)),
        Family::V6 => look_up(tables, service, V6(words)),
    }
}

/// The same where the prefilter does not rule it out.
#[inline(always)]
fn look_up<A: Prefix>(
    tables: &(impl Tables + Entries<A>),
    service: u8,
    address: A,
) -> Option<Decided> {
    match tables.most_specific(service, Layer::Hand, address) {
        Some((reason, length)) => Some(Decided {
            reason,
            length,
            layer: Layer::Hand,
        }),
        None => tables.behind_hand(service, address),
    }
}

/// What is asked where no entry by hand decides: the live ones, then what is said of `any` by hand.
#[inline(always)]
pub fn behind_hand<A: Prefix>(
    tables: &(impl Tables + Entries<A>),
    service: u8,
    address: A,
) -> Option<Decided> {
    if let Some((reason, length)) = tables.most_specific(service, Layer::Live, address) {
        return Some(Decided {
            reason,
            length,
            layer: Layer::Live,
        });
    }
    if !A::has_any(tables.lengths(service)?) {
        return None;
    }
    let key = Key::new(service, Layer::Hand, address.masked(0), 0);
    Some(Decided {
        reason: tables.entry(&key)?.live(|| tables.now())?,
        length: 0,
        layer: Layer::Hand,
    })
}

/// What the most specific entry of one layer decides that is in force, and its prefix length; `any` is none of them. An entry of which nothing
/// is in force is as if it were not there.
#[inline(always)]
pub fn most_specific<A: Prefix>(
    tables: &(impl Tables + Entries<A>),
    service: u8,
    layer: Layer,
    address: A,
) -> Option<(Reason, u8)> {
    let shift = tables.prefilter_shift();
    let markers = markers(service, shift);
    let lengths = A::lengths(tables.lengths(service)?.of(layer));
    let mut word = 0;
    while word < A::WORDS {
        let mut in_use = lengths[word];
        word += 1;
        // Said apart from the loop, whose first turn is made ready for in front of it.
        if in_use == 0 {
            continue;
        }
        // A bound that the verifier sees: as many as a word has lengths.
        for _ in 0..u64::from(A::BITS).min(64) {
            if in_use == 0 {
                break;
            }
            let lowest = in_use & in_use.wrapping_neg();
            let length = ((A::WORDS - word) as u8 * 64).wrapping_add(from_lowest(in_use));
            in_use &= in_use - 1;
            let key = Key::new(service, layer, address.masked_by(lowest, length), length);
            if tables.prefilter(markers | marker_bit(key.address, key.tag(), shift))
                && let Some(value) = tables.entry(&key)
                && let Some(reason) = value.live(|| tables.now())
            {
                return Some((reason, length));
            }
        }
    }
    None
}
