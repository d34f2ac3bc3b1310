//! The agent's slow half: it looks at what is in force, has live sources put in force, and tells what happened: in the journal, in metrics and as
//! notices. It may wait for a disk, a lock or the journal.

use std::{
    collections::BTreeMap,
    fmt::Display,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use rustix::fs::inotify;
use sipguard_ebpf::abi::{Action, NO_SERVICE, Reason};
use sipguard_lists::notice;

use super::{
    flood::{Dropped, Floods},
    happened::Happened,
    in_force::InForce,
    journal::{Journal, SOCKET},
    notices::Notices,
};
use crate::{
    datapath,
    host::Host,
    lifecycle::{self, RefreshOptions},
    report::{AgentReport, CountersReport, Metrics, StatusReport, TEXTFILE},
    sources,
};

const SECOND: u64 = 1_000_000_000;
/// How often it is looked at what is in force.
const LOOK: u64 = 2 * SECOND;
/// How often counters are read for floods.
const COUNT: u64 = 2 * SECOND;
/// How often what the kernel holds is compared with what is said: before the timer does, which would tell nobody but the journal.
const COMPARE: u64 = 9 * 60 * SECOND;
/// What is wrong all the time is told of again after so long without it.
const AGAIN: u64 = 24 * 60 * 60 * SECOND;
/// How often metrics are written.
const METRICS: u64 = 10 * SECOND;
/// How often everything is looked at for them, which takes longer.
const STATUS: u64 = 60 * SECOND;
/// As often as this something is looked at if no event comes.
const TICK: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Keeper {
    host: Host,
    /// The config file, for those who look at everything.
    config: PathBuf,
    journal: Journal,
    notices: Notices,
    /// Whether anybody wants notices, by what was in force last.
    noticed: bool,
    /// How many notices were lost.
    lost_notices: u64,
    counted: AgentReport,
    /// As it was looked at last.
    status: Option<StatusReport>,
    in_force: InForce,
    floods: Floods,
    /// What can't be done at the moment, and why, so that it is told of once.
    failing: BTreeMap<String, String>,
    /// What else was wrong, and when that was told, nanoseconds of the boot clock.
    troubles: BTreeMap<String, u64>,
    /// Tells of files in the fetcher's folder.
    watch: Option<OwnedFd>,
    due: Due,
}

/// When something is to be done next, nanoseconds of the boot clock.
#[derive(Debug, Default)]
struct Due {
    look: u64,
    count: u64,
    watch: u64,
    compare: u64,
    metrics: u64,
    status: u64,
}

/// Whether something is due; if so, notes when it is next.
fn is_due(due: &mut u64, every: u64, now: u64) -> bool {
    let is_due = now >= *due;
    if is_due {
        *due = now + every;
    }
    is_due
}

impl Keeper {
    /// One that has seen nothing yet.
    pub(super) fn new(host: Host, config: PathBuf) -> Self {
        let now = host.now().boot_ns;
        Self {
            journal: Journal::at(SOCKET),
            notices: Notices::begin(host.store.folder(), host.now().wall),
            noticed: false,
            lost_notices: 0,
            counted: AgentReport::default(),
            status: None,
            in_force: InForce::default(),
            floods: Floods::default(),
            failing: BTreeMap::new(),
            troubles: BTreeMap::new(),
            config,
            watch: None,
            due: Due {
                compare: now + COMPARE,
                ..Due::default()
            },
            host,
        }
    }

    /// Does its work until the other side is gone.
    pub(super) fn run(mut self, end: &Receiver<()>) {
        loop {
            self.tick();
            if end.recv_timeout(TICK) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Does what is due.
    fn tick(&mut self) {
        let now = self.host.now().boot_ns;
        let mut found = false;
        if self.watch.is_none() && is_due(&mut self.due.watch, LOOK, now) {
            // The folder may come with the fetcher's package.
            self.watch = watch(Path::new(sources::FOLDER)).ok();
            found = self.watch.is_some();
        }
        found |= self.something_was_found();
        if found {
            self.refresh();
        }
        if is_due(&mut self.due.count, COUNT, now) {
            self.count(now);
        }
        if is_due(&mut self.due.compare, COMPARE, now) {
            self.compare();
        }
        if is_due(&mut self.due.look, LOOK, now) || found {
            self.look(now);
        }
        if is_due(&mut self.due.metrics, METRICS, now) {
            // What the disk did not take before.
            self.write_notices(&[]);
            self.write_metrics(now);
        }
    }

    /// The three writers.
    fn tell(&mut self, happened: &Happened) {
        self.journal.write(happened);
        self.counted.happened(happened.kind());
        if self.noticed {
            self.write_notices(std::slice::from_ref(happened));
        }
    }

    fn write_notices(&mut self, happened: &[Happened]) {
        let written = self.notices.add(happened, self.host.now().wall);
        let file = self.host.store.folder().join(notice::FILE);
        self.kept(&file, written);
        let lost = self.notices.take_lost();
        if lost > 0 {
            self.lost_notices += lost;
            let lost = self.lost_notices;
            self.tell(&Happened::SpoolFull { lost });
        }
    }

    fn write_metrics(&mut self, now: u64) {
        if is_due(&mut self.due.status, STATUS, now) {
            let status = StatusReport::take(&self.host, &self.config);
            // Better none than one that is not true any more.
            self.status = self.done("looking at everything", status);
        }
        let counters = CountersReport::take(&self.host);
        let counters = self.done("reading the counters", counters);
        if let Some(counters) = counters
            && let Some(status) = &self.status
        {
            let metrics = Metrics {
                counters: &counters,
                status,
                agent: Some(&self.counted),
            };
            let file = Path::new(TEXTFILE);
            let written = metrics.replace(file);
            self.kept(file, written);
        }
    }

    /// Whether a file was written.
    fn kept(&mut self, file: &Path, written: io::Result<()>) {
        let file = file.display().to_string();
        match written {
            Ok(()) => {
                self.failing.remove(&file);
            }
            Err(error) => {
                let why = error.to_string();
                if self.is_news(&file, &why) {
                    self.tell(&Happened::NotKept { file, why });
                }
            }
        }
    }

    /// What something came to. Its failure is told of once, until it is done again.
    fn done<T, E: Display>(&mut self, what: &str, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(done) => {
                self.failing.remove(what);
                Some(done)
            }
            Err(error) => {
                let why = error.to_string();
                if self.is_news(what, &why) {
                    let what = what.to_owned();
                    self.tell(&Happened::Failed { what, why });
                }
                None
            }
        }
    }

    /// Whether this failed in another way before, or not at all.
    fn is_news(&mut self, what: &str, why: &str) -> bool {
        let before = self.failing.insert(what.to_owned(), why.to_owned());
        before.as_deref() != Some(why)
    }

    /// What else a person has to hear of, once.
    fn tell_troubles(&mut self, now: u64) {
        self.troubles
            .retain(|_, told| now.saturating_sub(*told) < AGAIN);
        for trouble in self.host.troubles() {
            let why = trouble.to_string();
            if self.troubles.insert(why.clone(), now).is_none() {
                let what = "something is wrong".to_owned();
                self.tell(&Happened::Failed { what, why });
            }
        }
    }

    /// Looks at what is in force.
    fn look(&mut self, now: u64) {
        let looked = self.in_force.look(&self.host, &BTreeMap::new());
        let Some(mut looked) = self.done("looking at what is in force", looked) else {
            return;
        };
        if looked.suspected {
            // Until somebody looks, packets pass that should not.
            let repaired = lifecycle::repair(&self.host);
            let repaired = self.done("having interfaces filtered again", repaired);
            let refused = repaired.map(|repaired| repaired.refused);
            let why = refused.into_iter().flatten();
            let why = why.map(|it| (it.interface.clone(), it.why.to_string()));
            let again = self.in_force.look(&self.host, &why.collect());
            if let Some(again) = self.done("looking at what is in force", again) {
                looked.happened.extend(again.happened);
            }
        }
        if let Some(live) = &looked.live {
            self.noticed = live.notify().is_some();
        }
        for happened in &looked.happened {
            self.tell(happened);
        }
        self.tell_troubles(now);
    }

    /// Compares what the kernel holds with what is said of live sources and bans.
    fn compare(&mut self) {
        let compared = lifecycle::compare(&self.host);
        if let Some(entries) = self.done("comparing the kernel with the lists", compared)
            && entries > 0
        {
            self.tell(&Happened::KernelDiffered { entries });
        }
    }

    /// Reads the counters.
    fn count(&mut self, now: u64) {
        let dropped = dropped();
        if let Some(dropped) = self.done("reading the counters", dropped)
            && let Some(happened) = self.floods.look(now, dropped)
        {
            self.tell(&happened);
        }
    }

    /// Puts in force what the fetcher has found.
    fn refresh(&mut self) {
        let options = RefreshOptions {
            offline: true,
            ..RefreshOptions::default()
        };
        // What became of it is seen when it is looked at what is in force.
        let refreshed = lifecycle::refresh(&self.host, &[], options);
        self.done("putting in force what was found", refreshed);
    }

    /// Whether the fetcher has written something since this was asked last.
    fn something_was_found(&mut self) -> bool {
        let Some(watch) = &self.watch else {
            return false;
        };
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(watch, &mut buffer);
        let mut found = false;
        while let Ok(event) = events.next() {
            // The folder is gone; another one may come.
            let is_gone = inotify::ReadFlags::IGNORED | inotify::ReadFlags::DELETE_SELF;
            if event.events().intersects(is_gone) {
                self.watch = None;
                return true;
            }
            found = true;
        }
        found
    }
}

/// What was dropped on each interface, or would have been, since it counts.
fn dropped() -> Result<Dropped, datapath::Error> {
    let mut all = Vec::new();
    for interface in datapath::counted_interfaces()? {
        let Some(counts) = datapath::counts(&interface)? else {
            continue;
        };
        let reasons = Reason::COUNTED.into_iter();
        let reasons = reasons.filter(|reason| reason.action() == Action::Drop);
        let of = |reason| -> u64 {
            let slots = 0..=NO_SERVICE;
            slots.map(|slot| counts.of(slot, reason).packets).sum()
        };
        all.push((interface, reasons.map(of).sum()));
    }
    Ok(all)
}

/// Tells of files that take their place in a folder.
fn watch(folder: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
    let watch = inotify::init(flags)?;
    let what = inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::DELETE_SELF
        | inotify::WatchFlags::ONLYDIR;
    inotify::add_watch(&watch, folder, what)?;
    Ok(watch)
}
