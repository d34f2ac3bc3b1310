//! Telling of a packet, in a program of its own: who judges hands over what became of it, and does not come back.

use core::{mem::size_of, ptr};

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_F_CURRENT_CPU,
    helpers::{bpf_jiffies64, bpf_ktime_get_boot_ns, bpf_perf_event_output},
    macros::map,
    maps::{Array, PerCpuArray, PerfEventArray},
};
use sipguard_ebpf::{
    event::{BYTES_MOST, GRANT_LASTS, Grant, Record, SETS, Set, Teller, Told, place},
    flow::Flow,
    header::Family,
};

use super::{
    constants,
    received::{Contents, Received},
};

/// What a listener grants. It is read without a look-up: with nobody there, that is all that a drop pays.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.grant")]
static mut GRANT: Grant = Grant {
    reasons: 0,
    number: 0,
    events: 0,
    bytes: 0,
    seed: 0,
    second: 0,
    padding: 0,
};

#[map]
static TELLER: PerCpuArray<Teller> = PerCpuArray::with_max_entries(1, 0);
// All processors share them: a source is told of once, wherever its packets come in. It is written once a second and source.
#[map]
static TOLD: Array<Set> = Array::with_max_entries(SETS as u32, 0);
#[map]
static EVENTS: PerfEventArray<Record> = PerfEventArray::new(0);

/// A field of the grant, as it is now.
macro_rules! granted {
    ($field:ident) => {
        // SAFETY: the address of a static. Who grants writes it meanwhile, and any bytes are a number.
        unsafe { (&raw const GRANT.$field).read_volatile() }
    };
}

/// What is to be told of, as [`Grant::reasons`] has it; 0 where nobody listens.
#[inline(always)]
pub(super) fn wanted() -> u32 {
    granted!(reasons)
}

/// Notes what is to be told of, if it is [`wanted`], for the program that tells; returns whether to go on there. Of a flood most is left out here, before the
/// way to that program is paid for: as nothing is left of the grant, or by `told_before`, which is asked where something is.
#[inline(always)]
pub(super) fn note(wanted: u32, told: Told, told_before: impl FnOnce() -> bool) -> bool {
    if wanted >> (told.reason & 31) & 1 == 0 {
        return false;
    }
    let Some(teller) = TELLER.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the element is this CPU's own, and a program is not interrupted by another of its kind on the same CPU; the next program finds
    // it as it is left here.
    let teller = unsafe { &mut *teller };
    if !spends(teller) || told_before() {
        teller.left_out += 1;
        return false;
    }
    teller.told = told.packed();
    true
}

/// Whether a source was told of in this second, or there is no room for it.
#[inline(always)]
pub(super) fn told_before(source: [u64; 2]) -> bool {
    Place::of(source).is_none()
}

/// Goes on in the program that tells, and does not return. Where there is none, returns.
#[inline(always)]
pub(super) fn hand_on<R: Received>(context: &R::Context) {
    if !constants::silent() {
        // SAFETY: nothing here waits to be dropped.
        unsafe { R::tellers().tail_call(context, 0) };
    }
}

/// Tells of the packet that was handed on, and says what the program is to return.
#[inline(always)]
pub(super) fn tell<R: Received>(frame: &R) -> u32 {
    let Some(teller) = TELLER.get_ptr_mut(0) else {
        // There is an element.
        return R::DROP;
    };
    // SAFETY: as in `note`.
    let teller = unsafe { &mut *teller };
    let told = Told::unpacked(teller.told);
    let dropped = told.is_drop() && !constants::monitored(told.service);
    if !told_now(frame, teller, told, dropped) {
        teller.left_out += 1;
    }
    if dropped { R::DROP } else { R::PASS }
}

/// Whether there is something left of the grant.
#[inline(always)]
fn spends(teller: &mut Teller) -> bool {
    /// The clock is looked at for each packet left out whose number has these bits.
    const CLOCK_EVERY: u64 = 0xff;
    // SAFETY: takes nothing and only reads the clock.
    let jiffies = || unsafe { bpf_jiffies64() };
    let number = granted!(number);
    if teller.number != number {
        teller.number = number;
        teller.spent = 0;
        teller.since = jiffies();
    } else if teller.left_out & CLOCK_EVERY == CLOCK_EVERY && jiffies() > teller.since + GRANT_LASTS
    {
        // Who granted it is dead, or does not come to it. A grant that comes at this moment may be lost: the next one comes soon.
        // SAFETY: as in `granted`.
        unsafe { (&raw mut GRANT.reasons).write_volatile(0) };
        return false;
    }
    teller.spent < granted!(events)
}

