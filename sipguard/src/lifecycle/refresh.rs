//! What others said of live sources, put in force.

use std::{net::IpAddr, path::Path, time::Duration};

use sipguard_lists::task::{Task, Tasks};

use super::{
    config_file::ConfigFile,
    error::Error,
    live::{Live, replaceable},
    living::{Said, own_addresses, put_in_place},
    renew::renew,
    session::Session,
};
use crate::{
    datapath::Generation,
    fetcher::Fetcher,
    host::{Host, Trouble},
    policy::LiveSource,
    sources::{
        Accept, Changes, Circumstances, Copies, FOLDER, NewCopy, look, look_for_changes, take,
    },
};

/// How long an apply waits for what was never asked for.
const AT_APPLY: Duration = Duration::from_secs(10);
/// How long a refresh waits: as long as the slowest source may take, and some.
const AT_REFRESH: Duration = Duration::from_secs(90);

/// What is wanted of a refresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefreshOptions {
    /// Nobody is asked: what the fetcher has found is put in force.
    pub offline: bool,
    /// A list may be another one than before.
    pub accept: bool,
    /// What was known before is forgotten first.
    pub forget: bool,
}

/// What became of a source.
#[derive(Debug)]
pub struct Refreshed {
    /// The source's name.
    pub source: String,
    /// What was done.
    pub outcome: RefreshOutcome,
}

/// See [`Refreshed`].
#[derive(Debug)]
pub enum RefreshOutcome {
    /// Nothing was found for it yet.
    Nothing,
    /// It is what it was.
    Unchanged,
    /// It is in force as it is now.
    Changed {
        /// How many entries it has.
        entries: usize,
        /// How many of them are new, where they were counted.
        new: Option<usize>,
        /// How many there are not any more, where they were counted.
        gone: Option<usize>,
    },
    /// What was found is refused, and what was there before stays; why.
    Refused(String),
}

/// What was read of a source.
pub(super) enum Took {
    /// Nothing was found yet.
    Nothing,
    /// It is what it was, by the fetcher's own word.
    AsBefore,
    /// It is another one.
    New {
        /// How many entries it has.
        entries: usize,
        /// Where they differ.
        changes: Changes,
        /// What is to be the last good copy.
        copy: NewCopy,
    },
}

/// What was put in force before there was a copy of it.
struct Ahead {
    changes: Changes,
    /// Whether another generation has to take over.
    needs_room: bool,
}

/// Asks for live sources, and puts in force what was found; all of them where none is named.
///
/// # Errors
/// [`Error::NoSource`], and where the kernel refuses.
pub fn refresh(
    host: &Host,
    names: &[String],
    options: RefreshOptions,
) -> Result<Vec<Refreshed>, Error> {
    let wanted = |source: &LiveSource| names.is_empty() || names.contains(&source.task.source);
    let mut session = Session::begin(host)?;
    let mut live = session.live()?;
    {
        let sources = live.as_ref().map_or_else(Vec::new, Live::sources);
        for name in names {
            if sources.iter().all(|source| source.task.source != *name) {
                return Err(Error::NoSource {
                    name: name.clone(),
                    known: sources
                        .into_iter()
                        .map(|source| source.task.source)
                        .collect(),
                });
            }
        }
        if options.forget
            && let Some(live) = &live
        {
            for source in sources.iter().filter(|source| wanted(source)) {
                session.forget(live, source)?;
            }
        }
        if sources.is_empty() {
            return Ok(Vec::new());
        }
    }
    if !options.offline {
        // Others may change things meanwhile.
        drop((live, session));
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        match Fetcher::find().and_then(|fetcher| fetcher.ask(&names, AT_REFRESH)) {
            // What failed of it stands in what it wrote.
            Ok(_) => {}
            Err(error) => host.note(Trouble::Fetcher(error)),
        }
        session = Session::begin(host)?;
        live = session.live()?;
    }
    let Some(live) = live else {
        return Ok(Vec::new());
    };
    let accept = if options.accept || options.forget {
        Accept::Any
    } else {
        Accept::Alike
    };
    let sources = live.sources();
    let sources: Vec<_> = sources.iter().filter(|source| wanted(source)).collect();
    session.take(&live, &sources, accept)
}

