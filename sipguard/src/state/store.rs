//! The state on disk: one file, replaced as a whole, and one lock.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sipguard_lists::replace;
use thiserror::Error;

use super::{Confirmed, State, VERSION};

/// Where the state is kept.
pub const FOLDER: &str = "/var/lib/sipguard";

const FILE: &str = "state.json";
/// The last policy that was in force for good.
const CONFIRMED: &str = "confirmed.json";
/// What other programs ban.
pub(super) const BANS: &str = "bans.jsonl";
const LOCK: &str = "lock";
/// What is appended to the name of a file that can't be used.
const DAMAGED: &str = ".damaged";

/// Why the state can't be read, written or locked.
#[derive(Debug, Error)]
pub enum StateError {
    /// The file is there but can't be read.
    #[error("cannot read {}: {error}; run sipguard as root", file.display())]
    Read {
        /// The state file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file holds something else than a state.
    #[error("{} is damaged: {error}; `sipguard list --own` shows what is left of what the command line added", file.display())]
    Damaged {
        /// The state file.
        file: PathBuf,
        /// What does not fit.
        error: serde_json::Error,
    },
    /// The file is of a newer program.
    #[error("{} has version {version}, which only a newer sipguard reads; `sipguard list --own` shows what is left of what the command line added", file.display())]
    Newer {
        /// The state file.
        file: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The log of bans has lines that can't be read.
    #[error("{} has {}, and what they say of bans is lost", file.display(), damaged_lines(*lines))]
    DamagedLines {
        /// The log.
        file: PathBuf,
        /// How many.
        lines: usize,
    },
    /// The state can't be put on disk.
    #[error("cannot write {}: {error}; {}", file.display(), hint(error))]
    Write {
        /// The file or folder that was to be written.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The confirmed policy can't be used.
    #[error("{} is damaged: {error}; it is ignored, and written anew by the next `sipguard apply` of a config that can be used", file.display())]
    Unusable {
        /// Its file.
        file: PathBuf,
        /// What does not fit.
        error: serde_json::Error,
    },
    /// The file is gone.
    #[error("{} is gone, with the policy that was confirmed last", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The file could not be used and is set aside.
    #[error("{error}; it is kept as {}", kept.display())]
    SetAside {
        /// What was wrong with it.
        error: Box<StateError>,
        /// Where it is now.
        kept: PathBuf,
    },
}

fn damaged_lines(lines: usize) -> String {
    match lines {
        1 => "a damaged line".to_owned(),
        many => format!("{many} damaged lines"),
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run sipguard as root",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space there",
        io::ErrorKind::ReadOnlyFilesystem => "mount its file system for writing",
        io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::IsADirectory => "move away what is in its place",
        _ => "repair the file system it is on",
    }
}

/// The folder that holds the state.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The folder of this system, [`FOLDER`].
    pub fn system() -> Self {
        Self::at(FOLDER)
    }

    /// Another folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The state file's path.
    pub fn file(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Waits until no other process writes here, and keeps it so until the guard is dropped, or the process ends in whatever way. Where
    /// the disk is read-only, the lock file that is there will do; where there is none and none can be made, there is no lock: what is in
    /// the kernel has a lock of its own ([`Pins::make`](crate::datapath::Pins::make)), which everybody takes after this one.
    pub fn lock(&self) -> Lock {
        let path = self.folder.join(LOCK);
        let made = self.make_folder().and_then(|()| {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
        });
        let file = made
            .or_else(|_| File::open(&path))
            .ok()
            .filter(|file| uninterrupted(|| file.lock()).is_ok());
        Lock { file }
    }

    /// Removes what a crash left, where nobody else can be writing.
    pub fn clear(&self, lock: &Lock) {
        if lock.file.is_none() {
            return;
        }
        for name in [FILE, CONFIRMED, BANS] {
            // Where that can't be done, nothing can be written either, which is told where it matters.
            let _ = fs::remove_file(replace::staging(&self.folder, name));
        }
    }

    /// Moves a state that can't be read out of the way, so that the next one has its place. Returns what to tell of it. The lock is to be
    /// held.
    pub fn set_aside(&self, error: StateError) -> StateError {
        let file = match &error {
            StateError::Read { file, .. }
            | StateError::Damaged { file, .. }
            | StateError::Newer { file, .. } => file,
            StateError::DamagedLines { .. }
            | StateError::Unusable { .. }
            | StateError::Missing { .. }
            | StateError::Write { .. }
            | StateError::SetAside { .. } => {
                return error;
            }
        };
        let mut kept = file.clone().into_os_string();
        kept.push(DAMAGED);
        let kept = PathBuf::from(kept);
        match fs::rename(file, &kept) {
            Ok(()) => StateError::SetAside {
                error: Box::new(error),
                kept,
            },
            // It stays in its place, on a disk that can't be written.
            Err(_) => error,
        }
    }

    /// Reads the state; where there is no file yet, it is the empty one.
    pub fn load(&self) -> Result<State, StateError> {
        /// The one field that every version has.
        #[derive(Deserialize)]
        struct Any {
            version: u32,
        }

        let file = self.file();
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(error) => return Err(StateError::Read { file, error }),
        };
        let read = serde_json::from_slice(&bytes).and_then(|Any { version }| {
            if (1..=VERSION).contains(&version) {
                serde_json::from_slice(&bytes).map(Ok)
            } else {
                Ok(Err(version))
            }
        });
        match read {
            Ok(Ok(state)) => Ok(State {
                version: VERSION,
                ..state
            }),
            Ok(Err(version)) => Err(StateError::Newer { file, version }),
            Err(error) => Err(StateError::Damaged { file, error }),
        }
    }

    /// Replaces the state on disk, and counts that in it. The lock is to be held.
    pub fn save(&self, state: &mut State) -> Result<(), StateError> {
        state.written += 1;
        self.stage(state)?.commit()
    }

    /// Writes the state beside the one on disk, so that what can fail (a full disk, a read-only file system) fails before anything is
    /// changed. The lock is to be held.
    pub fn stage(&self, state: &State) -> Result<Staged, StateError> {
        self.stage_as(FILE, |file| {
            let mut json = serde_json::to_vec_pretty(state)?;
            json.push(b'\n');
            file.write_all(&json)
        })
    }

    /// Writes the confirmed policy beside the one on disk. There may be a million entries in it. The lock is to be held.
    pub fn stage_confirmed(&self, confirmed: &Confirmed) -> Result<Staged, StateError> {
        self.stage_as(CONFIRMED, |file| {
            let mut file = BufWriter::new(file);
            serde_json::to_writer(&mut file, confirmed)?;
            file.flush()
        })
    }

    /// Where the confirmed policy is kept.
    pub fn confirmed_file(&self) -> PathBuf {
        self.folder.join(CONFIRMED)
    }

    /// How many bytes the confirmed policy takes, where it is there.
    pub fn confirmed_bytes(&self) -> Option<u64> {
        let file = fs::metadata(self.confirmed_file()).ok()?;
        Some(file.len())
    }

    /// Reads the confirmed policy; `None` where none is kept.
    pub fn confirmed(&self) -> Result<Option<Confirmed>, StateError> {
        let file = self.folder.join(CONFIRMED);
        match fs::read(&file) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(confirmed) => Ok(Some(confirmed)),
                Err(error) => Err(StateError::Unusable { file, error }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateError::Read { file, error }),
        }
    }

    pub(super) fn stage_as(
        &self,
        name: &'static str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<Staged, StateError> {
        let file = replace::staging(&self.folder, name);
        let staged = self
            .make_folder()
            .and_then(|()| replace::stage(&self.folder, name, 0o600, write));
        match staged {
            Ok(staged) => Ok(Staged { staged, file }),
            Err(error) => Err(StateError::Write { file, error }),
        }
    }

    pub(super) fn make_folder(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            // The fetcher reads one file in it, and may not see what else there is.
            .mode(0o711)
            .create(&self.folder)
    }
}

fn uninterrupted(mut call: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A state that is written and on disk, but not yet in force; dropped, it is taken away.
#[derive(Debug)]
#[must_use = "a staged state is taken away unless it is committed"]
pub struct Staged {
    staged: replace::Staged,
    file: PathBuf,
}

impl Staged {
    /// Puts the state in the place of the old one.
    pub fn commit(self) -> Result<(), StateError> {
        let Self { staged, file } = self;
        staged
            .commit()
            .map_err(|error| StateError::Write { file, error })
    }
}

/// Keeps other processes from changing anything.
#[derive(Debug)]
#[must_use = "the lock is let go when this is dropped"]
pub struct Lock {
    file: Option<File>,
}

#[cfg(test)]
mod tests;
