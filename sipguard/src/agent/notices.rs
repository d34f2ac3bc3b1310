//! Notices: what happened, for whoever does not look. The agent writes the last ones to a file, and the fetcher, who alone has a network, sends
//! them: see [`sipguard_lists::notice`]. Who wants them is in the config, and so in force; where nobody does, nothing is written.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use sipguard_lists::{
    notice::{FILE, MOST, Notice, NoticeError, Spool},
    notify::Notify,
    task::{self, Tasks},
};

use super::happened::{Happened, Priority};
use crate::{fetcher, report::deliveries};

/// The spool, as its only writer has it.
#[derive(Debug)]
pub struct Notices {
    folder: PathBuf,
    /// Where the spool is kept meanwhile, whole, where the disk does not take it: nobody sends what stands there.
    meanwhile: PathBuf,
    spool: Spool,
    /// Who wanted notices when something happened last.
    wanted_by: Vec<String>,
    /// Whether there is something that the disk has not.
    unwritten: bool,
    /// How many made room for others before they were sent.
    lost: u64,
    /// Why those that waited when this began can't be read.
    unread: Option<NoticeError>,
}

impl Notices {
    /// Goes on with the spool in sipguard's folder, or with what the disk did not take and is kept in `run`. One that
    /// [can't be read](Self::unread) is begun anew.
    pub fn begin(folder: &Path, run: &Path, now: Timestamp) -> Self {
        let (spool, unread) = match Spool::read(&folder.join(FILE)) {
            Ok(spool) => (spool, None),
            Err(error) => (None, Some(error)),
        };
        // No two are begun at one moment.
        let spool = spool.unwrap_or_else(|| Spool::new(format!("{:x}", now.as_nanosecond())));
        let last = |spool: &Spool| spool.notices.back().map(|last| last.number);
        let meanwhile = Spool::read(&run.join(FILE)).ok().flatten();
        let newer = meanwhile.filter(|it| {
            (it.name == spool.name || spool.notices.is_empty()) && last(it) > last(&spool)
        });
        let unwritten = newer.is_some();
        let spool = newer.unwrap_or(spool);
        let last = spool.notices.back();
        Self {
            unread,
            folder: folder.to_owned(),
            meanwhile: run.to_owned(),
            wanted_by: last.map_or(Vec::new(), |last| last.wanted_by.clone()),
            unwritten,
            spool,
            lost: 0,
        }
    }

    /// Adds what happened, as far as it is of a kind that somebody is told of; then writes what is not written yet, all at once. What can't
    /// be written is kept, and written with what comes next.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn add(&mut self, happened: &[Happened], now: Timestamp) -> io::Result<()> {
        let noticed = happened.iter().filter(|it| it.kind().is_noticed());
        let mut noticed = noticed.peekable();
        if noticed.peek().is_some() {
            self.look_who_wants_it();
        }
        for happened in noticed {
            let notice = self.notice(happened, now);
            self.spool.notices.push_back(notice);
            self.unwritten = true;
        }
        self.make_room();
        if !self.unwritten {
            return Ok(());
        }
        let meanwhile = self.meanwhile.join(FILE);
        if let Err(error) = self.write() {
            // Where there is no room either, it is in memory.
            let _ = self.spool.write(&self.meanwhile, None);
            return Err(error);
        }
        self.unwritten = false;
        match fs::remove_file(meanwhile) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whoever sends may not run yet, and is to know then what was for whom. Where nothing is in force any more, those of before hear so.
    fn look_who_wants_it(&mut self) {
        if let Ok(Some(tasks)) = Tasks::read(&self.folder.join(task::FILE)) {
            let receivers = tasks.notify.iter().flat_map(Notify::receivers);
            self.wanted_by = receivers.map(ToOwned::to_owned).collect();
        }
    }

