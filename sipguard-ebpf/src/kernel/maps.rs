//! The maps, private to this module. Sizes are set by the loader, which knows the policy.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    helpers::{bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_map_lookup_elem},
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use sipguard_ebpf::{
    abi::{
        Answer, COUNTERS as COUNTER_COUNT, Counter, Key, Lengths, LinkKind, Protocol, Reason,
        SERVICES, Value, counter,
    },
    datagram::{DROPPED_PLACES, Datagram, Dropped, MOMENT},
    prefix::{V4, V6},
    verdict::{Entries, Memory, Tables, Verdict},
};

use super::{constants, look_up, received::Size};

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
#[map]
static COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(COUNTER_COUNT as u32, 0);
// For each processor its own, so that no two write where the other reads: network cards and the kernel hand all fragments between two
// addresses to the same one.
#[map]
static DROPPED: PerCpuArray<Dropped> = PerCpuArray::with_max_entries(DROPPED_PLACES as u32, 0);
#[map]
static ANSWER: Array<Answer> = Array::with_max_entries(1, 0);

/// Counts a verdict on a frame of this size.
#[inline(always)]
pub(super) fn count(verdict: Verdict, Size { packets, bytes }: Size) {
    if let Some(counter) = COUNTERS.get_ptr_mut(counter(verdict.service, verdict.reason)) {
        // SAFETY: the element is this CPU's own, and a program is not interrupted by another of its kind on the same CPU.
        unsafe {
            (*counter).packets += packets;
            (*counter).bytes += bytes;
        }
    }
}

/// Leaves an answer behind for the process that asked.
#[inline(always)]
pub(super) fn answer(answer: Answer) {
    if let Some(place) = ANSWER.get_ptr_mut(0) {
        // SAFETY: the map belongs to the process that asked, which waits for the answer.
        unsafe { *place = answer };
    }
}

/// The policy of this generation: constants and maps.
pub(super) struct Policy;

impl Entries<V4> for Policy {
    #[inline(always)]
    fn entry(&self, key: &Key<V4>) -> Option<Value> {
        // SAFETY: the map is not preallocated, so an element's memory stays what it was while the program runs.
        unsafe { ENTRIES4.get(key) }.copied()
    }
}

impl Entries<V6> for Policy {
    #[inline(always)]
    fn entry(&self, key: &Key<V6>) -> Option<Value> {
        // SAFETY: as above.
        unsafe { ENTRIES6.get(key) }.copied()
    }

    #[inline(always)]
    fn most_specific(&self, service: u8, address: V6) -> Option<(Reason, u8)> {
        look_up::v6(service, address)
    }
}

impl Tables for Policy {
    #[inline(always)]
    fn link(&self) -> LinkKind {
        constants::link()
    }

    #[inline(always)]
    fn protocols(&self) -> u32 {
        constants::protocols()
    }

    #[inline(always)]
    fn service(&self, protocol: Protocol, port: [u8; 2]) -> Option<u8> {
        constants::service(protocol, port)
    }

    #[inline(always)]
    fn allows_by_default(&self, service: u8) -> bool {
        constants::allows_by_default(service)
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

impl Memory for Policy {
    #[inline(always)]
    fn dropped(&self, datagram: &Datagram) -> Option<u8> {
        let dropped = DROPPED.get(place(datagram))?;
        (dropped.datagram == *datagram && dropped.until > jiffies())
            .then_some(dropped.service as u8)
    }

    #[inline(always)]
    fn remember(&self, datagram: &Datagram, service: u8) {
        let Some(dropped) = DROPPED.get_ptr_mut(place(datagram)) else {
            return;
        };
        // SAFETY: as in `count`.
        unsafe {
            *dropped = Dropped {
                datagram: *datagram,
                until: jiffies() + MOMENT,
                service: u64::from(service),
            }
        };
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

/// Where a datagram is remembered.
#[inline(always)]
fn place(datagram: &Datagram) -> u32 {
    datagram.place(constants::dropped_seed())
}

#[inline(always)]
fn jiffies() -> u64 {
    // SAFETY: takes nothing and only reads the clock.
    unsafe { bpf_jiffies64() }
}
