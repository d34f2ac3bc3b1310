//! At TC ingress: behind what the kernel does first with everything that comes in, and before what it does for anybody.

use aya_ebpf::{bindings::TC_ACT_UNSPEC, macros::classifier, programs::TcContext};

use super::{
    judge::{answer, enforce},
    skb::Skb,
    tell,
};

/// Filters.
#[classifier]
fn filter_tc(ctx: TcContext) -> i32 {
    enforce(&Skb::new(ctx)).cast_signed()
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
