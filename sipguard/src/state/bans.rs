//! What other programs ban: a log that is only appended to, so that a ban costs one line and no rewriting of the state.
//!
//! Each line is a JSON object: `{"ban":"203.0.113.9","by":"fail2ban","until":"2026-11-28T18:00:00Z","lasts_in":"…","added":"…"}`, or
//! `{"unban":"203.0.113.9","by":"fail2ban"}`. Where `by` is null an `unban` takes back everybody's, where its prefix is null all that
//! somebody has said. What a crash or a full disk has left of a line is none, and is taken away before the next one. The lock of [`Store::lock`] is to be
//! held by whoever writes.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{Lock, Moved, Reckoning, Staged, StateError, Store, store::BANS};

/// How long the name of somebody who bans may be, in bytes: so much of it is shown ([`Said`](sipguard_lists::said::Said)).
pub const LONGEST_NAME: usize = 64;

/// Whether somebody who bans may be called so: as it is printed everywhere, it has nothing in it that would have to be escaped.
pub fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" .,:;_@+/-".contains(&byte);
    (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(is_plain)
}

/// A line that names somebody otherwise was not written by us.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    match name {
        Some(name) if !is_name(&name) => Err(D::Error::custom("a name that nobody has")),
        name => Ok(name),
    }
}

/// One prefix that somebody has banned from all services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ban {
    /// Its host bits are zero.
    #[serde(rename = "ban")]
    pub prefix: IpNet,
    /// Who has banned it; see [`is_name`].
    #[serde(
        default,
        deserialize_with = "name",
        skip_serializing_if = "Option::is_none"
    )]
    pub by: Option<String>,
    /// When it ends by itself; `None` where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The boot in which it was said, whose clock its end goes by.
    pub lasts_in: String,
    /// When it was said.
    pub added: Timestamp,
}

