//! What is in force, as it was when it was looked at last, and what has become of it since: lists, interfaces, modes.
//!
//! It goes by what the kernel and the copies of live sources say, and not by who changed them: a command, a timer, or the agent itself. So whoever
//! is quicker, each change is told of once, also where the agent is started anew in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sipguard_lists::task::{self, Tasks};

use super::{happened::Happened, kept};
use crate::{
    host::Host,
    lifecycle::{self, Live},
    policy::Mode,
    report::{InterfaceReport, InterfaceState, SourceReport, interfaces},
    state::State,
    tables::Now,
};

/// A source that changes all the time is told of as often as this, nanoseconds.
const EVERY: u64 = 10 * 60 * 1_000_000_000;
/// The file of what was seen, in the folder of what runs: after a restart of the host it is another kernel that filters.
pub const FILE: &str = "in_force.json";

/// What was seen.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct InForce {
    /// Whether this process has looked yet: of what nothing is kept, at first only what is wrong is told of.
    #[serde(skip)]
    looked: bool,
    /// What of this is on the disk.
    #[serde(skip)]
    written: Vec<u8>,
    /// Whether something was in force, and nothing is any more.
    taken_off: bool,
    /// Whether anybody wants notices, or did when something was in force last.
    pub(super) noticed: bool,
    generation: Option<u64>,
    monitoring: Vec<String>,
    unfiltered: BTreeMap<String, Unfiltered>,
    sources: BTreeMap<String, Source>,
}

/// An interface that is there and is not filtered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Unfiltered {
    /// Perhaps somebody is about to change that.
    Suspected,
    /// It was told of, with what is to be seen of the cause. Where that is another one, it may be filtered again.
    Told(Option<String>),
}

/// A live source.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Source {
    /// Since when it has been what it was when that was told of last.
    #[serde(skip)]
    changed: Option<Timestamp>,
    /// When it was, nanoseconds of the boot clock.
    #[serde(skip)]
    told: Option<u64>,
    trouble: Option<Trouble>,
}

/// What is wrong with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Trouble {
    Refused,
    Unanswered,
    Stale,
}

/// What a look came to.
pub struct Looked {
    /// What is in force; `None` where nothing is.
    pub live: Option<Live>,
    /// What has happened since the look before.
    pub happened: Vec<Happened>,
    /// Interfaces that are not filtered, which was not so when it was looked before: worth a repair, and another look.
    pub suspected: bool,
    /// The time as it is reckoned to be.
    pub now: Now,
}

