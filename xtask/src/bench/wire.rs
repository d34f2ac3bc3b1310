//! The wire into the gateway. The provider's packets and a scanner's flood go over it one behind the other, as they do on a real one: a
//! program in the kernel merges them packet by packet, at a rate that does not depend on what the gateway does with them. (Senders that
//! took turns on a processor would leave the gateway time to empty its queue before each of the provider's packets.)

use std::{
    io,
    net::IpAddr,
    panic,
    sync::atomic::{AtomicI32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::{
    process::{getpriority_process, setpriority_process},
    thread::gettid,
};

use super::{
    bpf::{
        ADD, AND, EXIT, GET_PRANDOM_U32, JUMP, JUMP_IF_ABOVE, JUMP_IF_AT_MOST, JUMP_IF_BELOW,
        JUMP_IF_EQUAL, JUMP_UNLESS, KTIME_GET_NS, LOAD_U8, LOAD_U16, LOAD_U64, MAP_POP, MAP_PUSH,
        Memory, Program, Queue, SECOND_HALF, SHIFT_RIGHT, STORE, STORE_U32, STORE_U64, Source,
        XDP_ADJUST_HEAD, XDP_ADJUST_TAIL, XDP_DROP, XDP_LENGTH, XDP_LOAD_BYTES, XDP_PASS,
        XDP_STORE_BYTES, call, copy, data, instruction, redirect, sending, set,
    },
    frames,
    lists::COMPLEMENTS,
};
use crate::netns::{Host, Mac};

const NS: u32 = 1_000_000_000;
/// Packets of the flood in a row, as a network card hands them over with one interrupt.
const ROW: u32 = 32;
/// What can't be sent in time is not made up for, beyond this many nanoseconds.
const LATE: i32 = 200_000;
/// Behind what it carries packets for.
const LESS: i32 = 5;
const GLANCE: Duration = Duration::from_millis(1);
/// Becomes other letters in each packet of the flood.
const VARIED: &str = "########";
/// A packet of the provider's is looked for in one turn of 1,024, some 0.1 ms: not as soon as its sender has given the processor back, when
/// the gateway has had time to empty its queue, but at any moment of the flood.
const SELDOM: i32 = 0x3ff;
/// The longest frame of the provider's.
const LONGEST: i32 = 1_600;
/// A frame behind its length.
type Held = [u64; 1 + LONGEST as usize / 8];
const BYTES: i32 = 8;

/// The words of memory that the program keeps.
#[derive(Clone, Copy)]
enum Word {
    /// When the next row may begin, in nanoseconds.
    Due,
    /// Packets left of this row.
    Left,
    Sent,
}

impl Word {
    const COUNT: usize = 3;

    const fn offset(self) -> i16 {
        self as i16 * 8
    }
}

pub(super) struct Wire {
    /// Runs where the provider's packets come in.
    hold: Program,
    program: Program,
    memory: Memory<[u64; Word::COUNT]>,
    frame: Vec<u8>,
    _held: Queue<Held>,
    _scratch: [Memory<Held>; 2],
}

impl Wire {
    /// Out of an interface, with `rate` packets of the flood a second, or as many as one processor sends.
    pub(super) fn new(
        interface: u32,
        rate: Option<u32>,
        macs: [Mac; 2],
        target: IpAddr,
    ) -> Result<Self> {
        let scan = options(target);
        let frame = frames::udp(macs, COMPLEMENTS, target, 5060, false, scan.as_bytes());
        let (held, memory) = (Queue::new(256)?, Memory::new()?);
        let scratch = [Memory::new()?, Memory::new()?];
        let mut instructions = merged(&held, &scratch[0], &frame, interface)?;
        if rate == Some(0) {
            instructions.extend([set(0, XDP_DROP), EXIT]);
        } else {
            instructions.extend(paced(&memory, rate)?);
            instructions.extend(varied(&frame)?);
            instructions.extend(sending(interface, Source::V4 as i16)?);
        }
        Ok(Self {
            hold: Program::load(&held_back(macs, &held, &scratch[1]), None)?,
            program: Program::load(&instructions, None)?,
            memory,
            frame,
            _held: held,
            _scratch: scratch,
        })
    }

    /// Takes the packets that come in by an interface.
    pub(super) fn take(&self, host: &Host, interface: &str) -> Result<()> {
        self.hold.attach(host, interface)
    }

    /// Carries packets while something is done.
    pub(super) fn carry<T>(&self, host: &Host, during: impl FnOnce() -> Result<T>) -> Result<T> {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: a handler that does nothing may run at any time.
        unsafe { libc::signal(libc::SIGUSR1, nothing as *const () as libc::sighandler_t) };
        let thread = AtomicI32::new(0);
        thread::scope(|scope| {
            let carrier = scope.spawn(|| {
                host.enter(|| {
                    // Who wants to send may do so at once.
                    setpriority_process(None, getpriority_process(None)? + LESS)?;
                    thread.store(gettid().as_raw_nonzero().get(), Ordering::Relaxed);
                    self.program.inject(&self.frame, u32::MAX)
                })
            });
            let done = during();
            // One run of the program is all, because the kernel takes its time between two. Only a signal ends it.
            while !carrier.is_finished() {
                // SAFETY: signals a thread of ours, if it is still there.
                unsafe {
                    libc::syscall(
                        libc::SYS_tgkill,
                        libc::getpid(),
                        thread.load(Ordering::Relaxed),
                        libc::SIGUSR1,
                    )
                };
                thread::sleep(GLANCE);
            }
            let ended = carrier
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic));
            match ended {
                Err(error) if !is_interrupted(&error) => Err(error),
                _ => done,
            }
        })
    }

    /// Packets of the flood so far, with those that found the gateway's queue full.
    pub(super) fn flooded(&self) -> Result<u64> {
        Ok(self.memory.read()?[Word::Sent as usize])
    }
}

