//! Read-only constants, set for each interface before its program is loaded. The verifier sees their values, so that what they
//! rule out costs nothing.
//!
//! They are read through volatile pointers because the compiler would otherwise fold in the zeros that stand here; the tables
//! are read one element at a time because a whole one does not fit on the stack.

use sipguard_ebpf::abi::{LinkKind, NO_SERVICE, PORT_PAGES, Protocol};

/// Which page of [`PORT_SERVICES`] a port's upper byte leads to; page 0 guards nothing.
#[unsafe(no_mangle)]
static PORT_PAGE: [u8; 256] = [0; 256];

/// For each port of a page one byte for each protocol: the service that guards it, or [`NO_SERVICE`].
#[unsafe(no_mangle)]
static PORT_SERVICES: [[[u8; 4]; 256]; PORT_PAGES + 1] = [[[0; 4]; 256]; PORT_PAGES + 1];

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

/// Bit `s`: service `s` lets unlisted sources pass.
#[unsafe(no_mangle)]
static DEFAULT_ALLOW: u32 = 0;

/// 32 less the size of a service's region of the prefilter, in bits as a power of two.
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

#[inline(always)]
pub(super) fn service(protocol: Protocol, [high, low]: [u8; 2]) -> Option<u8> {
    let page = read(&raw const PORT_PAGE[usize::from(high)]);
    if page == 0 || usize::from(page) > PORT_PAGES {
        return None;
    }
    let services = &raw const PORT_SERVICES[usize::from(page)][usize::from(low)][protocol as usize];
    let service = read(services);
    (service < NO_SERVICE).then_some(service)
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
pub(super) fn allows_by_default(service: u8) -> bool {
    read(&raw const DEFAULT_ALLOW) >> (service & 31) & 1 == 1
}

#[inline(always)]
pub(super) fn prefilter_shift() -> u32 {
    read(&raw const PREFILTER_SHIFT) & 31
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
