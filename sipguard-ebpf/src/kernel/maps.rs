//! What programs write: counters, the memory of dropped datagrams, answers.

use aya_ebpf::{
    helpers::bpf_jiffies64,
    macros::map,
    maps::{Array, PerCpuArray},
};
use sipguard_ebpf::{
    abi::{Answer, COUNTERS as COUNTER_COUNT, Counter},
    datagram::{DROPPED_PLACES, Datagram, Dropped, MOMENT},
    verdict::Memory,
};

use super::{constants, received::Size};

#[map]
static COUNTERS: PerCpuArray<Counter> = PerCpuArray::with_max_entries(COUNTER_COUNT as u32, 0);
// For each processor its own, so that no two write where the other reads: network cards and the kernel hand all fragments between two
// addresses to the same one.
#[map]
static DROPPED: PerCpuArray<Dropped> = PerCpuArray::with_max_entries(DROPPED_PLACES as u32, 0);
#[map]
static ANSWER: Array<Answer> = Array::with_max_entries(1, 0);

/// Counts a frame of this size.
#[inline(always)]
pub(super) fn count(counter: u32, Size { packets, bytes }: Size) {
    if let Some(counter) = COUNTERS.get_ptr_mut(counter) {
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

/// The datagrams whose first fragment was dropped.
pub(super) struct Datagrams;

impl Memory for Datagrams {
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
