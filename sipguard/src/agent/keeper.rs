//! The agent's slow half: it keeps what is known, looks at what is in force, has live sources put in force, and tells what happened: in the
//! journal, in metrics and as notices. It may wait for a disk, a lock or the journal. Events come to it through a queue, and those that find no room
//! there are lost, and nothing else.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};

use jiff::Timestamp;
use rustix::fs::inotify;
use sipguard_ebpf::abi::{Layer, Protocol, Reason};
use sipguard_lists::notice;

use super::{
    alarm::{self, Alarms, Says, Unsaid},
    allowed::{self, Allowed},
    attempts,
    flood::{self, Dropped, Floods},
    happened::Happened,
    in_force::{self, InForce, Looked},
    journal::{Journal, SOCKET},
    knocks::{self, Knocks},
    notices::Notices,
    overruled::{self, Overruled},
    tried::{self, Tried},
};
use crate::{
    datapath::{self, Trust},
    events::{Event, Generations, Told},
    host::Host,
    lifecycle::{self, RefreshOptions},
    policy::Hide,
    report::{AgentReport, CountersReport, Metrics, StatusReport, TEXTFILE},
    sources,
    tables::Now,
};

const SECOND: u64 = 1_000_000_000;
/// How often it is looked at what is in force.
const LOOK: u64 = 2 * SECOND;
/// How often counters are read for floods.
const COUNT: u64 = 2 * SECOND;
/// How often what is known goes to disk.
const SAVE: u64 = 60 * SECOND;
/// How often what the kernel holds is compared with what is said: before the timer does, which would tell nobody but the journal.
const COMPARE: u64 = 9 * 60 * SECOND;
/// How often those are looked at that are allowed, where nothing has changed.
const REMEMBER: u64 = 60 * 60 * SECOND;
/// What is wrong all the time is told of again after so long without it.
const AGAIN: u64 = 24 * 60 * 60 * SECOND;
/// How often metrics are written.
const METRICS: u64 = 10 * SECOND;
/// How often everything is looked at for them, which takes longer.
const STATUS: u64 = 60 * SECOND;
/// And so many times longer than that took, at least, nothing is done: a fifth of a per cent of the time is what it may take.
const RESTS: u64 = 500;
/// How often events that were lost are told of.
const LOST: u64 = 10 * 60 * SECOND;
/// Of so many who are denied it is asked, from one look at everything that is due to the next, who denies them.
const ASKED: u32 = 32;
/// As often as this something is looked at if no event comes.
const TICK: Duration = Duration::from_secs(1);
/// The same in nanoseconds, so that whoever woke up a little early need not sleep again.
const TICK_NS: u64 = SECOND / 2;

/// What the fast half leaves for the slow one.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Events that were lost, and not told of yet.
    pub(super) lost: AtomicU64,
    /// Why it hears nothing.
    pub(super) deaf: Mutex<Option<String>>,
}

/// See the module.
pub(super) struct Keeper {
    host: Host,
    /// The config file, for those who look at everything.
    config: PathBuf,
    /// Where what lasts as long as the host runs is written.
    run: PathBuf,
    journal: Journal,
    notices: Notices,
    /// How many notices were lost.
    lost_notices: u64,
    counted: AgentReport,
    /// As it was looked at last.
    status: Option<StatusReport>,
    in_force: InForce,
    floods: Floods,
    allowed: Allowed,
    alarms: Alarms,
    overruled: Overruled,
    generations: Generations,
    /// Of how many who are denied it was asked who denies them, since it was looked last at what is due.
    asked: u32,
    knocks: Knocks,
    tried: Tried,
    /// What the fast half leaves.
    shared: Arc<Shared>,
    /// How many events were lost and not told of yet.
    untold: u64,
    /// What can't be done at the moment, and why, so that it is told of once.
    failing: BTreeMap<String, String>,
    /// What else was wrong, and when that was told, nanoseconds of the boot clock.
    troubles: BTreeMap<String, u64>,
    /// Tells of files in the fetcher's folder.
    watch: Option<OwnedFd>,
    due: Due,
    /// What the entries in force were made of when they were looked at.
    seen: Option<Revision>,
    /// The time as it was reckoned to be when it was looked last. What is kept goes by that, and not by a wall clock that jumps.
    reckoned: Now,
}

/// When something is to be done next, nanoseconds of the boot clock.
#[derive(Debug, Default)]
struct Due {
    tick: u64,
    look: u64,
    count: u64,
    watch: u64,
    save: u64,
    compare: u64,
    metrics: u64,
    status: u64,
    remember: u64,
    lost: u64,
}

