//! In the driver, or right behind it.

use aya_ebpf::{
    bindings::{xdp_action::XDP_PASS, xdp_md},
    macros::xdp,
    programs::XdpContext,
};

use super::{
    judge::{Outcome, answer, enforce, enforce_general},
    packet::Packet,
    tell,
};

/// Filters, on kernels without multi-piece frames.
#[xdp]
fn filter(ctx: XdpContext) -> u32 {
    enforce(&Packet::<false>::new(ctx), |context| {
        general_xdp(context.cast())
    })
}

/// Filters.
#[xdp(frags)]
fn filter_frags(ctx: XdpContext) -> u32 {
    enforce(&Packet::<true>::new(ctx), |context| {
        general_frags(context.cast())
    })
}

/// For what is not plain in front of [`filter`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn general_xdp(context: *mut xdp_md) -> Outcome {
    enforce_general(&Packet::<false>::new(XdpContext::new(context)))
}

/// For what is not plain in front of [`filter_frags`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn general_frags(context: *mut xdp_md) -> Outcome {
    enforce_general(&Packet::<true>::new(XdpContext::new(context)))
}

/// Tells of what [`filter`] has judged.
#[xdp]
fn tell(ctx: XdpContext) -> u32 {
    tell::tell(&Packet::<false>::new(ctx))
}

/// Tells of what [`filter_frags`] has judged.
#[xdp(frags)]
fn tell_frags(ctx: XdpContext) -> u32 {
    tell::tell(&Packet::<true>::new(ctx))
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
