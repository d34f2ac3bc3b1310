//! Read-only constants, set for each interface before its program is loaded. The verifier sees their values, so that what they
//! rule out costs nothing.
//!
//! They are read through volatile pointers because the compiler would otherwise fold in the zeros that stand here; the tables
//! are read one element at a time because a whole one does not fit on the stack.

use core::hint;

use sipguard_ebpf::{
    abi::{Guard, Guards, LinkKind, Protocol},
    prefix::{HALF_MAX, HALF_MIN},
};

/// For each protocol and each port, as it stands in the frame, the byte of the [`Guard`] that it has, or 0. Not among the constants in the object,
/// which would be longer by it.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.guards")]
static mut GUARDS: Guards = [[0; 1 << 16]; 4];

/// The mask of protocols that some service guards.
#[unsafe(no_mangle)]
static PROTOCOLS: u32 = 0;

/// Bit `s`: service `s` drops nothing; the bit behind the last service's: nor do verdicts that no service gave.
#[unsafe(no_mangle)]
static MONITOR: u32 = 0;

/// Not 0: nothing is told of, whoever listens. Some kernels have no way from a program with functions to another program, and refuse one that
/// they see.
#[unsafe(no_mangle)]
static SILENT: u32 = 0;

/// 32 less the size of half of a service's region of the prefilter, in bits as a power of two.
#[unsafe(no_mangle)]
static PREFILTER_SHIFT: u32 = 0;

/// What the interface's frames begin with, as the number of a [`LinkKind`].
#[unsafe(no_mangle)]
static LINK_KIND: u32 = 0;

/// Which of the policy's interfaces this program is for.
#[unsafe(no_mangle)]
static SLOT: u32 = 0;

/// The number of the generation that this program is of.
#[unsafe(no_mangle)]
static GENERATION: u64 = 0;

/// What decides where in the memory of dropped datagrams each of them is; nobody knows it.
#[unsafe(no_mangle)]
static DROPPED_SEED: u64 = 0;

/// When an apply that was not confirmed is over, in nanoseconds of the boot clock.
#[unsafe(no_mangle)]
static DEADLINE: u64 = 0;

#[inline(always)]
fn read<T: Copy>(constant: *const T) -> T {
    // SAFETY: every caller passes the address of a static, or of an element inside one.
    unsafe { constant.read_volatile() }
}

/// What guards this port.
#[inline(always)]
pub(super) fn guard(protocol: Protocol, port: u16) -> Option<Guard> {
    // SAFETY: the address of an element.
    let byte = unsafe { &raw const GUARDS[protocol as usize][usize::from(port)] };
    Guard::from_byte(read(byte))
}

#[inline(always)]
pub(super) fn protocols() -> u32 {
    read(&raw const PROTOCOLS)
}

#[inline(always)]
pub(super) fn monitored(service: u8) -> bool {
    read(&raw const MONITOR) >> (service & 31) & 1 == 1
}

/// Whether nothing can be told of.
#[inline(always)]
pub(super) fn silent() -> bool {
    read(&raw const SILENT) != 0
}

#[inline(always)]
pub(super) fn prefilter_shift() -> u32 {
    let shift = read(&raw const PREFILTER_SHIFT);
    // SAFETY: no half is smaller or larger: the loader sets it.
    unsafe { hint::assert_unchecked(shift >= 32 - HALF_MAX && shift <= 32 - HALF_MIN) };
    shift
}

#[inline(always)]
pub(super) fn link() -> LinkKind {
    if read(&raw const LINK_KIND) == LinkKind::Ip as u32 {
        LinkKind::Ip
    } else {
        LinkKind::Ethernet
    }
}

#[inline(always)]
pub(super) fn dropped_seed() -> u64 {
    read(&raw const DROPPED_SEED)
}

#[inline(always)]
pub(super) fn deadline() -> u64 {
    read(&raw const DEADLINE)
}

#[inline(always)]
pub(super) fn generation() -> u64 {
    read(&raw const GENERATION)
}

#[inline(always)]
pub(super) fn slot() -> u32 {
    read(&raw const SLOT)
}
