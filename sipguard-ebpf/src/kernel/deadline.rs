//! What a link runs while an apply waits to be confirmed: the new generation's program before the deadline, the old one's after it.
//!
//! Nobody has to be there when the deadline comes: the frame that arrives behind it already is the old generation's.

use aya_ebpf::{
    EbpfContext,
    bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS},
    helpers::bpf_ktime_get_boot_ns,
    macros::{classifier, map, xdp},
    maps::ProgramArray,
    programs::{TcContext, XdpContext},
};
use sipguard_ebpf::abi::{NEW, OLD};

use super::constants;

/// The two generations' programs, at [`NEW`] and [`OLD`]. All are of the kind of the one that is loaded with it.
#[map]
static GENERATIONS: ProgramArray = ProgramArray::with_max_entries(2, 0);

// What is returned counts only where there is no program to call: before this apply the interface was not filtered.

/// Leads to [`super::xdp::filter`].
#[xdp]
fn pending(ctx: XdpContext) -> u32 {
    hand_on(&ctx);
    XDP_PASS
}

/// Leads to [`super::xdp::filter_frags`]: a program that takes frames in several pieces leads only to its like.
#[xdp(frags)]
fn pending_frags(ctx: XdpContext) -> u32 {
    hand_on(&ctx);
    XDP_PASS
}

/// Leads to [`super::tc::filter_tc`].
#[classifier]
fn pending_tc(ctx: TcContext) -> i32 {
    hand_on(&ctx);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn hand_on(ctx: &impl EbpfContext) {
    // SAFETY: takes nothing and only reads the clock.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // Each call has its own constant: for one that is known beforehand the kernel makes a direct jump.
    if now < constants::deadline() {
        // SAFETY: nothing here waits to be dropped.
        unsafe { GENERATIONS.tail_call(ctx, NEW) };
    } else {
        // SAFETY: as above.
        unsafe { GENERATIONS.tail_call(ctx, OLD) };
    }
}
