//! Reading a list that is to take the place of a copy: where lines are those of the copy, they are passed over as bytes. A million entries are
//! read anew every hour, and next to none of them is new.
//!
//! What a line of the copy says was looked at when the copy was made. All else is looked at here as [`Reader`](sipguard_lists::found::Reader)
//! does it.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt as _,
};

use ipnet::IpNet;
use sipguard_lists::found::{
    Entry, Head, MAX_BYTES, MAX_ENTRIES, MAX_LINE, ReadError, first_line, parse_line,
};

use super::{Changes, Problem, bounds::Size};

/// The last line.
const END: &[u8] = b"]}";
/// How much of a file is looked at at once.
const WINDOW: usize = 1 << 18;

/// What was read.
pub(super) struct Compared {
    pub(super) changes: Changes,
    pub(super) entries: usize,
    /// How much there was on the copy, and is now.
    pub(super) before: Size,
    pub(super) now: Size,
}

/// Compares a file with the copy, each with the place where its entries begin and what its first line says, and writes what is read to `out`. Without
/// that, it is for the changes alone: where there are more than are told it ends.
pub(super) fn compare(
    before: (&File, u64, &Head),
    now: (&File, u64, &Head),
    out: Option<&mut dyn Write>,
    mut keep: impl FnMut(&Entry) -> Result<bool, Problem>,
) -> Result<Compared, Problem> {
    let is_for_changes = out.is_none();
    let (mut old, mut new) = (Side::new(before), Side::new(now));
    let mut changes = Changes::default();
    let mut out = Lines::begin(out, now.2)?;
    let mut left_out = 0;
    while !(is_for_changes && changes.more) {
        old.fill()?;
        new.fill()?;
        let common = whole_lines(old.rest(), new.rest());
        if common > 0 {
            out.write(&new.rest()[..common])?;
            let passed = new.pass(common)?;
            old.pass_as(&passed);
            continue;
        }
        // Behind the last entry of the copy there is nothing that would be gone. One that can't be read has more that is.
        let ours = old.entry().unwrap_or_else(|_| {
            changes.more = true;
            None
        });
        let theirs = new.entry()?;
        match (ours, theirs) {
            (None, None) => break,
            (Some(ours), None) => {
                changes.remove(ours.prefix);
                old.next(&ours)?;
            }
            (Some(ours), Some(theirs)) if ours.prefix < theirs.prefix => {
                changes.remove(ours.prefix);
                old.next(&ours)?;
            }
            (ours, Some(theirs)) => {
                let kept = keep(&theirs)?;
                let known = ours.filter(|ours| ours.prefix == theirs.prefix);
                if kept && known.as_ref().is_none_or(|known| known.end != theirs.end) {
                    changes.add(theirs.prefix, theirs.end);
                }
                if kept {
                    out.write(new.line()?)?;
                } else {
                    left_out += 1;
                }
                new.next(&theirs)?;
                if let Some(known) = known {
                    old.next(&known)?;
                }
            }
        }
    }
    if !(is_for_changes && changes.more) {
        new.end()?;
        out.end()?;
    }
    Ok(Compared {
        changes,
        entries: new.entries - left_out,
        before: old.size,
        now: new.size,
    })
}

/// How many bytes of both are the same whole lines, without the last line of a file.
fn whole_lines(one: &[u8], other: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let blocks = one.chunks_exact(BLOCK).zip(other.chunks_exact(BLOCK));
    let mut same = BLOCK * blocks.take_while(|(one, other)| one == other).count();
    let rest = one[same..].iter().zip(&other[same..]);
    same += rest.take_while(|(one, other)| one == other).count();
    let end = memchr::memrchr(b'\n', &one[..same]).map_or(0, |end| end + 1);
    let lines = &one[..end];
    match lines.strip_suffix(b"]}\n") {
        Some(rest) if rest.is_empty() || rest.ends_with(b"\n") => rest.len(),
        _ => end,
    }
}

