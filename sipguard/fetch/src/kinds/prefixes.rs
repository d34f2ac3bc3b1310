//! The prefixes of a list that comes from somewhere else, as much of it as there may be.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read},
};

use ipnet::IpNet;
use sipguard_lists::{found::MAX_ENTRIES, list, said::Said, task::Widest};

use crate::http;

/// The most bytes that are read.
const MAX_BYTES: u64 = 64 << 20;
/// The most bytes of a line.
const MAX_LINE: u64 = 4_096;

/// What is read, up to a byte more than there may be.
pub(super) struct Limited<R> {
    body: R,
    left: u64,
}

impl<R> Limited<R> {
    pub(super) fn new(body: R) -> Self {
        Self {
            body,
            left: MAX_BYTES + 1,
        }
    }

    /// Goes on with another body, within the same bounds.
    pub(super) fn then<S>(self, body: S) -> Limited<S> {
        Limited {
            body,
            left: self.left,
        }
    }

    /// Whether that was all of it; what was read of too much is worth nothing.
    pub(super) fn all(&self) -> Result<(), String> {
        if self.left == 0 {
            return Err(format!("it has more than {} MiB", MAX_BYTES >> 20));
        }
        Ok(())
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (&mut self.body).take(self.left).read(buffer);
        let read = read.map_err(http::while_reading)?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// The prefixes, as they come.
pub(super) struct Prefixes {
    widest: Widest,
    list: Vec<IpNet>,
    /// How many there were, right or wrong.
    all: usize,
    left_out: usize,
    /// The first that was wrong.
    wrong: Option<String>,
}

impl Prefixes {
    pub(super) fn new(widest: Widest) -> Self {
        Self {
            widest,
            list: Vec::new(),
            all: 0,
            left_out: 0,
            wrong: None,
        }
    }

    /// How many there were so far, right or wrong.
    pub(super) fn all(&self) -> usize {
        self.all
    }

    /// Adds what was read at a place, which is told where it is wrong.
    pub(super) fn add(
        &mut self,
        read: Result<IpNet, &str>,
        place: impl fmt::Display,
    ) -> Result<(), String> {
        self.all += 1;
        let problem = match read {
            Ok(prefix) if self.widest.is_beyond(prefix) => {
                format!("{place} has {prefix}, which is wider than this source may be")
            }
            Ok(_) if self.list.len() == MAX_ENTRIES => {
                return Err(format!("it has more than {MAX_ENTRIES} entries"));
            }
            Ok(prefix) => {
                self.list.push(prefix);
                return Ok(());
            }
            Err(text) => format!("{place} is no prefix: {}", Said(text)),
        };
        self.left_out += 1;
        self.wrong.get_or_insert(problem);
        Ok(())
    }

    /// All of them, in order and each once, and what there is to say of them; of 1,000 that there were so many may be wrong.
    pub(super) fn done(mut self, tolerate: u16) -> Result<(Vec<IpNet>, Option<String>), String> {
        self.list.sort_unstable();
        self.list.dedup();
        let (all, left_out) = (self.all, self.left_out);
        match self.wrong {
            None => Ok((self.list, None)),
            Some(problem) if left_out * 1_000 <= all * usize::from(tolerate) => {
                let said = format!("{left_out} of {all} entries are left out: {problem}");
                Ok((self.list, Some(said)))
            }
            Some(problem) if left_out == 1 => Err(problem),
            Some(problem) => {
                let more = left_out - 1;
                Err(format!(
                    "{problem} (and {more} more of {all} entries are wrong)"
                ))
            }
        }
    }
}

/// One prefix a line, as in list files. `of` is told before the line's number where something is wrong.
pub(super) fn lines(
    body: impl Read,
    prefixes: &mut Prefixes,
    of: impl fmt::Display,
) -> Result<(), String> {
    let mut body = BufReader::with_capacity(1 << 16, body);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let mut limited = body.by_ref().take(MAX_LINE + 1);
        let read = limited.read_until(b'\n', &mut line);
        let read = read.map_err(|error| Said(&error.to_string()).to_string())? as u64;
        if read == 0 {
            break;
        }
        if read > MAX_LINE {
            return Err(format!("{of}line {number} has more than {MAX_LINE} bytes"));
        }
        let place = format_args!("{of}line {number}");
        match list::line(&line, number == 1) {
            Ok(None) => {}
            Ok(Some(prefix)) => prefixes.add(Ok(prefix), place)?,
            Err(_) => prefixes.add(Err(String::from_utf8_lossy(&line).trim()), place)?,
        }
    }
    Ok(())
}
