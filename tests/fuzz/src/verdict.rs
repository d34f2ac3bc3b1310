//! parse and decide against the naive model. The first byte chooses the link and the policy, and whether the frame is judged as it is or cut
//! to each of its lengths; the rest is the frame.
//!
//! A frame is memory of just its own length, and AddressSanitizer ends the run where anything beyond is read.
#![no_main]
#![feature(cfg_sanitize)]

#[cfg(not(sanitize = "address"))]
compile_error!(
    "run it with `cargo xtask fuzz`: without AddressSanitizer it would show less than it says"
);

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sipguard_ebpf::abi::LinkKind;
use sipguard_tests::{
    compiled::{Compiled, NOW},
    reference::{Model, expected},
    verdict_table::Config,
};

/// In the first byte.
const EVERY_LENGTH: u8 = 4;

static POLICIES: OnceLock<[Compiled; 2]> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    let Some((&choice, frame)) = input.split_first() else {
        return;
    };
    let policies = POLICIES.get_or_init(|| Config::FILES.map(Config::compiled));
    let compiled = &policies[usize::from(choice >> 1 & 1)];
    let link = if choice & 1 == 0 {
        LinkKind::Ethernet
    } else {
        LinkKind::Ip
    };
    let model = Model {
        policy: &compiled.policy,
        own: &[],
        bans: &[],
        now: NOW.boot_ns,
    };
    let judge = |frame: Box<[u8]>| {
        assert_eq!(
            compiled.judge(&frame, link, NOW.boot_ns),
            expected(&frame, link, &model)
        );
    };
    if choice & EVERY_LENGTH == 0 {
        judge(frame.into());
    } else {
        (0..=frame.len()).for_each(|length| judge(frame[..length].into()));
    }
});
