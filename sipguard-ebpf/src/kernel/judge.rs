//! What is done with a verdict, wherever in the kernel the frame was met.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use sipguard_ebpf::{
    abi::{Action, Answer, Reason},
    header::Family,
    parse::{Packet, plain},
    verdict::{Verdict, decide, judge, judge_general},
};

use super::{
    constants,
    maps::{self, Datagrams},
    policy::Policy,
    received::Received,
};

/// Judges, counts, and says what is to be done.
#[inline(always)]
pub(super) fn enforce<R: Received>(frame: &R) -> Action {
    let Some(packet) = plain(frame, constants::link(), constants::protocols()) else {
        return if enforce_general::<R>(frame.context().as_ptr()) {
            Action::Drop
        } else {
            Action::Pass
        };
    };
    let verdict = decide(&packet, &Policy::<true>);
    carry_out(frame, Some(packet), verdict)
}

/// The same for what is not plain; returns whether it is to be dropped. A function by itself: in line it takes registers from what is.
#[inline(never)]
fn enforce_general<R: Received>(context: *mut c_void) -> bool {
    let frame = R::of(context);
    let (parsed, verdict) = judge_general(&frame, &Policy::<false>, &Datagrams);
    carry_out(&frame, parsed, verdict) == Action::Drop
}

/// Counts, and says what is to be done.
#[inline(always)]
fn carry_out(frame: &impl Received, parsed: Option<Packet>, verdict: Verdict) -> Action {
    if verdict.reason == Reason::None {
        return Action::Pass;
    }
    let last = parsed.map_or(usize::MAX, |parsed| parsed.last);
    maps::count(verdict, frame.size(last));
    match verdict.action() {
        Action::Drop if !constants::monitored(verdict.service) => {
            #[cfg(feature = "log")]
            aya_log_ebpf::debug!(
                frame.context(),
                "slot {} service {}: drop {}",
                constants::slot(),
                verdict.service,
                verdict.reason.name()
            );
            Action::Drop
        }
        Action::Drop | Action::Pass => Action::Pass,
    }
}

/// Leaves behind what [`enforce`] would find, and counts nothing.
#[inline(always)]
pub(super) fn answer(frame: &impl Received) {
    let (parsed, verdict) = judge(frame, &Policy::<false>);
    let mut answer = Answer {
        reason: verdict.reason as u8,
        service: verdict.service,
        length: verdict.length,
        layer: verdict.layer as u8,
        ..Answer::default()
    };
    if let Some(parsed) = parsed {
        answer.protocol = parsed.protocol as u8;
        answer.port = u16::from_be_bytes(parsed.port);
        answer.family = match parsed.source.family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        answer.source = parsed.source.words;
    }
    maps::answer(answer);
}
