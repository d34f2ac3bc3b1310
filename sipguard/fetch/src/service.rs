//! `--loop`: one thread waits; each question has one of its own, which ends with it, or with the wait for what comes after.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use sipguard_lists::task::{Task, Tasks};

use crate::{
    ask::{Asked, Unwritten, ask},
    clock,
    keep::Folder,
    kinds::{self, Before, Kind},
    schedule::{Due, LONGEST, Schedule, after_failure},
};

/// How often it is looked whether there is something else to ask for.
const LOOK: Duration = Duration::from_secs(10);

/// What a question's thread says.
enum Message {
    /// It was asked.
    Done(Done),
    /// What was asked for has changed since.
    Changed(Task),
}

/// What came of a question.
struct Done {
    /// What it was asked for.
    task: Task,
    /// Among what.
    tasks: Arc<Tasks>,
    /// What came of it, and what the kind remembers; `None` where it broke.
    asked: Option<(Result<Asked, Unwritten>, Box<dyn Kind>)>,
}

/// Kinds that are not being asked, by source, with what they remember.
type Kinds = BTreeMap<String, Box<dyn Kind>>;

/// Goes on until the process is ended; every file is whole at every moment.
pub(crate) fn run(file: &Path, folder: &Folder) -> Result<bool> {
    let (send, receive) = mpsc::channel::<Message>();
    let mut schedule = Schedule::default();
    let mut kinds = Kinds::new();
    let mut tasks: Option<Arc<Tasks>> = None;
    let mut seen = None;
    loop {
        // First, so that a file that is replaced while it is read is read again.
        let stamp = stamp(file);
        if seen != Some(stamp) {
            let read = Tasks::read(file);
            match read {
                Ok(read) => {
                    let read = plan(&mut schedule, tasks.as_deref(), read, folder);
                    keep_only(&mut kinds, tasks.as_deref(), &read);
                    tasks = Some(read);
                }
                Err(error) => eprintln!("{error}"),
            }
            seen = Some(stamp);
        }
        let now = clock::boot();
        if let Some(tasks) = &tasks {
            for due in schedule.due(now) {
                begin(&due, tasks, kinds.remove(&due.source), folder, &send);
            }
        }
        let wait = schedule
            .next()
            .map_or(LOOK, |next| next.saturating_sub(now).min(LOOK));
        // One that is due and waits for its turn is begun when another one is done.
        let wait = if wait.is_zero() { LOOK } else { wait };
        match receive.recv_timeout(wait) {
            Ok(message) => {
                let mut still = tasks.iter().flat_map(|tasks| &tasks.sources);
                let (Message::Changed(task) | Message::Done(Done { task, .. })) = &message;
                // What is asked by now is something else, and due already.
                if !still.any(|still| still == task) {
                    continue;
                }
                match message {
                    Message::Done(done) => {
                        kinds.extend(note(&mut schedule, done, tasks.as_ref()));
                    }
                    Message::Changed(task) => schedule.changed(&task.source, clock::boot()),
                }
            }
            // The loop has a sender itself.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
}

/// Which file it is: it is always replaced, never changed.
fn stamp(file: &Path) -> Option<(u64, i64, i64)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Takes over what is to be asked for: what is new or different is due at once, or when what was found says.
fn plan(
    schedule: &mut Schedule,
    before: Option<&Tasks>,
    read: Option<Tasks>,
    folder: &Folder,
) -> Arc<Tasks> {
    let tasks = read.unwrap_or_else(Tasks::none);
    for task in &tasks.sources {
        let is_known =
            before.is_some_and(|before| before.dns == tasks.dns && before.sources.contains(task));
        if !is_known {
            let wait = if before.is_none() {
                rest(task, folder)
            } else {
                Duration::ZERO
            };
            schedule.set(&task.source, clock::boot() + wait);
        }
    }
    schedule.keep_only(|source| tasks.sources.iter().any(|task| task.source == source));
    Arc::new(tasks)
}

/// Forgets what was remembered for another question, or would be asked in another way now.
fn keep_only(kinds: &mut Kinds, before: Option<&Tasks>, tasks: &Tasks) {
    kinds.retain(|source, _| {
        before.is_some_and(|before| {
            let is_same = |task: &Task| task.source == *source && tasks.sources.contains(task);
            before.dns == tasks.dns
                && before.guarded_ports == tasks.guarded_ports
                && before.sources.iter().any(is_same)
        })
    });
}

/// How long what was found before this program started is still good.
fn rest(task: &Task, folder: &Folder) -> Duration {
    let head = folder.before(&task.source).glance();
    let head = head.filter(|head| Before::answers(head, &task.kind));
    let left = head.map(|head| head.next.duration_since(clock::wall()));
    let left = left.and_then(|left| Duration::try_from(left).ok());
    left.unwrap_or_default().min(LONGEST)
}

/// Asks, on a thread of its own, which then waits for a change where it can. One that can't be started, or breaks, has failed like any other.
fn begin(
    due: &Due,
    tasks: &Arc<Tasks>,
    kind: Option<Box<dyn Kind>>,
    folder: &Folder,
    send: &Sender<Message>,
) {
    // Only what is in the tasks is in the schedule.
    let Some(task) = tasks.sources.iter().find(|task| task.source == due.source) else {
        return;
    };
    let mut kind = kind.unwrap_or_else(|| kinds::kind(&task.kind, tasks));
    let done = |asked| Done {
        task: task.clone(),
        tasks: Arc::clone(tasks),
        asked,
    };
    let (mut of, folder, failures) = (done(None), folder.clone(), due.failures);
    let answer = send.clone();
    let question = move || {
        let put = || {
            ask(
                &of.task.source,
                &mut *kind,
                &folder,
                failures,
                clock::wall(),
            )
        };
        let asked = panic::catch_unwind(AssertUnwindSafe(put)).ok();
        let mut wait = None;
        of.asked = asked.map(|mut asked| {
            if let Ok(asked) = &mut asked {
                wait = asked.wait.take().map(|wait| (wait, asked.pause));
            }
            (asked, kind)
        });
        let task = of.task.clone();
        // The loop is there as long as the process.
        let _ = answer.send(Message::Done(of));
        if let Some((wait, pause)) = wait
            && wait.wait(pause)
        {
            let _ = answer.send(Message::Changed(task));
        }
    };
    if thread::Builder::new().spawn(question).is_err() {
        let _ = send.send(Message::Done(done(None)));
    }
}

/// Tells what is news, and has it asked for again, by the same kind where nothing else is asked for by now.
fn note(
    schedule: &mut Schedule,
    done: Done,
    tasks: Option<&Arc<Tasks>>,
) -> Option<(String, Box<dyn Kind>)> {
    let source = done.task.source;
    let (failed, pause, kind) = match done.asked {
        Some((Ok(asked), kind)) => {
            if asked.is_news {
                eprintln!("{}", asked.told);
            }
            (asked.failed, asked.pause, Some(kind))
        }
        // What it remembers stands nowhere.
        Some((Err(error), _)) => {
            eprintln!("{error}");
            (true, error.pause, None)
        }
        None => {
            eprintln!("{source}: could not be asked for");
            (true, after_failure(1, 0), None)
        }
    };
    schedule.asked(&source, failed, clock::boot() + pause);
    let is_same = tasks.is_some_and(|tasks| Arc::ptr_eq(tasks, &done.tasks));
    kind.filter(|_| is_same).map(|kind| (source, kind))
}