/// Tells of it, unless its source was told of in this second; returns whether it did.
#[inline(always)]
fn told_now(frame: &impl Received, teller: &mut Teller, told: Told, dropped: bool) -> bool {
    who(frame, &mut teller.record);
    let Some(Place { way, mark }) = Place::of(teller.record.source) else {
        return false;
    };
    // SAFETY: the place of an element's number. Where two processors write it at once, one of two sources may be told of again.
    unsafe { way.write_volatile(mark) };
    // What fails is spent, too: a listener that does not read must not make drops dear.
    teller.spent += 1;
    if output(frame, teller, told, dropped) {
        teller.left_out = 0;
        return true;
    }
    // SAFETY: as above.
    unsafe { way.write_volatile(0) };
    false
}

/// Where a source is to be noted as told of, and as what.
struct Place {
    way: *mut u32,
    mark: u32,
}

impl Place {
    /// Nowhere if it was told of in this second, or there is no room for it.
    #[inline(always)]
    fn of(source: [u64; 2]) -> Option<Self> {
        let second = granted!(second);
        let (set, mark) = place(granted!(seed), second, source);
        let first = TOLD.get_ptr_mut(set)?.cast::<u32>();
        let mut free = None;
        let mut way = 0;
        while way < size_of::<Set>() / size_of::<u32>() {
            // SAFETY: the place of one of the set's numbers, which any bytes are.
            let (way_there, other) = unsafe { (first.add(way), first.add(way).read_volatile()) };
            if other == mark {
                return None;
            }
            if free.is_none() && other & 0xff != second & 0xff {
                free = Some(way_there);
            }
            way += 1;
        }
        free.map(|way| Self { way, mark })
    }
}

/// Notes who sends to whom.
#[inline(always)]
fn who(frame: &impl Received, record: &mut Record) {
    match Flow::of(frame, constants::link()) {
        Some(flow) => {
            record.source = flow.source;
            record.destination = flow.destination;
            record.family = match flow.family {
                Family::V4 => 4,
                Family::V6 => 6,
            };
            record.protocol = flow.protocol;
            let [from, to] = flow.ports;
            record.source_port = u16::from_be_bytes(from);
            record.port = u16::from_be_bytes(to);
        }
        None => {
            record.source = [0; 2];
            record.destination = [0; 2];
            record.family = 0;
            record.protocol = 0;
            record.source_port = 0;
            record.port = 0;
        }
    }
}

/// Hands an event to the listener, with who was noted before; returns whether that has room for it.
#[inline(always)]
fn output(frame: &impl Received, teller: &mut Teller, told: Told, dropped: bool) -> bool {
    let Contents {
        kind,
        front,
        tag,
        bytes,
    } = frame.contents();
    let wanted = granted!(bytes).min(BYTES_MOST as u32) + front;
    // Written where it stays, one field after the other: on the stack the compiler would write two bytes at once where the kernel takes only one.
    let record = &mut teller.record;
    // SAFETY: takes nothing and only reads the clock.
    record.boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    record.left_out = teller.left_out;
    record.generation = constants::generation();
    record.length = frame.size(frame.known(usize::MAX)).bytes as u32;
    record.bytes = wanted.min(bytes);
    record.kind = kind;
    record.front = front as u16;
    record.tag = tag;
    record.slot = constants::slot() as u16;
    record.link = constants::link() as u8;
    record.reason = told.reason;
    record.service = told.service;
    record.enforced = u8::from(dropped == told.is_drop());
    let flags = u64::from(record.bytes) << 32 | BPF_F_CURRENT_CPU;
    // SAFETY: the map and the context are what the helper takes, and the record is as long as is said.
    let result = unsafe {
        bpf_perf_event_output(
            frame.context().as_ptr(),
            ptr::from_ref(&EVENTS).cast_mut().cast(),
            flags,
            ptr::from_mut(record).cast(),
            size_of::<Record>() as u64,
        )
    };
    result == 0
}
