//! `sipguard agent`, as a process: the fast half, which never waits for a disk, a lock, or whoever listens. It grants the kernel events, reads
//! them, and hands them on: to its other half (`keeper.rs`), and to those who listen beside it.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io, mem,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use thiserror::Error;

use super::{
    keeper::{Keeper, Shared},
    signals::Signals,
    systemd::{ALIVE, READY, STOPPING, Systemd},
};
use crate::{
    events::{Generations, ListenError, Listener, Told, Wanted, hand_on::Server},
    host::Host,
    sip,
};

/// Where what lasts as long as the host runs is written.
pub const FOLDER: &str = "/run/sipguard";
/// The file whose lock the agent has.
const LOCK: &str = "agent.lock";
/// How many bytes of events are handed to the slow half at a time.
const LUMP: usize = 128 << 10;
/// How many wait for it at most, where it has none taken for a while.
const WAITING: usize = 512 << 10;
/// How long it is waited for, at most, each time that there are events. Where nothing holds it up, it is done with what it has sooner.
const MOMENT: Duration = Duration::from_millis(10);
/// The socket at which it hands on, in its folder.
const SOCKET: &str = "events";
/// How often it is tried to listen where that is not possible: somebody else listens.
const AGAIN: Duration = Duration::from_secs(1);
/// How often in a row it may fail before it is told of: a command that listens gives way to an agent, but not at once.
const PATIENCE: u32 = 5;
/// How often the pause between two tries is doubled from then on, at most: what is in the way now may stay there.
const DOUBLED: u32 = 6;

/// What the agent itself wants to be told: no packet that passes, and as much of a frame as SIP needs to say who knocks and what he dials.
const OWN: Wanted = Wanted {
    passes: false,
    bytes: sip::MOST,
};

/// Why the agent does not run.
#[derive(Debug, Error)]
pub enum AgentError {
    /// There is one.
    #[error("an agent runs already")]
    Runs,
    /// A file or folder is in the way.
    #[error("cannot use {}: {error}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The system refuses what every process needs.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// It is a mistake in sipguard.
    #[error("its slow half has failed; what it said stands above")]
    Failed,
}

/// Runs until it is asked to end. Metrics say whether this host is guarded as the config file says. Where nothing is in force it waits until something is.
///
/// # Errors
/// Where it can't begin; and where a mistake of its own ends it, so that it is started anew.
pub fn run(host: &Host, config: &Path) -> Result<(), AgentError> {
    let folder = Path::new(FOLDER);
    let _lock = lock(folder)?;
    // Before the other thread, which must not be interrupted, either.
    let signals = Signals::take()?;
    let systemd = Systemd::find();
    let shared = Arc::new(Shared::default());
    let (events, queue) = sync_channel(1);
    let (heard, spare) = sync_channel(2);
    // One is filled while the other one is looked at.
    let _ = heard.try_send(Told::default());
    let keeper = Keeper::begin(host.clone(), config.to_owned(), folder, shared.clone());
    let keeper = thread::Builder::new()
        .name("keeper".to_owned())
        .spawn(move || keeper.run(&queue, &heard))?;
    let file = folder.join(SOCKET);
    let server = Server::open(&file).map_err(|error| AgentError::File { file, error })?;
    let mut ears = Ears {
        host,
        handing: Handing {
            told: Told::default(),
            events,
            spare,
        },
        generations: Generations::default(),
        shared,
        server,
        listener: None,
        refused: 0,
        again: 0,
        read: 0,
    };
    ears.begin();
    systemd.say(READY);
    let listened = ears.listen(&signals, &systemd, &keeper);
    systemd.say(STOPPING);
    // It saves what it has once no event can come any more.
    ears.end();
    match keeper.join() {
        Ok(()) => listened,
        // The panic was printed.
        Err(_) => Err(AgentError::Failed),
    }
}

/// Two agents would fight for the kernel's events.
fn lock(folder: &Path) -> Result<File, AgentError> {
    let fail = |file: PathBuf| move |error| AgentError::File { file, error };
    // Metrics are for everybody; each file has a mode of its own.
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(fail(folder.to_owned()))?;
    let file = folder.join(LOCK);
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file)
        .map_err(fail(file.clone()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(AgentError::Runs),
        Err(TryLockError::Error(error)) => Err(fail(file)(error)),
    }
}

struct Ears<'a> {
    host: &'a Host,
    handing: Handing,
    /// For those who listen beside it.
    generations: Generations,
    shared: Arc<Shared>,
    server: Server,
    listener: Option<Listener>,
    /// How often in a row it could not listen.
    refused: u32,
    /// When it is tried again, nanoseconds of the boot clock.
    again: u64,
    /// How many events it has lost by its own count.
    read: u64,
}

/// What goes to the slow half.
struct Handing {
    /// What it has not got yet.
    told: Told,
    /// What it has got.
    events: SyncSender<Told>,
    /// What it has got and is done with.
    spare: Receiver<Told>,
}

