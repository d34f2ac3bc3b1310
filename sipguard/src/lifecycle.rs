//! What the commands do to the kernel and to the state on disk, in the order that a crash at any point can't spoil.
//!
//! Whoever changes anything holds the lock, through [`Session`]. The state on disk is always written first: what fails there fails
//! before the kernel is touched, and what a crash leaves undone in the kernel the next session finishes.

mod apply;
mod change;
mod confirm;
mod effect;
mod plan;
mod settle;
mod swap;

use std::path::PathBuf;

pub(crate) use self::apply::describe;
pub use self::{
    apply::{Applied, apply},
    change::{Changed, Word, add, remove},
    confirm::{Decided, confirm, pending, rollback},
    effect::{Effect, effects},
    plan::{Outlook, Planned, plan},
};
pub use crate::clock::now;
use crate::{
    config::ConfigError,
    datapath::{self, Attachment, Generation, LinkError, Pending, Pins, attachments},
    device::Unfit,
    state::{Lock, Outcome, SlotsError, State, StateError, Store},
    tables::CompileError,
};

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config file is not right.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state can't be kept.
    #[error(transparent)]
    State(#[from] StateError),
    /// There are too many services.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// The policy does not fit the tables.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The kernel refused.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// An interface can't be guarded.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The kernel does not say which interfaces there are.
    #[error("can't ask the kernel for its interfaces: {0}")]
    Devices(std::io::Error),
    /// None of the config's interfaces exists.
    #[error("no such interface: {missing}; this host has {present}. Correct `interfaces` in {config}", config = .config.display())]
    NoInterface {
        /// The config's interfaces.
        missing: String,
        /// The host's interfaces.
        present: String,
        /// The config file.
        config: PathBuf,
    },
    /// An interface that can't be guarded.
    #[error("{interface} can't be guarded: {why}")]
    Unfit {
        /// The interface.
        interface: String,
        /// Why, and what to do.
        why: Unfit,
    },
    /// No such service.
    #[error("there is no service called {name}; the services are {known}")]
    NoService {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Links of ours whose generation is not pinned any more.
    #[error(
        "{interfaces}: filtered by what can't be read any more, because its pins were removed; run `sipguard apply` to replace it"
    )]
    Orphaned {
        /// The interfaces.
        interfaces: String,
    },
    /// Nothing is in force that would tell which services there are.
    #[error(
        "nothing is in force yet, so the service must be named: add --service NAME, or run `sipguard apply` first"
    )]
    NameService,
    /// An entry that is not the command line's.
    #[error(
        "{prefix} in {service} comes from the config ({origin}): take it out there and run `sipguard apply`, or `sipguard deny` it"
    )]
    NotOwn {
        /// The prefix.
        prefix: String,
        /// The service.
        service: String,
        /// Where the config has it from.
        origin: String,
    },
    /// An apply is waiting.
    #[error(
        "generation {generation} waits to be confirmed ({seconds} s left): run `sipguard confirm` or `sipguard rollback` first"
    )]
    Pending {
        /// Its generation.
        generation: u64,
        /// How much time is left.
        seconds: u64,
    },
    /// Nothing would be filtered, so that nothing could ask the clock.
    #[error(
        "with no interface configured there is nothing that could take itself back: run `sipguard apply` without --confirm, or `sipguard down`"
    )]
    NothingToConfirm,
    /// No apply waits.
    #[error("nothing is pending: no `sipguard apply --confirm` waits to be confirmed")]
    NothingPending,
    /// No apply waits any more.
    #[error(
        "nothing is pending: the last `sipguard apply --confirm` was taken back; run it again to try again"
    )]
    TakenBack,
    /// An apply waited until now.
    #[error(
        "too late: the time to confirm ended {seconds} s ago, and what was in force before is in force again; run `sipguard apply --confirm` again"
    )]
    TooLate {
        /// How long ago.
        seconds: u64,
    },
    /// No such entry.
    #[error("there is no entry {prefix} in {service}; `sipguard list` shows what there is")]
    NoEntry {
        /// The prefix.
        prefix: String,
        /// The service.
        service: String,
    },
}