/// The generation, and what it has followed.
type Revision = (u64, datapath::Revisions);

/// Whether something is due; if so, notes when it is next.
fn is_due(due: &mut u64, every: u64, now: u64) -> bool {
    let is_due = now >= *due;
    if is_due {
        *due = now + every;
    }
    is_due
}

impl Keeper {
    /// One with what was kept before.
    pub(super) fn begin(host: Host, config: PathBuf, run: &Path, shared: Arc<Shared>) -> Self {
        let now = host.now().boot_ns;
        let mut keeper = Self {
            run: run.to_owned(),
            journal: Journal::at(SOCKET),
            notices: Notices::begin(host.store.folder(), run, host.now().wall),
            lost_notices: 0,
            counted: AgentReport::default(),
            status: None,
            in_force: InForce::default(),
            floods: Floods::default(),
            allowed: Allowed::default(),
            alarms: Alarms::read(run),
            overruled: Overruled::default(),
            generations: Generations::default(),
            asked: 0,
            knocks: Knocks::default(),
            tried: Tried::default(),
            shared,
            untold: 0,
            failing: BTreeMap::new(),
            troubles: BTreeMap::new(),
            config,
            watch: None,
            due: Due {
                compare: now + COMPARE,
                ..Due::default()
            },
            seen: None,
            reckoned: lifecycle::now(&host, &lifecycle::state(&host)),
            host,
        };
        let folder = keeper.host.store.folder().to_owned();
        let reading = |file: &Path| format!("reading {}", file.display());
        let [kept, running] = [&*folder, run].map(|folder| move |file| reading(&folder.join(file)));
        // This first: it knows whether what else there is to tell is to be a notice.
        keeper.in_force = InForce::begin(&keeper.host);
        let read = InForce::read(run);
        if let Some(Some(read)) = keeper.done(&running(in_force::FILE), read) {
            keeper.in_force = read;
        }
        let read = Allowed::read(&folder);
        let read = keeper.done(&kept(allowed::FILE), read);
        keeper.allowed = read.unwrap_or_default();
        let read = Overruled::read(&folder);
        let read = keeper.done(&kept(overruled::FILE), read);
        keeper.overruled = read.unwrap_or_default();
        let read = Tried::read(&folder);
        let read = keeper.done(&kept(tried::FILE), read);
        keeper.tried = read.unwrap_or_default();
        let read = Floods::read(run);
        let read = keeper.done(&running(flood::FILE), read);
        keeper.floods = read.unwrap_or_default();
        let read = keeper.notices.unread();
        keeper.done(&kept(notice::FILE), read);
        // What is to be hidden of it is known as soon as it is looked at what is in force.
        let read = knocks::read(&folder);
        keeper.knocks = read.knocks;
        keeper.done("reading who knocked", read.trouble.map_or(Ok(()), Err));
        keeper
    }

