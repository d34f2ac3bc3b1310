//! Whether a program that is attached really runs: a driver can take one and never run it, or forget it and go on naming it.
//!
//! The kernel counts how often a program runs while somebody asks for it (`BPF_ENABLE_STATS`, Linux 5.8), and every driver counts what it
//! receives. Packets that arrive without the program running are proof that it does not; one run is proof that it does.
//!
//! To see that takes as long as it takes until something arrives. So what was seen is noted, and those who ask often go by that for a while, as
//! long as the interface has not begun anew since.

use std::{thread, time::Duration};

use aya::sys::{Stats, enable_stats};
use serde::{Deserialize, Serialize};

use super::{
    Error,
    program::Loaded,
    text::{Text, keep_text, text},
};
use crate::device::{self, Device, Hook};

/// How often is looked, and how long in between. Drivers may count a burst some time after it went through the program, so that one
/// look proves nothing against it.
const LOOKS: usize = 10;
const PAUSE: Duration = Duration::from_millis(50);
/// In so many of the pauses packets must have arrived without one run.
const ENOUGH: usize = 2;
/// Before these pauses neighbours are asked, so that their answers come in as many as it takes.
const ASKED: [usize; ENOUGH] = [1, 4];
/// Before all that, looks for a program that runs, which takes no more than a packet or a neighbour's answer: most do, and whoever asks need not
/// wait. Milliseconds. Before the second one neighbours are asked.
const FIRST_LOOKS: [u64; 4] = [1, 2, 4, 8];

/// How long what was seen is believed, in nanoseconds: the timer of `repair` looks every minute, and is not very exact.
const BELIEVED: u64 = 3 * 60 * 1_000_000_000;

/// What became of a program while it was watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// It ran.
    Runs,
    /// Packets arrived and it did not run.
    Blind,
    /// It ran, and not for all that arrived.
    Partly,
    /// Nothing arrived that it could have run for.
    Quiet,
}

/// What one goes by who asks whether programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// What was seen in the last minutes will do.
    Seen,
    /// They are watched.
    Nothing,
}

/// How a program on an interface was seen, and what has to be as it was then for that to be true still.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Seen {
    program: u32,
    proof: Proof,
    /// By the boot clock.
    at_ns: u64,
    index: u32,
    mtu: u32,
    carrier_changes: u32,
    received: u64,
}

impl Seen {
    fn new(program: u32, proof: Proof, device: &Device, now_ns: u64) -> Self {
        Self {
            program,
            proof,
            at_ns: now_ns,
            index: device.index,
            mtu: device.mtu,
            carrier_changes: device.carrier_changes,
            received: device.received,
        }
    }

    fn is_believed(&self, now_ns: u64) -> bool {
        now_ns
            .checked_sub(self.at_ns)
            .is_some_and(|age| age < BELIEVED)
    }

    /// Whether it is still so: an interface that has begun anew may have forgotten its program, and where nothing has arrived yet something may have
    /// by now.
    fn holds(&self, device: &Device, now_ns: u64) -> bool {
        let begun = (self.index, self.mtu, self.carrier_changes);
        let is_same = begun == (device.index, device.mtu, device.carrier_changes);
        let is_proof = match self.proof {
            Proof::Runs => true,
            Proof::Quiet => self.received == device.received,
            // That somebody may have mended.
            Proof::Blind | Proof::Partly => false,
        };
        is_same && is_proof && self.is_believed(now_ns)
    }
}

/// What was seen, as far as it is noted.
fn all_seen() -> Vec<Seen> {
    let noted = text(Text::Proofs).ok().flatten();
    let seen = noted.and_then(|noted| serde_json::from_slice(&noted).ok());
    seen.unwrap_or_default()
}

/// Notes what was seen, in the place of what was noted of the same programs. Of two that note at once, one may be lost, and is seen again.
fn note(new: Vec<Seen>, now_ns: u64) {
    let mut seen = all_seen();
    seen.retain(|old| {
        let mut new = new.iter();
        old.is_believed(now_ns) && !new.any(|new| new.program == old.program)
    });
    seen.extend(new);
    // Numbers can be written; and what can't be noted is seen again.
    let _ = keep_text(Text::Proofs, &serde_json::to_vec(&seen).unwrap_or_default());
}

/// Notes that a program runs on a device that has just taken it, and is of the kernel's own: for all that it receives now, it does.
pub(super) fn note_attached(program: u32, device: &Device, now_ns: u64) {
    note(
        vec![Seen::new(program, Proof::Runs, device, now_ns)],
        now_ns,
    );
}

/// Notes that a program has the place of another one: where a link runs one program, it runs the next one.
pub(super) fn note_replaced(old: u32, new: u32, now_ns: u64) {
    let seen = all_seen().into_iter().find(|seen| seen.program == old);
    if let Some(seen) = seen {
        note(
            vec![Seen {
                program: new,
                ..seen
            }],
            now_ns,
        );
    }
}

/// What becomes of programs on these devices. Those that were seen in the last minutes, where it is still so, need not be watched for it.
///
/// # Errors
/// As [`watch`].
pub fn proofs(programs: &[(&Device, u32)], trust: Trust, now_ns: u64) -> Result<Vec<Proof>, Error> {
    let watch = || {
        let programs = programs.iter();
        let programs: Vec<_> = programs
            .map(|(device, program)| (device.index, *program))
            .collect();
        watch(&programs, now_ns)
    };
    if trust == Trust::Nothing {
        return watch();
    }
    let seen = all_seen();
    let known = programs.iter().map(|&(device, program)| {
        let mut seen = seen.iter();
        let seen = seen.find(|seen| seen.program == program && seen.holds(device, now_ns))?;
        Some(seen.proof)
    });
    let known: Option<Vec<_>> = known.collect();
    match known {
        Some(known) => Ok(known),
        None => watch(),
    }
}