/// What is written: lines with commas between them, whichever of those that are read are left out.
struct Lines<'o> {
    out: Option<&'o mut dyn Write>,
    between: &'static [u8],
}

impl<'o> Lines<'o> {
    fn begin(mut out: Option<&'o mut dyn Write>, head: &Head) -> io::Result<Self> {
        if let Some(out) = &mut out {
            out.write_all(&first_line(head)?)?;
        }
        Ok(Self {
            out,
            between: b"\n",
        })
    }

    /// Whole lines, the last one with its comma and its end or without.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
        let lines = lines.strip_suffix(b",").unwrap_or(lines);
        out.write_all(self.between)?;
        self.between = b",\n";
        out.write_all(lines)
    }

    fn end(self) -> io::Result<()> {
        let Some(out) = self.out else { return Ok(()) };
        out.write_all(b"\n")?;
        out.write_all(END)?;
        out.write_all(b"\n")
    }
}

/// One of the two files.
struct Side<'h> {
    file: &'h File,
    head: &'h Head,
    /// Where the next bytes are read; what of the file was read, and what of that is passed.
    place: u64,
    window: Vec<u8>,
    filled: usize,
    passed: usize,
    at_end: bool,
    /// What was passed.
    lines: usize,
    entries: usize,
    size: Size,
    last: Option<IpNet>,
    /// Whether another entry is to come, where it is known.
    comma: Option<bool>,
}

impl<'h> Side<'h> {
    fn new((file, place, head): (&'h File, u64, &'h Head)) -> Self {
        Self {
            file,
            head,
            place,
            window: vec![0; WINDOW],
            filled: 0,
            passed: 0,
            at_end: false,
            lines: 1,
            entries: 0,
            size: Size::default(),
            last: None,
            comma: None,
        }
    }

    fn rest(&self) -> &[u8] {
        &self.window[self.passed..self.filled]
    }

    /// Sees to it that there is more than a line in the window, where there is more.
    fn fill(&mut self) -> Result<(), ReadError> {
        if self.at_end || self.rest().len() > 2 * MAX_LINE {
            return Ok(());
        }
        self.window.copy_within(self.passed..self.filled, 0);
        self.filled -= self.passed;
        self.passed = 0;
        while self.filled < WINDOW {
            let room = &mut self.window[self.filled..];
            match self.file.read_at(room, self.place)? {
                0 => {
                    self.at_end = true;
                    break;
                }
                read => {
                    self.filled += read;
                    self.place += read as u64;
                }
            }
        }
        if self.place > MAX_BYTES {
            return Err(ReadError::TooLong);
        }
        Ok(())
    }

    /// The next line, without its end.
    fn line(&self) -> Result<&[u8], ReadError> {
        let rest = self.rest();
        let limit = rest.len().min(MAX_LINE + 1);
        match memchr::memchr(b'\n', &rest[..limit]) {
            Some(end) => Ok(&rest[..end]),
            None if rest.len() > MAX_LINE => {
                Err(self.wrong(format!("it has more than {MAX_LINE} bytes")))
            }
            None => Err(ReadError::CutOff(self.lines + 1)),
        }
    }

    /// The next entry; none where it is the last line.
    fn entry(&self) -> Result<Option<Entry>, ReadError> {
        let line = self.line()?;
        if line == END {
            return match self.comma {
                Some(true) => Err(self.wrong("an entry is missing".to_owned())),
                _ => Ok(None),
            };
        }
        if self.comma == Some(false) {
            return Err(self.wrong("the end is missing".to_owned()));
        }
        if self.entries == MAX_ENTRIES {
            return Err(ReadError::TooMany);
        }
        let text = line.strip_suffix(b",").unwrap_or(line);
        let entry = parse_line(text, self.head.answered).map_err(|problem| self.wrong(problem))?;
        if self.last.is_some_and(|last| last >= entry.prefix) {
            let prefix = sipguard_lists::prefix::format(entry.prefix);
            return Err(self.wrong(format!("{prefix} is not in its place")));
        }
        Ok(Some(entry))
    }

