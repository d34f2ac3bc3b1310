//! The prefixes of a list: one a line, or at a place in JSON. Nothing is kept but them.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read},
};

use ipnet::IpNet;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sipguard_lists::{
    found::MAX_ENTRIES,
    list,
    path::Step,
    prefix,
    said::Said,
    task::{Url, Widest},
};

/// The most bytes that are read.
const MAX_BYTES: u64 = 64 << 20;
/// The most bytes of a line.
const MAX_LINE: u64 = 4_096;

/// Reads a list, in order and each prefix once, and what there is to say of it.
pub(super) fn read(body: impl Read, of: &Url) -> Result<(Vec<IpNet>, Option<String>), String> {
    let mut body = Limited {
        body,
        left: MAX_BYTES + 1,
    };
    let mut prefixes = Prefixes::new(of.widest);
    let read = match &of.path {
        None => lines(&mut body, &mut prefixes),
        Some(path) => json(&mut body, path.steps(), &mut prefixes),
    };
    if body.left == 0 {
        return Err(format!("it has more than {} MiB", MAX_BYTES >> 20));
    }
    read?;
    if let Some(path) = &of.path
        && prefixes.all == 0
    {
        return Err(format!("nothing is at {}", Said(&path.to_string())));
    }
    prefixes.done(of.tolerate)
}

/// What is read, up to a byte more than there may be.
struct Limited<R> {
    body: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (&mut self.body).take(self.left).read(buffer)?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// The prefixes, as they come.
struct Prefixes {
    widest: Widest,
    list: Vec<IpNet>,
    /// How many there were, right or wrong.
    all: usize,
    left_out: usize,
    /// The first that was wrong.
    wrong: Option<String>,
}

impl Prefixes {
    fn new(widest: Widest) -> Self {
        Self {
            widest,
            list: Vec::new(),
            all: 0,
            left_out: 0,
            wrong: None,
        }
    }

    /// Adds what was read at a place, which is told where it is wrong.
    fn add(&mut self, read: Result<IpNet, &str>, place: impl fmt::Display) -> Result<(), String> {
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

    fn done(mut self, tolerate: u16) -> Result<(Vec<IpNet>, Option<String>), String> {
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

/// One prefix a line, as in list files.
fn lines(body: impl Read, prefixes: &mut Prefixes) -> Result<(), String> {
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
            return Err(format!("line {number} has more than {MAX_LINE} bytes"));
        }
        let place = format_args!("line {number}");
        match list::line(&line, number == 1) {
            Ok(None) => {}
            Ok(Some(prefix)) => prefixes.add(Ok(prefix), place)?,
            Err(_) => prefixes.add(Err(String::from_utf8_lossy(&line).trim()), place)?,
        }
    }
    Ok(())
}

/// All texts at a place in JSON, whatever else is in it.
fn json(body: impl Read, path: &[Step], prefixes: &mut Prefixes) -> Result<(), String> {
    let body = BufReader::with_capacity(1 << 16, body);
    let mut json = serde_json::Deserializer::from_reader(body);
    let at = At { path, prefixes };
    let read = at.deserialize(&mut json).and_then(|()| json.end());
    read.map_err(|error| Said(&error.to_string()).to_string())
}

/// A place in JSON: what is left of the way there.
struct At<'a> {
    path: &'a [Step],
    prefixes: &'a mut Prefixes,
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.path.first() {
            None => json.deserialize_str(self),
            Some(Step::Each) => json.deserialize_seq(self),
            Some(Step::Field(_)) => json.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.first() {
            None => f.write_str("a text with a prefix"),
            Some(Step::Each) => f.write_str("an array"),
            Some(Step::Field(field)) => write!(f, "an object with {field}"),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let place = format_args!("entry {}", self.prefixes.all + 1).to_string();
        let read = prefix::parse(text.trim()).map_err(|_| text.trim());
        self.prefixes.add(read, place).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let rest = self.path.get(1..).unwrap_or_default();
        loop {
            let at = At {
                path: rest,
                prefixes: self.prefixes,
            };
            if elements.next_element_seed(at)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let rest = self.path.get(1..).unwrap_or_default();
        while let Some(name) = fields.next_key::<String>()? {
            // Some elements of an array may not have it: they may be of another family.
            if self.path.first() == Some(&Step::Field(name)) {
                fields.next_value_seed(At {
                    path: rest,
                    prefixes: self.prefixes,
                })?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
