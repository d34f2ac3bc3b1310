//! Live sources: what the fetcher found for them, and what of that may come in force.
//!
//! The fetcher talks to the network, so that its folder is read as a stranger's: how a file is opened is in `folder.rs`, what its entries may
//! be in `bounds.rs`. Whatever breaks a bound is refused as a whole, and the last good one stays in force, of which sipguard keeps copies of
//! its own (`copies.rs`). A copy is made of what was read, while it is read: nobody can change it in between.

mod bounds;
mod copies;
mod folder;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sipguard_lists::{
    found::{Entry, Head, Reader, file_name},
    said::Said,
    task::Task,
};
use thiserror::Error;

use self::bounds::Bounds;
pub use self::{
    bounds::{Broken, LeftOut, Size},
    copies::{Copies, Unsaved, Unusable},
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
    /// Why there is no copy of it: after a restart an older one will be in force.
    pub unsaved: Option<Unsaved>,
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

/// Takes what the fetcher found for one source, and hands its entries on, each above the one before. Where it is refused, what was handed on
/// before is not to be used. `None` where the fetcher has found nothing yet of what is asked for now.
pub fn take(
    folder: &Path,
    copies: &Copies,
    task: &Task,
    accept: Accept,
    circumstances: Circumstances<'_>,
    mut entry: impl FnMut(Entry),
) -> Result<Option<Taken>, Refused> {
    let refused = |problem| Refused {
        source_name: task.source.clone(),
        file: folder.join(file_name(&task.source)),
        problem,
    };
    let file = match folder::open(folder, &task.source) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(None),
        Err(error) => return Err(refused(error.into())),
    };
    let begin = || -> Result<_, Problem> {
        let reader = Reader::new(file)?;
        let head = reader.head().clone();
        if head.source != task.source {
            return Err(Problem::Source(head.source));
        }
        let bounds = Bounds::new(task, circumstances);
        if !bounds.is_answer(&head) {
            return Ok(None);
        }
        bounds.head(&head)?;
        Ok(Some((reader, head, bounds)))
    };
    let Some((mut reader, head, mut bounds)) = begin().map_err(refused)? else {
        return Ok(None);
    };
    let before = match accept {
        // Without a good copy there is nothing that it could be another one than.
        Accept::Alike => copies.size(task, circumstances).ok().flatten(),
        Accept::Any => None,
    };
    let mut entries = 0;
    let mut next = || -> Result<Option<Entry>, Problem> {
        while let Some(found) = reader.next_entry()? {
            bounds.seen(&found)?;
            if bounds.entry(&found)? {
                entries += 1;
                entry(found.clone());
                return Ok(Some(found));
            }
        }
        bounds.whole(before)?;
        Ok(None)
    };
    let unsaved = copies.write(&head, &mut next).map_err(refused)?;
    Ok(Some(Taken {
        head,
        entries,
        left_out: bounds.left_out(),
        unsaved,
    }))
}

#[cfg(test)]
mod tests;
