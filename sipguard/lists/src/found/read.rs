//! Reading what was found, one entry at a time. Whoever wrote it may mean harm: nothing is taken that the writer would not have written, and no
//! more is kept in memory than a line.

use std::{
    borrow::Cow,
    io::{self, BufRead, BufReader, Read},
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;

use super::{Entry, Head, MAX_BYTES, MAX_COMMENT, MAX_ENTRIES, MAX_HEAD, MAX_LINE, VERSION};
use crate::{prefix, said::Said};

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It can't be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is longer than [`MAX_BYTES`].
    #[error("has more than {} MiB", MAX_BYTES >> 20)]
    TooLong,
    /// It has more than [`MAX_ENTRIES`].
    #[error("has more than {MAX_ENTRIES} entries")]
    TooMany,
    /// It ends before its end.
    #[error("is cut off in line {0}")]
    CutOff(usize),
    /// It is of another version.
    #[error("has version {0}, and this program reads {VERSION}")]
    Version(u32),
    /// A line is not what it should be.
    #[error("is damaged in line {line}: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What does not fit.
        problem: String,
    },
}

/// Reads a file.
#[derive(Debug)]
pub struct Reader<R> {
    lines: Lines<R>,
    head: Head,
    entries: usize,
    previous: Option<IpNet>,
    then: Then,
}

/// What the next line is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The first entry, or the end.
    Any,
    /// An entry, for the one before ends with a comma.
    Entry,
    /// The end.
    End,
    /// Nothing: the end was there.
    Nothing,
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    prefix: &'a str,
    first: i64,
    last: Option<i64>,
    end: Option<i64>,
    #[serde(borrow)]
    comment: Option<Cow<'a, str>>,
}

impl<R: Read> Reader<R> {
    /// Reads the first line.
    pub fn new(input: R) -> Result<Self, ReadError> {
        /// The one field that every version has.
        #[derive(Deserialize)]
        struct Any {
            version: u32,
        }

        let mut lines = Lines {
            input: BufReader::with_capacity(1 << 16, input),
            line: Vec::new(),
            number: 0,
            bytes: 0,
        };
        let line = lines.next(MAX_HEAD)?;
        let begun = line.strip_suffix(b",\"entries\":[");
        let Some(begun) = begun else {
            return Err(lines.wrong("it does not begin as such a file does"));
        };
        let object = [begun, b"}"].concat();
        let read = serde_json::from_slice(&object).and_then(|Any { version }| {
            if version == VERSION {
                serde_json::from_slice::<Head>(&object).map(Ok)
            } else {
                Ok(Err(version))
            }
        });
        let head = match read {
            Ok(Ok(head)) => head,
            Ok(Err(version)) => return Err(ReadError::Version(version)),
            Err(error) => return Err(lines.wrong(json(&error))),
        };
        if head.answered.is_some_and(|answered| answered > head.asked) {
            return Err(lines.wrong("it was answered before it was asked"));
        }
        if head.changed > head.answered {
            return Err(lines.wrong("it changed after it was answered"));
        }
        Ok(Self {
            lines,
            head,
            entries: 0,
            previous: None,
            then: Then::Any,
        })
    }

    /// What the first line says.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What is read.
    pub fn input(&self) -> &R {
        self.lines.input.get_ref()
    }

    /// How many bytes the lines have that were read.
    pub fn position(&self) -> u64 {
        self.lines.bytes
    }

    /// The next entry, each above the one before; `None` behind the last one, when the file is known to be whole.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        if self.then == Then::Nothing {
            return Ok(None);
        }
        let line = self.lines.next(MAX_LINE)?;
        if line == b"]}" && self.then != Then::Entry {
            self.then = Then::Nothing;
            return self.lines.end().map(|()| None);
        }
        if self.then == Then::End {
            return Err(self.lines.wrong("the end is missing"));
        }
        if self.entries == MAX_ENTRIES {
            return Err(ReadError::TooMany);
        }
        let (line, then) = match line.strip_suffix(b",") {
            Some(line) => (line, Then::Entry),
            None => (line, Then::End),
        };
        let entry =
            parse_line(line, self.head.answered).map_err(|problem| self.lines.wrong(problem))?;
        if self
            .previous
            .is_some_and(|previous| previous >= entry.prefix)
        {
            let prefix = prefix::format(entry.prefix);
            return Err(self.lines.wrong(format!("{prefix} is not in its place")));
        }
        self.previous = Some(entry.prefix);
        self.entries += 1;
        self.then = then;
        Ok(Some(entry))
    }
}

/// The entry of one line, without the comma behind it; where it does not say when it was seen last, that was when the file was answered.
pub fn parse_line(line: &[u8], answered: Option<Timestamp>) -> Result<Entry, String> {
    let Line {
        prefix,
        first,
        last,
        end,
        comment,
    } = serde_json::from_slice(line).map_err(|error| json(&error))?;
    let time = |second| Timestamp::from_second(second).map_err(|_| format!("{second} is no time"));
    let entry = Entry {
        prefix: prefix::parse(prefix).map_err(|_| format!("{} is no prefix", Said(prefix)))?,
        first: time(first)?,
        last: match last {
            Some(last) => time(last)?,
            None => answered.ok_or("it was never answered, and has entries")?,
        },
        end: end.map(time).transpose()?,
        comment: comment.map(Cow::into_owned),
    };
    if entry.last < entry.first || Some(entry.last) > answered {
        return Err(format!(
            "{} was seen at times that can't be",
            prefix::format(entry.prefix)
        ));
    }
    if entry
        .comment
        .as_ref()
        .is_some_and(|it| it.chars().count() > MAX_COMMENT)
    {
        return Err(format!("a comment has more than {MAX_COMMENT} characters"));
    }
    Ok(entry)
}

/// What the parser says, without its idea of a line and what else there could have been; it may quote what it read.
fn json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let text = text.split(", expected one of").next().unwrap_or_default();
    Said(&text.replace('`', "")).to_string()
}

/// Lines of a bounded length in a file of a bounded length.
#[derive(Debug)]
struct Lines<R> {
    input: BufReader<R>,
    line: Vec<u8>,
    /// Of the line that was read last, counted from 1.
    number: usize,
    bytes: u64,
}

impl<R: Read> Lines<R> {
    /// The next line, without its end.
    fn next(&mut self, limit: usize) -> Result<&[u8], ReadError> {
        self.number += 1;
        self.line.clear();
        let mut limited = self.input.by_ref().take(limit as u64 + 1);
        self.bytes += limited.read_until(b'\n', &mut self.line)? as u64;
        if self.bytes > MAX_BYTES {
            return Err(ReadError::TooLong);
        }
        match self.line.split_last() {
            Some((b'\n', _)) => {}
            _ if self.line.len() > limit => {
                return Err(self.wrong(format!("it has more than {limit} bytes")));
            }
            _ => return Err(ReadError::CutOff(self.number)),
        }
        self.line.pop();
        Ok(&self.line)
    }

    /// Whether nothing comes any more.
    fn end(&mut self) -> Result<(), ReadError> {
        if self.input.fill_buf()?.is_empty() {
            Ok(())
        } else {
            self.number += 1;
            Err(self.wrong("something comes behind the end"))
        }
    }

    fn wrong(&self, problem: impl Into<String>) -> ReadError {
        ReadError::Line {
            line: self.number,
            problem: problem.into(),
        }
    }
}
