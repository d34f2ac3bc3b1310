//! At TC ingress: behind what the kernel does first with everything that comes in, and before what it does for anybody.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};
use sipguard_ebpf::abi::Action;

use super::{
    judge::{answer, enforce},
    skb::Skb,
};

/// Filters.
#[classifier]
fn filter_tc(ctx: TcContext) -> i32 {
    match enforce(&Skb::new(ctx)) {
        // Whoever is next is asked.
        Action::Pass => TC_ACT_UNSPEC,
        Action::Drop => TC_ACT_SHOT as i32,
    }
}

/// Answers what [`filter_tc`] would do, and counts nothing.
#[classifier]
fn check_tc(ctx: TcContext) -> i32 {
    answer(&Skb::new(ctx));
    TC_ACT_UNSPEC
}
