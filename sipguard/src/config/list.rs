//! List files: one prefix a line, comments behind `#` or, as feeds have them, behind `;`.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use ipnet::IpNet;
use sipguard_lists::list::line;

use super::problems::Problems;

/// Reads a list file. Lines that are wrong are put among the problems.
pub(super) fn read(path: &Path, problems: &mut Problems) -> io::Result<Vec<IpNet>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut prefixes = Vec::new();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut bytes = Vec::new();
    let mut number = 0;
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        number += 1;
        match line(&bytes, number == 1) {
            Ok(Some(prefix)) => prefixes.push(prefix),
            Ok(None) => {}
            Err((column, message)) => problems.add(path, number, column, || message),
        }
        bytes.clear();
    }
    prefixes.shrink_to_fit();
    Ok(prefixes)
}
