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
use crate::device;

/// How often is looked, and how long in between. Drivers may count a burst some time after it went through the program, so that one
/// look proves nothing against it.
const LOOKS: usize = 10;
const PAUSE: Duration = Duration::from_millis(50);
/// In so many of the pauses packets must have arrived without one run.
const ENOUGH: usize = 2;

/// What became of a program while it was watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It ran.
    Runs,
    /// Packets arrived and it did not run.
    Blind,
    /// Nothing arrived that it could have run for.
    Quiet,
}

/// A program on an interface, as it is watched.
struct Watched {
    /// The interface's number.
    index: u32,
    /// The program's number.
    program: u32,
    /// At the last look: how often it had run, what the interface had received.
    runs: u64,
    received: u64,
    /// How often packets had arrived since the look before.
    arrivals: usize,
    proof: Proof,
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
            runs: 0,
            received: 0,
            arrivals: 0,
            proof: Proof::Quiet,
        })
        .collect();
    look(&mut watched, Watched::begin)?;
    for turn in 0..LOOKS {
        if turn == 1 {
            for quiet in watched.iter().filter(|it| it.arrivals == 0) {
                // Only helps where it can.
                let _ = device::probe(quiet.index);
            }
        }
        thread::sleep(PAUSE);
        look(&mut watched, Watched::compare)?;
        if watched.iter().all(|it| it.proof == Proof::Runs) {
            break;
        }
    }
    Ok(watched.iter().map(|it| it.proof).collect())
}

impl Watched {
    fn begin(&mut self, runs: u64, received: u64) {
        (self.runs, self.received) = (runs, received);
    }

    fn compare(&mut self, runs: u64, received: u64) {
        if runs > self.runs {
            self.proof = Proof::Runs;
        } else if received > self.received && self.proof != Proof::Runs {
            self.arrivals += 1;
            if self.arrivals >= ENOUGH {
                self.proof = Proof::Blind;
            }
        }
        self.begin(runs, received);
    }
}

/// Hands both counts of each to `then`.
fn look(watched: &mut [Watched], then: fn(&mut Watched, u64, u64)) -> Result<(), Error> {
    // In this order: what arrives in between is counted as run, and not as arrived.
    let devices = device::all()
        .map_err(|error| Error::io("can't ask the kernel for its interfaces", &error))?;
    let mut runs: Vec<_> = watched.iter().map(|it| it.runs).collect();
    for program in loaded_programs().filter_map(Result::ok) {
        for (it, runs) in watched.iter().zip(&mut runs) {
            if program.id() == it.program {
                *runs = program.run_count();
            }
        }
    }
    for (it, runs) in watched.iter_mut().zip(runs) {
        let found = devices.iter().find(|device| device.index == it.index);
        then(
            it,
            runs,
            found.map_or(it.received, |device| device.received),
        );
    }
    Ok(())
}
