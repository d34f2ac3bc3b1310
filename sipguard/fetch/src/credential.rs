//! Keys and passwords. Each is the first line of a file that a person names; where the unit hands that file over as a credential (systemd.exec(5),
//! `LoadCredential=`), under its own name, nobody but root need be able to read it.

use std::{
    env,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The most bytes that are read.
const MAX_BYTES: u64 = 4_096;

/// Reads one, as it is now: it may be replaced at any time.
pub(crate) fn read(file: &Path) -> Result<String, String> {
    let file = handed_over(file).unwrap_or_else(|| file.to_owned());
    let mut text = String::new();
    let read = File::open(&file).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    let said = |error: io::Error| format!("cannot read {}: {error}", file.display());
    read.map_err(said)?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() || !line.bytes().all(|byte| byte.is_ascii_graphic()) {
        let file = file.display();
        return Err(format!("{file} has no key in its first line"));
    }
    Ok(line.to_owned())
}

fn handed_over(file: &Path) -> Option<PathBuf> {
    let folder = env::var_os("CREDENTIALS_DIRECTORY")?;
    let handed = Path::new(&folder).join(file.file_name()?);
    handed.is_file().then_some(handed)
}