fn is_interrupted(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::Interrupted)
}

/// Takes UDP packets, addresses them to the gateway and puts them in the queue; all else passes, which is where the long jumps end.
fn held_back(macs: [Mac; 2], queue: &Queue<Held>, scratch: &Memory<Held>) -> Vec<u64> {
    let [from, to] = macs;
    let addresses = [to, from].concat();
    let word = |place: u8| {
        let bytes = [0, 1, 2, 3].map(|byte| addresses[usize::from(place + byte)]);
        instruction(STORE, 2, 0, i16::from(place), i32::from_ne_bytes(bytes))
    };
    let mut instructions = vec![copy(6, 1)];
    instructions.extend(data(34));
    instructions.extend([
        instruction(LOAD_U16, 1, 2, 12, 0),
        instruction(JUMP_IF_EQUAL, 1, 0, 3, i32::from(0x0800_u16.to_be())),
        instruction(JUMP_UNLESS, 1, 0, 27, i32::from(0x86dd_u16.to_be())),
        instruction(LOAD_U8, 1, 2, 20, 0),
        instruction(JUMP, 0, 0, 1, 0),
        instruction(LOAD_U8, 1, 2, 23, 0),
        instruction(JUMP_UNLESS, 1, 0, 23, 17),
        word(0),
        word(4),
        word(8),
        copy(1, 6),
        call(XDP_LENGTH),
        instruction(JUMP_IF_ABOVE, 0, 0, 17, LONGEST),
        instruction(JUMP_IF_BELOW, 0, 0, 16, 1),
        scratch.address(8),
        SECOND_HALF,
        instruction(STORE_U64, 8, 0, 0, 0),
        copy(1, 6),
        set(2, 0),
        copy(3, 8),
        instruction(ADD, 3, 0, 0, BYTES),
        copy(4, 0),
        call(XDP_LOAD_BYTES),
    ]);
    instructions.extend(queue.call(MAP_PUSH, 8));
    instructions.extend([set(0, XDP_DROP), EXIT, set(0, XDP_PASS), EXIT]);
    instructions
}

