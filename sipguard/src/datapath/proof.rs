//! Whether a program that is attached really runs: a driver can take one and never run it, or forget it and go on naming it.
//!
//! The kernel counts how often a program runs while somebody asks for it (`BPF_ENABLE_STATS`, Linux 5.8), and every driver counts what it
//! receives. Packets that arrive without the program running are proof that it does not; one run is proof that it does.

use std::{thread, time::Duration};

use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};

use super::Error;
use crate::device::{self, Device, Hook};

/// How often is looked, and how long in between. Drivers may count a burst some time after it went through the program, so that one
/// look proves nothing against it.
const LOOKS: usize = 10;
const PAUSE: Duration = Duration::from_millis(50);
/// In so many of the pauses packets must have arrived without one run.
const ENOUGH: usize = 2;
/// Before these pauses neighbours are asked, so that their answers come in as many as it takes.
const ASKED: [usize; ENOUGH] = [1, 4];

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
    /// The program's number.
    program: u32,
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
        .map(|&(index, program)| Watched {
            index,
            program,
            in_part: false,
            runs: 0,
            received: 0,
            has_run: false,
            missed: 0,
        })
        .collect();
    look(&mut watched, |_, _, _| ())?;
    for turn in 0..LOOKS {
        if ASKED.contains(&turn) {
            for quiet in watched
                .iter()
                .filter(|it| !it.has_run && it.missed < ENOUGH)
            {
                // Only helps where it can.
                let _ = device::probe(quiet.index);
            }
        }
        thread::sleep(PAUSE);
        look(&mut watched, Watched::compare)?;
        if watched.iter().all(|it| it.has_run && !it.in_part) {
            break;
        }
    }
    Ok(watched.iter().map(Watched::proof).collect())
}

impl Watched {
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
    let mut runs: Vec<_> = watched.iter().map(|it| it.runs).collect();
    for program in loaded_programs().filter_map(Result::ok) {
        for (it, runs) in watched.iter().zip(&mut runs) {
            if program.id() == it.program {
                *runs = program.run_count();
            }
        }
    }
    let after = devices()?;
    for (it, runs) in watched.iter_mut().zip(runs) {
        let index = it.index;
        let is_its = |device: &&Device| device.index == index;
        if let Some(device) = before.iter().find(is_its) {
            then(it, device.received, runs);
        }
        if let Some(device) = after.iter().find(is_its) {
            it.in_part = may_run_in_part(device) && is_native(device, it.program);
            it.received = device.received;
        }
        it.runs = runs;
    }
    Ok(())
}
