//! At TC ingress: behind what the kernel does first with everything that comes in, and before what it does for anybody.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};

use super::{
    judge::{Outcome, answer, enforce, enforce_general},
    skb::Skb,
    tell,
};

/// Filters.
#[classifier]
fn filter_tc(ctx: TcContext) -> i32 {
    enforce(&Skb::new(ctx), |context| general_tc(context.cast())).cast_signed()
}

/// For what is not plain in front of [`filter_tc`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn general_tc(context: *mut __sk_buff) -> Outcome {
    enforce_general(&Skb::new(TcContext::new(context)))
}

/// Tells of what [`filter_tc`] has judged.
#[classifier]
fn tell_tc(ctx: TcContext) -> i32 {
    tell::tell(&Skb::new(ctx)).cast_signed()
}

/// Answers what [`filter_tc`] would do, and counts nothing.
#[classifier]
fn check_tc(ctx: TcContext) -> i32 {
    answer(&Skb::new(ctx));
    TC_ACT_UNSPEC
}
