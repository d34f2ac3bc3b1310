//! List files: one prefix a line, comments behind `#` or, as feeds have them, behind `;`.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use ipnet::IpNet;

use super::problems::Problems;
use crate::prefix::{self, Excerpt};

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

/// The prefix of one line, or the column and the kind of what is wrong with it.
fn line(bytes: &[u8], first: bool) -> Result<Option<IpNet>, (usize, String)> {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            return Err((
                valid.chars().count() + 1,
                "this is not UTF-8; save the file as UTF-8".to_owned(),
            ));
        }
    };
    let text = match text.strip_prefix('\u{feff}') {
        Some(text) if first => text,
        _ => text,
    };
    let entry = text.split_once(['#', ';']).map_or(text, |(entry, _)| entry);
    let trimmed = entry.trim();
    if trimmed.is_empty() {
        return Ok(None);
    }
    prefix::parse(trimmed).map(Some).map_err(|error| {
        let column = entry.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let message = if trimmed.contains(char::is_whitespace) {
            format!(
                "{} is more than one prefix; write one a line, and comments behind # or ;",
                Excerpt::of(trimmed)
            )
        } else {
            error.to_string()
        };
        (column, message)
    })
}
