//! One receiver: what is due is sent to it, again and again.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use jiff::Timestamp;
use sipguard_lists::{
    notice::{Delivery, Notice, Sent, Spool},
    notify::Notify,
    replace,
    task::Tasks,
};

use super::{
    due::{self, Due, due},
    farewell::Farewell,
    make_folder,
    message::Message,
};
use crate::schedule::Moment;

/// How often it is looked whether there is something to send.
const LOOK: Duration = Duration::from_secs(1);
/// The same where nobody wants anything.
const LOOK_FOR_RECEIVERS: Duration = Duration::from_secs(10);

/// Time, and the way to who wants notices; tests have their own.
pub(super) trait Outside {
    fn wall(&self) -> Timestamp;
    fn boot(&self) -> Moment;
    /// Sends, and waits until the other side has taken it; or why it has not, fit to be printed.
    fn send(&self, receiver: &str, tasks: &Tasks, message: &Message<'_>) -> Result<(), String>;
}

/// A file that is always replaced, never changed, and is read when it is another one.
struct Watched<T> {
    file: PathBuf,
    seen: Option<(u64, i64, i64)>,
    value: Option<T>,
}

impl<T> Watched<T> {
    fn new(file: PathBuf) -> Self {
        Self {
            file,
            seen: None,
            value: None,
        }
    }

    /// What it says; what can't be read says nothing, which is told once.
    fn look<E: std::fmt::Display>(
        &mut self,
        read: impl FnOnce(&Path) -> Result<Option<T>, E>,
    ) -> Option<&T> {
        // First, so that a file that is replaced while it is read is read again.
        let stamp = fs::metadata(&self.file)
            .ok()
            .map(|it| (it.ino(), it.mtime(), it.mtime_nsec()));
        if stamp.is_none() || self.seen != stamp {
            self.value = read(&self.file).unwrap_or_else(|error| {
                eprintln!("{}: {error}", self.file.display());
                None
            });
            self.seen = stamp;
        }
        self.value.as_ref()
    }
}

/// Sends to one receiver what is due.
pub(super) struct Follower {
    receiver: &'static str,
    tasks: Watched<Arc<Tasks>>,
    /// What is to be done, where this receiver is wanted.
    wanted: Option<Arc<Tasks>>,
    farewell: Farewell,
    /// When it was last seen that somebody wants something, and not this receiver.
    unwanted: Option<Timestamp>,
    spool: Watched<Arc<Spool>>,
    folder: PathBuf,
    delivery: Option<Delivery>,
    /// Kinds that could not be sent and wait, the longest ago first.
    failed: Vec<String>,
    /// How many tries in a row had no success, of whatever kind.
    failures: u32,
    /// When something of them may be tried again.
    again: Moment,
}

impl Follower {
    pub(super) fn new(
        receiver: &'static str,
        tasks: PathBuf,
        spool: PathBuf,
        folder: PathBuf,
        outside: &impl Outside,
    ) -> Self {
        let file = File::open(folder.join(Delivery::file_name(receiver)));
        Self {
            receiver,
            tasks: Watched::new(tasks),
            wanted: None,
            farewell: Farewell::resume(&folder, receiver, outside.wall(), outside.boot()),
            unwanted: None,
            spool: Watched::new(spool),
            folder,
            // What can't be read is as good as none.
            delivery: file.ok().and_then(|file| Delivery::read(file).ok()),
            failed: Vec::new(),
            failures: 0,
            again: Moment::ZERO,
        }
    }

    pub(super) fn run(mut self, outside: &impl Outside) {
        loop {
            let pause = if self.turn(outside) {
                LOOK
            } else {
                LOOK_FOR_RECEIVERS
            };
            thread::sleep(pause);
        }
    }

    /// By what this receiver is wanted, or was until there was nothing to do any more.
    fn tasks(&mut self, outside: &impl Outside) -> Option<Arc<Tasks>> {
        // What is damaged, the service tells.
        let read = |file: &Path| Ok::<_, String>(Tasks::read(file).ok().flatten().map(Arc::new));
        if let Some(tasks) = self.tasks.look(read).cloned() {
            self.farewell.end();
            let is_wanted = self.is_wanted(&tasks);
            self.wanted = Some(tasks).filter(|_| is_wanted);
            if !is_wanted {
                self.forget(outside.wall());
            }
            return self.wanted.clone();
        }
        if let Some(tasks) = self.wanted.take() {
            self.farewell.begin(tasks, outside.wall(), outside.boot());
        }
        self.farewell.tasks()
    }

    fn is_wanted(&self, tasks: &Tasks) -> bool {
        let mut receivers = tasks.notify.iter().flat_map(Notify::receivers);
        receivers.any(|receiver| receiver == self.receiver)
    }

