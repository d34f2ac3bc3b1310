//! What other programs ban: a log that is only appended to, so that a ban costs one line and no rewriting of the state.
//!
//! Each line is a JSON object: `{"ban":"203.0.113.9","by":"fail2ban","until":"2026-11-28T18:00:00Z","lasts_in":"…","added":"…"}`, or
//! `{"unban":"203.0.113.9","by":"fail2ban"}`. Without `by` an `unban` takes back everybody's, without a prefix all that somebody has said. A
//! line that a crash cut off is none. The lock of [`Store::lock`] is to be held by whoever writes.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Lock, Moved, Reckoning, Staged, StateError, Store, store::BANS};

/// One prefix that somebody has banned from all services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Its host bits are zero.
    #[serde(rename = "ban")]
    pub prefix: IpNet,
    /// Who has banned it, in his own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it ends by itself; `None` where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The boot in which it was said, whose clock its end goes by.
    pub lasts_in: String,
    /// When it was said.
    pub added: Timestamp,
}

/// A ban that is taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unban {
    /// Of this prefix, or of all.
    #[serde(rename = "unban")]
    pub prefix: Option<IpNet>,
    /// Of this one, or of everybody.
    pub by: Option<String>,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BanLine {
    /// Somebody bans.
    Ban(Ban),
    /// Somebody takes bans back.
    Unban(Unban),
}

/// All bans that were not taken back, ended ones among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bans {
    bans: BTreeMap<(IpNet, Option<String>), Ban>,
    /// How many lines the log has.
    lines: usize,
    /// How many of them are none.
    pub damaged: usize,
}

impl Bans {
    /// What a line says, said after all that was said before. Returns the prefixes of the bans that it takes back.
    pub fn say(&mut self, line: BanLine) -> Vec<IpNet> {
        self.lines += 1;
        match line {
            BanLine::Ban(ban) => {
                self.bans.insert((ban.prefix, ban.by.clone()), ban);
                Vec::new()
            }
            BanLine::Unban(unban) => {
                let is_meant = |prefix: &IpNet, by: &Option<String>| {
                    unban.prefix.is_none_or(|meant| meant == *prefix)
                        && unban
                            .by
                            .as_ref()
                            .is_none_or(|meant| by.as_ref() == Some(meant))
                };
                let taken = self
                    .bans
                    .extract_if(.., |(prefix, by), _| is_meant(prefix, by));
                taken.map(|((prefix, _), _)| prefix).collect()
            }
        }
    }