impl Ban {
    /// Whether it has ended by itself.
    pub fn ended(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// A ban that is taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unban {
    /// Of this prefix, or of all. It is always written: what is left of another line must not take back everything.
    #[serde(rename = "unban", deserialize_with = "Option::deserialize")]
    pub prefix: Option<IpNet>,
    /// Of this one, or of everybody.
    #[serde(deserialize_with = "name")]
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
    /// By prefix and name.
    of: BTreeMap<(IpNet, Option<String>), Ban>,
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
                self.of.insert((ban.prefix, ban.by.clone()), ban);
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
                    .of
                    .extract_if(.., |(prefix, by), _| is_meant(prefix, by));
                taken.map(|((prefix, _), _)| prefix).collect()
            }
        }
    }

    /// All of them, by prefix.
    pub fn iter(&self) -> impl Iterator<Item = &Ban> {
        self.of.values()
    }

    /// Those of one prefix.
    pub fn of(&self, prefix: IpNet) -> impl Iterator<Item = &Ban> {
        self.of
            .range((prefix, None)..)
            .map(|(_, ban)| ban)
            .take_while(move |ban| ban.prefix == prefix)
    }

    /// Forgets those that have ended for good.
    pub fn drop_ended(&mut self, clock: &Reckoning, boot_ns: u64) {
        self.of
            .retain(|_, ban| !clock.is_over(ban.until, ban.added, boot_ns));
    }

    /// Whether more lines were written than are of use.
    pub fn is_worn(&self) -> bool {
        self.lines > 1000 + 2 * self.of.len()
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
        for ban in self.of.values_mut() {
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

    /// What to tell of lines that can't be read.
    pub fn damaged_bans(&self, lines: usize) -> StateError {
        let file = self.bans_file();
        StateError::DamagedLines { file, lines }
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
                if let Ok(line) = serde_json::from_slice(&line) {
                    bans.say(line);
                } else {
                    bans.lines += 1;
                    bans.damaged += 1;
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

    /// Appends to the log. Where that fails, the log is as it was, as far as the disk lets it.
    pub fn append_bans(&self, _: &Lock, lines: &[BanLine]) -> Result<(), StateError> {
        let file = self.bans_file();
        let append = || -> io::Result<()> {
            self.make_folder()?;
            let mut open = OpenOptions::new();
            let mut log = open
                .read(true)
                .append(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&file)?;
            let length = whole_lines(&mut log)?;
            let mut text = Vec::new();
            for line in lines {
                serde_json::to_writer(&mut text, line)?;
                text.push(b'\n');
            }
            let written = log.write_all(&text).and_then(|()| log.sync_data());
            if written.is_err() {
                // The first error is the one to tell, and half a line is none anyway.
                let _ = log.set_len(length);
            }
            written?;
            if length == 0 {
                // The name has to last, too.
                fs::File::open(self.path(""))?.sync_all()?;
            }
            Ok(())
        };
        append().map_err(|error| StateError::Write { file, error })
    }

    /// Writes the log anew, where it has more lines than are of use. Lines that can't be read are kept beside it. The lock is to be held.
    pub fn tidy_bans(&self, bans: &Bans) -> Result<(), StateError> {
        if !bans.is_worn() {
            return Ok(());
        }
        if bans.damaged > 0 {
            let kept = self.bans_file().with_extension("jsonl.damaged");
            // Whatever is there is older; and where this can't be done, what is readable is more than those lines.
            let _ = fs::remove_file(&kept);
            let _ = fs::hard_link(self.bans_file(), &kept);
        }
        self.stage_bans(bans)?.commit()
    }

    /// Writes the log anew beside the one that is there, without what is of no use. The lock is to be held.
    pub fn stage_bans(&self, bans: &Bans) -> Result<Staged, StateError> {
        self.stage_as(BANS, |file| bans.write(io::BufWriter::new(file)))
    }
}

/// Cuts off what a crash has left of a line at the end of the log; returns its length then.
fn whole_lines(log: &mut fs::File) -> io::Result<u64> {
    /// How much is read at a time, from the end on.
    const READ: u64 = 4096;
    let length = log.seek(SeekFrom::End(0))?;
    let mut end = length;
    while end > 0 {
        // Of a whole log one byte is read.
        let begin = if end == length {
            end - 1
        } else {
            end.saturating_sub(READ)
        };
        let mut bytes = Vec::new();
        log.seek(SeekFrom::Start(begin))?;
        (&mut *log).take(end - begin).read_to_end(&mut bytes)?;
        if let Some(place) = bytes.iter().rposition(|&byte| byte == b'\n') {
            end = begin + place as u64 + 1;
            break;
        }
        end = begin;
    }
    if end < length {
        log.set_len(end)?;
    }
    Ok(end)
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
        store.append_bans(&lock, &first).unwrap();
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
            let bans = store.bans().unwrap();
            assert_eq!(
                names(&bans),
                ["203.0.113.9/32 -", "203.0.113.11/32 -"],
                "at {cut}"
            );
            assert_eq!(bans.damaged, 0, "at {cut}");
        }
        // However long it is, and though there is no other line.
        for before in ["", "{}\n"] {
            fs::write(store.bans_file(), format!("{before}{}", "x".repeat(9_999))).unwrap();
            store.append_bans(&lock, &[]).unwrap();
            assert_eq!(fs::read_to_string(store.bans_file()).unwrap(), before);
        }
    }

    /// Whatever becomes of one line, what the others say stays said.
    #[test]
    fn a_line_that_is_damaged_takes_nothing_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let lock = store.lock();
        let [first, second] = ["203.0.113.9/32", "203.0.113.10/32"].map(|it| ban(it, Some("f2b")));
        store.append_bans(&lock, &[first]).unwrap();
        let before = fs::read_to_string(store.bans_file()).unwrap();
        let line = serde_json::to_string(&second).unwrap();
        let mut lines: Vec<String> = vec![
            "{}".to_owned(),
            r#"{"by":"f2b"}"#.to_owned(),
            r#"{"unban":null}"#.to_owned(),
            r#"{"unban":"203.0.113.9/32","by":"f2b","more":1}"#.to_owned(),
            line.replace("f2b", "\\u001b[31m"),
            line.replace("f2b", &"x".repeat(65)),
            line.replace("f2b", ""),
        ];
        // Each of its fields gone, or of another name.
        for field in ["ban", "by", "lasts_in", "added"] {
            lines.push(line.replacen(&format!("\"{field}\""), "\"other\"", 1));
        }
        for at in 0..line.len() {
            lines.push(line[..at].to_owned() + &line[at + 1..]);
        }
        for damaged in lines {
            fs::write(store.bans_file(), format!("{before}{damaged}\n")).unwrap();
            let bans = store.bans().unwrap();
            assert!(
                names(&bans).contains(&"203.0.113.9/32 f2b".to_owned()),
                "{damaged}"
            );
            assert!(bans.iter().all(|ban| ban.by.as_deref().is_none_or(is_name)));
        }
    }

    #[test]
    fn a_worn_log_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let lock = store.lock();
        let again = vec![ban("203.0.113.9/32", None); 1002];
        store.append_bans(&lock, &again).unwrap();
        let bans = store.bans().unwrap();
        store.tidy_bans(&bans).unwrap();
        assert_eq!(store.bans().unwrap(), bans, "it is not worn yet");
        let file = store.bans_file();
        let text = fs::read_to_string(&file).unwrap() + "{}\n";
        fs::write(&file, &text).unwrap();
        store.tidy_bans(&store.bans().unwrap()).unwrap();
        let anew = store.bans().unwrap();
        assert_eq!(names(&anew), names(&bans));
        assert_eq!((anew.lines, anew.damaged), (1, 0));
        let kept = fs::read_to_string(file.with_extension("jsonl.damaged")).unwrap();
        assert_eq!(kept, text);
    }
}