impl Handing {
    /// Hands over what there is, if the slow half is done soon with what it has; returns whether it is.
    fn hand_over(&mut self) -> bool {
        let Ok(mut spare) = self.spare.recv_timeout(MOMENT) else {
            return false;
        };
        // Where much had to wait once, it will be long until it does again.
        spare.clear(LUMP);
        // It has nothing else to do; and where it has ended, this ends, too.
        let _ = self.events.send(mem::replace(&mut self.told, spare));
        true
    }
}

impl Ears<'_> {
    fn listen(
        &mut self,
        signals: &Signals,
        systemd: &Systemd,
        keeper: &JoinHandle<()>,
    ) -> Result<(), AgentError> {
        let mut alive = 0;
        loop {
            let now = self.host.now().boot_ns;
            if let Some(every) = systemd.watchdog()
                && is_due(&mut alive, every, now)
            {
                systemd.say(ALIVE);
            }
            if self.listener.is_none() && now >= self.again {
                self.begin();
            }
            let mut ready = vec![
                PollFd::new(signals, PollFlags::IN),
                PollFd::new(&self.server, PollFlags::IN),
            ];
            if let Some(listener) = &self.listener {
                ready.push(PollFd::new(listener, PollFlags::IN));
            }
            let patience = Timespec::try_from(AGAIN).ok();
            match poll(&mut ready, patience.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
            let has_come = |number: usize| {
                let ready: Option<&PollFd<'_>> = ready.get(number);
                ready.is_some_and(|ready| !ready.revents().is_empty())
            };
            let [ends, client, events] = [0, 1, 2].map(has_come);
            if ends || keeper.is_finished() {
                return Ok(());
            }
            if client {
                // Who can't be let in now can be a little later.
                let _ = self.server.welcome();
            }
            // Whose clock ticks ten times a second.
            if events {
                self.hear();
            }
        }
    }

    /// Hands over what is left, however long the slow half takes with what it has.
    fn end(self) {
        let Handing {
            told,
            events,
            spare,
        } = self.handing;
        if !told.is_empty() && spare.recv().is_ok() {
            // Where it has ended, too, there is nobody to save it.
            let _ = events.send(told);
        }
    }

    /// Begins to listen, where nobody else does.
    fn begin(&mut self) {
        // Another command may listen for a while, and what is in force may be another version's: it is tried again.
        let why = match Listener::open(self.host, OWN) {
            Ok(listener) => {
                self.listener = Some(listener);
                None
            }
            // That is told by itself.
            Err(ListenError::Nothing) => None,
            Err(error) => Some(error.to_string()),
        };
        self.refused = why.as_ref().map_or(0, |_| self.refused.saturating_add(1));
        let is_told = why.is_none() || self.refused >= PATIENCE;
        // The other half is as quick with it.
        let deaf = self.shared.deaf.lock();
        if is_told {
            *deaf.unwrap_or_else(PoisonError::into_inner) = why;
        }
        self.read = 0;
        self.again = after(self.host.now().boot_ns, pause(self.refused));
    }

    /// Reads what the kernel told, hands it on, and grants more.
    fn hear(&mut self) {
        // Some may have gone, or want something else; they are asked for each time.
        let _ = self.server.welcome();
        let Some(listener) = &mut self.listener else {
            return;
        };
        let others = self.server.wanted();
        let now = self.host.now();
        let (handing, mut is_quick, mut lost) = (&mut self.handing, true, 0);
        listener.read(|record, first| {
            if others.is_some() {
                let event = self.generations.event(record, first, now);
                self.server.send(&event);
            }
            if is_quick && handing.told.size() >= LUMP {
                is_quick = handing.hand_over();
            }
            if handing.told.size() < WAITING {
                handing.told.push(record, first);
            } else {
                lost += 1;
            }
        });
        if is_quick && !handing.told.is_empty() {
            handing.hand_over();
        }
        lost += listener.lost() - self.read;
        self.read = listener.lost();
        self.shared.lost.fetch_add(lost, Ordering::Relaxed);
        let others = others.unwrap_or(OWN);
        listener.want(Wanted {
            passes: OWN.passes || others.passes,
            bytes: OWN.bytes.max(others.bytes),
        });
        if listener.grant().is_err() {
            self.listener = None;
        }
    }
}

/// How long after the so manyth refusal in a row it is tried again.
fn pause(refused: u32) -> Duration {
    AGAIN * 2_u32.pow(refused.saturating_sub(PATIENCE).min(DOUBLED))
}

/// Whether something is due; if so, notes when it is next, nanoseconds of the boot clock.
fn is_due(due: &mut u64, every: Duration, now: u64) -> bool {
    let is_due = now >= *due;
    if is_due {
        *due = after(now, every);
    }
    is_due
}

fn after(now: u64, pause: Duration) -> u64 {
    now + u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_in_the_way_is_tried_less_often() {
        let pauses = (0..20).map(|refused| pause(refused).as_secs());
        let pauses: Vec<_> = pauses.collect();
        assert_eq!(pauses[..13], [1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 64, 64]);
        assert_eq!(pause(u32::MAX).as_secs(), 64);
    }
}