    /// Goes on behind the next line, which has this entry.
    fn next(&mut self, entry: &Entry) -> Result<(), ReadError> {
        let line = self.line()?;
        let (comma, length) = (line.ends_with(b","), line.len() + 1);
        self.comma = Some(comma);
        self.last = Some(entry.prefix);
        self.size.add(entry.prefix);
        self.entries += 1;
        self.lines += 1;
        self.passed += length;
        Ok(())
    }

    /// Goes on behind lines that both have, and tells what is in them.
    fn pass(&mut self, length: usize) -> Result<Passed, ReadError> {
        if self.comma == Some(false) {
            return Err(self.wrong("the end is missing".to_owned()));
        }
        let lines = &self.window[self.passed..][..length];
        let entries = memchr::memchr_iter(b'\n', lines).count();
        if self.entries + entries > MAX_ENTRIES {
            return Err(ReadError::TooMany);
        }
        let (first, last) = (line_at(lines, 0), last_line(lines));
        let entry = |line: &[u8]| {
            let text = line.strip_suffix(b",").unwrap_or(line);
            parse_line(text, self.head.answered).map_err(|problem| self.wrong(problem))
        };
        let (first, end) = (entry(first)?, entry(last)?);
        if self.last.is_some_and(|last| last >= first.prefix) {
            let prefix = sipguard_lists::prefix::format(first.prefix);
            return Err(self.wrong(format!("{prefix} is not in its place")));
        }
        let mut size = Size::default();
        size.add_lines(lines, entries, first.prefix, end.prefix);
        let passed = Passed {
            length,
            entries,
            size,
            last: end.prefix,
            comma: last.ends_with(b","),
        };
        self.pass_as(&passed);
        Ok(passed)
    }

    /// The same, where that is known.
    fn pass_as(&mut self, passed: &Passed) {
        self.comma = Some(passed.comma);
        self.last = Some(passed.last);
        self.size.add_all(passed.size);
        self.entries += passed.entries;
        self.lines += passed.entries;
        self.passed += passed.length;
    }

    /// Whether nothing comes behind the last line, which is the next one.
    fn end(&mut self) -> Result<(), ReadError> {
        self.passed += END.len() + 1;
        self.lines += 1;
        self.fill()?;
        if self.rest().is_empty() {
            Ok(())
        } else {
            self.lines += 1;
            Err(self.wrong("something comes behind the end".to_owned()))
        }
    }

    fn wrong(&self, problem: String) -> ReadError {
        ReadError::Line {
            line: self.lines + 1,
            problem,
        }
    }
}

/// What is in lines that both have.
struct Passed {
    length: usize,
    entries: usize,
    size: Size,
    last: IpNet,
    comma: bool,
}

/// The line that begins there, without its end.
fn line_at(lines: &[u8], place: usize) -> &[u8] {
    let rest = &lines[place..];
    let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
    &rest[..end]
}

