//! parse and decide against the naive model. The first byte chooses the link and the policy, the rest is the frame.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sipguard_ebpf::abi::LinkKind;
use sipguard_tests::{
    compiled::{Compiled, NOW},
    reference::{Model, expected},
    verdict_table::Config,
};

static POLICIES: OnceLock<[Compiled; 2]> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    let Some((&choice, frame)) = input.split_first() else {
        return;
    };
    let policies = POLICIES.get_or_init(|| Config::ALL.map(Config::compiled));
    let compiled = &policies[usize::from(choice >> 1 & 1)];
    let link = if choice & 1 == 0 {
        LinkKind::Ethernet
    } else {
        LinkKind::Ip
    };
    let model = Model {
        policy: &compiled.policy,
        own: &[],
        now: NOW.boot_ns,
    };
    assert_eq!(
        compiled.judge(frame, link, NOW.boot_ns),
        expected(frame, link, &model)
    );
});
