//! Making the config what the kernel does.

use std::{path::Path, sync::Arc};

use super::{
    change,
    config_file::ConfigFile,
    counting::clear_service,
    describe::describe,
    error::{Error, Refused},
    fallbacks::note_fallbacks,
    instead::Instead,
    live::{live, replaceable},
    living::own_addresses,
    names::tell_let_go,
    outlook::Outlook,
    refresh::{Took, ask_first},
    repair::Repaired,
    session::{self, Session},
    survey::{Options, Survey},
    swap::{Swap, Switches},
    unconfirmed::confirmed,
};
use crate::{
    datapath::{Description, Generation, Pending, Pins, Role, Switched, Trust},
    host::Host,
    policy::Policy,
    sources::Accept,
    state::Confirmed,
    tables::Tables,
};

/// What an apply did.
#[derive(Debug)]
pub struct Applied {
    /// The generation in force; `None` where no interface is to be guarded.
    pub generation: Option<u64>,
    /// Whether anything had to change.
    pub changed: bool,
    /// The policy that is in force.
    pub policy: Arc<Policy>,
    /// How many of the command line's entries are in force with it.
    pub own: usize,
    /// The interfaces, and how each came to this generation.
    pub interfaces: Vec<(String, Switched)>,
    /// Interfaces of the config that do not exist now.
    pub absent: Vec<String>,
    /// Interfaces of the config that can't be guarded.
    pub refused: Vec<Refused>,
    /// Interfaces that were guarded before and are not any more.
    pub released: Vec<String>,
    /// Until when it is to be confirmed, where it takes itself back.
    pub pending: Option<Pending>,
    /// Why the last policy that was in force for good was taken instead of the config file, where that is so.
    pub instead: Option<Instead>,
    /// Where the policy differs from what was in force before, and what to mind.
    pub outlook: Outlook,
}

/// Reads the config file and makes it, with the command line's kept entries, what the kernel does. Where that is so already, nothing
/// changes. Interfaces that can't be guarded are left out and told of. Where it is to be confirmed, what was before is in force again after
/// so long, unless it is; see `confirm.rs`.
///
/// # Errors
/// What was wrong; what was in force before still is.
pub fn apply(host: &Host, file: &Path, options: Options) -> Result<Applied, Error> {
    let config = ConfigFile::read(file);
    if Pins::find().is_none() {
        // Before anything is made on this machine, and again once nobody else changes anything.
        Survey::look(host, &config, &mut session::state(host), options)?;
    }
    if !options.offline {
        ask_first(host, &config)?;
    }
    let mut session = Session::begin(host)?;
    if let Some(waiting) = waiting(&session, options)? {
        return Ok(waiting);
    }
    let survey = Survey::look(host, &config, &mut session.state, options)?;
    if let Some(Instead::TakenBack { .. }) = survey.instead {
        session.forget_what_was_pending(&config.text);
    }
    let ended = change::forget_ended(&mut session, survey.now);
    let in_force = survey.is_in_force();
    let mut applied = Applied {
        generation: survey.before.as_ref().map(|live| live.number),
        changed: !in_force,
        own: session.state.entries.len(),
        interfaces: Vec::new(),
        absent: survey.absent.clone(),
        refused: Vec::new(),
        released: Vec::new(),
        pending: None,
        instead: survey.instead.clone(),
        outlook: Outlook::unchanged(&survey.policy, survey.doubts.clone()),
        policy: survey.policy.clone(),
    };
    if in_force {
        if !ended.is_empty() {
            change::commit(&mut session, survey.before.as_ref(), &ended)?;
        }
        match survey.instead {
            // Nothing comes of this config until it is confirmed.
            Some(Instead::TakenBack { at }) => {
                return Err(Error::NotConfirmed {
                    config: file.to_owned(),
                    at,
                });
            }
            Some(Instead::Unusable(_)) => {}
            None => session.forget_unconfirmed(),
        }
        applied.interfaces = as_they_are(&survey, &session);
        if let Some(live) = &survey.before {
            let sources = live.sources();
            let sources: Vec<_> = sources.iter().collect();
            session.take(live, &sources, Accept::Alike)?;
        }
    } else {
        put_in_force(&survey, &config, options, &mut session, &mut applied)?;
        tell_let_go(host, survey.renamed)?;
    }
    if options.confirm.is_none() {
        look_after(&mut session, &mut applied)?;
    }
    remember(&mut session, &applied, &config, &survey.digest)?;
    session.order(replaceable(live(host))?.as_ref());
    applied.refused.splice(0..0, survey.refused);
    Ok(applied)
}

/// While an apply waits to be confirmed, all that another one does is to guard the interfaces that came meanwhile, which has been done by
/// now.
fn waiting(session: &Session<'_>, options: Options) -> Result<Option<Applied>, Error> {
    let Some(live) = replaceable(live(session.host))? else {
        return Ok(None);
    };
    let Some(pending) = live.pending else {
        return Ok(None);
    };
    if session.guarded.is_empty() || options.confirm.is_some() {
        let left = pending.left(session.host.now()).unwrap_or_default();
        return Err(Error::Pending {
            generation: pending.generation,
            seconds: left.as_secs(),
        });
    }
    let policy = confirmed(&live.generation)?.policy;
    Ok(Some(Applied {
        generation: Some(live.number),
        changed: true,
        own: session.state.entries.len(),
        interfaces: session.guarded.clone(),
        absent: Vec::new(),
        refused: Vec::new(),
        released: Vec::new(),
        pending: Some(pending),
        instead: None,
        outlook: Outlook::unchanged(&policy, Vec::new()),
        policy,
    }))
}