/// The beginning of the program: sends a packet of the provider's, if one waits. Its bytes are put behind the flood's own, which are still
/// there when the frame comes round again.
fn merged(
    queue: &Queue<Held>,
    scratch: &Memory<Held>,
    frame: &[u8],
    interface: u32,
) -> Result<Vec<u64>> {
    let mut send = vec![
        instruction(LOAD_U64, 7, 9, 0, 0),
        instruction(JUMP_IF_ABOVE, 7, 0, 1, LONGEST),
        instruction(JUMP_IF_ABOVE, 7, 0, 2, 0),
        set(0, XDP_DROP),
        EXIT,
        copy(1, 6),
        copy(2, 7),
        call(XDP_ADJUST_TAIL),
        copy(1, 6),
        set(2, i32::try_from(frame.len())?),
        call(XDP_ADJUST_HEAD),
        copy(1, 6),
        set(2, 0),
        copy(3, 9),
        instruction(ADD, 3, 0, 0, BYTES),
        copy(4, 7),
        call(XDP_STORE_BYTES),
    ];
    send.extend(redirect(interface)?);
    let pop = queue.call(MAP_POP, 9);
    let rest = send.len();
    let mut instructions = vec![
        copy(6, 1),
        scratch.address(9),
        SECOND_HALF,
        call(GET_PRANDOM_U32),
        instruction(AND, 0, 0, 0, SELDOM),
        instruction(JUMP_UNLESS, 0, 0, i16::try_from(pop.len() + 1 + rest)?, 0),
    ];
    instructions.extend(pop);
    instructions.push(instruction(JUMP_UNLESS, 0, 0, i16::try_from(rest)?, 0));
    instructions.extend(send);
    Ok(instructions)
}

/// Ends the program where nothing of the flood is due.
fn paced(memory: &Memory<[u64; Word::COUNT]>, rate: Option<u32>) -> Result<Vec<u64>> {
    let row = i32::try_from(rate.map_or(0, |rate| NS / rate * ROW)).context("too slow a flood")?;
    let [due, left, sent] = [Word::Due, Word::Left, Word::Sent].map(Word::offset);
    Ok(vec![
        memory.address(8),
        SECOND_HALF,
        instruction(LOAD_U64, 7, 8, left, 0),
        instruction(JUMP_UNLESS, 7, 0, 11, 0),
        call(KTIME_GET_NS),
        instruction(LOAD_U64, 1, 8, due, 0),
        instruction(JUMP_IF_AT_MOST, 1, 0, 2, 0),
        set(0, XDP_DROP),
        EXIT,
        instruction(ADD, 0, 0, 0, -LATE),
        instruction(JUMP_IF_AT_MOST, 0, 1, 1, 0),
        copy(1, 0),
        instruction(ADD, 1, 0, 0, row),
        instruction(STORE_U64, 8, 1, due, 0),
        set(7, ROW.cast_signed()),
        instruction(ADD, 7, 0, 0, -1),
        instruction(STORE_U64, 8, 7, left, 0),
        instruction(LOAD_U64, 7, 8, sent, 0),
        instruction(ADD, 7, 0, 0, 1),
        instruction(STORE_U64, 8, 7, sent, 0),
    ])
}

/// Writes letters, a to p, from one random number over all that is to vary.
fn varied(frame: &[u8]) -> Result<Vec<u64>> {
    let mut places = Vec::new();
    for (place, window) in frame.windows(VARIED.len()).enumerate() {
        if window == VARIED.as_bytes() {
            places.push(i16::try_from(place)?);
        }
    }
    let mut instructions = vec![call(GET_PRANDOM_U32), copy(7, 0)];
    instructions.extend(data(i32::try_from(frame.len())?));
    for half in [0, 4] {
        instructions.extend([
            copy(1, 7),
            instruction(AND, 1, 0, 0, 0x0f0f_0f0f),
            instruction(ADD, 1, 0, 0, 0x6161_6161),
            instruction(SHIFT_RIGHT, 7, 0, 0, 4),
        ]);
        let stores = places.iter();
        instructions.extend(stores.map(|place| instruction(STORE_U32, 2, 1, place + half, 0)));
    }
    Ok(instructions)
}

/// As svmap writes them.
pub(super) fn options(target: IpAddr) -> String {
    let lines = [
        format!("OPTIONS sip:100@{target} SIP/2.0"),
        format!("Via: SIP/2.0/UDP 127.0.1.1:5060;branch=z9hG4bK-{VARIED};rport"),
        "Max-Forwards: 70".to_owned(),
        "To: \"sipvicious\"<sip:100@1.1.1.1>".to_owned(),
        format!("From: \"sipvicious\"<sip:100@1.1.1.1>;tag={VARIED}"),
        "User-Agent: friendly-scanner".to_owned(),
        format!("Call-ID: {VARIED}"),
        "Contact: sip:100@127.0.1.1:5060".to_owned(),
        "CSeq: 1 OPTIONS".to_owned(),
        "Accept: application/sdp".to_owned(),
        "Content-Length: 0".to_owned(),
    ];
    lines.join("\r\n") + "\r\n\r\n"
}
