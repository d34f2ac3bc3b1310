//! The policy of this generation: what is looked up for a packet. The maps' sizes are set by the loader, which knows the policy.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::{bpf_ktime_get_boot_ns, bpf_map_lookup_elem},
    macros::map,
    maps::{Array, HashMap},
};
use sipguard_ebpf::{
    abi::{Guard, Key, Layer, Lengths, LinkKind, Protocol, Reason, SERVICES, Value},
    prefix::{V4, V6},
    verdict::{Decided, Entries, Tables, behind_hand, most_specific},
};

use super::constants;

// Without preallocation the kernel frees a removed entry only when no program looks at it any more, so that a program never
// sees another entry's value; and an almost empty table takes almost no memory.
#[map]
static ENTRIES4: HashMap<Key<V4>, Value> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
static ENTRIES6: HashMap<Key<V6>, Value> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
static PREFILTER: Array<u64> = Array::with_max_entries(1, 0);
#[map]
static LENGTHS: Array<Lengths> = Array::with_max_entries(SERVICES as u32, 0);

/// The policy of this generation: constants and maps. Where it is asked most, for plain frames, what is said by hand of an IPv4 address is looked
/// up `IN_LINE`.
pub(super) struct Policy<const IN_LINE: bool>;

impl<const IN_LINE: bool> Entries<V4> for Policy<IN_LINE> {
    #[inline(always)]
    fn entry(&self, key: &Key<V4>) -> Option<Value> {
        // SAFETY: the map is not preallocated, so an element's memory stays what it was while the program runs.
        unsafe { ENTRIES4.get(key) }.copied()
    }

    #[inline(always)]
    fn most_specific(&self, service: u8, layer: Layer, address: V4) -> Option<(Reason, u8)> {
        match layer {
            Layer::Hand if IN_LINE => most_specific(self, service, layer, address),
            Layer::Hand | Layer::Live => {
                let V4(address) = address;
                unpack(most_specific_v4(service, layer as u8, address))
            }
        }
    }

    #[inline(always)]
    fn behind_hand(&self, service: u8, V4(address): V4) -> Option<Decided> {
        unpack_decided(behind_hand_v4(service, address))
    }
}

impl<const IN_LINE: bool> Entries<V6> for Policy<IN_LINE> {
    #[inline(always)]
    fn entry(&self, key: &Key<V6>) -> Option<Value> {
        // SAFETY: as above.
        unsafe { ENTRIES6.get(key) }.copied()
    }

    #[inline(always)]
    fn most_specific(
        &self,
        service: u8,
        layer: Layer,
        V6([high, low]): V6,
    ) -> Option<(Reason, u8)> {
        unpack(most_specific_v6(service, layer as u8, high, low))
    }

    #[inline(always)]
    fn behind_hand(&self, service: u8, V6([high, low]): V6) -> Option<Decided> {
        unpack_decided(behind_hand_v6(service, high, low))
    }
}

impl<const IN_LINE: bool> Tables for Policy<IN_LINE> {
    #[inline(always)]
    fn link(&self) -> LinkKind {
        constants::link()
    }

    #[inline(always)]
    fn protocols(&self) -> u32 {
        constants::protocols()
    }

    #[inline(always)]
    fn guard(&self, protocol: Protocol, port: u16) -> Option<Guard> {
        constants::guard(protocol, port)
    }

    #[inline(always)]
    fn prefilter_shift(&self) -> u32 {
        constants::prefilter_shift()
    }

    #[inline(always)]
    fn prefilter(&self, bit: u64) -> bool {
        element(&PREFILTER, bit >> 6).is_some_and(|word| word >> (bit & 63) & 1 == 1)
    }

    #[inline(always)]
    fn lengths(&self, service: u8) -> Option<&Lengths> {
        element(&LENGTHS, u64::from(service))
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: takes nothing and only reads the clock.
        unsafe { bpf_ktime_get_boot_ns() }
    }
}

/// An element of an array, as [`Array::get`] has it. The index is written as a whole word of the stack, of which the kernel reads its own half:
/// of half a word the verifier takes the other one for something that is still needed, and goes through each turn of a loop again for
/// every way that leads there.
#[inline(always)]
fn element<T>(array: &'static Array<T>, index: u64) -> Option<&'static T> {
    // The index is the word's first half.
    const _: () = assert!(cfg!(target_endian = "little"));
    let map = ptr::from_ref(array).cast_mut().cast();
    // SAFETY: the helper reads a key's four bytes, and returns the place of a value of the map or nothing.
    unsafe {
        bpf_map_lookup_elem(map, (&raw const index).cast())
            .cast::<T>()
            .as_ref()
    }
}

// With a turn of a loop for each prefix length, 128 for IPv6, look-ups are the dearest that the verifier meets. In line they are gone through
// again in each place that asks. A global function (kernel/bpf/verifier.c, `do_check_subprogs`, since Linux 5.6) is gone through once, whatever
// it is called with. So these take and return numbers only, and have names of their own in the object. What has not passed the prefilter does
// not pay for a call; nor does what somebody has allowed by hand over IPv4, see `Policy`. One function for both layers: a program may not be as
// large as two would make it.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn most_specific_v4(service: u8, layer: u8, address: u32) -> u64 {
    pack(most_specific(
        &Policy::<false>,
        service,
        numbered(layer),
        V4(address),
    ))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn most_specific_v6(service: u8, layer: u8, high: u64, low: u64) -> u64 {
    pack(most_specific(
        &Policy::<false>,
        service,
        numbered(layer),
        V6([high, low]),
    ))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn behind_hand_v4(service: u8, address: u32) -> u64 {
    pack_decided(behind_hand(&Policy::<false>, service, V4(address)))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn behind_hand_v6(service: u8, high: u64, low: u64) -> u64 {
    pack_decided(behind_hand(&Policy::<false>, service, V6([high, low])))
}

/// The reason's number in the lowest byte, 0 where nothing was found, and the prefix's length in the next one. A whole word, of which nothing is to be
/// cut off after a call.
#[inline(always)]
fn pack(found: Option<(Reason, u8)>) -> u64 {
    found.map_or(0, |(reason, length)| reason as u64 | u64::from(length) << 8)
}

/// What [`pack`] has packed.
#[inline(always)]
fn unpack(found: u64) -> Option<(Reason, u8)> {
    let length = (found >> 8) as u8;
    // An entry allows or denies.
    match found as u8 {
        0 => None,
        reason if reason == Reason::Allowed as u8 => Some((Reason::Allowed, length)),
        _ => Some((Reason::Denied, length)),
    }
}

/// As [`pack`], and the layer's number in the third byte.
#[inline(always)]
fn pack_decided(found: Option<Decided>) -> u64 {
    found.map_or(0, |decided| {
        pack(Some((decided.reason, decided.length))) | (decided.layer as u64) << 16
    })
}

/// What [`pack_decided`] has packed.
#[inline(always)]
fn unpack_decided(found: u64) -> Option<Decided> {
    let (reason, length) = unpack(found)?;
    Some(Decided {
        reason,
        length,
        layer: numbered((found >> 16) as u8),
    })
}

#[inline(always)]
fn numbered(layer: u8) -> Layer {
    // One bit is a number by itself: with more of them there would be a branch here, which the verifier follows for each length.
    if layer & 1 == Layer::Hand as u8 {
        Layer::Hand
    } else {
        Layer::Live
    }
}
