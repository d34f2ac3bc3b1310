//! Live sources: what the fetcher found for them, and what of that may come in force.
//!
//! The fetcher talks to the network, so that its folder is read as a stranger's: how a file is opened is in `folder.rs`, what its entries may
//! be in `bounds.rs`. Whatever breaks a bound is refused as a whole, and the last good one stays in force, of which sipguard keeps copies of
//! its own (`copies.rs`). A copy is made of what was read, while it is read: nobody can change it in between.

mod bounds;
mod changes;
mod compare;
mod copies;
mod folder;

use std::{
    fs::File,
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sipguard_lists::{
    found::{Entry, Head, Reader, Writer, file_name},
    said::Said,
    task::Task,
};
use thiserror::Error;

pub(crate) use self::folder::open;
use self::{
    bounds::Bounds,
    compare::{Compared, compare},
};
pub use self::{
    bounds::{Broken, LeftOut, Size},
    changes::Changes,
    copies::{Copies, Copy, NewCopy, Unsaved, Unusable},
    folder::OpenError,
};

/// Where the fetcher writes.
pub const FOLDER: &str = "/var/lib/sipguard-fetch";

/// What is known of the host when a source is read.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The time as it is reckoned to be.
    pub now: Timestamp,
    /// This host's own addresses, which nobody else may have.
    pub own: &'a [IpAddr],
}

impl Circumstances<'_> {
    /// Where they don't matter.
    pub(crate) const NONE: Self = Circumstances {
        now: Timestamp::UNIX_EPOCH,
        own: &[],
    };
}

/// Whether a list may be another one than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Less than half of it, or more than twice as much, is refused: files that were not written whole, or for somebody else, look so.
    Alike,
    /// A person looked at it.
    Any,
}

/// What was taken.
#[derive(Debug)]
pub struct Taken {
    /// How it came about.
    pub head: Head,
    /// How many entries were handed on.
    pub entries: usize,
    /// What was not handed on.
    pub left_out: Option<LeftOut>,
    /// Where they differ from the last good copy's.
    pub changes: Changes,
    /// What is to become the last good copy, or why there is none.
    pub copy: Result<NewCopy, Unsaved>,
}

/// What the fetcher found, and was refused as a whole.
#[derive(Debug, Error)]
#[error("what the fetcher found for {source_name} is refused: {} {problem}", file.display())]
pub struct Refused {
    /// The source.
    pub source_name: String,
    /// The fetcher's file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum Problem {
    /// It is nothing that is opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is not written as it should be.
    #[error(transparent)]
    Read(#[from] sipguard_lists::found::ReadError),
    /// What it says can't be, or must not be.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// It is another source's.
    #[error("is of the source {}", Said(.0))]
    Source(String),
}

/// How what the fetcher found for a source came about, without its entries. `None` where it has found nothing yet of what is asked for now.
///
/// # Errors
/// Where it is nothing that is read.
pub fn look(
    folder: &Path,
    task: &Task,
    circumstances: Circumstances<'_>,
) -> Result<Option<Head>, Refused> {
    let begun = begin(folder, task, circumstances)?;
    Ok(begun.map(|(reader, _)| reader.head().clone()))
}

/// Opens a file, as far as its first line.
fn begin<'t>(
    folder: &Path,
    task: &'t Task,
    circumstances: Circumstances<'t>,
) -> Result<Option<(Reader<File>, Bounds<'t>)>, Refused> {
    let begin = || -> Result<_, Problem> {
        let Some(file) = open(folder, &task.source)? else {
            return Ok(None);
        };
        let reader = Reader::new(file)?;
        let head = reader.head();
        if head.source != task.source {
            return Err(Problem::Source(head.source.clone()));
        }
        let bounds = Bounds::new(task, circumstances);
        if !bounds.is_answer(head) {
            return Ok(None);
        }
        bounds.head(head)?;
        Ok(Some((reader, bounds)))
    };
    begin().map_err(|problem| Refused {
        source_name: task.source.clone(),
        file: folder.join(file_name(&task.source)),
        problem,
    })
}

/// Reads what the fetcher found for one source, and makes a copy of it while it is read, which is not the last good one yet. `None` where the
/// fetcher has found nothing yet of what is asked for now.
///
/// # Errors
/// Where it is refused.
pub fn take(
    folder: &Path,
    copies: &Copies,
    task: &Task,
    accept: Accept,
    circumstances: Circumstances<'_>,
) -> Result<Option<Taken>, Refused> {
    let refused = |problem| Refused {
        source_name: task.source.clone(),
        file: folder.join(file_name(&task.source)),
        problem,
    };
    let Some((mut reader, mut bounds)) = begin(folder, task, circumstances)? else {
        return Ok(None);
    };
    let head = reader.head().clone();
    if bounds.is_a_list()
        && let Ok(Some(before)) = copies.opened(task)
    {
        let write = |out: &mut dyn Write| beside(&before, &reader, &mut bounds, accept, Some(out));
        let (compared, copy) = copies.write(task, write).map_err(refused)?;
        return Ok(Some(Taken {
            head,
            entries: compared.entries,
            left_out: bounds.left_out(),
            changes: compared.changes,
            copy,
        }));
    }
    let mut changes = copies.changes(task);
    let write = |out: &mut dyn Write| -> Result<_, Problem> {
        let mut entries = 0;
        let mut writer = Writer::new(out, &head)?;
        while let Some(found) = reader.next_entry()? {
            bounds.seen(&found)?;
            if bounds.entry(&found)? {
                entries += 1;
                changes.see(&found);
                writer.entry(&found)?;
            }
        }
        writer.finish()?;
        Ok(entries)
    };
    let (entries, copy) = copies.write(task, write).map_err(refused)?;
    Ok(Some(Taken {
        head,
        entries,
        left_out: bounds.left_out(),
        changes: changes.finish(),
        copy,
    }))
}

/// Where what the fetcher found for a long list differs from the last good copy. `None` where there is none, or where it is refused: what is
/// wrong, [`take`] tells.
pub fn look_for_changes(
    folder: &Path,
    copies: &Copies,
    task: &Task,
    accept: Accept,
    circumstances: Circumstances<'_>,
) -> Option<Changes> {
    let (reader, mut bounds) = begin(folder, task, circumstances).ok()??;
    if !bounds.is_a_list() {
        return None;
    }
    let before = copies.opened(task).ok()??;
    let compared = beside(&before, &reader, &mut bounds, accept, None);
    Some(compared.ok()?.changes)
}

/// Reads a list beside the last good copy, and writes what is to take its place, where that is wanted.
fn beside(
    before: &Reader<File>,
    now: &Reader<File>,
    bounds: &mut Bounds<'_>,
    accept: Accept,
    out: Option<&mut dyn Write>,
) -> Result<Compared, Problem> {
    let before = (before.input(), before.position(), before.head());
    let now = (now.input(), now.position(), now.head());
    let keep = |found: &Entry| -> Result<bool, Problem> {
        bounds.seen(found)?;
        Ok(bounds.entry(found)?)
    };
    let compared = compare(before, now, out, keep)?;
    if accept == Accept::Alike {
        bounds.sizes(compared.before, compared.now)?;
    }
    Ok(compared)
}

#[cfg(test)]
mod tests;
