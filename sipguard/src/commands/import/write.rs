//! A config file is written whole or not at all: half of one, or none, would take the filter away at the next `apply`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};

/// Puts `text` in the place of what the file had. A link stays one.
pub(super) fn whole(file: &Path, text: &str) -> Result<()> {
    let place = match fs::canonicalize(file) {
        Ok(place) => place,
        Err(error) if error.kind() == io::ErrorKind::NotFound => file.to_owned(),
        Err(error) => return Err(error).with_context(|| cannot(file)),
    };
    let folder = match place.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mode = fs::metadata(&place).map_or(0o644, |known| known.permissions().mode() & 0o7777);
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", process::id()));
    let new = folder.join(name);
    put(&new, &place, text, mode)
        .inspect_err(|_| {
            // What is half written is in nobody's way.
            let _ = fs::remove_file(&new);
        })
        .with_context(|| cannot(file))?;
    // The folder knows the new name only once it is on disk, too. Not every file system has that.
    if let Ok(folder) = File::open(&folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn put(new: &Path, place: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(new)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(new, place)
}

fn cannot(file: &Path) -> String {
    format!("cannot write {}, and nothing was changed", file.display())
}
