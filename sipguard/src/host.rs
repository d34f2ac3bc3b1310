//! The machine that a command works on: where its state is kept, and what its clocks say. Made in `main`, and handed down, so that tests
//! can have machines of their own.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    clock,
    fetcher::FetcherError,
    lifecycle::Renamed,
    prose::count,
    sources::{Copies, Unusable},
    state::{StateError, Store},
    tables::Now,
};

/// What a person has to hear of though a command did its work.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The state could not be read.
    #[error("{0}")]
    Unread(StateError),
    /// The policy that was confirmed last could not be read.
    #[error("{0}; what the config file says is applied instead, though it is not confirmed")]
    Unconfirmed(StateError),
    /// The state could not be written.
    #[error("in force, but will not survive a restart: {0}")]
    Unsaved(StateError),
    /// The state could not be written, and nothing is in force.
    #[error("what the command line added is lost at the next restart: {0}")]
    Left(StateError),
    /// What was found last for a live source can't be read.
    #[error("{0}; `sipguard refresh SOURCE --forget` asks for it again")]
    Unusable(Unusable),
    /// What is to be asked for can't be written.
    #[error("live sources are not asked for: cannot write {}: {error}", file.display())]
    NotAsked {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Live sources were not asked for.
    #[error("{0}")]
    Fetcher(FetcherError),
    /// Some entries of a live source are not in force, because of what they are.
    #[error("{source_name}: {entries} left out, because it {why}", entries = count(*entries, "entry", "entries"))]
    LeftOut {
        /// The source.
        source_name: String,
        /// How many.
        entries: usize,
        /// What is wrong with the first one.
        why: String,
    },
    /// Interfaces that were renamed, and whose old names the policy gives to others, or to none.
    #[error("{}: not filtered any more, because it was renamed; name it in the config to filter it again", joined(.0))]
    LetGo(Vec<Renamed>),
}

fn joined(renamed: &[Renamed]) -> String {
    let all: Vec<_> = renamed.iter().map(Renamed::to_string).collect();
    all.join(", ")
}

/// See the module.
#[derive(Clone)]
pub struct Host {
    /// What survives a restart.
    pub store: Store,
    /// Which boot this is.
    boot: Arc<str>,
    clock: Arc<dyn Fn() -> Now + Send + Sync>,
    troubles: Arc<Mutex<Vec<Trouble>>>,
}

impl Host {
    /// This machine.
    #[expect(clippy::disallowed_methods, reason = "this is what others are to ask")]
    pub fn system() -> Self {
        Self::new(Store::system(), &clock::boot(), clock::now)
    }

    /// One with its state elsewhere, and clocks of its own, in the boot of this name.
    pub fn new(store: Store, boot: &str, clock: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self {
            store,
            boot: boot.into(),
            clock: Arc::new(clock),
            troubles: Arc::default(),
        }
    }

    /// Which boot this is: boot clocks of two can't be compared.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// The last good copies of live sources.
    pub fn copies(&self) -> Copies {
        Copies::at(self.store.folder().join("sources"))
    }

    /// What the clocks say.
    pub fn now(&self) -> Now {
        (self.clock)()
    }

    /// Notes what failed, for whoever runs the command; the last of each kind says enough.
    pub fn note(&self, trouble: Trouble) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = std::mem::discriminant(&trouble);
        troubles.retain(|other| std::mem::discriminant(other) != kind);
        troubles.push(trouble);
    }

    /// What failed since this was asked last.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *troubles)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("store", &self.store)
            .field("troubles", &self.troubles)
            .finish_non_exhaustive()
    }
}
