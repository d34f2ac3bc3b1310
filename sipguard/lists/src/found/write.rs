//! Writing what was found, one entry at a time.

use std::io::{self, BufWriter, Write};

use ipnet::IpNet;
use jiff::Timestamp;

use super::{Entry, Head, MAX_BYTES, MAX_COMMENT, MAX_ENTRIES, MAX_HEAD};
use crate::prefix;

/// Writes a file. What a reader would refuse is an error here already.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: Counted<BufWriter<W>>,
    answered: Option<Timestamp>,
    entries: usize,
    previous: Option<IpNet>,
    line: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes the first line.
    pub fn new(out: W, head: &Head) -> io::Result<Self> {
        let line = first_line(head)?;
        let mut out = Counted {
            out: BufWriter::with_capacity(1 << 16, out),
            bytes: 0,
        };
        out.write(&line)?;
        Ok(Self {
            out,
            answered: head.answered,
            entries: 0,
            previous: None,
            line,
        })
    }

    /// Writes an entry; each is above the one before.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let Entry { prefix, .. } = *entry;
        if self.previous.is_some_and(|previous| previous >= prefix) {
            return Err(io::Error::other(format!("{prefix} is not in its place")));
        }
        if self.entries == MAX_ENTRIES {
            return Err(io::Error::other(format!(
                "there are more than {MAX_ENTRIES} entries"
            )));
        }
        let comment = entry.comment.as_deref().map(|comment| {
            // No character takes less than a byte.
            let is_long = comment.len() > MAX_COMMENT;
            let end = is_long.then(|| comment.char_indices().nth(MAX_COMMENT));
            end.flatten().map_or(comment, |(end, _)| &comment[..end])
        });
        let last = (Some(entry.last) != self.answered).then_some(entry.last);
        let times = [(&b",\"last\":"[..], last), (b",\"end\":", entry.end)];
        let line = &mut self.line;
        line.clear();
        line.extend_from_slice(match self.entries {
            0 => &b"\n{\"prefix\":\""[..],
            _ => b",\n{\"prefix\":\"",
        });
        prefix::push(prefix, line);
        line.extend_from_slice(b"\",\"first\":");
        serde_json::to_writer(&mut *line, &entry.first.as_second())?;
        for (name, time) in times {
            if let Some(time) = time {
                line.extend_from_slice(name);
                serde_json::to_writer(&mut *line, &time.as_second())?;
            }
        }
        if let Some(comment) = comment {
            line.extend_from_slice(b",\"comment\":");
            serde_json::to_writer(&mut *line, comment)?;
        }
        line.push(b'}');
        self.out.write(&self.line)?;
        self.previous = Some(prefix);
        self.entries += 1;
        Ok(())
    }

    /// Writes the last line.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write(b"\n]}\n")?;
        self.out.out.flush()
    }
}

/// The first line of a file, without its end.
pub fn first_line(head: &Head) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(head)?;
    // The entries become the last field of the object.
    line.pop();
    line.extend(b",\"entries\":[");
    if line.len() >= MAX_HEAD {
        return Err(io::Error::other(format!(
            "what is said of the source {} takes more than {MAX_HEAD} bytes",
            head.source
        )));
    }
    Ok(line)
}

#[derive(Debug)]
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        if self.bytes > MAX_BYTES {
            return Err(io::Error::other(format!(
                "the entries take more than {} MiB",
                MAX_BYTES >> 20
            )));
        }
        self.out.write_all(bytes)
    }
}
