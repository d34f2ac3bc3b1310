//! The folder in which what was found stands, one file a source.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use sipguard_lists::{
    found::{Entry, Head, Reader, Writer, file_name},
    replace,
};

use crate::kinds::{Answer, Before, Entries};

/// Where it is unless said otherwise.
pub(crate) const FOLDER: &str = "/var/lib/sipguard-fetch";

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// What was found before.
    pub(crate) fn before(&self, source: &str) -> Before {
        Before::of(source, self.path.join(file_name(source)))
    }

    /// Replaces what was found, and tells how many entries there are.
    pub(crate) fn write(
        &self,
        head: &Head,
        entries: &Entries,
        before: &Before,
    ) -> io::Result<usize> {
        // The service and `sipguard refresh` may be at it at the same time.
        let lock = File::open(&self.path)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let staged = replace::begin(&self.path, &file_name(&head.source), 0o640)?;
        let mut count = 0;
        let mut writer = Writer::new(staged.file(), head)?;
        each(entries, before, head, |entry| {
            count += 1;
            writer.entry(entry)
        })?;
        writer.finish()?;
        match entries {
            // A long list is on the disk as late as it would be in force otherwise. sipguard has a copy of its own, and whoever said this says it again.
            Entries::List(_) | Entries::Ending { .. } => staged.commit_ahead()?,
            // What a name had before stands here alone.
            Entries::All(_) | Entries::AsBefore | Entries::Written => staged.commit()?,
        }
        Ok(count)
    }
}

/// Hands out what is to be listed, in order.
fn each(
    entries: &Entries,
    before: &Before,
    head: &Head,
    mut hand: impl FnMut(&Entry) -> io::Result<()>,
) -> io::Result<()> {
    match entries {
        Entries::All(entries) => entries.iter().try_for_each(hand),
        Entries::List(prefixes) => {
            let mut known = Known::of(before)?;
            for &prefix in prefixes {
                let first = known.find(prefix)?.map(|entry| entry.first.min(head.asked));
                hand(&Entry {
                    prefix,
                    first: first.unwrap_or(head.asked),
                    last: head.asked,
                    end: None,
                    comment: None,
                })?;
            }
            Ok(())
        }
        Entries::Ending { list, .. } => {
            let time = |second| Timestamp::from_second(second).ok();
            let Some(first) = list.first() else {
                return Ok(());
            };
            // One for all: there may be a million.
            let mut entry = Entry {
                prefix: first.prefix,
                first: head.asked,
                last: head.asked,
                end: None,
                comment: None,
            };
            list.iter().try_for_each(|ending| {
                entry.prefix = ending.prefix;
                entry.first = time(ending.first).map_or(head.asked, |first| first.min(head.asked));
                entry.end = time(ending.end);
                let comment = entry.comment.get_or_insert_default();
                comment.clear();
                comment.push_str(&ending.comment);
                hand(&entry)
            })
        }
        Entries::AsBefore | Entries::Written => {
            let mut known = Known::of(before)?;
            // The other side just said that these are all there still; or nothing, and they were seen when they were.
            let is_seen = head.answered == Some(head.asked);
            while let Some(entry) = known.next()? {
                let last = if is_seen {
                    head.asked
                } else {
                    entry.last.min(head.asked)
                };
                hand(&Entry {
                    first: entry.first.min(last),
                    last,
                    ..entry
                })?;
            }
            Ok(())
        }
    }
}

/// The entries of before, beside a list that has the same order.
struct Known {
    reader: Option<Reader<File>>,
    ahead: Option<Entry>,
}

impl Known {
    fn of(before: &Before) -> io::Result<Self> {
        Ok(Self {
            reader: before.reader().map_err(io::Error::other)?,
            ahead: None,
        })
    }

    fn next(&mut self) -> io::Result<Option<Entry>> {
        match &mut self.reader {
            Some(reader) => reader.next_entry().map_err(io::Error::other),
            None => Ok(None),
        }
    }

    /// What was known of a prefix; the one asked for next is above it.
    fn find(&mut self, prefix: IpNet) -> io::Result<Option<&Entry>> {
        while self
            .ahead
            .as_ref()
            .is_none_or(|ahead| ahead.prefix < prefix)
        {
            self.ahead = self.next()?;
            if self.ahead.is_none() {
                return Ok(None);
            }
        }
        Ok(self.ahead.as_ref().filter(|ahead| ahead.prefix == prefix))
    }
}

/// Whether what is to be listed is something else than before.
pub(crate) fn is_changed(entries: &Entries, before: &Before) -> io::Result<bool> {
    let mut known = Known::of(before)?;
    let mut is_next =
        |prefix: IpNet| Ok::<_, io::Error>(known.next()?.map(|it| it.prefix) == Some(prefix));
    match entries {
        Entries::All(entries) => {
            for entry in entries {
                if !is_next(entry.prefix)? {
                    return Ok(true);
                }
            }
        }
        Entries::List(prefixes) => {
            for &prefix in prefixes {
                if !is_next(prefix)? {
                    return Ok(true);
                }
            }
        }
        Entries::Ending { is_changed, .. } => return Ok(*is_changed),
        Entries::AsBefore | Entries::Written => return Ok(false),
    }
    Ok(known.next()?.is_some())
}

/// What is said of an answer: `asked` is when the question was put, `next` when it is put again.
pub(crate) fn head(
    source: &str,
    answer: &Answer,
    before: Option<&Head>,
    is_changed: bool,
    asked: Timestamp,
    next: Timestamp,
) -> Head {
    // The clock may have been set back.
    let known = |time: Option<Timestamp>| time.map(|time| time.min(asked));
    let answered = if answer.answered {
        Some(asked)
    } else {
        known(before.and_then(|before| before.answered))
    };
    let changed = if is_changed && answer.answered {
        Some(asked)
    } else {
        known(before.and_then(|before| before.changed)).min(answered)
    };
    Head {
        answered,
        changed,
        url: answer.url.clone(),
        etag: answer.etag.clone(),
        last_modified: answer.last_modified.clone(),
        said: answer.said.clone(),
        error: answer.error.clone(),
        lookups: answer.lookups.clone(),
        ..Head::new(source, asked, next)
    }
}
