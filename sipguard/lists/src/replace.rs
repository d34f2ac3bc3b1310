//! Replacing a file as a whole: whoever reads sees the old one or the new one, after a crash at any moment, too.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// What is appended to a file's name while its successor is written; what a crash leaves of it is overwritten by the next one.
pub const NEW: &str = ".new";

/// A file that is written beside the one whose place it is to take; dropped, it is taken away.
#[derive(Debug)]
#[must_use = "a staged file is taken away unless it is committed"]
pub struct Staged {
    folder: PathBuf,
    name: String,
    file: File,
    /// Whether it is on disk.
    synced: bool,
    committed: bool,
}

/// Writes what is to become the file `name`, so that what can fail (a full disk, a read-only file system) fails before anything is changed.
/// Nobody else may be writing the same file.
pub fn stage(
    folder: &Path,
    name: &str,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<Staged> {
    let mut staged = begin(folder, name, mode)?;
    write(&mut staged.file)?;
    staged.file.sync_all()?;
    staged.synced = true;
    Ok(staged)
}

/// The same, to be written by [`Staged::file`]; the disk is waited for when it is committed.
pub fn begin(folder: &Path, name: &str, mode: u32) -> io::Result<Staged> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(staging(folder, name))?;
    Ok(Staged {
        folder: folder.to_owned(),
        name: name.to_owned(),
        file,
        synced: false,
        committed: false,
    })
}

/// Where a file is written before it takes its place.
pub fn staging(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{NEW}"))
}

impl Staged {
    /// What takes what is written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Puts it in the place of the old one.
    pub fn commit(mut self) -> io::Result<()> {
        if !self.synced {
            self.file.sync_all()?;
        }
        let folder = File::open(&self.folder)?;
        self.take_its_place()?;
        folder.sync_all()
    }

    /// Puts it in the place of the old one, and waits for the disk then, so that whoever reads need not. Where the power fails in between there may be
    /// neither of them: this is for what can be had again.
    pub fn commit_ahead(mut self) -> io::Result<()> {
        let folder = File::open(&self.folder)?;
        self.take_its_place()?;
        self.file.sync_all()?;
        folder.sync_all()
    }

    fn take_its_place(&mut self) -> io::Result<()> {
        fs::rename(self.path(), self.folder.join(&self.name))?;
        self.committed = true;
        Ok(())
    }

    fn path(&self) -> PathBuf {
        staging(&self.folder, &self.name)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            // A leftover is overwritten by the next one.
            let _ = fs::remove_file(self.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn it_takes_the_place_of_the_old_one_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("one");
        let write = |text: &'static str| {
            stage(folder.path(), "one", 0o640, move |file| {
                file.write_all(text.as_bytes())
            })
        };
        write("first").unwrap().commit().unwrap();
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o640
        );
        drop(write("dropped").unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "first");
        let failed = stage(folder.path(), "one", 0o640, |_| {
            Err(io::Error::other("full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "full");
        write("second").unwrap().commit().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "second");
        write("third").unwrap().commit_ahead().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "third");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left");
    }
}
