//! What can be asked for: one file a kind. A kind asks once; when it is asked again, and what becomes of a failure, is not its business.

mod countries;
mod crowdsec;
mod etcd;
mod names;
mod prefixes;
mod url;

use std::{cell::OnceCell, fmt::Debug, fs::File, io, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sipguard_lists::{
    found::{Entry, Head, Lookup, ReadError, Reader},
    name::Name,
    task::{Kind as Question, Tasks},
};

use crate::schedule::SHORTEST;

/// What was found before: a file, which is read when somebody wants to know. One that can't be read is as good as none: what is in force is a
/// copy of its own.
#[derive(Debug)]
pub(crate) struct Before {
    source: String,
    file: PathBuf,
    head: OnceCell<Option<Head>>,
}

/// What is known now.
#[derive(Debug)]
pub(crate) struct Answer {
    /// All that is to be listed.
    pub(crate) entries: Entries,
    /// Whether the other side said anything.
    pub(crate) answered: bool,
    /// The one place that was asked.
    pub(crate) url: Option<String>,
    /// What the other side calls this copy.
    pub(crate) etag: Option<String>,
    /// When the other side says that it changed this copy last.
    pub(crate) last_modified: Option<String>,
    /// What there is to say of the answer.
    pub(crate) said: Option<String>,
    /// What became of look-ups of names.
    pub(crate) lookups: Vec<Lookup>,
    /// What failed, all or in part.
    pub(crate) error: Option<String>,
    /// How long the answer is good.
    pub(crate) good: Duration,
    /// The shortest time after which it may be asked for again, whatever is said of how long it is good.
    pub(crate) soonest: Duration,
    /// How to wait for what comes after it, where the other side tells of that by itself.
    pub(crate) wait: Option<Box<dyn Wait>>,
    /// How long it may be asked for again and again without a word in the file, as long as nothing changes.
    pub(crate) silent: Duration,
}

/// What is to be listed, in order.
#[derive(Debug)]
pub(crate) enum Entries {
    /// These, with what is known of them; there are not many.
    All(Vec<Entry>),
    /// These, seen now; what is known of them stands in the file of before. There may be a million.
    List(Vec<IpNet>),
    /// These, seen now, each with an end of its own. There may be a million.
    Ending {
        list: Arc<Vec<Ending>>,
        /// Whether they are others than before.
        is_changed: bool,
    },
    /// What there was before.
    AsBefore,
    /// What there was before, and all that is said of it: the file is not written.
    Written,
}

/// A prefix that is listed for a while.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) prefix: IpNet,
    /// When it was seen first, in seconds since 1970.
    pub(crate) first: i64,
    /// When it ends, in seconds since 1970; within the times that there are.
    pub(crate) end: i64,
    pub(crate) comment: Arc<str>,
}

impl Answer {
    /// With nothing in it yet.
    fn good_for(good: Duration) -> Self {
        Self {
            entries: Entries::AsBefore,
            answered: false,
            url: None,
            etag: None,
            last_modified: None,
            said: None,
            lookups: Vec::new(),
            error: None,
            good,
            soonest: SHORTEST,
            wait: None,
            silent: Duration::ZERO,
        }
    }
}

impl Before {
    pub(crate) fn of(source: &str, file: PathBuf) -> Self {
        Self {
            source: source.to_owned(),
            file,
            head: OnceCell::new(),
        }
    }

    /// What is said of the entries; `None` where nothing was ever asked. The file is known to be whole then.
    pub(crate) fn head(&self) -> Option<&Head> {
        let read = || {
            self.read().unwrap_or_else(|error| {
                let source = &self.source;
                eprintln!("{source}: what was found before {error}; it is asked for anew");
                None
            })
        };
        self.head.get_or_init(read).as_ref()
    }

    /// What its first line says, whatever comes behind it.
    pub(crate) fn glance(&self) -> Option<Head> {
        let file = File::open(&self.file).ok()?;
        Some(Reader::new(file).ok()?.head().clone())
    }

    /// Takes the file to be whole, because it is the one that was written last.
    pub(crate) fn trust(&self, head: Head) {
        // Nobody wanted to know before.
        let _ = self.head.set(Some(head));
    }

    fn read(&self) -> Result<Option<Head>, ReadError> {
        let file = match File::open(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut reader = Reader::new(file)?;
        while reader.next_entry()?.is_some() {}
        Ok(Some(reader.head().clone()))
    }

    /// Whether all this was asked for then; what is new is to be asked for at once.
    pub(crate) fn answers(head: &Head, question: &Question) -> bool {
        match question {
            Question::Names(names) => {
                let was_asked =
                    |name: &Name| head.lookups.iter().any(|lookup| lookup.name == *name);
                names.names.iter().all(was_asked)
            }
            // All is asked for at the beginning; nobody waits for its changes yet.
            Question::CrowdSec(_) | Question::Etcd(_) | Question::Countries(_) => false,
            Question::Url(_) => head.url.as_deref() == question.url().as_deref(),
        }
    }

    /// The entries, one by one.
    pub(crate) fn reader(&self) -> Result<Option<Reader<File>>, ReadError> {
        if self.head().is_none() {
            return Ok(None);
        }
        Reader::new(File::open(&self.file)?).map(Some)
    }

    /// The entries, where there are not many.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::new();
        if let Some(mut reader) = self.reader()? {
            while let Some(entry) = reader.next_entry()? {
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

/// Whether the file says this of the last try, and did so lately.
fn is_told(head: &Head, error: Option<&str>, silent: Duration, now: Timestamp) -> bool {
    let silent = silent.try_into().unwrap_or_default();
    let ago = now.duration_since(head.asked);
    head.error.as_deref() == error && (SignedDuration::ZERO..silent).contains(&ago)
}

/// One way to ask. It may remember what it needs for the next question; whoever asks for the first time remembers nothing.
pub(crate) trait Kind: Send {
    /// Asks once, and waits for the answer; `now` is when that begins.
    fn ask(&mut self, before: &Before, now: Timestamp) -> Answer;
}

/// A way to wait for a change.
pub(crate) trait Wait: Debug + Send {
    /// Waits until there is something else than was answered, and no longer than this; whether it is to be asked for before it is due.
    fn wait(self: Box<Self>, longest: Duration) -> bool;
}

/// The way to ask a question.
pub(crate) fn kind(question: &Question, tasks: &Tasks) -> Box<dyn Kind> {
    match question {
        Question::Names(names) => Box::new(names::InDns::new(names, tasks)),
        Question::Url(list) => Box::new(url::OverHttp::new(list, tasks)),
        Question::CrowdSec(lapi) => Box::new(crowdsec::Bouncer::new(lapi, tasks)),
        Question::Etcd(fleet) => Box::new(etcd::InEtcd::new(fleet, tasks)),
        Question::Countries(some) => Box::new(countries::InDatabase::new(some)),
    }
}
