//! In the driver, or right behind it.

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::xdp,
    programs::XdpContext,
};
use sipguard_ebpf::abi::Action;

use super::{
    judge::{answer, enforce},
    packet::Packet,
};

/// Filters, on kernels without multi-piece frames.
#[xdp]
fn filter(ctx: XdpContext) -> u32 {
    carry_out(enforce(&Packet::<false>::new(ctx)))
}

/// Filters.
#[xdp(frags)]
fn filter_frags(ctx: XdpContext) -> u32 {
    carry_out(enforce(&Packet::<true>::new(ctx)))
}

#[inline(always)]
fn carry_out(action: Action) -> u32 {
    match action {
        Action::Pass => XDP_PASS,
        Action::Drop => XDP_DROP,
    }
}

/// Answers what [`filter`] would do, and counts nothing.
#[xdp]
fn check(ctx: XdpContext) -> u32 {
    answer(&Packet::<false>::new(ctx));
    XDP_PASS
}

/// Answers what [`filter_frags`] would do, and counts nothing.
#[xdp(frags)]
fn check_frags(ctx: XdpContext) -> u32 {
    answer(&Packet::<true>::new(ctx));
    XDP_PASS
}