    /// One that nobody wants any more has nothing waiting, and is new when it is wanted again.
    fn forget(&mut self, now: Timestamp) {
        self.unwanted = Some(now);
        if self.delivery.take().is_none() {
            return;
        }
        self.failed.clear();
        (self.failures, self.again) = (0, Moment::ZERO);
        let file = self.folder.join(Delivery::file_name(self.receiver));
        if let Err(error) = fs::remove_file(&file) {
            eprintln!("cannot remove {}: {error}", file.display());
        }
    }

    /// Sends what is due now; returns whether there is a receiver at all.
    fn turn(&mut self, outside: &impl Outside) -> bool {
        let Some(tasks) = self.tasks(outside) else {
            return false;
        };
        let spool = self.spool();
        let waits = spool.is_some_and(|spool| self.follow(&spool, &tasks, outside));
        self.farewell.end_if_over(waits, outside.boot());
        true
    }

    fn spool(&mut self) -> Option<Arc<Spool>> {
        let read = |file: &Path| Spool::read(file).map(|spool| spool.map(Arc::new));
        self.spool.look(read).cloned()
    }

    /// Sends what is due of a spool; returns whether something of it waits then.
    fn follow(&mut self, spool: &Spool, tasks: &Tasks, outside: &impl Outside) -> bool {
        let now = outside.wall();
        let mut delivery = self.delivery(spool, now);
        let message = match due(spool, &delivery, &self.failed, now) {
            Due::Now(message) => Some(message),
            Due::Again(message) => Some(message).filter(|_| outside.boot() >= self.again),
            Due::Later => None,
        };
        if let Some(message) = message {
            let sent = outside.send(self.receiver, tasks, &message);
            match sent {
                Ok(()) => self.taken(&mut delivery, spool, &message, now),
                Err(error) => self.failed(&mut delivery, &message, error, now, outside.boot()),
            }
            delivery.tried = Some(now);
            self.write(&delivery);
        }
        let waits = spool.notices.iter().any(|notice| delivery.waits(notice));
        self.delivery = Some(delivery);
        waits
    }

    /// How far it is with this spool. Where it begins is written at once, so that it is known when this program is started anew.
    fn delivery(&mut self, spool: &Spool, now: Timestamp) -> Delivery {
        let is_new = self.delivery.is_none();
        let known = self.delivery.take().filter(|it| it.spool == spool.name);
        known.unwrap_or_else(|| {
            let begun = due::begun(spool, self.receiver, is_new, self.unwanted, now);
            self.write(&begun);
            begun
        })
    }

    fn taken(
        &mut self,
        delivery: &mut Delivery,
        spool: &Spool,
        message: &Message<'_>,
        now: Timestamp,
    ) {
        // Of what is sent now, nothing is gone.
        delivery.lost = delivery.gone(spool);
        delivery.told = delivery.lost;
        delivery.sent += message.notices.len() as u64;
        let number = message.notices.last().map_or(0, |last| last.number);
        delivery
            .kinds
            .insert(message.kind.to_owned(), Sent { number, time: now });
        let waits = |kind: &String| {
            let mut notices = spool.notices.iter();
            notices.any(|it: &Notice| it.kind == *kind && delivery.waits(it))
        };
        self.failed.retain(waits);
        // It fails for as long as there is something that it does not take.
        if self.failed.is_empty() {
            if delivery.failing.take().is_some() {
                eprintln!("{}: takes notices again", self.receiver);
            }
            delivery.error = None;
        }
        (self.failures, self.again) = (0, Moment::ZERO);
    }

    fn failed(
        &mut self,
        delivery: &mut Delivery,
        message: &Message<'_>,
        error: String,
        now: Timestamp,
        boot: Moment,
    ) {
        if delivery.error.as_ref() != Some(&error) {
            eprintln!("{}: {error}", self.receiver);
        }
        delivery.failing.get_or_insert(now);
        delivery.error = Some(error);
        delivery.lost = delivery.gone(message.spool);
        self.failed.retain(|kind| kind != message.kind);
        self.failed.push(message.kind.to_owned());
        self.failures = self.failures.saturating_add(1);
        self.again = boot + due::after_failure(self.failures);
    }

    fn write(&self, delivery: &Delivery) {
        if let Err(error) = self.replace(delivery) {
            eprintln!("{}: cannot write how far it is: {error}", self.receiver);
        }
    }

    fn replace(&self, delivery: &Delivery) -> io::Result<()> {
        make_folder(&self.folder)?;
        let json = serde_json::to_vec(delivery)?;
        let name = Delivery::file_name(self.receiver);
        replace::stage(&self.folder, &name, 0o640, |file| file.write_all(&json))?.commit()
    }
}

#[cfg(test)]
mod tests;
