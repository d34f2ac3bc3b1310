//! Whether a program that is attached really runs: a driver can take one and never run it, or forget it and go on naming it.
//!
//! The kernel counts how often a program runs while somebody asks for it (`BPF_ENABLE_STATS`, Linux 5.8), and every driver counts what it
//! receives. Packets that arrive without the program running are proof that it does not; one run is proof that it does.

use std::{thread, time::Duration};

use aya::sys::{Stats, enable_stats};

use super::{Error, program::Loaded};
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

/// What became of a program while it was watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
/// arrives, the interface's neighbours are asked whether they are there, which brings an answer where there is one.
///
/// # Errors
/// Where the kernel can't be asked, or is older than 5.8.
pub fn watch(programs: &[(u32, u32)]) -> Result<Vec<Proof>, Error> {
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
    look(&mut watched, |_, _, _| ())?;
    for (turn, pause) in FIRST_LOOKS.into_iter().enumerate() {
        if turn == 1 {
            ask_neighbours(&watched);
        }
        thread::sleep(Duration::from_millis(pause));
        look(&mut watched, Watched::note_runs)?;
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
        look(&mut watched, Watched::compare)?;
    }
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

/// Hands what each interface has received and how often each program has run to `then`, and keeps both for the next look.
fn look(watched: &mut [Watched], then: fn(&mut Watched, u64, u64)) -> Result<(), Error> {
    let devices = || {
        device::all().map_err(|error| Error::io("can't ask the kernel for its interfaces", &error))
    };
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
    Ok(())
}