    /// The fetcher's group may read it. Root need not have all rights here, and may give files to groups that it is in.
    fn write(&self) -> io::Result<()> {
        match self.spool.write(&self.folder, fetcher::group()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.spool.write(&self.folder, None)
            }
            written => written,
        }
    }

    /// What became of those that waited when this began: where they can't be read, nobody gets them.
    ///
    /// # Errors
    /// Why they can't.
    pub fn unread(&mut self) -> Result<(), NoticeError> {
        self.unread.take().map_or(Ok(()), Err)
    }

    /// How many were lost since this was asked last, because those before them could not be sent: see [`Happened::SpoolFull`].
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn notice(&self, happened: &Happened, now: Timestamp) -> Notice {
        let mut notice = Notice {
            number: self
                .spool
                .notices
                .back()
                .map_or(self.spool.first(), |last| last.number + 1),
            time: now,
            kind: happened.kind().name().to_owned(),
            severity: severity(happened.kind().priority()).to_owned(),
            text: happened.sentence(),
            fields: [].into(),
            wanted_by: self.wanted_by.clone(),
        };
        for (name, value) in happened
            .fields()
            .into_iter()
            .filter(|(name, _)| *name != "HAPPENED")
        {
            // Some are there more than once.
            let field = notice.fields.entry(name.to_ascii_lowercase()).or_default();
            if !field.is_empty() {
                field.push(' ');
            }
            field.push_str(&value);
        }
        notice
    }

    /// Lets the oldest go where there are too many.
    fn make_room(&mut self) {
        let excess = self.spool.notices.len().saturating_sub(MOST);
        if excess == 0 {
            return;
        }
        let deliveries = deliveries();
        let deliveries: Vec<_> = deliveries
            .iter()
            .filter(|(_, it)| it.spool == self.spool.name)
            .collect();
        for gone in self.spool.notices.drain(..excess) {
            let waits = deliveries.is_empty() || deliveries.iter().any(|(_, it)| it.waits(&gone));
            self.lost += u64::from(waits);
        }
    }
}

/// In syslog's words.
fn severity(priority: Priority) -> &'static str {
    match priority {
        Priority::Critical => "critical",
        Priority::Error => "error",
        Priority::Warning => "warning",
        Priority::Notice => "notice",
        Priority::Info => "info",
    }
}

#[cfg(test)]
mod tests {
    use sipguard_lists::notify::{Address, Webhook};

    use super::*;
    use crate::agent::happened::{Kind, samples};

    /// Nothing is kept meanwhile.
    fn begin(folder: &Path, now: Timestamp) -> Notices {
        Notices::begin(folder, Path::new("/nowhere"), now)
    }

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn read(folder: &Path) -> Spool {
        Spool::read(&folder.join(FILE)).unwrap().unwrap()
    }

    #[test]
    fn each_case_that_is_told_of_is_written_with_its_fields_and_nothing_that_is_not_harmless() {
        let folder = tempfile::tempdir().unwrap();
        let hostile = "x\r\nSubject: all is well\u{1b}[2J\u{202e}<!channel>&amp;\"'`{{}}\0";
        let happened = samples(hostile);
        let mut notices = begin(folder.path(), now());
        notices.add(&happened, now()).unwrap();
        let spool = read(folder.path());
        let told: Vec<_> = happened
            .iter()
            .filter(|it| it.kind().is_noticed())
            .collect();
        assert_eq!(spool.notices.len(), told.len());
        for ((notice, happened), number) in spool.notices.iter().zip(told).zip(1..) {
            assert_eq!(notice.number, number);
            assert_eq!(notice.kind, happened.kind().name());
            assert_eq!(notice.text, happened.sentence());
            let texts = notice.fields.values().chain([&notice.text]);
            for text in texts {
                assert!(
                    text.chars()
                        .all(|it| (' '..='~').contains(&it) && !"<>&".contains(it)),
                    "{text}"
                );
            }
        }
        let moved = spool
            .notices
            .iter()
            .find(|it| it.kind == "provider_moved")
            .unwrap();
        assert_eq!(moved.severity, "error");
        assert!(
            moved.fields["mend"].starts_with("sipguard allow "),
            "{moved:?}"
        );
        assert!(Kind::all().any(|kind| !kind.is_noticed()));
    }

