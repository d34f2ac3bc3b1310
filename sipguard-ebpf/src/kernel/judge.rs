//! What is done with a verdict, wherever in the kernel the frame was met.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use sipguard_ebpf::{
    abi::{Action, Answer, Fate, counter},
    event::Told,
    header::Family,
    parse::{Plain, general, plain},
    verdict::{Verdict, judge_general, judged, listed},
};

use super::{
    constants,
    maps::{self, Datagrams},
    policy::Policy,
    received::Received,
    tell,
};

/// Judges, counts, leaves the rest to the program that tells where somebody listens, and says what the program is to return. `general` is
/// [`enforce_general`] for the frame of a context.
#[inline(always)]
pub(super) fn enforce<R: Received>(frame: &R, general: impl FnOnce(*mut c_void) -> Outcome) -> u32 {
    let (packet, guard) = match plain(frame, constants::link(), constants::guard) {
        Plain::Unguarded => return R::PASS,
        Plain::Guarded(packet, guard) => (packet, guard),
        Plain::Not => {
            let context = Kept(frame.context().as_ptr());
            let outcome = general(frame.context().as_ptr());
            if outcome > u64::from(R::PASS.max(R::DROP)) {
                tell::hand_on::<R>(R::of(context.get()).context());
            }
            return outcome as u32;
        }
    };
    let context = Kept(frame.context().as_ptr());
    let known = Kept(frame.known(packet.last));
    let [high, low] = packet.source.words.map(Kept);
    let fate = match listed(packet.source, guard, &Policy::<true>) {
        None => Fate::unlisted(guard),
        Some(decided) => Fate::listed(guard, decided.reason),
    };
    let size = R::of(context.get()).size(known.get());
    maps::count(fate.counter(), size);
    let wanted = tell::wanted();
    if wanted != 0
        && tell::note(wanted, Told::counted(fate.counter()), || {
            told_before(high.get(), low.get())
        })
    {
        tell::hand_on::<R>(R::of(context.get()).context());
    }
    if fate.drops() { R::DROP } else { R::PASS }
}

/// What is put away until it is needed: in a register it would be in the way of those who need none of it, and calculated with what it came from.
struct Kept<T>(T);

impl<T: Copy> Kept<T> {
    #[inline(always)]
    fn get(&self) -> T {
        // SAFETY: the address of a field. Volatile, so that it is read there and then.
        unsafe { (&raw const self.0).read_volatile() }
    }
}

/// What the program is to return; with [`TOLD`] where it is to be told of.
pub(super) type Outcome = u64;
const TOLD: Outcome = 1 << 32;

/// The same for what is not plain, up to the telling. It belongs in a function by itself: in line it takes registers from what is plain. And in a
/// global one (see `super::policy`): of what another function returns the verifier of kernels before 6.5 can't tell where it comes from, and takes
/// all numbers for what counts.
#[inline(always)]
pub(super) fn enforce_general<R: Received>(frame: &R) -> Outcome {
    let Some((packet, verdict)) = judge_general(frame, &Policy::<false>, &Datagrams) else {
        return u64::from(R::PASS);
    };
    let Verdict {
        reason, service, ..
    } = verdict;
    let last = packet.map_or(usize::MAX, |packet| packet.last);
    let counter = counter(service, reason);
    maps::count(counter, frame.size(frame.known(last)));
    let drops = reason.action() == Action::Drop && !constants::monitored(service);
    let outcome = u64::from(if drops { R::DROP } else { R::PASS });
    let wanted = tell::wanted();
    if wanted != 0 && tell::note(wanted, Told::counted(counter), || false) {
        return outcome | TOLD;
    }
    outcome
}

/// Whether a source was told of in this second. A function by itself, and one that is not made to measure for those that call it: nothing of it
/// is to be made ready where nobody listens.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn told_before(high: u64, low: u64) -> bool {
    tell::told_before([high, low])
}

/// Leaves behind what [`enforce`] would find, and counts nothing.
#[inline(always)]
pub(super) fn answer(frame: &impl Received) {
    // The general way takes plain frames, too: with both in one program older kernels verify it for long.
    let parsed = general(frame, constants::link(), constants::protocols());
    let (parsed, verdict) = judged(parsed, &Policy::<false>);
    let mut answer = Answer {
        reason: verdict.reason as u8,
        service: verdict.service,
        length: verdict.length,
        layer: verdict.layer as u8,
        ..Answer::default()
    };
    if let Some(parsed) = parsed {
        answer.protocol = parsed.protocol as u8;
        answer.port = u16::from_be(parsed.port);
        answer.family = match parsed.source.family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        answer.source = parsed.source.words;
    }
    maps::answer(answer);
}