/// Asks for sources of a config file that were never asked for, before it is put in force: until an answer is there, they are empty.
///
/// # Errors
/// Where the session can't begin.
pub(super) fn ask_first(host: &Host, config: &ConfigFile<'_>) -> Result<(), Error> {
    let Ok(policy) = config.policy() else {
        // What it is, the apply tells.
        return Ok(());
    };
    let copies = host.copies();
    let never: Vec<_> = policy
        .live
        .iter()
        .filter(|source| copies.revision(&source.task) == 0)
        .map(|source| source.task.source.as_str())
        .collect();
    if never.is_empty() {
        return Ok(());
    }
    {
        let mut session = Session::begin(host)?;
        let mut tasks: Tasks = policy.tasks();
        // What another version made is replaced by this apply.
        if let Some(live) = replaceable(session.live())? {
            tasks.merge(live.tasks());
        }
        session.write_tasks(&tasks);
    }
    match Fetcher::find().and_then(|fetcher| fetcher.ask(&never, AT_APPLY)) {
        Ok(_) => {}
        Err(error) => host.note(Trouble::Fetcher(error)),
    }
    Ok(())
}

impl Session<'_> {
    /// Takes what the fetcher has found for these sources, and puts in force where it is new.
    pub(super) fn take(
        &mut self,
        live: &Live,
        sources: &[&LiveSource],
        accept: Accept,
    ) -> Result<Vec<Refreshed>, Error> {
        let mut all = Vec::new();
        // Whether another generation is to take over, which is made of the copies.
        let mut many = false;
        // Whether one in force has what no copy has.
        let mut astray = false;
        let refused = self.state.refused.clone();
        for source in sources {
            let own = own_addresses(std::slice::from_ref(source));
            let circumstances = self.circumstances(&own);
            let ahead = if many {
                None
            } else {
                self.put_ahead(live, source, accept, circumstances)?
            };
            let mut has_followed = ahead.is_none();
            let outcome = match self.take_one(source, accept, circumstances) {
                Ok(Took::Nothing) => RefreshOutcome::Nothing,
                Ok(Took::AsBefore) => RefreshOutcome::Unchanged,
                Ok(Took::New {
                    entries,
                    changes,
                    copy,
                }) => {
                    many |= changes.more;
                    let kept = if many {
                        copy.keep()
                    } else {
                        let needs_room = match &ahead {
                            Some(ahead) if ahead.changes == changes => ahead.needs_room,
                            // There is another file by now.
                            _ => self.put(live, source, &changes)?,
                        };
                        many |= needs_room;
                        let kept = copy.keep();
                        if kept.is_ok() && !needs_room {
                            self.note_followed(live, source)?;
                            has_followed |= ahead.is_some_and(|ahead| ahead.changes == changes);
                        }
                        kept
                    };
                    let told = |count: usize| (!changes.more).then_some(count);
                    match kept {
                        Err(error) => RefreshOutcome::Refused(error.to_string()),
                        Ok(()) if changes.is_empty() => RefreshOutcome::Unchanged,
                        Ok(()) => RefreshOutcome::Changed {
                            entries,
                            new: told(changes.new.len()),
                            gone: told(changes.gone.len()),
                        },
                    }
                }
                Err(why) => RefreshOutcome::Refused(why),
            };
            astray |= !has_followed;
            all.push(Refreshed {
                source: source.task.source.clone(),
                outcome,
            });
        }
        if many && live.pending.is_none() {
            renew(self, live)?;
        } else if many || astray {
            for generation in live.generations() {
                self.reconcile(generation)?;
            }
        }
        if refused != self.state.refused {
            self.save();
        }
        Ok(all)
    }

    /// Reads what was found for one source, and makes it the last good copy.
    pub(super) fn take_one(
        &mut self,
        source: &LiveSource,
        accept: Accept,
        circumstances: Circumstances<'_>,
    ) -> Result<Took, String> {
        let (folder, copies) = (Path::new(FOLDER), self.host.copies());
        let task = &source.task;
        if is_as_before(&copies, task, circumstances)
            && !self.state.refused.contains_key(&task.source)
        {
            // By its own word nothing is new, and it has nobody else to tell it.
            return Ok(Took::AsBefore);
        }
        let taken = take(folder, &copies, task, accept, circumstances);
        match taken {
            Ok(taken) => {
                self.state.refused.remove(&task.source);
                if let Some(left_out) = taken.as_ref().and_then(|taken| taken.left_out.as_ref()) {
                    self.host.note(Trouble::LeftOut {
                        source_name: task.source.clone(),
                        entries: left_out.entries,
                        why: left_out.why.to_string(),
                    });
                }
                match taken {
                    None => Ok(Took::Nothing),
                    // Without a copy it can't be in force.
                    Some(taken) => match taken.copy {
                        Ok(copy) => Ok(Took::New {
                            entries: taken.entries,
                            changes: taken.changes,
                            copy,
                        }),
                        Err(error) => Err(error.to_string()),
                    },
                }
            }
            Err(refused) => {
                let why = refused.to_string();
                self.state.refused.insert(task.source.clone(), why.clone());
                Err(why)
            }
        }
    }

    /// What is judged by now, on a host with these addresses.
    pub(super) fn circumstances<'o>(&self, own: &'o [IpAddr]) -> Circumstances<'o> {
        Circumstances {
            now: self.now().wall,
            own,
        }
    }

    /// Makes a copy that can't be used anew of the fetcher's file, where that is still what it was made of. Tells whether it could be.
    pub(super) fn mend(&self, source: &LiveSource) -> bool {
        let own = own_addresses(std::slice::from_ref(source));
        let circumstances = self.circumstances(&own);
        let (folder, copies) = (Path::new(FOLDER), self.host.copies());
        if !is_as_before(&copies, &source.task, circumstances) {
            return false;
        }
        let taken = take(folder, &copies, &source.task, Accept::Any, circumstances);
        let copy = taken.ok().flatten().map(|taken| taken.copy);
        copy.is_some_and(|copy| copy.is_ok_and(|copy| copy.keep().is_ok()))
    }

    /// Puts single changes of a long list in force before its copy is made, which takes as long again. What is read then is judged anew, and what it
    /// does not say is taken back. Returns what was put; none where there is nothing to put in place.
    fn put_ahead(
        &self,
        live: &Live,
        source: &LiveSource,
        accept: Accept,
        circumstances: Circumstances<'_>,
    ) -> Result<Option<Ahead>, Error> {
        let (folder, copies) = (Path::new(FOLDER), self.host.copies());
        let task = &source.task;
        if is_as_before(&copies, task, circumstances) {
            return Ok(None);
        }
        let changes = look_for_changes(folder, &copies, task, accept, circumstances);
        let Some(changes) = changes.filter(|changes| !changes.more && !changes.is_empty()) else {
            return Ok(None);
        };
        let needs_room = self.put(live, source, &changes)?;
        Ok(Some(Ahead {
            changes,
            needs_room,
        }))
    }

    /// Makes single changes of a source in place. What a crash leaves is known by the generation's revision, which is none from here on. Returns
    /// whether another generation has to take over.
    fn put(&self, live: &Live, source: &LiveSource, changes: &Changes) -> Result<bool, Error> {
        let bans = self.bans();
        put_in_place(live, |generation| {
            let Some(number) = number(generation, source) else {
                return Ok(());
            };
            generation.set_revision_of_source(number, u64::MAX)?;
            let sources = &generation.description.live;
            let said = Said::new(self, sources, &bans).with(number, changes);
            // What is new comes in before what is old goes.
            let new = changes.new.iter().map(|(prefix, _)| *prefix);
            said.put(generation, new.chain(changes.gone.iter().copied()))
        })
    }

    /// Notes that what is in force is what the last good copy of a source says.
    fn note_followed(&self, live: &Live, source: &LiveSource) -> Result<(), Error> {
        let revision = self.host.copies().revision(&source.task);
        for generation in live.generations() {
            if let Some(number) = number(generation, source) {
                generation.set_revision_of_source(number, revision)?;
            }
        }
        Ok(())
    }

    /// Forgets what was known of a source.
    fn forget(&mut self, live: &Live, source: &LiveSource) -> Result<(), Error> {
        let found = Path::new(FOLDER).join(sipguard_lists::found::file_name(&source.task.source));
        for forgotten in [
            std::fs::remove_file(found),
            self.host.copies().forget(&source.task),
        ] {
            if let Err(error) = forgotten
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(Error::Forget {
                    source_name: source.task.source.clone(),
                    error,
                });
            }
        }
        self.state.refused.remove(&source.task.source);
        self.save();
        for generation in live.generations() {
            self.reconcile(generation)?;
        }
        Ok(())
    }
}

/// A source's number in a generation.
fn number(generation: &Generation, source: &LiveSource) -> Option<u16> {
    let mut sources = generation.description.live.iter();
    let place = sources.position(|known| known.task == source.task)?;
    u16::try_from(place).ok()
}

/// Whether the fetcher's file says of itself that it is what the copy was made of.
fn is_as_before(copies: &Copies, task: &Task, circumstances: Circumstances<'_>) -> bool {
    let found = look(Path::new(FOLDER), task, circumstances);
    match (found, copies.open(task)) {
        (Ok(Some(found)), Ok(Some(copy))) => {
            let copy = copy.head();
            // Of two changes within one second this would tell nothing.
            copy.changed == found.changed && Some(copy.asked) > found.changed
        }
        _ => false,
    }
}