/// What is in force: the newest generation that a link of ours runs.
pub struct Live {
    /// Its number.
    pub number: u64,
    /// The generation.
    pub generation: Generation,
    /// All links of ours.
    pub links: Vec<Attachment>,
    /// The apply that waits to be confirmed, or waited until its time was over and was not cleared up yet.
    pub pending: Option<Pending>,
    /// While an apply waits to be confirmed, the generation that is in force if it is taken back.
    pub previous: Option<Generation>,
}

impl Live {
    /// The generations in which single entries are changed, so that they stay whichever of the two is kept.
    pub fn generations(&self) -> impl Iterator<Item = &Generation> {
        [&self.generation].into_iter().chain(&self.previous)
    }
}

/// What is in force now; `None` where nothing is attached. Takes no lock.
///
/// # Errors
/// Where the kernel can't be asked; [`Error::Orphaned`] and [`datapath::Error::OtherVersion`] where what is in force can't be read, which
/// filters all the same.
pub fn live() -> Result<Option<Live>, Error> {
    if Pins::find().is_none() {
        return Ok(None);
    }
    let mut tries = 0;
    loop {
        match look() {
            // An apply may have put another generation in the place of the one that we began to read.
            Err(_) if tries < 3 => tries += 1,
            found => return found,
        }
    }
}

fn look() -> Result<Option<Live>, Error> {
    let links = attachments()?;
    let pending = links.iter().find_map(|link| link.pending);
    // Where the time to confirm is over, a link may be left that lets everything pass.
    if links
        .iter()
        .all(|link| link.generation.is_none() && link.pending.is_some())
    {
        return Ok(None);
    }
    let newest = links.iter().filter_map(|link| link.generation).max();
    let number = newest.ok_or_else(|| Error::Orphaned {
        interfaces: links
            .iter()
            .map(|link| link.interface.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    let generation = Generation::open(number)?;
    let previous = pending
        .filter(|pending| pending.generation == number)
        .and_then(|pending| pending.previous)
        .map(Generation::open)
        .transpose()?;
    Ok(Some(Live {
        number,
        generation,
        links,
        pending,
        previous,
    }))
}

/// The right to change things, for one command.
pub struct Session {
    store: Store,
    state: State,
    _lock: Lock,
}

impl Session {
    /// Waits for other commands to finish, and clears up what a crash has left.
    ///
    /// # Errors
    /// Where the state can't be read or the pins can't be kept.
    pub fn begin() -> Result<Self, Error> {
        let mut session = Self::open()?;
        session.settle()?;
        Ok(session)
    }

    /// Waits for other commands to finish; what was left is as it was.
    fn open() -> Result<Self, Error> {
        let store = Store::system();
        let lock = store.lock()?;
        let state = store.load()?;
        Pins::make().map_err(datapath::Error::from)?;
        Ok(Self {
            store,
            state,
            _lock: lock,
        })
    }

    /// The state, as it is on disk.
    pub fn state(&self) -> &State {
        &self.state
    }
}

/// Detaches everything of ours and removes its pins, the counters too. What the command line added is kept for the next apply.
/// Returns the interfaces that were let go.
///
/// # Errors
/// Where something can't be removed.
pub fn down() -> Result<Vec<String>, Error> {
    let store = Store::system();
    let _lock = store.lock()?;
    if Pins::find().is_none() {
        return Ok(Vec::new());
    }
    let pins = Pins::make().map_err(datapath::Error::from)?;
    // What was not confirmed is taken back, too; a state that can't be read must not keep anything in force.
    if let Ok(mut state) = store.load()
        && let Some(unconfirmed) = &mut state.unconfirmed
        && unconfirmed.outcome == Outcome::Pending
    {
        unconfirmed.outcome = Outcome::TakenBack;
        store.save(&state)?;
    }
    let interfaces: Vec<_> = attachments()?
        .into_iter()
        .map(|link| link.interface)
        .collect();
    for interface in &interfaces {
        datapath::detach(interface)?;
    }
    for number in Generation::all()? {
        Generation::remove(number)?;
    }
    for interface in datapath::counted_interfaces()? {
        datapath::forget_counters(&interface)?;
    }
    pins.remove().map_err(datapath::Error::from)?;
    Ok(interfaces)
}
