//! sipguard's own copies of what was good last, by which it filters whatever becomes of the fetcher. `apply` at boot reads these alone.

use std::{
    fs::{self, DirBuilder, File},
    hash::Hasher as _,
    io::{self, BufRead as _, BufReader, BufWriter, Write},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use sipguard_lists::{
    found::{Entry, Finder, Head, ReadError, Reader, file_name},
    replace,
    task::Task,
};
use siphasher::sip::SipHasher13;
use thiserror::Error;

use super::{Circumstances, Problem, bounds::Bounds, changes::Comparison};

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

    /// Hands on the entries that one of these prefixes covers. They are sorted, and none covers another one: so it is the shorter one of both lists
    /// that counts, and not the longer one.
    pub fn under(
        &self,
        nets: &[IpNet],
        circumstances: Circumstances<'_>,
        mut entry: impl FnMut(Entry),
    ) -> Result<(), ReadError> {
        let mut bounds = Bounds::new(&self.task, circumstances);
        let (mut nets, mut next) = (nets, None);
        while let Some(&net) = nets.first() {
            let found = match next {
                Some(place) => self.finder.entry(place)?,
                None => self.finder.at_or_above(net)?,
            };
            let Some((found, behind)) = found else {
                break;
            };
            // Of those that begin before it, or with it, the last one alone may cover it.
            let before = nets.partition_point(|net| *net <= found.prefix);
            nets = &nets[before.saturating_sub(1)..];
            if nets[0].contains(&found.prefix) {
                next = Some(behind);
                if bounds.entry(&found).unwrap_or(false) {
                    entry(found);
                }
            } else {
                next = None;
                nets = &nets[1..];
            }
        }
        Ok(())
    }
}

/// Of one source there may be several: while an apply waits to be confirmed, it may ask somebody else for it than the one before.
fn copy_name(task: &Task) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(Bounds::new(task, Circumstances::NONE).asked().as_bytes());
    file_name(&format!("{}.{:016x}", task.source, hasher.finish()))
}

/// Whether it is one of what is asked for now.
fn is_answer(task: &Task, head: &Head) -> bool {
    Bounds::new(task, Circumstances::NONE).is_answer(head)
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
    /// Those in this folder.
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
        let Some(mut reader) = self.opened(task)? else {
            return Ok(None);
        };
        let mut bounds = Bounds::new(task, circumstances);
        let mut read = || -> Result<_, ReadError> {
            while let Some(found) = reader.next_entry()? {
                if bounds.entry(&found).unwrap_or(false) {
                    entry(found);
                }
            }
            Ok(Some(reader.head().clone()))
        };
        read().map_err(|error| self.unusable(task, error))
    }

    /// The last good copy, to find single entries in it. `None` where there is no copy of what is asked for now.
    pub fn open(&self, task: &Task) -> Result<Option<Copy>, Unusable> {
        let finder = self.begin(task, Finder::new)?;
        let finder = finder.filter(|finder| is_answer(task, finder.head()));
        Ok(finder.map(|finder| Copy {
            task: task.clone(),
            finder,
        }))
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
        Comparison::with(self.opened(task))
    }

    fn file(&self, task: &Task) -> PathBuf {
        self.folder.join(copy_name(task))
    }

    /// The last good copy, read as far as its first line. `None` where there is no copy of what is asked for now.
    pub(super) fn opened(&self, task: &Task) -> Result<Option<Reader<File>>, Unusable> {
        let reader = self.begin(task, Reader::new)?;
        Ok(reader.filter(|reader| is_answer(task, reader.head())))
    }

    fn begin<T>(
        &self,
        task: &Task,
        read: impl FnOnce(File) -> Result<T, ReadError>,
    ) -> Result<Option<T>, Unusable> {
        let begun = match File::open(self.file(task)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error.into()),
            Ok(opened) => read(opened),
        };
        begun.map(Some).map_err(|error| self.unusable(task, error))
    }

    fn unusable(&self, task: &Task, error: ReadError) -> Unusable {
        let file = self.file(task);
        Unusable { file, error }
    }

    /// Writes what is to take the place of a copy, as `write` does it, whose answer is handed on. Where the disk does not take it, all is
    /// read all the same.
    pub(super) fn write<T>(
        &self,
        task: &Task,
        write: impl FnOnce(&mut dyn Write) -> Result<T, Problem>,
    ) -> Result<(T, Result<NewCopy, Unsaved>), Problem> {
        let name = copy_name(task);
        let file = self.folder.join(&name);
        let begun = self
            .make_folder()
            .and_then(|()| replace::begin(&self.folder, &name, 0o600));
        let staged = match begun {
            Ok(staged) => staged,
            Err(error) => {
                let answer = write(&mut io::sink())?;
                return Ok((answer, Err(Unsaved { file, error })));
            }
        };
        let (answer, written) = {
            let mut out = Patient {
                out: BufWriter::with_capacity(1 << 16, staged.file()),
                failed: None,
            };
            let answer = write(&mut out)?;
            let written = match out.failed {
                Some(error) => Err(error),
                None => out.out.flush(),
            };
            (answer, written)
        };
        let copy = match written {
            Ok(()) => Ok(NewCopy { staged, file }),
            Err(error) => Err(Unsaved { file, error }),
        };
        Ok((answer, copy))
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
