//! What the commands do to the kernel and to the state on disk, in the order that a crash at any point can't spoil.
//!
//! Whoever changes anything holds the lock, through [`Session`]. The state on disk is always written first: what fails there fails
//! before the kernel is touched, and what a crash leaves undone in the kernel the next session finishes.

mod apply;
mod change;
mod settle;

use std::path::PathBuf;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

pub use self::{
    apply::{Applied, apply},
    change::{Changed, Word, add, remove},
};
use crate::{
    config::ConfigError,
    datapath::{self, Attachment, Generation, LinkError, Pins, attachments},
    state::{Lock, SlotsError, State, StateError, Store},
    tables::{CompileError, Now},
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
    /// Frames of this kind of interface can't be judged.
    #[error(
        "{interface} can't be guarded: its frames ({kind}) begin with a header that sipguard does not read; attach to the device below it"
    )]
    Unreadable {
        /// The interface.
        interface: String,
        /// Its kind.
        kind: String,
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
    if links.is_empty() {
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
    Ok(Some(Live {
        number,
        generation,
        links,
    }))
}

/// Both clocks, now.
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let nanoseconds = i128::from(boot.tv_sec) * 1_000_000_000 + i128::from(boot.tv_nsec);
    Now {
        boot_ns: u64::try_from(nanoseconds).unwrap_or_default(),
        wall: Timestamp::now(),
    }
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
        let store = Store::system();
        let lock = store.lock()?;
        let state = store.load()?;
        Pins::make().map_err(datapath::Error::from)?;
        let session = Self {
            store,
            state,
            _lock: lock,
        };
        settle::settle(&session.state)?;
        Ok(session)
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
