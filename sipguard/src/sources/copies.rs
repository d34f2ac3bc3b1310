//! sipguard's own copies of what was good last, by which it filters whatever becomes of the fetcher. `apply` at boot reads these alone.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use sipguard_lists::{
    found::{Entry, Head, ReadError, Reader, Writer, file_name},
    replace,
    task::Task,
};
use thiserror::Error;

use super::{
    Circumstances, Problem,
    bounds::{Bounds, Size},
};

/// Where they are.
const FOLDER: &str = "/var/lib/sipguard/sources";

/// The folder of copies.
#[derive(Clone, Debug)]
pub struct Copies {
    folder: PathBuf,
}

/// Why there is no copy of what was taken.
#[derive(Debug, Error)]
#[error("cannot write {}: {error}", file.display())]
pub struct Unsaved {
    /// The copy.
    pub file: PathBuf,
    /// What the system says.
    pub error: io::Error,
}

/// Why a copy can't be used.
#[derive(Debug, Error)]
#[error("{} {error}", file.display())]
pub struct Unusable {
    /// The copy.
    pub file: PathBuf,
    /// What is wrong with it.
    pub error: ReadError,
}

impl Copies {
    /// Those of this system, in `/var/lib/sipguard/sources`.
    pub fn system() -> Self {
        Self::at(FOLDER)
    }

    /// In another folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Hands on the entries of the last good copy, whatever the clock says by now. What would be refused today (the host may have another address by now) is left out.
    /// `None` where there is no copy of what is asked for now.
    pub fn read(
        &self,
        task: &Task,
        circumstances: Circumstances<'_>,
        mut entry: impl FnMut(Entry),
    ) -> Result<Option<Head>, Unusable> {
        let file = self.folder.join(file_name(&task.source));
        let mut read = || -> Result<_, ReadError> {
            let opened = match File::open(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            let mut reader = Reader::new(opened)?;
            let mut bounds = Bounds::new(task, circumstances);
            if !bounds.is_answer(reader.head()) {
                return Ok(None);
            }
            while let Some(found) = reader.next_entry()? {
                if bounds.entry(&found).unwrap_or(false) {
                    entry(found);
                }
            }
            Ok(Some(reader.head().clone()))
        };
        read().map_err(|error| Unusable { file, error })
    }

    /// How much is on the last good copy.
    pub(super) fn size(
        &self,
        task: &Task,
        circumstances: Circumstances<'_>,
    ) -> Result<Option<Size>, Unusable> {
        let mut size = Size::default();
        let head = self.read(task, circumstances, |entry| size.add(entry.prefix))?;
        Ok(head.map(|_| size))
    }

    /// Replaces a copy by what `next` hands out. Where that ends in an error, the old copy stays; where the disk does not take it, the rest is
    /// read all the same.
    pub(super) fn write(
        &self,
        head: &Head,
        next: &mut dyn FnMut() -> Result<Option<Entry>, Problem>,
    ) -> Result<Option<Unsaved>, Problem> {
        let name = file_name(&head.source);
        // Whether it could all be read; nothing before the disk let it begin.
        let mut read = None;
        let staged = self.make_folder().and_then(|()| {
            replace::stage(&self.folder, &name, 0o600, |file| {
                let mut copy = Writer::new(file, head);
                let outcome = loop {
                    match next() {
                        Ok(Some(entry)) => {
                            if let Ok(writer) = &mut copy
                                && let Err(error) = writer.entry(&entry)
                            {
                                copy = Err(error);
                            }
                        }
                        Ok(None) => break Ok(()),
                        Err(problem) => break Err(problem),
                    }
                };
                let is_whole = outcome.is_ok();
                read = Some(outcome);
                if is_whole {
                    copy?.finish()
                } else {
                    Err(io::Error::other("it was refused"))
                }
            })
        });
        match read {
            Some(outcome) => outcome?,
            None => while next()?.is_some() {},
        }
        let saved = staged.and_then(replace::Staged::commit);
        let file = self.folder.join(name);
        Ok(saved.err().map(|error| Unsaved { file, error }))
    }

    /// Removes copies of sources that are not asked for any more.
    pub fn keep_only(&self, tasks: &[Task]) -> io::Result<()> {
        let wanted = |file: &Path| {
            let name = file.file_name().unwrap_or_default();
            tasks.iter().any(|task| *name == *file_name(&task.source))
        };
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let file = entry?.path();
            if !wanted(&file) {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }

    fn make_folder(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
    }
}
