//! What is done with a verdict, wherever in the kernel the frame was met.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use sipguard_ebpf::{
    abi::{Action, Answer, Reason},
    event::Told,
    header::Family,
    parse::{Packet, plain},
    verdict::{Verdict, decide, judge, judge_general},
};

use super::{
    constants,
    maps::{self, Datagrams},
    policy::Policy,
    received::{Received, Size},
    tell,
};

/// Judges, counts, leaves the rest to the program that tells where somebody listens, and says what the program is to return.
#[inline(always)]
pub(super) fn enforce<R: Received>(frame: &R) -> u32 {
    let outcome = match plain(frame, constants::link(), constants::protocols()) {
        Some(packet) => carry_out(frame, Some(packet), decide(&packet, &Policy::<true>)),
        None => enforce_general::<R>(frame.context().as_ptr()),
    };
    if outcome > u64::from(R::PASS.max(R::DROP)) {
        tell::hand_on(frame);
    }
    outcome as u32
}

/// What the program is to return; with [`TOLD`] where it is to be told of.
type Outcome = u64;
const TOLD: Outcome = 1 << 32;

/// The same for what is not plain, up to the telling. A function by itself: in line it takes registers from what is.
#[inline(never)]
fn enforce_general<R: Received>(context: *mut c_void) -> Outcome {
    let frame = R::of(context);
    let (parsed, verdict) = judge_general(&frame, &Policy::<false>, &Datagrams);
    carry_out(&frame, parsed, verdict)
}

/// Counts, and says what is to be done.
#[inline(always)]
fn carry_out<R: Received>(frame: &R, parsed: Option<Packet>, verdict: Verdict) -> Outcome {
    let Verdict {
        reason, service, ..
    } = verdict;
    if reason == Reason::None {
        return u64::from(R::PASS);
    }
    if tell::somebody_listens() {
        // The frame's length is asked for: where the packet ends would have to be kept for this.
        let Size { packets, bytes } = frame.size(usize::MAX);
        let noted = count_and_note(reason as u8, service, packets, bytes);
        return action::<R>(reason, service) | noted;
    }
    let last = parsed.map_or(usize::MAX, |parsed| parsed.last);
    maps::count(reason as u8, service, frame.size(last));
    action::<R>(reason, service)
}

/// Counts, and notes what is to be told of; returns [`TOLD`] or nothing. A function by itself, and one that is not made to measure for those that
/// call it: nothing of it is to be made ready where nobody listens.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_and_note(reason: u8, service: u8, packets: u64, bytes: u64) -> Outcome {
    maps::count(reason, service, Size { packets, bytes });
    if tell::note(Told { reason, service }) {
        TOLD
    } else {
        0
    }
}

/// What is to be done for this reason: what the policy says, but in monitor mode.
#[inline(always)]
fn action<R: Received>(reason: Reason, service: u8) -> Outcome {
    u64::from(match reason.action() {
        Action::Drop if !constants::monitored(service) => R::DROP,
        Action::Drop | Action::Pass => R::PASS,
    })
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
