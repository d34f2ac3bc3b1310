//! Notices, from the agent to the fetcher, which sends them, and what became of them, on the way back. Each side writes in its own folder alone.
//!
//! - `notices.json`, in sipguard's folder ([`Spool`]): the last notices, however many of them were sent. The oldest ones go.
//! - `notices/RECEIVER.json`, in the fetcher's folder ([`Delivery`]): how far a receiver is.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{File, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{PermissionsExt as _, fchown},
    path::Path,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::replace;

/// The spool's name, in sipguard's folder.
pub const FILE: &str = "notices.json";
/// The folder of what became of them, in the fetcher's.
pub const FOLDER: &str = "notices";
/// The form in which all of it is written; changes when older programs would misread it.
pub const VERSION: u32 = 1;
/// The most notices that are kept.
pub const MOST: usize = 500;
/// The most bytes that are read of the spool.
const MAX_SPOOL: u64 = 16 << 20;
/// The most bytes that are read of what became of them.
pub const MAX_DELIVERY: u64 = 1 << 16;
/// The most kinds that are told apart of one receiver; there are some 25.
const MAX_KINDS: usize = 64;

/// Something that happened and that somebody wants to hear of who does not look. Its texts are fit to be printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// Its place in the spool, counted from 1.
    pub number: u64,
    /// When it happened.
    pub time: Timestamp,
    /// Of which kind it is.
    pub kind: String,
    /// How much it matters, in syslog's words.
    pub severity: String,
    /// It as one sentence.
    pub text: String,
    /// What it is about, for programs.
    pub fields: BTreeMap<String, String>,
    /// Who was to get it when it was written, in [`Notify::receivers`](crate::notify::Notify::receivers)' words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted_by: Vec<String>,
}

/// The last notices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spool {
    /// [`VERSION`]
    pub version: u32,
    /// What tells this spool from another one that was begun anew; no two have one name, on no two hosts.
    pub name: String,
    /// Numbered one after the other.
    pub notices: VecDeque<Notice>,
}

impl Spool {
    /// An empty one.
    pub fn new(name: String) -> Self {
        Self {
            version: VERSION,
            name,
            notices: VecDeque::new(),
        }
    }

    /// What nobody else calls a notice: by it a receiver knows one that it has already.
    pub fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.name)
    }

    /// The first number that is still there, or will be.
    pub fn first(&self) -> u64 {
        self.notices.front().map_or(1, |notice| notice.number)
    }

    /// Reads it; `None` where there is none.
    pub fn read(file: &Path) -> Result<Option<Self>, NoticeError> {
        match File::open(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
            Ok(file) => read(file, MAX_SPOOL).map(Some),
        }
    }

    /// Replaces the file in `folder`; those of the group may read it.
    pub fn write(&self, folder: &Path, group: Option<u32>) -> io::Result<()> {
        let json = serde_json::to_vec(self)?;
        let write = |file: &mut File| {
            if let Some(group) = group {
                fchown(&*file, None, Some(group))?;
                // Whatever the umask says.
                file.set_permissions(Permissions::from_mode(0o640))?;
            }
            file.write_all(&json)
        };
        replace::stage(folder, FILE, 0o600, write)?.commit()
    }
}

/// How far a receiver is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// [`VERSION`]
    pub version: u32,
    /// The spool's name that the numbers are of.
    pub spool: String,
    /// Up to which number nothing was to be sent: it was there before the receiver.
    pub before: u64,
    /// How far it is, by kind.
    pub kinds: BTreeMap<String, Sent>,
    /// How many notices were sent of this spool.
    pub sent: u64,
    /// How many of this spool were gone before they could be sent.
    pub lost: u64,
    /// Of how many of these the receiver knows.
    #[serde(default)]
    pub told: u64,
    /// When something was to be sent last, with or without success.
    pub tried: Option<Timestamp>,
    /// Since when something waits that can't be sent.
    pub failing: Option<Timestamp>,
    /// Why the last try failed. It may quote the other side, and is fit to be printed.
    pub error: Option<String>,
}

/// How far a receiver is with notices of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// Up to which number they are sent.
    pub number: u64,
    /// When that was.
    pub time: Timestamp,
}

impl Delivery {
    /// Of a receiver to whom nothing was sent of this spool.
    pub fn new(spool: &str, before: u64) -> Self {
        Self {
            version: VERSION,
            spool: spool.to_owned(),
            before,
            kinds: BTreeMap::new(),
            sent: 0,
            lost: 0,
            told: 0,
            tried: None,
            failing: None,
            error: None,
        }
    }

    /// The file's name, in the folder.
    pub fn file_name(receiver: &str) -> String {
        format!("{receiver}.json")
    }

    /// Reads one that may be anybody's.
    pub fn read(file: File) -> Result<Self, NoticeError> {
        let delivery: Self = read(file, MAX_DELIVERY)?;
        if delivery.kinds.len() > MAX_KINDS {
            return Err(NoticeError::TooLong);
        }
        Ok(delivery)
    }