    /// All of them, by prefix.
    pub fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.bans.values()
    }

    /// Those of one prefix.
    pub fn of(&self, prefix: IpNet) -> impl Iterator<Item = &Ban> {
        self.bans
            .range((prefix, None)..)
            .map(|(_, ban)| ban)
            .take_while(move |ban| ban.prefix == prefix)
    }

    /// Forgets those that have ended for good.
    pub fn drop_ended(&mut self, clock: &Reckoning, boot_ns: u64) {
        self.bans
            .retain(|_, ban| !clock.is_over(ban.until, ban.added, boot_ns));
    }

    /// Whether more lines were written than are of use.
    pub fn is_worn(&self) -> bool {
        self.lines > 1000 + 2 * self.bans.len()
    }

    /// As many lines as there are bans.
    fn write(&self, mut out: impl io::Write) -> io::Result<()> {
        for ban in self.iter() {
            serde_json::to_writer(&mut out, ban)?;
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// Moves the ends with the time.
    pub fn move_with(&mut self, clock: &Reckoning, moved: &Moved) {
        for ban in self.bans.values_mut() {
            let mut lasts_in = Some(std::mem::take(&mut ban.lasts_in));
            clock.move_with(&mut ban.until, &mut lasts_in, &mut ban.added, moved);
            ban.lasts_in = lasts_in.unwrap_or_default();
        }
    }
}

impl Store {
    fn bans_file(&self) -> PathBuf {
        self.path(BANS)
    }

    /// How many bytes the log has, which is how a generation says up to where it has followed.
    pub fn bans_length(&self) -> u64 {
        fs::metadata(self.bans_file()).map_or(0, |file| file.len())
    }

    /// Reads the log.
    pub fn bans(&self) -> Result<Bans, StateError> {
        let file = self.bans_file();
        let mut bans = Bans::default();
        let read = |bans: &mut Bans| -> io::Result<()> {
            let mut reader = BufReader::new(fs::File::open(&file)?);
            let mut line = Vec::new();
            loop {
                line.clear();
                reader.read_until(b'\n', &mut line)?;
                if line.last() != Some(&b'\n') {
                    // The end, or what a crash has left of a line.
                    return Ok(());
                }
                match serde_json::from_slice(&line) {
                    Ok(line) => drop(bans.say(line)),
                    Err(_) => bans.damaged += 1,
                }
            }
        };
        match read(&mut bans) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Read { file, error })
            }
            _ => Ok(bans),
        }
    }

    /// Appends to the log. Returns its length then.
    pub fn append_bans(&self, _: &Lock, lines: &[BanLine]) -> Result<u64, StateError> {
        let file = self.bans_file();
        let append = || -> io::Result<u64> {
            self.make_folder()?;
            let mut open = OpenOptions::new();
            let mut log = open
                .read(true)
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&file)?;
            let length = log.seek(SeekFrom::End(0))?;
            let mut text = Vec::new();
            if length > 0 {
                let mut last = [0];
                log.seek(SeekFrom::Start(length - 1))?;
                log.read_exact(&mut last)?;
                if last != *b"\n" {
                    // So that what a crash has left of a line is one by itself.
                    text.push(b'\n');
                }
            }
            for line in lines {
                serde_json::to_writer(&mut text, line)?;
                text.push(b'\n');
            }
            log.write_all(&text)?;
            log.sync_data()?;
            if length == 0 {
                // The name has to last, too.
                fs::File::open(self.path(""))?.sync_all()?;
            }
            Ok(length + text.len() as u64)
        };
        append().map_err(|error| StateError::Write { file, error })
    }

    /// Writes the log anew beside the one that is there, without what is of no use. The lock is to be held.
    pub fn stage_bans(&self, bans: &Bans) -> Result<Staged, StateError> {
        self.stage_as(BANS, |file| bans.write(io::BufWriter::new(file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(prefix: &str, by: Option<&str>) -> BanLine {
        BanLine::Ban(Ban {
            prefix: prefix.parse().unwrap(),
            by: by.map(str::to_owned),
            until: None,
            lasts_in: "boot".to_owned(),
            added: Timestamp::UNIX_EPOCH,
        })
    }

    fn unban(prefix: Option<&str>, by: Option<&str>) -> BanLine {
        BanLine::Unban(Unban {
            prefix: prefix.map(|prefix| prefix.parse().unwrap()),
            by: by.map(str::to_owned),
        })
    }

    fn names(bans: &Bans) -> Vec<String> {
        let name = |ban: &Ban| format!("{} {}", ban.prefix, ban.by.as_deref().unwrap_or("-"));
        bans.iter().map(name).collect()
    }

    #[test]
    fn lines_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("state"));
        assert_eq!(store.bans().unwrap(), Bans::default());
        let lock = store.lock();
        let first = [
            ban("203.0.113.9/32", Some("fail2ban")),
            ban("203.0.113.9/32", None),
            ban("2001:db8::/48", Some("fail2ban")),
        ];
        let length = store.append_bans(&lock, &first).unwrap();
        assert_eq!(length, store.bans_length());
        assert_eq!(
            names(&store.bans().unwrap()),
            [
                "203.0.113.9/32 -",
                "203.0.113.9/32 fail2ban",
                "2001:db8::/48 fail2ban"
            ]
        );
        store
            .append_bans(&lock, &[unban(None, Some("fail2ban"))])
            .unwrap();
        assert_eq!(names(&store.bans().unwrap()), ["203.0.113.9/32 -"]);
        store
            .append_bans(&lock, &[unban(Some("203.0.113.9/32"), None)])
            .unwrap();
        assert_eq!(names(&store.bans().unwrap()), [""; 0]);
    }

    #[test]
    fn what_a_crash_has_left_of_a_line_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let lock = store.lock();
        store
            .append_bans(&lock, &[ban("203.0.113.9/32", None)])
            .unwrap();
        let whole = fs::read(store.bans_file()).unwrap();
        store
            .append_bans(&lock, &[ban("203.0.113.10/32", None)])
            .unwrap();
        let both = fs::read(store.bans_file()).unwrap();
        // Without its last character, the line's end, it is whole all the same.
        for cut in whole.len()..both.len() - 1 {
            fs::write(store.bans_file(), &both[..cut]).unwrap();
            assert_eq!(
                names(&store.bans().unwrap()),
                ["203.0.113.9/32 -"],
                "at {cut}"
            );
            store
                .append_bans(&lock, &[ban("203.0.113.11/32", None)])
                .unwrap();
            assert_eq!(
                names(&store.bans().unwrap()),
                ["203.0.113.9/32 -", "203.0.113.11/32 -"],
                "at {cut}"
            );
        }
    }

    #[test]
    fn a_worn_log_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let lock = store.lock();
        for _ in 0..1003 {
            store
                .append_bans(&lock, &[ban("203.0.113.9/32", None)])
                .unwrap();
        }
        let bans = store.bans().unwrap();
        assert!(bans.is_worn());
        store.stage_bans(&bans).unwrap().commit().unwrap();
        let anew = store.bans().unwrap();
        assert_eq!(names(&anew), names(&bans));
        assert!(!anew.is_worn());
    }
}