fn devices() -> Result<Vec<Device>, Error> {
    device::all().map_err(|error| Error::io("can't ask the kernel for its interfaces", &error))
}

/// A program on an interface, as it is watched.
struct Watched {
    /// The interface's number.
    index: u32,
    /// The program's number, and the program, if it is still there.
    number: u32,
    program: Option<Loaded>,
    /// Whether the interface may run it for some packets and not for others.
    in_part: bool,
    /// At the last look: how often it had run, what the interface had received.
    runs: u64,
    received: u64,
    has_run: bool,
    /// In how many pauses more packets arrived than it ran for.
    missed: usize,
}

/// Whether a native program may run for some packets on an interface and not for others, and both are counted at once: on the end of a veth
/// pair. One that gets more receive queues meanwhile runs no program for what comes by these (`veth_set_channels` in drivers/net/veth.c;
/// 6.1.176, 6.18; not 6.12.117 and 7.2.13), and none has it for what `bpf_redirect_peer` puts into it.
pub(super) fn may_run_in_part(device: &Device) -> bool {
    device.kind.as_deref() == Some("veth")
}

/// Whether a program is in an interface's driver.
fn is_native(device: &Device, program: u32) -> bool {
    let mut attached = device.xdp.iter();
    attached.any(|it| it.program == program && it.hook == Hook::Native)
}

/// Watches programs for half a second, less where all have run: pairs of an interface's number and that of the program on it. Where nothing
/// arrives, the interface's neighbours are asked whether they are there, which brings an answer where there is one. What is seen is noted.
///
/// # Errors
/// Where the kernel can't be asked, or is older than 5.8.
pub fn watch(programs: &[(u32, u32)], now_ns: u64) -> Result<Vec<Proof>, Error> {
    if programs.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Error::kernel("can't ask how often a program has run", error)
    };
    // Counted as long as this is open.
    let _counting = enable_stats(Stats::RunTime).map_err(|error| failed(&error))?;
    let mut watched: Vec<_> = programs
        .iter()
        .map(|&(index, number)| Watched {
            index,
            number,
            program: Loaded::numbered(number).ok(),
            in_part: false,
            runs: 0,
            received: 0,
            has_run: false,
            missed: 0,
        })
        .collect();
    let mut devices = look(&mut watched, |_, _, _| ())?;
    for (turn, pause) in FIRST_LOOKS.into_iter().enumerate() {
        if turn == 1 {
            ask_neighbours(&watched);
        }
        thread::sleep(Duration::from_millis(pause));
        devices = look(&mut watched, Watched::note_runs)?;
        if all_run(&watched) {
            break;
        }
    }
    for turn in 0..LOOKS {
        if all_run(&watched) {
            break;
        }
        if ASKED.contains(&turn) {
            ask_neighbours(&watched);
        }
        thread::sleep(PAUSE);
        devices = look(&mut watched, Watched::compare)?;
    }
    let seen = watched.iter().filter_map(|it| {
        let device = devices.iter().find(|device| device.index == it.index)?;
        Some(Seen::new(it.number, it.proof(), device, now_ns))
    });
    note(seen.collect(), now_ns);
    Ok(watched.iter().map(Watched::proof).collect())
}

/// Whether nothing more can come of watching.
fn all_run(watched: &[Watched]) -> bool {
    watched.iter().all(|it| it.has_run && !it.in_part)
}

/// Has something arrive where nothing has.
fn ask_neighbours(watched: &[Watched]) {
    let quiet = watched
        .iter()
        .filter(|it| !it.has_run && it.missed < ENOUGH);
    for quiet in quiet {
        // Only helps where it can.
        let _ = device::probe(quiet.index);
    }
}

impl Watched {
    /// Whether it has run; of what arrived meanwhile nothing follows yet.
    fn note_runs(&mut self, _received: u64, runs: u64) {
        self.has_run |= runs > self.runs;
    }

    /// What the interface had received before the program's runs were asked for, and what these were.
    fn compare(&mut self, received: u64, runs: u64) {
        let (arrived, ran) = (received.saturating_sub(self.received), runs - self.runs);
        self.has_run |= ran > 0;
        if arrived > ran && (self.in_part || !self.has_run) {
            self.missed += 1;
        }
    }

    fn proof(&self) -> Proof {
        match (self.has_run, self.missed >= ENOUGH) {
            (true, true) if self.in_part => Proof::Partly,
            (true, _) => Proof::Runs,
            (false, true) => Proof::Blind,
            (false, false) => Proof::Quiet,
        }
    }
}

/// Hands what each interface has received and how often each program has run to `then`, and keeps both for the next look. Returns the
/// interfaces.
fn look(watched: &mut [Watched], then: fn(&mut Watched, u64, u64)) -> Result<Vec<Device>, Error> {
    // In this order: what arrives in between is counted as run, and not as arrived.
    let before = devices()?;
    let runs = watched.iter().map(|it| {
        let info = it.program.as_ref().and_then(|program| program.info().ok());
        info.map_or(it.runs, |info| info.run_cnt)
    });
    let runs: Vec<_> = runs.collect();
    let after = devices()?;
    for (it, runs) in watched.iter_mut().zip(runs) {
        let index = it.index;
        let is_its = |device: &&Device| device.index == index;
        if let Some(device) = before.iter().find(is_its) {
            then(it, device.received, runs);
        }
        if let Some(device) = after.iter().find(is_its) {
            it.in_part = may_run_in_part(device) && is_native(device, it.number);
            it.received = device.received;
        }
        it.runs = runs;
    }
    Ok(after)
}
