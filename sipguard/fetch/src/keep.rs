//! The folder in which what was found stands, one file a source.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use sipguard_lists::{
    found::{Entry, Head, ReadError, Reader, VERSION, Writer, file_name},
    replace,
};

use crate::kinds::{Answer, Before};

/// Where it is unless said otherwise.
pub(crate) const FOLDER: &str = "/var/lib/sipguard-fetch";

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// What was found before. A file that can't be read is as good as none: what is in force is a copy of its own.
    pub(crate) fn before(&self, source: &str) -> Result<Before, ReadError> {
        let file = match File::open(self.path.join(file_name(source))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Before::default()),
            file => file?,
        };
        let mut reader = Reader::new(file)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            entries.push(entry);
        }
        Ok(Before {
            head: Some(reader.head().clone()),
            entries,
        })
    }

    /// How the last question went; `None` where there was none, or its file can't be read.
    pub(crate) fn head(&self, source: &str) -> Option<Head> {
        let file = File::open(self.path.join(file_name(source))).ok()?;
        Some(Reader::new(file).ok()?.head().clone())
    }

    /// Replaces what was found.
    pub(crate) fn write(&self, head: &Head, entries: &[Entry]) -> io::Result<()> {
        // The service and `sipguard refresh` may be at it at the same time.
        let lock = File::open(&self.path)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let write = |file: &mut File| {
            let mut writer = Writer::new(file, head)?;
            for entry in entries {
                writer.entry(entry)?;
            }
            writer.finish()
        };
        replace::stage(&self.path, &file_name(&head.source), 0o600, write)?.commit()
    }
}

/// What is said of an answer: `asked` is when the question was put, `next` when it is put again, and `before` what was said before.
pub(crate) fn head(
    source: &str,
    answer: &Answer,
    before: Option<&Head>,
    is_changed: bool,
    asked: Timestamp,
    next: Timestamp,
) -> Head {
    // The clock may have been set back.
    let known = |time: Option<Timestamp>| time.map(|time| time.min(asked));
    let answered = if answer.answered {
        Some(asked)
    } else {
        known(before.and_then(|before| before.answered))
    };
    let changed = if is_changed && answer.answered {
        Some(asked)
    } else {
        known(before.and_then(|before| before.changed)).min(answered)
    };
    Head {
        version: VERSION,
        source: source.to_owned(),
        asked,
        answered,
        changed,
        next,
        error: answer.error.clone(),
        lookups: answer.lookups.clone(),
    }
}
