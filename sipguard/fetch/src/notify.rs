//! Notices: those that the agent wrote are sent to whoever wants them. One thread a receiver, so that one that is slow or dead holds up no other;
//! each has a file in the fetcher's folder that says how far it is. A notice is sent at least once: what was sent and could not be noted is
//! sent again, with the same id.

mod due;
mod farewell;
mod follower;
mod mail;
mod message;
mod webhook;

use std::{fs::DirBuilder, io, os::unix::fs::DirBuilderExt as _, path::Path, thread};

use jiff::Timestamp;
use sipguard_lists::{
    notice::{self, Notice, Spool},
    notify::Notify,
    said::Message as Told,
    task::Tasks,
};

use self::{
    follower::{Follower, Outside},
    message::Message,
};
use crate::{clock, http::Resolver, schedule::Moment};

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
        let follow = move || Follower::new(receiver, tasks, spool, folder, &Real).run(&Real);
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
        wanted_by: Vec::new(),
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

/// The world as it is.
struct Real;

impl Outside for Real {
    fn wall(&self) -> Timestamp {
        clock::wall()
    }

    fn boot(&self) -> Moment {
        clock::boot()
    }

    fn send(&self, receiver: &str, tasks: &Tasks, message: &Message<'_>) -> Result<(), String> {
        send(receiver, tasks, message)
    }
}

/// Makes the folder of what became of notices, where it is not there.
fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(folder)
}

/// What the other side, or the system, says of a failure.
fn said(error: &dyn std::fmt::Display) -> String {
    Told(&error.to_string()).to_string()
}