    /// Whether a notice of its spool is still to be sent.
    pub fn waits(&self, notice: &Notice) -> bool {
        let sent = self.kinds.get(&notice.kind);
        notice.number > self.before && sent.is_none_or(|sent| notice.number > sent.number)
    }

    /// How many notices are gone that it should have got. Numbers have no gaps, so that what is neither sent nor there is lost.
    pub fn gone(&self, spool: &Spool) -> u64 {
        let there = spool.notices.iter();
        let sent_and_there =
            there.filter(|notice| notice.number > self.before && !self.waits(notice));
        let sent_and_gone = self.sent.saturating_sub(sent_and_there.count() as u64);
        let gone = spool.first().saturating_sub(1).saturating_sub(self.before);
        gone.saturating_sub(sent_and_gone)
    }
}

/// Why a file says nothing.
#[derive(Debug, Error)]
pub enum NoticeError {
    /// It can't be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is longer than such a file may be.
    #[error("is too long")]
    TooLong,
    /// It says something else.
    #[error("is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// It is of another version of sipguard.
    #[error("has version {0}, and this program reads {VERSION}")]
    Version(u32),
}

fn read<T: DeserializeOwned>(file: File, most: u64) -> Result<T, NoticeError> {
    /// The one field that every version has.
    #[derive(Deserialize)]
    struct Any {
        version: u32,
    }

    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(NoticeError::TooLong);
    }
    let Any { version } = serde_json::from_slice(&bytes)?;
    if version != VERSION {
        return Err(NoticeError::Version(version));
    }
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(numbers: impl IntoIterator<Item = (u64, &'static str)>) -> Spool {
        let mut spool = Spool::new("18b".to_owned());
        let notices = numbers.into_iter().map(|(number, kind)| Notice {
            number,
            time: Timestamp::UNIX_EPOCH,
            kind: kind.to_owned(),
            severity: "warning".to_owned(),
            text: "a flood began".to_owned(),
            fields: BTreeMap::from([("interface".to_owned(), "eth0".to_owned())]),
            wanted_by: vec!["webhook".to_owned()],
        });
        spool.notices.extend(notices);
        spool
    }

    #[test]
    fn what_is_written_is_read_back_by_the_group() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        assert_eq!(Spool::read(&file).unwrap(), None);
        let written = spool([(1, "flood_began"), (2, "flood_ended")]);
        written.write(folder.path(), Some(12_345)).unwrap();
        assert_eq!(Spool::read(&file).unwrap(), Some(written.clone()));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(written.id(2), "18b-2");
        // Older ones do not say who wanted it.
        let text = std::fs::read_to_string(&file).unwrap();
        let older = folder.path().join("older");
        std::fs::write(&older, text.replace(",\"wanted_by\":[\"webhook\"]", "")).unwrap();
        let read = Spool::read(&older).unwrap().unwrap();
        assert!(read.notices.iter().all(|it| it.wanted_by.is_empty()));
        for (from, to, wanted) in [
            (
                "\"version\":1",
                "\"version\":2,\"more\":3",
                "has version 2, and this program reads 1",
            ),
            ("\"kind\"", "\"sort\"", "is damaged: unknown field `sort`"),
        ] {
            let text = std::fs::read_to_string(&file).unwrap().replace(from, to);
            let damaged = folder.path().join("damaged");
            std::fs::write(&damaged, text).unwrap();
            let error = Spool::read(&damaged).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
    }

    #[test]
    fn nothing_is_read_that_is_longer_than_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("webhook.json");
        let mut delivery = Delivery::new("18b", 0);
        delivery.error = Some("x".repeat(1 << 16));
        std::fs::write(&file, serde_json::to_vec(&delivery).unwrap()).unwrap();
        let read = || Delivery::read(File::open(&file).unwrap());
        assert!(matches!(read(), Err(NoticeError::TooLong)));
        delivery.error = None;
        std::fs::write(&file, serde_json::to_vec(&delivery).unwrap()).unwrap();
        assert_eq!(read().unwrap(), delivery);
    }

    #[test]
    fn what_is_neither_sent_nor_there_is_lost() {
        let time = Timestamp::UNIX_EPOCH;
        // Of six, the first three are gone.
        let spool = spool([(4, "a"), (5, "b"), (6, "a")]);
        let mut delivery = Delivery::new("18b", 0);
        assert_eq!(delivery.gone(&spool), 3);
        // The first and the fourth were sent.
        delivery.sent = 2;
        delivery
            .kinds
            .insert("a".to_owned(), Sent { number: 4, time });
        let waits: Vec<_> = spool.notices.iter().map(|it| delivery.waits(it)).collect();
        assert_eq!(waits, [false, true, true]);
        assert_eq!(delivery.gone(&spool), 2);
        // One who came behind the second one has lost the third.
        delivery = Delivery::new("18b", 2);
        assert_eq!(delivery.gone(&spool), 1);
        delivery = Delivery::new("18b", 5);
        let waits: Vec<_> = spool.notices.iter().map(|it| delivery.waits(it)).collect();
        assert_eq!(waits, [false, false, true]);
        assert_eq!(delivery.gone(&spool), 0);
    }
}
