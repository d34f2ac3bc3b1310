//! sipguard's own copies of what was good last, by which it filters whatever becomes of the fetcher. `apply` at boot reads these alone.

use std::{
    fs::{self, DirBuilder, File},
    hash::Hasher as _,
    io::{self, BufRead as _, BufReader, BufWriter, Write},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use sipguard_lists::{
    found::{Entry, Finder, Head, ReadError, Reader, file_name},
    replace,
    task::Task,
};
use thiserror::Error;

use super::{Circumstances, Problem, bounds::Bounds, changes::Comparison};

/// Where they are.
const FOLDER: &str = "/var/lib/sipguard/sources";

/// The folder of copies.
#[derive(Clone, Debug)]
pub struct Copies {
    folder: PathBuf,
}

/// A copy that is written and is not the last good one yet; dropped, it is taken away.
#[derive(Debug)]
#[must_use = "what was read is the last good copy once it is kept"]
pub struct NewCopy {
    staged: replace::Staged,
    file: PathBuf,
}

impl NewCopy {
    /// Makes it the last good one. The disk is waited for.
    pub fn keep(self) -> Result<(), Unsaved> {
        let Self { staged, file } = self;
        staged.commit().map_err(|error| Unsaved { file, error })
    }
}

/// Goes on where the disk is full: what is read is to be read to its end.
struct Patient<W> {
    out: W,
    failed: Option<io::Error>,
}

impl<W: Write> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed.is_none()
            && let Err(error) = self.out.write_all(bytes)
        {
            self.failed = Some(error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A copy, in which single entries are found.
#[derive(Debug)]
pub struct Copy {
    task: Task,
    finder: Finder,
}

impl Copy {
    /// How it came about.
    pub fn head(&self) -> &Head {
        self.finder.head()
    }

    /// The entry of a prefix. What would be refused today is none.
    pub fn find(
        &self,
        prefix: IpNet,
        circumstances: Circumstances<'_>,
    ) -> Result<Option<Entry>, ReadError> {
        let found = self.finder.find(prefix)?;
        let mut bounds = Bounds::new(&self.task, circumstances);
        Ok(found.filter(|found| bounds.entry(found).unwrap_or(false)))
    }
}

/// Of one source there may be several: while an apply waits to be confirmed, it may ask somebody else for it than the one before.
fn copy_name(task: &Task) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(Bounds::new(task, Circumstances::NONE).asked().as_bytes());
    file_name(&format!("{}.{:016x}", task.source, hasher.finish()))
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
        let file = self.file(task);
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

    /// The last good copy, to find single entries in it. `None` where there is no copy of what is asked for now.
    pub fn open(&self, task: &Task) -> Result<Option<Copy>, Unusable> {
        let file = self.file(task);
        let open = || -> Result<_, ReadError> {
            let opened = match File::open(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            let finder = Finder::new(opened)?;
            let is_answer = Bounds::new(task, Circumstances::NONE).is_answer(finder.head());
            Ok(is_answer.then(|| Copy {
                task: task.clone(),
                finder,
            }))
        };
        open().map_err(|error| Unusable { file, error })
    }

    /// How many entries the last good copy has, counted by its lines; `None` where there is none.
    pub fn count(&self, task: &Task) -> Option<usize> {
        let mut reader = BufReader::with_capacity(1 << 16, File::open(self.file(task)).ok()?);
        let mut lines = 0;
        loop {
            let bytes = reader.fill_buf().ok()?;
            if bytes.is_empty() {
                // The first line and the last one are none.
                return usize::checked_sub(lines, 2);
            }
            lines += memchr::memchr_iter(b'\n', bytes).count();
            let read = bytes.len();
            reader.consume(read);
        }
    }

    /// Which copy it is: another number for each that is written, 0 where there is none.
    pub fn revision(&self, task: &Task) -> u64 {
        let Ok(metadata) = fs::metadata(self.file(task)) else {
            return 0;
        };
        // It is always replaced, never changed; and what was asked for may be another thing by now.
        let mut hasher = SipHasher13::new();
        hasher.write_u64(metadata.ino());
        hasher.write_i64(metadata.mtime());
        hasher.write_i64(metadata.mtime_nsec());
        hasher.finish().max(1)
    }

    /// What is to be told where it differs from the last good copy.
    pub(super) fn changes(&self, task: &Task) -> Comparison {
        let file = File::open(self.file(task)).ok();
        let reader = file.and_then(|file| Reader::new(file).ok());
        let reader =
            reader.filter(|reader| Bounds::new(task, Circumstances::NONE).is_answer(reader.head()));
        Comparison::with(reader)
    }

    fn file(&self, task: &Task) -> PathBuf {
        self.folder.join(copy_name(task))
    }

    /// The last good copy, read as far as its first line. One that can't be read is as good as none.
    pub(super) fn opened(&self, task: &Task) -> Option<Reader<File>> {
        let reader = Reader::new(File::open(self.file(task)).ok()?).ok()?;
        Bounds::new(task, Circumstances::NONE)
            .is_answer(reader.head())
            .then_some(reader)
    }

    /// Writes what is to take the place of a copy, as `write` does it. Where the disk does not take it, all is read all the same.
    pub(super) fn write(
        &self,
        task: &Task,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Problem>,
    ) -> Result<Result<NewCopy, Unsaved>, Problem> {
        let name = copy_name(task);
        let mut write = Some(write);
        // Whether it could all be read; nothing before the disk let it begin.
        let mut read = None;
        let staged = self.make_folder().and_then(|()| {
            replace::write_unsynced(&self.folder, &name, 0o600, |file| {
                let mut out = Patient {
                    out: BufWriter::with_capacity(1 << 16, file),
                    failed: None,
                };
                read = write.take().map(|write| write(&mut out));
                match out.failed {
                    Some(error) => Err(error),
                    None => out.out.flush(),
                }
            })
        });
        match (read, write) {
            (Some(outcome), _) => outcome?,
            (None, Some(write)) => write(&mut io::sink())?,
            (None, None) => {}
        }
        let file = self.folder.join(name);
        Ok(match staged {
            Ok(staged) => Ok(NewCopy { staged, file }),
            Err(error) => Err(Unsaved { file, error }),
        })
    }

    /// Removes copies of sources that are not asked for any more.
    pub fn keep_only(&self, tasks: &[Task]) -> io::Result<()> {
        let wanted = |file: &Path| {
            let name = file.file_name().unwrap_or_default();
            tasks.iter().any(|task| *name == *copy_name(task))
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

    /// Forgets the copy of a source.
    pub fn forget(&self, task: &Task) -> io::Result<()> {
        match fs::remove_file(self.file(task)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn make_folder(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
    }
}
