//! Finding single entries of a file, without reading all of it: its lines are sorted.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use ipnet::IpNet;

use super::{
    Entry, Head, MAX_LINE, ReadError,
    read::{Reader, parse_line},
};

/// A file that [`Reader`] has taken before, and nobody changes.
#[derive(Debug)]
pub struct Finder {
    file: File,
    head: Head,
    /// Where the first entry's line begins, and where the last line ends.
    lines: (u64, u64),
}

impl Finder {
    /// Reads the first line.
    pub fn new(file: File) -> Result<Self, ReadError> {
        let reader = Reader::new(file.try_clone()?)?;
        let lines = (reader.position(), file.metadata()?.len());
        Ok(Self {
            head: reader.head().clone(),
            file,
            lines,
        })
    }

    /// What the first line says.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The entry of a prefix.
    pub fn find(&self, prefix: IpNet) -> Result<Option<Entry>, ReadError> {
        let found = self.at_or_above(prefix)?;
        let found = found.map(|(entry, _)| entry);
        Ok(found.filter(|found| found.prefix == prefix))
    }

    /// The first entry of this prefix or of one above it, and where the next one begins.
    pub fn at_or_above(&self, prefix: IpNet) -> Result<Option<(Entry, u64)>, ReadError> {
        let (mut begin, mut end) = self.lines;
        let mut least = None;
        while begin < end {
            let middle = begin + (end - begin) / 2;
            // A line begins behind the end of another one.
            let start = if middle == begin {
                Some(begin)
            } else {
                self.next_line(middle)?
            };
            let found = match start {
                Some(start) if start < end => self.entry(start)?,
                _ => None,
            };
            match found {
                Some((entry, next)) if entry.prefix < prefix => begin = next,
                found => {
                    end = middle;
                    least = found.or(least);
                }
            }
        }
        Ok(least)
    }

    /// The entry whose line begins there, and where the next one begins; `None` where it is the last line.
    pub fn entry(&self, place: u64) -> Result<Option<(Entry, u64)>, ReadError> {
        let line = self.line(place)?;
        let text = line.strip_suffix(b",").unwrap_or(&line);
        if text == b"]}" {
            return Ok(None);
        }
        let entry = parse_line(text, self.head.answered).map_err(|problem| {
            ReadError::Io(io::Error::new(io::ErrorKind::InvalidData, problem))
        })?;
        Ok(Some((entry, place + line.len() as u64 + 1)))
    }

    /// Where the first line begins that begins at `place` or behind.
    fn next_line(&self, place: u64) -> io::Result<Option<u64>> {
        let mut buffer = [0; MAX_LINE + 1];
        let read = self.read(&mut buffer, place - 1)?;
        let end = read.iter().position(|&byte| byte == b'\n');
        Ok(end.map(|end| place + end as u64))
    }

    /// The line that begins there, without its end.
    fn line(&self, place: u64) -> io::Result<Vec<u8>> {
        let mut buffer = [0; MAX_LINE + 1];
        let read = self.read(&mut buffer, place)?;
        let mut lines = read.split(|&byte| byte == b'\n');
        Ok(lines.next().unwrap_or_default().to_owned())
    }

    fn read<'b>(&self, buffer: &'b mut [u8], place: u64) -> io::Result<&'b [u8]> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], place + filled as u64)?
            {
                0 => break,
                read => filled += read,
            }
        }
        Ok(&buffer[..filled])
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use jiff::Timestamp;

    use super::*;
    use crate::found::Writer;

    #[test]
    fn each_entry_is_found_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.json");
        let time = Timestamp::from_second(1_790_000_000).unwrap();
        for count in [0u32, 1, 2, 3, 7, 1000] {
            let mut head = Head::new("live", time, time);
            head.answered = Some(time);
            let mut writer = Writer::new(File::create(&path).unwrap(), &head).unwrap();
            let prefix =
                |place: u32| IpNet::from(IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + place)));
            for place in 0..count {
                let comment = (place % 3 == 0).then(|| "x".repeat((place % 200) as usize));
                let entry = Entry {
                    prefix: prefix(2 * place),
                    first: time,
                    last: time,
                    end: None,
                    comment,
                };
                writer.entry(&entry).unwrap();
            }
            writer.finish().unwrap();
            let finder = Finder::new(File::open(&path).unwrap()).unwrap();
            for place in 0..2 * count + 2 {
                let found = finder.find(prefix(place)).unwrap();
                let wanted = place % 2 == 0 && place < 2 * count;
                assert_eq!(found.is_some(), wanted, "{place} of {count}");
                assert!(found.is_none_or(|it| it.prefix == prefix(place)));
                // And the one above, and the one behind that.
                let above = place.next_multiple_of(2);
                let mut found = finder.at_or_above(prefix(place)).unwrap();
                for wanted in [above, above + 2] {
                    let wanted = (wanted < 2 * count).then(|| prefix(wanted));
                    assert_eq!(found.as_ref().map(|(it, _)| it.prefix), wanted);
                    found = found.and_then(|(_, next)| finder.entry(next).unwrap());
                }
            }
        }
    }
}