/// Makes a generation and switches the interfaces to it; to be confirmed, where that is wanted.
fn put_in_force(
    survey: &Survey,
    config: &ConfigFile<'_>,
    options: Options,
    session: &mut Session<'_>,
    applied: &mut Applied,
) -> Result<(), Error> {
    let Survey { policy, now, .. } = survey;
    let own = own_addresses(&policy.live);
    let circumstances = session.circumstances(&own);
    for source in &policy.live {
        // What is refused, or can't be kept, is told by `status`, and what was there before stays.
        if let Ok(Took::New { copy, .. }) = session.take_one(source, Accept::Alike, circumstances) {
            let _ = copy.keep();
        }
    }
    let words = session.words(&policy.live)?;
    let state = &session.state;
    let tables = Tables::compile(policy, &state.slots, &state.entries, words, *now)?;
    applied.outlook = survey.outlook(&state.slots, &tables)?;
    let number = session.next_number()?;
    applied.generation = None;
    if !survey.targets.is_empty() {
        let slots = &session.state.slots;
        let digest = survey.digest.clone();
        let description = Description {
            doubts: survey.doubts.clone(),
            ..describe(policy, slots, &tables, config.path, digest, now.wall)
        };
        for &slot in &survey.cleared {
            clear_service(slot)?;
        }
        let targets = survey.targets.iter().map(|(target, _)| target.clone());
        let targets: Vec<_> = targets.collect();
        let revisions = session.revisions(&policy.live);
        Generation::create(number, &tables, description, &targets, revisions)?;
        applied.generation = Some(number);
    }
    let swap = Swap {
        host: session.host,
        number,
        targets: &survey.targets,
        links: &survey.links,
        all_or_nothing: options.all_or_nothing,
    };
    if let Some(lasts) = options.confirm {
        let before = survey.before.as_ref();
        let text = config.text.clone();
        let (pending, switches) = swap.until_confirmed(session, before, text, lasts)?;
        applied.pending = Some(pending);
        (applied.interfaces, applied.refused) = (switches.interfaces, switches.refused);
        return Ok(());
    }
    if survey.instead.is_none() {
        session.forget_unconfirmed();
    }
    let Switches {
        interfaces,
        refused,
    } = swap.for_good()?;
    (applied.interfaces, applied.refused) = (interfaces, refused);
    applied.released = swap.release(policy)?;
    for old in Generation::all()? {
        if Some(old) != applied.generation {
            Generation::remove(old)?;
        }
    }
    Ok(())
}

/// What was attached is not always run, and what was refused once may be taken by now.
fn look_after(session: &mut Session<'_>, applied: &mut Applied) -> Result<(), Error> {
    let Some(number) = applied.generation else {
        return Ok(());
    };
    // Where it has just been tried, it was looked after.
    let policy = applied.policy.clone();
    let interfaces = policy.interfaces.iter().filter(|interface| {
        let mut tried = applied.interfaces.iter();
        !tried.any(|(name, switched)| *name == interface.name && switched.hook.is_some())
    });
    let interfaces: Vec<_> = interfaces.cloned().collect();
    let mut repaired = Repaired::default();
    // What has no proof by now, or has begun anew since, is watched.
    session.look_after(
        number,
        Role::Filter,
        &interfaces,
        Trust::Seen,
        &mut repaired,
    )?;
    applied.changed |= !repaired.interfaces.is_empty();
    for (name, switched) in repaired.interfaces {
        applied.interfaces.retain(|(other, _)| *other != name);
        applied.interfaces.push((name, switched));
    }
    applied.refused.append(&mut repaired.refused);
    Ok(())
}

/// The interfaces where nothing changes.
fn as_they_are(survey: &Survey, session: &Session<'_>) -> Vec<(String, Switched)> {
    let unchanged = survey.targets.iter().map(|(target, _)| {
        let name = target.interface.name.clone();
        let fallback = session.state.fallbacks.get(&name).cloned();
        let switched = Switched {
            hook: None,
            fallback,
        };
        (name, switched)
    });
    unchanged.collect()
}

/// Keeps what the next commands, and the next boot, are to know of it: the causes of falling back, which the kernel does not keep, and the
/// policy, once it is in force for good.
fn remember(
    session: &mut Session<'_>,
    applied: &Applied,
    config: &ConfigFile<'_>,
    digest: &str,
) -> Result<(), Error> {
    let fallbacks = session.state.fallbacks.clone();
    session.state.fallbacks.retain(|name, _| {
        // Until it is confirmed, the other interfaces stay as they are.
        applied.pending.is_some()
            || applied
                .interfaces
                .iter()
                .any(|(interface, _)| interface == name)
    });
    note_fallbacks(&mut session.state, &applied.interfaces);
    let mut changed = fallbacks != session.state.fallbacks;
    if applied.pending.is_none() && applied.instead.is_none() {
        changed |= session.keep_confirmed(digest, || {
            Ok(Confirmed {
                digest: digest.to_owned(),
                config: config.absolute(),
                policy: applied.policy.clone(),
            })
        })?;
    }
    changed |= std::mem::take(&mut session.state.down);
    if changed {
        session.save();
    }
    Ok(())
}
