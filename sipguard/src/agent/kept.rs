//! What the agent keeps as JSON in a file of its own, for root alone: whole, or not at all.

use std::{
    fs,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};
use sipguard_lists::replace;

/// Reads it; `None` where there is no such file.
///
/// # Errors
/// Where the file can't be read, or not as such.
pub(super) fn read<T: DeserializeOwned>(folder: &Path, file: &str) -> io::Result<Option<T>> {
    match fs::read(folder.join(file)) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes it.
///
/// # Errors
/// Where the disk does not take it; what was there before stays.
pub(super) fn write<T: Serialize>(folder: &Path, file: &str, kept: &T) -> io::Result<()> {
    let staged = replace::stage(folder, file, 0o600, |file| {
        let mut out = BufWriter::new(file);
        serde_json::to_writer(&mut out, kept)?;
        out.flush()
    })?;
    staged.commit()
}
