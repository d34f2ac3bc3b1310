//! Questions that go on all the time, while something is done to the gateway.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::{
    network::{GATEWAY, Party},
    probe::{self, Answer, Protocol},
};

const PACE: Duration = Duration::from_millis(50);

/// What came of one party's questions.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) asked: usize,
    /// Answered by a program, or refused by the gateway's kernel: the packet arrived.
    pub(super) arrived: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.arrived += other.arrived;
    }
}

/// Has each of these parties ask the gateway's port 5060 over both protocols and both families, as long as `meanwhile` takes, each question as
/// long as its patience says.
pub(super) fn during<T, const N: usize>(
    parties: [(&Party, Duration); N],
    meanwhile: impl FnOnce() -> Result<T>,
) -> Result<(T, [Tally; N])> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = parties.map(|(party, patience)| {
            let mut threads = Vec::new();
            for (from, to) in party.addresses.into_iter().zip(GATEWAY.addresses) {
                for protocol in [Protocol::Udp, Protocol::Tcp] {
                    let over = &over;
                    threads.push(scope.spawn(move || {
                        ask_until(over, protocol, from, (to, 5060).into(), patience)
                    }));
                }
            }
            threads
        });
        let ended = {
            let _end = End(&over);
            meanwhile()
        };
        let mut tallies = Vec::new();
        for threads in asking {
            let mut tally = Tally::default();
            for thread in threads {
                let one = thread.join().map_err(|_| anyhow!("a probe panicked"))??;
                tally.add(&one);
            }
            tallies.push(tally);
        }
        let tallies = tallies
            .try_into()
            .map_err(|_| anyhow!("a tally for each party"))?;
        Ok((ended?, tallies))
    })
}

/// Ends the questions, after a panic, too.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn ask_until(
    over: &AtomicBool,
    protocol: Protocol,
    from: IpAddr,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        tally.asked += 1;
        if probe::ask(protocol, from, to, patience)? != Answer::Nothing {
            tally.arrived += 1;
        }
        // Where answers come at once, or the address is nobody's, this is what keeps the gateway from being flooded.
        thread::sleep(PACE.saturating_sub(begun.elapsed()));
    }
    Ok(tally)
}
