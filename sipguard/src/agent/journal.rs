//! What happened, for the journal: in its own protocol, so that programs find fields and need not read sentences. Where there is no journal,
//! sentences go to standard error, with priorities as systemd reads them.
//!
//! The protocol is journald's "native" one (systemd's `docs/JOURNAL_NATIVE_PROTOCOL.md`): one datagram an entry, a field a line, and a field whose
//! value has a line break with its length in front.

use std::{
    io::{self, IsTerminal as _, Write},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

use super::happened::{Happened, Priority};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// Longer than that nobody waits for a journal that is busy: whoever writes has other things to do.
const PATIENCE: Duration = Duration::from_secs(1);

/// The writer.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    /// Whether somebody watches standard error.
    watched: bool,
}

impl Journal {
    /// To the journal that listens there.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            socket: None,
            watched: io::stderr().is_terminal(),
        }
    }

    /// Writes what happened, to standard error if there is no journal.
    pub fn write(&mut self, happened: &Happened) {
        let sent = self.send(&datagram(happened));
        if sent.is_err() || self.watched {
            // Where that fails, too, there is nobody to tell.
            let _ = write_line(&mut io::stderr().lock(), happened, self.watched);
        }
    }

    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(socket()?),
        };
        // By its name each time: a journal that was started anew has another socket there.
        socket.send_to(datagram, Path::new(&self.path))?;
        Ok(())
    }
}

fn socket() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// One entry of the journal.
fn datagram(happened: &Happened) -> Vec<u8> {
    let mut entry = Vec::with_capacity(512);
    field(&mut entry, "MESSAGE", &happened.sentence());
    let priority = happened.kind().priority() as u8;
    field(&mut entry, "PRIORITY", &priority.to_string());
    field(&mut entry, "SYSLOG_IDENTIFIER", "sipguard");
    for (name, value) in happened.fields() {
        field(&mut entry, &format!("SIPGUARD_{name}"), &value);
    }
    entry
}

/// A field as the protocol has it. Its name is ours.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value.as_bytes());
    entry.push(b'\n');
}

/// As systemd reads standard error, or as people do.
fn write_line(out: &mut dyn Write, happened: &Happened, for_people: bool) -> io::Result<()> {
    let priority: Priority = happened.kind().priority();
    let sentence = happened.sentence();
    if for_people {
        writeln!(out, "sipguard: {sentence}")
    } else {
        writeln!(out, "<{}>{sentence}", priority as u8)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::agent::happened::{Kind, samples};

    /// Reads an entry as journald does (systemd's `journal_importer_process_data`).
    fn read(mut entry: &[u8]) -> BTreeMap<String, Vec<String>> {
        let mut fields = BTreeMap::<String, Vec<String>>::new();
        while !entry.is_empty() {
            let line = entry.iter().position(|byte| *byte == b'\n').unwrap();
            let sign = entry[..line].iter().position(|byte| *byte == b'=');
            let (name, value) = if let Some(at) = sign {
                let field = (&entry[..at], &entry[at + 1..line]);
                entry = &entry[line + 1..];
                field
            } else {
                let name = &entry[..line];
                let (length, rest) = entry[line + 1..].split_at(8);
                let length = u64::from_le_bytes(length.try_into().unwrap());
                let (value, rest) = rest.split_at(usize::try_from(length).unwrap());
                assert_eq!(rest[0], b'\n');
                entry = &rest[1..];
                (name, value)
            };
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            fields.entry(text(name)).or_default().push(text(value));
        }
        fields
    }

    #[test]
    fn whatever_stands_in_a_field_is_what_is_read_of_it() {
        for value in [
            "",
            "a=b",
            "two\nlines",
            "\nPRIORITY=0\n",
            "\u{1b}[2J\0",
            "größe\n",
        ] {
            let mut entry = Vec::new();
            field(&mut entry, "ONE", value);
            field(&mut entry, "MESSAGE", "the next");
            let read = read(&entry);
            assert_eq!(read["ONE"], [value]);
            assert_eq!(read["MESSAGE"], ["the next"]);
            assert_eq!(read.len(), 2);
        }
    }

    #[test]
    fn the_journal_gets_each_case_with_its_fields_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::at(&path);
        let hostile = "x\nPRIORITY=0\nMESSAGE=all is well\u{1b}[2J\u{202e}\0=";
        let mut buffer = vec![0; 65_536];
        for happened in samples(hostile) {
            journal.send(&datagram(&happened)).unwrap();
            let length = receiver.recv(&mut buffer).unwrap();
            let fields = read(&buffer[..length]);
            assert_eq!(fields["MESSAGE"], [happened.sentence()]);
            let priority = happened.kind().priority() as u8;
            assert_eq!(fields["PRIORITY"], [priority.to_string()]);
            assert_eq!(fields["SYSLOG_IDENTIFIER"], ["sipguard"]);
            assert_eq!(fields["SIPGUARD_HAPPENED"], [happened.kind().name()]);
            let known = ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"];
            for (name, values) in &fields {
                assert!(
                    known.contains(&&**name) || name.starts_with("SIPGUARD_"),
                    "{name}"
                );
                for value in values {
                    assert!(value.chars().all(|it| (' '..='~').contains(&it)), "{value}");
                }
            }
        }
    }

    #[test]
    fn a_journal_that_was_started_anew_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut journal = Journal::at(&path);
        assert!(journal.send(b"MESSAGE=nobody listens\n").is_err());
        for _ in 0..2 {
            let receiver = UnixDatagram::bind(&path).unwrap();
            journal.send(b"MESSAGE=hello\n").unwrap();
            assert_eq!(receiver.recv(&mut [0; 64]).unwrap(), 14);
            drop(receiver);
            assert!(journal.send(b"MESSAGE=nobody listens\n").is_err());
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn where_there_is_no_journal_systemd_reads_the_priority_on_standard_error() {
        let happened = Happened::NothingInForce;
        assert_eq!(happened.kind(), Kind::NothingInForce);
        for (for_people, begin) in [(false, "<2>nothing is"), (true, "sipguard: nothing is")] {
            let mut line = Vec::new();
            write_line(&mut line, &happened, for_people).unwrap();
            let line = String::from_utf8(line).unwrap();
            assert!(line.starts_with(begin) && line.ends_with('\n'), "{line}");
        }
    }
}
