//! Why a command could not do its work.

use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;

use crate::{
    config::ConfigError,
    datapath::{self, LinkError},
    device::Unfit,
    prose,
    state::{SlotsError, StateError},
    tables::CompileError,
    warnings::Doubt,
};

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A ban of too many.
    #[error(
        "{prefix} is too large a network to ban: /{least} is the largest; `sipguard deny` takes any"
    )]
    TooWide {
        /// What was to be banned.
        prefix: String,
        /// The shortest prefix length.
        least: u8,
    },
    /// No such live source.
    #[error("no live source is called {name}; {}", match known.as_slice() { [] => "none is in force".to_owned(), known => format!("there are {}", known.join(", ")) })]
    NoSource {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// What was known of a source can't be forgotten.
    #[error("can't forget what was known of {}: {error}", source_name)]
    Forget {
        /// The source.
        source_name: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The config file is not right.
    #[error(transparent)]
    Config(Arc<ConfigError>),
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
    /// One interface, by two of its names.
    #[error("{other} is another name of {name}, which `interfaces` has, too; leave one out")]
    SameInterface {
        /// The kernel's name.
        name: String,
        /// The other one.
        other: String,
    },
    /// Interfaces that can't be guarded, each with its cause.
    #[error("{}", lines(.0))]
    Refused(Vec<Refused>),
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
    /// The config was not confirmed, and what was in force before it is.
    #[error(
        "nothing was applied: {} was taken back{}, because it was not confirmed. To try it again: `sipguard apply --confirm 60s`, and \
         `sipguard confirm` while it waits", config.display(), moment(*.at)
    )]
    NotConfirmed {
        /// The config file.
        config: PathBuf,
        /// When it was taken back.
        at: Option<Timestamp>,
    },
    /// The config would end all filtering, which is a word of its own.
    #[error(
        "{} names no interface{}. `sipguard down` is what ends filtering", config.display(),
        unchanged(*.filtered)
    )]
    NothingToFilter {
        /// The config file.
        config: PathBuf,
        /// Whether anything is filtered.
        filtered: bool,
    },
    /// The lists may not be what they are meant to be.
    #[error("{}; nothing was changed, as --strict asks for", listed(.0))]
    Doubts(Vec<Doubt>),
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
    /// No such entry in any service, while nothing is in force.
    #[error("the command line says nothing of {prefix}; `sipguard list` shows what there is")]
    NothingSaid {
        /// The prefix.
        prefix: String,
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

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Config(Arc::new(error))
    }
}

/// An interface that can't be guarded.
#[derive(Debug)]
pub struct Refused {
    /// The interface.
    pub interface: String,
    /// Why.
    pub why: Box<Error>,
}

impl Refused {
    pub(super) fn new(interface: &str, why: impl Into<Error>) -> Self {
        Self {
            interface: interface.to_owned(),
            why: Box::new(why.into()),
        }
    }
}

/// ` at …`, in this host's time zone.
fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(String::new, |at| format!(" at {}", prose::local(at)))
}

fn unchanged(filtered: bool) -> &'static str {
    if filtered {
        ": nothing was changed, and what is filtered stays so"
    } else {
        ""
    }
}

fn listed(doubts: &[Doubt]) -> String {
    let all: Vec<_> = doubts.iter().map(Doubt::to_string).collect();
    all.join("\n")
}

/// One after the other.
fn lines(refused: &[Refused]) -> String {
    let lines: Vec<_> = refused.iter().map(|it| it.why.to_string()).collect();
    lines.join("\n")
}
