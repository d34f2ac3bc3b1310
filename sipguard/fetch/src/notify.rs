//! Notices: those that the agent wrote are sent to whoever wants them. One thread a receiver, so that one that is slow or dead holds up no other;
//! each has a file in the fetcher's folder that says how far it is. A notice is sent at least once: what was sent and could not be noted is
//! sent again, with the same id.

mod due;
mod mail;
mod message;
mod webhook;

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use jiff::Timestamp;
use sipguard_lists::{
    notice::{self, Delivery, Notice, Sent, Spool},
    notify::Notify,
    replace,
    said::Message as Told,
    task::Tasks,
};

use self::{
    due::{Due, due},
    message::Message,
};
use crate::{clock, http::Resolver, schedule::Moment};

/// How often it is looked whether there is something to send.
const LOOK: Duration = Duration::from_secs(1);
/// The same where nobody wants anything.
const LOOK_FOR_RECEIVERS: Duration = Duration::from_secs(10);
/// How long whoever wanted notices gets them after there is nothing to do any more: that nothing filters, he has to hear, too.
const FAREWELL: Duration = Duration::from_mins(1);
const RECEIVERS: [&str; 2] = [Notify::WEBHOOK, Notify::MAIL];

/// One way to send.
trait Way {
    /// Sends, and waits until the other side has taken it; or why it has not, fit to be printed.
    fn send(&self, message: &Message<'_>) -> Result<(), String>;
}

/// The way to a receiver, if there is one. It is looked up each time: keys may be replaced.
fn way(receiver: &str, tasks: &Tasks) -> Option<Box<dyn Way>> {
    let notify = tasks.notify.as_ref()?;
    let resolver = Resolver::new(tasks);
    match receiver {
        Notify::WEBHOOK => Some(Box::new(webhook::OverHttp {
            hook: notify.webhook.clone()?,
            resolver,
        })),
        _ => Some(Box::new(mail::OverSmtp {
            mail: notify.mail.clone()?,
            resolver,
        })),
    }
}

/// Begins to send, for as long as the process runs.
pub(crate) fn begin(tasks: &Path, folder: &Path) -> io::Result<()> {
    for receiver in RECEIVERS {
        let spool = tasks.with_file_name(notice::FILE);
        let (tasks, folder) = (tasks.to_owned(), folder.join(notice::FOLDER));
        let follow = move || Follower::new(receiver, tasks, spool, folder).run();
        thread::Builder::new().spawn(follow)?;
    }
    Ok(())
}

/// What came of a notice that was made to see whether it arrives.
pub(crate) struct Tested {
    pub(crate) receiver: &'static str,
    pub(crate) error: Option<String>,
}

/// Sends one to everybody who wants notices.
pub(crate) fn test(tasks: &Tasks) -> Vec<Tested> {
    let now = clock::wall();
    let mut spool = Spool::new(format!("test-{:x}", now.as_nanosecond()));
    spool.notices.push_back(Notice {
        number: 1,
        time: now,
        kind: "test".to_owned(),
        severity: "info".to_owned(),
        text: "this is a test: notices of this gateway arrive here".to_owned(),
        fields: [].into(),
    });
    let message = Message {
        spool: &spool,
        kind: "test",
        notices: spool.notices.iter().collect(),
        lost: 0,
        is_late: false,
    };
    thread::scope(|scope| {
        let receivers = tasks.notify.iter().flat_map(Notify::receivers);
        let message = &message;
        let sending = receivers.map(|receiver| {
            (
                receiver,
                scope.spawn(move || send(receiver, tasks, message)),
            )
        });
        let sending: Vec<_> = sending.collect();
        let tested = sending.into_iter().map(|(receiver, sending)| Tested {
            receiver,
            error: match sending.join() {
                Ok(sent) => sent.err(),
                Err(_) => Some("it broke".to_owned()),
            },
        });
        tested.collect()
    })
}

fn send(receiver: &str, tasks: &Tasks, message: &Message<'_>) -> Result<(), String> {
    way(receiver, tasks).map_or(Ok(()), |way| way.send(message))
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
struct Follower {
    receiver: &'static str,
    tasks: Watched<Arc<Tasks>>,
    /// What was to be done last, and until when that holds though the file is gone.
    before: Option<(Arc<Tasks>, Moment)>,
    spool: Watched<Arc<Spool>>,
    folder: PathBuf,
    delivery: Option<Delivery>,
    failures: u32,
    /// When it may be tried again.
    again: Moment,
}

impl Follower {
    fn new(receiver: &'static str, tasks: PathBuf, spool: PathBuf, folder: PathBuf) -> Self {
        let file = File::open(folder.join(Delivery::file_name(receiver)));
        Self {
            receiver,
            tasks: Watched::new(tasks),
            before: None,
            spool: Watched::new(spool),
            folder,
            // What can't be read is as good as none.
            delivery: file.ok().and_then(|file| Delivery::read(file).ok()),
            failures: 0,
            again: Moment::ZERO,
        }
    }

    fn run(mut self) {
        loop {
            let pause = if self.turn() {
                LOOK
            } else {
                LOOK_FOR_RECEIVERS
            };
            thread::sleep(pause);
        }
    }

    /// What is to be done, or was a moment ago.
    fn tasks(&mut self) -> Option<Arc<Tasks>> {
        // What is damaged, the service tells.
        let read = |file: &Path| Ok::<_, String>(Tasks::read(file).ok().flatten().map(Arc::new));
        let (tasks, now) = (self.tasks.look(read).cloned(), clock::boot());
        match tasks {
            Some(tasks) => self.before = Some((tasks, now + FAREWELL)),
            None => self.before = self.before.take().filter(|(_, until)| now < *until),
        }
        self.before.as_ref().map(|(tasks, _)| Arc::clone(tasks))
    }

    /// Sends what is due now; returns whether there is a receiver at all.
    fn turn(&mut self) -> bool {
        let Some(tasks) = self.tasks() else {
            return false;
        };
        let mut receivers = tasks.notify.iter().flat_map(Notify::receivers);
        if receivers.all(|receiver| receiver != self.receiver) {
            return false;
        }
        let Some(spool) = self
            .spool
            .look(|file| Spool::read(file).map(|it| it.map(Arc::new)))
            .cloned()
        else {
            return true;
        };
        if clock::boot() < self.again {
            return true;
        }
        let now = clock::wall();
        let is_new = self.delivery.is_none();
        let delivery = self.delivery.take().filter(|it| it.spool == spool.name);
        let mut delivery = delivery.unwrap_or_else(|| due::begun(&spool, is_new, now));
        if let Due::Now(message) = due(&spool, &delivery, now) {
            let sent = send(self.receiver, &tasks, &message);
            self.note(&mut delivery, &spool, &message, sent, now);
        }
        self.delivery = Some(delivery);
        true
    }

    fn note(
        &mut self,
        delivery: &mut Delivery,
        spool: &Spool,
        message: &Message<'_>,
        sent: Result<(), String>,
        now: Timestamp,
    ) {
        let receiver = self.receiver;
        delivery.tried = Some(now);
        match sent {
            Ok(()) => {
                // Of what is sent now, nothing is gone.
                delivery.lost = delivery.gone(spool);
                delivery.sent += message.notices.len() as u64;
                let number = message.notices.last().map_or(0, |last| last.number);
                delivery
                    .kinds
                    .insert(message.kind.to_owned(), Sent { number, time: now });
                if delivery.failing.take().is_some() {
                    eprintln!("{receiver}: takes notices again");
                }
                delivery.error = None;
                (self.failures, self.again) = (0, Moment::ZERO);
            }
            Err(error) => {
                if delivery.error.as_ref() != Some(&error) {
                    eprintln!("{receiver}: {error}");
                }
                delivery.failing.get_or_insert(now);
                delivery.error = Some(error);
                delivery.lost = delivery.gone(spool);
                self.failures = self.failures.saturating_add(1);
                self.again = clock::boot() + due::after_failure(self.failures);
            }
        }
        if let Err(error) = self.write(delivery) {
            eprintln!("{receiver}: cannot write how far it is: {error}");
        }
    }

    fn write(&self, delivery: &Delivery) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&self.folder)?;
        let json = serde_json::to_vec(delivery)?;
        let name = Delivery::file_name(self.receiver);
        replace::stage(&self.folder, &name, 0o640, |file| file.write_all(&json))?.commit()
    }
}

/// What the other side, or the system, says of a failure.
fn said(error: &dyn std::fmt::Display) -> String {
    Told(&error.to_string()).to_string()
}
