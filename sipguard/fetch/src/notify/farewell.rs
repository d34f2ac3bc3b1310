//! Who wanted notices, while there is nothing to do any more: that nothing filters, he has to hear, too. It is kept in a file, for his sake who is started
//! anew meanwhile.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sipguard_lists::{replace, task::Tasks};

use super::make_folder;
use crate::schedule::Moment;

/// How long he is kept at least: whoever sees that nothing filters does not say so in the same moment.
const LEAST: Duration = Duration::from_mins(1);
/// How long he is kept at most, whatever waits for him.
const MOST: Duration = Duration::from_hours(24);
/// The most bytes that are read of the file.
const MAX_BYTES: u64 = 1 << 16;

/// See the module.
pub(super) struct Farewell {
    folder: PathBuf,
    name: String,
    kept: Option<Kept>,
}

/// Who is kept, and how long.
struct Kept {
    tasks: Arc<Tasks>,
    least: Moment,
    most: Moment,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    since: Timestamp,
    tasks: Tasks,
}

impl Farewell {
    /// Goes on with the one that was interrupted, if there was one.
    pub(super) fn resume(folder: &Path, receiver: &str, wall: Timestamp, boot: Moment) -> Self {
        let mut farewell = Self {
            folder: folder.to_owned(),
            name: format!("{receiver}.farewell"),
            kept: None,
        };
        match farewell.read() {
            Ok(written) => {
                // The clock may have been set back.
                let since = Duration::try_from(wall.duration_since(written.since));
                let left = MOST.saturating_sub(since.unwrap_or_default());
                farewell.kept = Some(Kept {
                    tasks: Arc::new(written.tasks),
                    least: boot + LEAST.min(left),
                    most: boot + left,
                });
            }
            // What can't be read is as good as none, and may hold a secret.
            Err(_) => farewell.remove(),
        }
        farewell
    }

    /// Keeps him who is wanted by these.
    pub(super) fn begin(&mut self, tasks: Arc<Tasks>, wall: Timestamp, boot: Moment) {
        let written = Written {
            since: wall,
            tasks: Tasks {
                sources: Vec::new(),
                ..Tasks::clone(&tasks)
            },
        };
        // Then he is kept as long as this process runs.
        if let Err(error) = self.write(&written) {
            eprintln!("cannot write {}: {error}", self.file().display());
        }
        self.kept = Some(Kept {
            tasks,
            least: boot + LEAST,
            most: boot + MOST,
        });
    }

    /// By whom he is wanted still.
    pub(super) fn tasks(&self) -> Option<Arc<Tasks>> {
        self.kept.as_ref().map(|kept| Arc::clone(&kept.tasks))
    }

    /// Ends it, where nothing waits for him any more, or he was kept for long enough.
    pub(super) fn end_if_over(&mut self, waits: bool, boot: Moment) {
        let is_over = |kept: &Kept| boot >= if waits { kept.most } else { kept.least };
        if self.kept.as_ref().is_some_and(is_over) {
            self.end();
        }
    }

    /// Ends it.
    pub(super) fn end(&mut self) {
        if self.kept.take().is_some() {
            self.remove();
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn read(&self) -> io::Result<Written> {
        let mut bytes = Vec::new();
        File::open(self.file())?
            .take(MAX_BYTES)
            .read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    fn write(&self, written: &Written) -> io::Result<()> {
        make_folder(&self.folder)?;
        let json = serde_json::to_vec(written)?;
        // A webhook's URL is a secret.
        replace::stage(&self.folder, &self.name, 0o600, |file| {
            file.write_all(&json)
        })?
        .commit()
    }

    fn remove(&self) {
        match fs::remove_file(self.file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!("cannot remove {}: {error}", self.file().display());
            }
            _ => {}
        }
    }
}