    /// Does its work until no event can come any more. What it is done with goes back through `heard`.
    pub(super) fn run(mut self, events: &Receiver<Told>, heard: &SyncSender<Told>) {
        // What is in force is known before anybody knocks.
        self.tick(self.host.now().boot_ns);
        loop {
            let told = events.recv_timeout(TICK);
            let now = self.host.now().boot_ns;
            match told {
                Ok(told) => {
                    self.hear_all(&told, now);
                    // Where there is one already, or nobody any more, this one is let go.
                    let _ = heard.try_send(told);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tick(now);
        }
        self.count(self.host.now().boot_ns);
        self.save();
        forget_metrics();
    }

    fn hear_all(&mut self, told: &Told, now: u64) {
        let now = Now {
            boot_ns: now,
            wall: self.time(now),
        };
        for (record, first) in told.iter() {
            let event = self.generations.said(record, first, now);
            let hide = self.generations.hide(record);
            self.hear(&event, hide);
        }
    }

    fn hear(&mut self, event: &Event, hide: Hide) {
        self.counted.events += 1;
        self.counted.left_out += event.left_out;
        if let Some(knock) = self.knocks.note(event, hide) {
            for attempted in attempts::new(knock) {
                self.tried.note(knock, attempted, !event.enforced);
            }
        }
        if let Some(knock) = unsaid(event)
            && (!knock.denied || self.no_person_denies(&knock))
            && let Some(moved) = self.alarms.note(&knock, &self.allowed)
        {
            self.tell(&moved);
            // It is to be seen at once.
            self.write_alarms();
        }
    }

    /// Whether no person denies somebody who was allowed, but a list or a program. The kernel is asked, so not for each packet of a flood.
    fn no_person_denies(&mut self, knock: &Unsaid<'_>) -> bool {
        let Unsaid {
            service, source, ..
        } = *knock;
        if self.asked >= ASKED || self.allowed.itself(service, source.into()).is_none() {
            return false;
        }
        self.asked += 1;
        let Ok(Some(live)) = lifecycle::live(&self.host) else {
            return false;
        };
        let now = self.host.now();
        let effects = lifecycle::effects(&live, &[source.into()], &[service.to_owned()], now);
        // What can't be asked is asked for his next packet.
        effects.is_ok_and(|effects| effects.iter().any(|effect| effect.layer == Layer::Live))
    }

    /// What time it is reckoned to be at a moment of the boot clock.
    fn time(&self, boot_ns: u64) -> Timestamp {
        let passed = boot_ns.saturating_sub(self.reckoned.boot_ns);
        let then = self.reckoned.wall;
        then.checked_add(Duration::from_nanos(passed))
            .unwrap_or(then)
    }

    /// Does what is due.
    fn tick(&mut self, now: u64) {
        // Not for each event.
        if !is_due(&mut self.due.tick, TICK_NS, now) {
            return;
        }
        self.asked = 0;
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
            self.write_alarms();
            self.look(now);
            let deaf = self.shared.deaf.lock();
            let deaf = deaf.unwrap_or_else(PoisonError::into_inner).clone();
            self.done("listening to the kernel", deaf.map_or(Ok(()), Err));
        }
        if is_due(&mut self.due.metrics, METRICS, now) {
            // What the disk did not take before.
            self.write_notices(&[]);
            self.write_metrics(now);
        }
        if is_due(&mut self.due.save, SAVE, now) {
            self.save();
        }
        let tried = self.tried.due(now);
        for happened in &tried {
            self.tell(happened);
        }
        if !tried.is_empty() {
            // It is not to be told again, whatever becomes of this process.
            self.write_tried();
        }
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        self.counted.lost += lost;
        self.untold += lost;
        if self.untold > 0 && is_due(&mut self.due.lost, LOST, now) {
            let lost = std::mem::take(&mut self.untold);
            self.tell(&Happened::EventsLost { lost });
        }
    }

    /// The three writers.
    fn tell(&mut self, happened: &Happened) {
        self.journal.write(happened);
        self.counted.happened(happened.kind());
        if self.in_force.noticed {
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
        if now >= self.due.status {
            let began = self.host.now().boot_ns;
            let status = StatusReport::take(&self.host, &self.config, Trust::Seen);
            // Better none than one that is not true any more.
            self.status = self.done("looking at everything", status);
            give_back_memory();
            // The config's lists are read for it: where they are long, less often.
            let ended = self.host.now().boot_ns;
            let rest = ended.saturating_sub(began).saturating_mul(RESTS);
            self.due.status = now + STATUS.max(rest);
        }
        let counters = CountersReport::take(&self.host);
        let counters = self.done("reading the counters", counters);
        let (Some(counters), Some(status)) = (counters, &self.status) else {
            forget_metrics();
            return;
        };
        let metrics = Metrics {
            counters: &counters,
            status,
            agent: Some(&self.counted),
        };
        let file = Path::new(TEXTFILE);
        let written = metrics.replace(file);
        self.kept(file, written);
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
                looked.live = again.live;
            }
        }
        self.reckoned = looked.now;
        if let Some(live) = &looked.live {
            let hide = live.generation.description.hide;
            self.knocks.hide(hide);
            self.tried.hide(hide);
        }
        for happened in &looked.happened {
            self.tell(happened);
        }
        // Nor is this to be told again.
        let written = self.in_force.write(&self.run);
        self.kept(&self.run.join(in_force::FILE), written);
        self.tell_troubles(now);
        self.look_at_lists(&looked);
        self.remember(&looked, now);
    }

    /// Looks at what lists and programs say though a person has said the opposite.
    fn look_at_lists(&mut self, looked: &Looked) {
        let Some(live) = &looked.live else { return };
        let state = lifecycle::state(&self.host);
        let mut found = Vec::new();
        let (host, now) = (&self.host, looked.now);
        let all = self.overruled.look(host, live, &state, now, &mut found);
        for happened in &found {
            self.tell(happened);
        }
        if !found.is_empty() {
            // It is not to be told again, whatever becomes of this process.
            self.write_overruled();
        }
        self.done("looking at what an entry by hand overrules", all);
    }