fn last_line(lines: &[u8]) -> &[u8] {
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    let begin = memchr::memrchr(b'\n', lines).map_or(0, |end| end + 1);
    &lines[begin..]
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Read(ReadError::Io(error))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use sipguard_lists::found::{Reader, Writer};

    use super::*;

    fn head() -> Head {
        let time = Timestamp::constant(1_790_000_000, 0);
        Head {
            answered: Some(time),
            changed: Some(time),
            ..Head::new("blocked", time, time)
        }
    }

    fn file(entries: &[Entry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &head()).unwrap();
        for entry in entries {
            writer.entry(entry).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    fn on_disk(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    /// Entry by entry.
    fn read(bytes: &[u8]) -> Result<Vec<Entry>, ReadError> {
        let mut reader = Reader::new(bytes)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }

    fn size(entries: &[Entry]) -> Size {
        let mut size = Size::default();
        for entry in entries {
            size.add(entry.prefix);
        }
        size
    }

    fn compared(before: &[u8], now: &[u8]) -> Result<(Compared, Vec<u8>), String> {
        let (before, now) = (on_disk(before), on_disk(now));
        let before = Reader::new(before).unwrap();
        let now = Reader::new(now).map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        let compare = |out| {
            let before = (before.input(), before.position(), before.head());
            let now = (now.input(), now.position(), now.head());
            compare(before, now, out, |_| Ok(true)).map_err(|error| error.to_string())
        };
        // Without a copy it finds the same.
        let seen = compare(None).map(|seen| seen.changes);
        let done = compare(Some(&mut out));
        let found = done.as_ref().map(|done| &done.changes);
        assert_eq!(seen.as_ref(), found, "{seen:?}");
        done.map(|done| (done, out))
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let one = (any::<bool>(), 0..40_u32, 20..=32_u8, 0..20_u8);
        prop::collection::vec(one, 0..40).prop_map(|some| {
            let mut entries: Vec<_> = some
                .into_iter()
                .map(|(is_v6, host, length, more)| {
                    let prefix: IpNet = if is_v6 {
                        let address =
                            std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(host));
                        IpNet::new(address.into(), 96 + length).unwrap()
                    } else {
                        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + host * 8);
                        IpNet::new(address.into(), length).unwrap()
                    };
                    let time = head().asked;
                    Entry {
                        prefix: prefix.trunc(),
                        first: time,
                        last: time,
                        end: (more == 1).then_some(Timestamp::constant(1_800_000_000, 0)),
                        comment: (more == 2).then(|| "a/24\",\"first\":".to_owned()),
                    }
                })
                .collect();
            entries.sort_by_key(|entry| entry.prefix);
            entries.dedup_by_key(|entry| entry.prefix);
            entries
        })
    }

    proptest! {
        #[test]
        fn it_finds_what_reading_finds(before in entries(), now in entries(), some in prop::collection::vec(any::<bool>(), 40)) {
            // Two that have something in common.
            let mut now = now;
            now.extend(before.iter().zip(some).filter(|(_, kept)| *kept).map(|(entry, _)| entry.clone()));
            now.sort_by_key(|entry| entry.prefix);
            now.dedup_by_key(|entry| entry.prefix);
            let (done, out) = compared(&file(&before), &file(&now)).unwrap();
            prop_assert_eq!(out, file(&now));
            prop_assert_eq!((done.before, done.now), (size(&before), size(&now)));
            prop_assert_eq!(done.entries, now.len());
            let known = |of: &[Entry], entry: &Entry| of.iter().any(|it| (it.prefix, it.end) == (entry.prefix, entry.end));
            let new: Vec<_> = now.iter().filter(|entry| !known(&before, entry)).map(|it| (it.prefix, it.end)).collect();
            prop_assert_eq!(done.changes.new, new);
            let gone: Vec<_> = before.iter().filter(|entry| now.iter().all(|it| it.prefix != entry.prefix)).map(|it| it.prefix).collect();
            prop_assert_eq!(done.changes.gone, gone);
        }

        #[test]
        fn it_refuses_what_reading_refuses(before in entries(), now in entries(), place in any::<prop::sample::Index>(), byte in prop::sample::select(b",]}{\n0/\":9a".to_vec()), how in 0..3) {
            let mut bytes = file(&now);
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => bytes.truncate(place),
            }
            for before in [&before, &now] {
                let read = read(&bytes);
                match (compared(&file(before), &bytes), read) {
                    (Ok((done, _)), Ok(entries)) => prop_assert_eq!(done.now, size(&entries)),
                    (Err(_), Err(_)) => {}
                    (Ok(_), Err(error)) => prop_assert!(false, "taken: {}", error),
                    (Err(error), Ok(_)) => prop_assert!(false, "refused: {}", error),
                }
            }
        }
    }
}
