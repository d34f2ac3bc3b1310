//! Opening a file in a folder that somebody else may write to. Nothing is followed, nothing is waited for, and nothing is opened that is not a
//! plain file of the folder's owner: opening a device may do something, and opening a FIFO waits for ever.

use std::{fs::File, io, path::Path};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, statat},
    io::Errno,
};
use sipguard_lists::found::{MAX_BYTES, file_name};
use thiserror::Error;

/// Why a file was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder is none, or may not be read.
    #[error("is in a folder that can't be opened: {0}")]
    Folder(io::Error),
    /// It is something else than a file.
    #[error("is not a plain file but {0}")]
    Kind(&'static str),
    /// It is somebody's who has no business there.
    #[error("belongs to the user {owner}, and its folder to {folder}")]
    Owner {
        /// The file's, as a number.
        owner: u32,
        /// The folder's, as a number.
        folder: u32,
    },
    /// It is larger than is read.
    #[error("has more than {} MiB", MAX_BYTES >> 20)]
    Size,
    /// Its owner holds it with a lease, and would have to be waited for.
    #[error("is held by another process")]
    Held,
    /// It can't be opened.
    #[error("can't be opened: {0}")]
    Open(io::Error),
}

/// Opens the file of a source, or of another such name. `None` where there is none.
pub(crate) fn open(folder: &Path, source: &str) -> Result<Option<File>, OpenError> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match openat(CWD, folder, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(OpenError::Folder(error.into())),
    };
    // Only root can make something below /var/lib, and the package made it the fetcher's.
    let owner = fstat(&folder)
        .map_err(|error| OpenError::Folder(error.into()))?
        .st_uid;
    let name = file_name(source);
    let before = match statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(OpenError::Open(error.into())),
    };
    check(&before, owner)?;
    // It may be another one by now, or have a lease on it.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(&folder, &name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(OpenError::Kind("a link")),
        Err(Errno::AGAIN) => return Err(OpenError::Held),
        Err(error) => return Err(OpenError::Open(error.into())),
    };
    let stat = fstat(&file).map_err(|error| OpenError::Open(error.into()))?;
    check(&stat, owner)?;
    Ok(Some(file.into()))
}

fn check(stat: &Stat, folder: u32) -> Result<(), OpenError> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::Symlink => Some("a link"),
        FileType::Directory => Some("a folder"),
        FileType::Fifo => Some("a FIFO"),
        FileType::Socket => Some("a socket"),
        _ => Some("a device"),
    };
    if let Some(kind) = kind {
        return Err(OpenError::Kind(kind));
    }
    if stat.st_uid != folder {
        return Err(OpenError::Owner {
            owner: stat.st_uid,
            folder,
        });
    }
    // Nobody can know how much of it there will be when it is read, so that it is counted then, too.
    if u64::try_from(stat.st_size).is_ok_and(|size| size <= MAX_BYTES) {
        Ok(())
    } else {
        Err(OpenError::Size)
    }
}