    /// Looks at who is allowed, where something has changed.
    fn remember(&mut self, looked: &Looked, now: u64) {
        let Some(live) = &looked.live else { return };
        let revisions = live.generation.revisions().ok();
        let seen = revisions.map(|revisions| {
            // When it was compared last says nothing of what is in it.
            let revisions = datapath::Revisions {
                compared: 0,
                ..revisions
            };
            (live.number, revisions)
        });
        let is_old = is_due(&mut self.due.remember, REMEMBER, now);
        if seen == self.seen && !is_old {
            return;
        }
        self.seen = seen;
        let state = lifecycle::state(&self.host);
        let others = self.allowed.look(live, &state, looked.now);
        let others = self.done("looking at who is allowed", others);
        give_back_memory();
        if others.is_some_and(|others| others || is_old) {
            let folder = self.host.store.folder();
            let (file, written) = (folder.join(allowed::FILE), self.allowed.write(folder));
            self.kept(&file, written);
        }
        let least = state.clock.least(looked.now.boot_ns);
        self.alarms.settle(least, |service, knocker| {
            let address = [knocker.address.into()];
            let effects = lifecycle::effects(live, &address, &[service.to_owned()], looked.now);
            // What can't be asked stays.
            effects.is_ok_and(|effects| effects.iter().all(|it| knocker.is_settled_by(it)))
        });
        self.write_alarms();
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
        let Some(dropped) = self.done("reading the counters", dropped) else {
            return;
        };
        let (dropped, happened) = self.floods.look(now, dropped);
        self.knocks.dropped(dropped);
        if let Some(happened) = happened {
            self.tell(&happened);
            // It is not to be told again, whatever becomes of this process.
            self.write_floods();
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

    fn write_alarms(&mut self) {
        let written = self.alarms.write(&self.run);
        self.kept(&self.run.join(alarm::FILE), written);
    }

    fn write_floods(&mut self) {
        let written = self.floods.write(&self.run);
        self.kept(&self.run.join(flood::FILE), written);
    }

    fn write_overruled(&mut self) {
        let folder = self.host.store.folder();
        let (file, written) = (folder.join(overruled::FILE), self.overruled.write(folder));
        self.kept(&file, written);
    }

    /// What is kept goes to disk.
    fn save(&mut self) {
        self.write_alarms();
        self.write_floods();
        self.write_overruled();
        let clock = lifecycle::state(&self.host).clock;
        // A clock that is ahead, and not sure yet, makes nobody forgotten.
        let least = clock.least(self.host.now().boot_ns);
        self.knocks.forget_old(least);
        // Whoever is known to try something is told of by this alone, and so it is written first.
        if self.write_tried() {
            let folder = self.host.store.folder();
            let (file, written) = (folder.join(knocks::FILE), self.knocks.write(folder));
            self.kept(&file, written);
        }
        self.write_notices(&[]);
    }

    /// Returns whether the disk has it.
    fn write_tried(&mut self) -> bool {
        let folder = self.host.store.folder();
        let (file, written) = (folder.join(tried::FILE), self.tried.write(folder));
        let is_written = written.is_ok();
        self.kept(&file, written);
        is_written
    }
}

/// Gives back to the system what was needed for a moment, to look at lists of a million entries, say: the allocator would keep it for the next time.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, by any thread; what is in use stays where it is.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Leaves the file of metrics empty: what it says is not true any more. It is not taken away, because node_exporter follows a link to it, and
/// would tell of an error at each look.
fn forget_metrics() {
    // Where there is none, there is nothing to forget; and who reads it sees how old it is.
    let _ = File::options().write(true).truncate(true).open(TEXTFILE);
}

/// What an event says of somebody whom perhaps no person denies.
fn unsaid(event: &Event) -> Option<Unsaid<'_>> {
    let denied = match event.reason {
        Reason::Unlisted => false,
        Reason::Denied => true,
        _ => return None,
    };
    let sip = event.sip.as_ref();
    let sip = sip.filter(|sip| sip.method.is_some() || sip.status.is_some());
    Some(Unsaid {
        time: event.time,
        service: event.service.as_deref()?,
        source: event.source?,
        says: match sip {
            Some(sip) => Says::Sip(sip.method.as_deref()),
            None if event.protocol == Some(Protocol::Tcp) => Says::NothingYet,
            None => Says::Nothing,
        },
        denied,
    })
}

/// What was dropped on each interface, or would have been, since it counts.
fn dropped() -> Result<Dropped, datapath::Error> {
    let mut all = Vec::new();
    for interface in datapath::counted_interfaces()? {
        let Some(counts) = datapath::counts(&interface)? else {
            continue;
        };
        all.push((interface, counts.to_be_dropped()));
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
