//! `sipguard agent`, as a process: the half that never waits for a disk, a lock or a journal, so that systemd hears from it. The other one is in
//! `keeper.rs`.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::mpsc::channel,
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use thiserror::Error;

use super::{
    keeper::Keeper,
    signals::Signals,
    systemd::{ALIVE, READY, STOPPING, Systemd},
};
use crate::host::Host;

/// Where what lasts as long as the host runs is written.
pub const FOLDER: &str = "/run/sipguard";
/// The file whose lock the agent has.
const LOCK: &str = "agent.lock";
/// How long it waits at once: it gives signs of life as often.
const MOMENT: Duration = Duration::from_secs(1);

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
    let (end, ended) = channel();
    let keeper = Keeper::new(host.clone(), config.to_owned());
    let keeper = thread::Builder::new()
        .name("keeper".to_owned())
        .spawn(move || keeper.run(&ended))?;
    systemd.say(READY);
    let waited = wait(host, &signals, &systemd, &keeper);
    systemd.say(STOPPING);
    drop(end);
    match keeper.join() {
        Ok(()) => waited,
        // The panic was printed.
        Err(_) => Err(AgentError::Failed),
    }
}

/// Two agents would say everything twice.
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

/// Waits for the end, its own or the other half's.
fn wait(
    host: &Host,
    signals: &Signals,
    systemd: &Systemd,
    keeper: &JoinHandle<()>,
) -> Result<(), AgentError> {
    let mut alive = 0;
    let moment = Timespec::try_from(MOMENT).ok();
    loop {
        let now = host.now().boot_ns;
        if let Some(every) = systemd.watchdog()
            && now >= alive
        {
            systemd.say(ALIVE);
            alive = now + u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        }
        let mut ends = [PollFd::new(signals, PollFlags::IN)];
        match poll(&mut ends, moment.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        if !ends[0].revents().is_empty() || keeper.is_finished() {
            return Ok(());
        }
    }
}