    #[test]
    fn a_spool_goes_on_where_it_was_and_one_that_is_gone_has_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let one = [Happened::NothingInForce];
        begin(folder.path(), now()).add(&one, now()).unwrap();
        let first = read(folder.path());
        let later = now() + jiff::SignedDuration::from_secs(1);
        begin(folder.path(), later).add(&one, later).unwrap();
        let second = read(folder.path());
        assert_eq!((&second.name, second.notices.len()), (&first.name, 2));
        assert_eq!(second.notices[1].number, 2);
        fs::write(folder.path().join(FILE), "no spool").unwrap();
        let mut notices = begin(folder.path(), later);
        assert!(notices.unread().is_err() && notices.unread().is_ok());
        notices.add(&one, later).unwrap();
        let third = read(folder.path());
        assert_ne!(third.name, first.name);
        assert_eq!(third.notices[0].number, 1);
    }

    #[test]
    fn each_says_who_wanted_it_when_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(task::FILE);
        let mut notices = begin(folder.path(), now());
        let mut happens = || {
            notices.add(&[Happened::NothingInForce], now()).unwrap();
            read(folder.path()).notices.pop_back().unwrap().wanted_by
        };
        assert_eq!(happens(), [""; 0]);
        let webhook = Webhook {
            address: Address::UrlFile("/etc/sipguard/webhook".into()),
            insecure: false,
            ca_file: None,
        };
        let mut tasks = Tasks {
            notify: Some(Notify {
                webhook: Some(webhook),
                mail: None,
            }),
            ..Tasks::none()
        };
        tasks.write(folder.path(), None).unwrap();
        assert_eq!(happens(), ["webhook"]);
        // Nothing is in force any more.
        fs::remove_file(&file).unwrap();
        assert_eq!(happens(), ["webhook"]);
        // Something is, and nobody wants to hear of it.
        tasks.notify = None;
        tasks.write(folder.path(), None).unwrap();
        assert_eq!(happens(), [""; 0]);
    }

    #[test]
    fn the_oldest_go_and_are_counted_and_what_the_disk_does_not_take_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("there");
        let mut notices = begin(&there, now());
        let one = [Happened::NothingInForce];
        assert!(notices.add(&one, now()).is_err());
        fs::create_dir(&there).unwrap();
        notices.add(&[], now()).unwrap();
        assert_eq!(read(&there).notices.len(), 1);
        let many: Vec<_> = std::iter::repeat_n(Happened::NothingInForce, MOST + 9).collect();
        notices.add(&many, now()).unwrap();
        let spool = read(&there);
        assert_eq!((spool.notices.len(), spool.first()), (MOST, 11));
        assert_eq!([notices.take_lost(), notices.take_lost()], [10, 0]);
    }

    #[test]
    fn what_the_disk_does_not_take_outlives_the_agent() {
        let [disk, run] = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let (there, run) = (disk.path().join("there"), run.path());
        let one = [Happened::NothingInForce];
        let mut notices = Notices::begin(&there, run, now());
        notices.add(&one, now()).unwrap_err();
        notices.add(&one, now()).unwrap_err();
        drop(notices);
        fs::create_dir(&there).unwrap();
        let mut notices = Notices::begin(&there, run, now());
        notices.add(&one, now()).unwrap();
        assert_eq!(read(&there).notices.len(), 3);
        assert!(!run.join(FILE).exists());
        // What was kept of another one is none of its own.
        notices.spool.name = "another".to_owned();
        notices.spool.write(run, None).unwrap();
        let notices = Notices::begin(&there, run, now());
        assert_ne!(notices.spool.name, "another");
    }
}