impl InForce {
    /// As it was told of last, where there is a file.
    ///
    /// # Errors
    /// Where the file can't be read, or not as such.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        kept::read(folder, FILE)
    }

    /// Of what nothing is kept. Those want notices for whom they were asked before the host was started.
    pub fn begin(host: &Host) -> Self {
        let live = lifecycle::live(host).ok().flatten();
        let tasks = || Tasks::read(&host.store.folder().join(task::FILE)).ok()?;
        Self {
            noticed: match live {
                Some(live) => live.notify().is_some(),
                None => tasks().is_some_and(|tasks| tasks.notify.is_some()),
            },
            ..Self::default()
        }
    }

    /// Writes it, where it is another than is written.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write(&mut self, folder: &Path) -> io::Result<()> {
        let now = serde_json::to_vec(self)?;
        if now != self.written {
            kept::write(folder, FILE, self)?;
            self.written = now;
        }
        Ok(())
    }

    /// Looks. `why` are the reasons that are known why interfaces are not filtered, by name.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    pub fn look(
        &mut self,
        host: &Host,
        why: &BTreeMap<String, String>,
    ) -> Result<Looked, lifecycle::Error> {
        let state = lifecycle::state(host);
        let now = lifecycle::now(host, &state);
        let found = interfaces(host, &state.fallbacks)?;
        let mut happened = Vec::new();
        let suspected = if let Some((live, interfaces)) = &found {
            self.look_at_generation(live, &mut happened);
            self.look_at_sources(host, live, &state, now, &mut happened);
            self.look_at_interfaces(interfaces, why, &mut happened)
        } else {
            // Or it was to be when the host was started, and something has kept it from that.
            let is_missed = !self.looked && !self.taken_off && was_to_be(host, &state);
            let is_new = self.generation.is_some() || is_missed;
            if is_new {
                happened.push(Happened::NothingInForce);
            }
            *self = Self {
                taken_off: self.taken_off || is_new,
                noticed: self.noticed,
                written: std::mem::take(&mut self.written),
                ..Self::default()
            };
            false
        };
        self.looked = true;
        Ok(Looked {
            live: found.map(|(live, _)| live),
            happened,
            suspected,
            now,
        })
    }

    fn look_at_generation(&mut self, live: &Live, happened: &mut Vec<Happened>) {
        let description = &live.generation.description;
        self.noticed = live.notify().is_some();
        if std::mem::take(&mut self.taken_off) {
            happened.push(Happened::InForceAgain {
                generation: live.number,
                entries: description.entries,
            });
        }
        if let Some(before) = self.generation.replace(live.number)
            && before != live.number
        {
            happened.push(if before > live.number {
                Happened::TakenBack { generation: before }
            } else {
                Happened::GenerationCame {
                    generation: live.number,
                    entries: description.entries,
                }
            });
        }
        let services = description.services.iter().map(|found| &found.service);
        let watched = services.filter(|service| service.mode == Mode::Monitor);
        let watched: Vec<_> = watched.map(|service| service.name.clone()).collect();
        if watched != self.monitoring {
            happened.push(if watched.is_empty() {
                Happened::Enforcing
            } else {
                Happened::Monitoring {
                    services: watched.clone(),
                }
            });
            self.monitoring = watched;
        }
    }

    fn look_at_interfaces(
        &mut self,
        interfaces: &[InterfaceReport],
        why: &BTreeMap<String, String>,
        happened: &mut Vec<Happened>,
    ) -> bool {
        let mut suspected = false;
        let mut names = BTreeSet::new();
        for interface in interfaces {
            let name = &interface.name;
            names.insert(name);
            let is_open = interface.state == InterfaceState::Detached || interface.unfit.is_some();
            let foreign = interface.foreign.as_ref();
            let foreign = foreign.map(|it| format!("the XDP program {} is there", it.name));
            let seen = interface.unfit.clone().or(foreign);
            match (is_open, self.unfiltered.get(name)) {
                (true, Some(Unfiltered::Told(told))) if *told == seen => {}
                (true, None | Some(Unfiltered::Told(_))) => {
                    self.unfiltered.insert(name.clone(), Unfiltered::Suspected);
                    suspected = true;
                }
                (true, Some(Unfiltered::Suspected)) => {
                    happened.push(Happened::InterfaceUnfiltered {
                        interface: name.clone(),
                        why: why.get(name).or(seen.as_ref()).cloned(),
                    });
                    let told = Unfiltered::Told(seen);
                    self.unfiltered.insert(name.clone(), told);
                }
                (false, None) => {}
                (false, Some(_)) => {
                    self.unfiltered.remove(name);
                    if let Some(mode) = interface.mode {
                        happened.push(Happened::InterfaceFiltered {
                            interface: name.clone(),
                            mode: mode.name().to_owned(),
                        });
                    }
                }
            }
        }
        self.unfiltered.retain(|name, _| names.contains(name));
        suspected
    }

    fn look_at_sources(
        &mut self,
        host: &Host,
        live: &Live,
        state: &State,
        now: Now,
        happened: &mut Vec<Happened>,
    ) {
        let sources = live.sources();
        for source in &sources {
            let name = &source.task.source;
            let report = SourceReport::uncounted(source, state, now);
            let known = self.sources.entry(name.clone()).or_default();
            // A copy that can't be read is looked at again, and until then nothing has changed.
            let copy = host.copies().open(&source.task);
            let changed = copy.map(|copy| copy.and_then(|copy| copy.head().changed));
            let changed = changed.unwrap_or(known.changed);
            let is_due = known
                .told
                .is_none_or(|told| now.boot_ns.saturating_sub(told) >= EVERY);
            if !self.looked {
                known.changed = changed;
            } else if changed != known.changed
                && is_due
                && let Some(entries) = host.copies().count(&source.task)
            {
                (known.changed, known.told) = (changed, Some(now.boot_ns));
                happened.push(Happened::SourceChanged {
                    source: name.clone(),
                    entries,
                });
            }
            let trouble = trouble(&report, now.wall);
            if trouble != known.trouble {
                known.trouble = trouble;
                happened.push(match trouble {
                    None => Happened::SourceWell {
                        source: name.clone(),
                    },
                    Some(trouble) => told(trouble, report),
                });
            }
        }
        self.sources
            .retain(|name, _| sources.iter().any(|source| source.task.source == *name));
    }
}

/// Whether something was in force for good before the host was started, and nobody has taken it off since.
fn was_to_be(host: &Host, state: &State) -> bool {
    !state.down && host.store.confirmed_bytes().is_some()
}

/// What is wrong with a source; the worst first.
fn trouble(report: &SourceReport, now: Timestamp) -> Option<Trouble> {
    if report.refused.is_some() {
        Some(Trouble::Refused)
    } else if report.is_unanswered(now) {
        Some(Trouble::Unanswered)
    } else {
        report.stale.then_some(Trouble::Stale)
    }
}

fn told(trouble: Trouble, report: SourceReport) -> Happened {
    let source = report.source;
    match trouble {
        Trouble::Refused => Happened::SourceRefused {
            source,
            why: report.refused.unwrap_or_default(),
        },
        Trouble::Unanswered => Happened::SourceUnanswered {
            source,
            since: report.answered,
            why: report.error.unwrap_or_default(),
        },
        Trouble::Stale => Happened::SourceStale {
            source,
            since: report.changed.unwrap_or_default(),
        },
    }
}
