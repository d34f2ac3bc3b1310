//! What every command is handed, and how it ends.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Result;
use rustix::thread::{CapabilitySet, capabilities};
use serde::Serialize;
use sipguard::{
    config, datapath,
    host::{Host, Trouble},
    lifecycle::{self, Live},
};

use crate::{
    cli::Global,
    output::{self, Palette, Stdout},
};

/// How a command ended, where it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What was asked for is done.
    Done,
    /// `check` was asked for an address that is dropped.
    Dropped,
    /// `doctor` found something, `status --check` that this host is not guarded, or `apply` left an interface out.
    Wrong,
    /// `status --check` found something wrong though this host is guarded.
    Findings,
    /// What is done will not survive a restart.
    Unsaved,
    /// Not the config file was applied, but the last policy that was in force for good.
    Instead,
}

impl Outcome {
    /// This, or where it is well the other.
    pub(super) fn or(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Dropped | Outcome::Findings => Self::from(3),
            Outcome::Wrong => Self::FAILURE,
            Outcome::Unsaved => Self::from(4),
            Outcome::Instead => Self::from(5),
        }
    }
}

/// How much to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Nothing but what was asked for.
    Quiet,
    /// What was done, and warnings.
    Normal,
    /// Details.
    Verbose,
}

/// What every command needs to know of the command line.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) host: Host,
    pub(crate) config: PathBuf,
    /// Whether somebody named it.
    pub(crate) config_is_named: bool,
    pub(crate) json: bool,
    pub(crate) verbosity: Verbosity,
    /// Whether somebody watches the output being written.
    pub(crate) terminal: bool,
    pub(crate) palette: Palette,
    pub(crate) palette_of_errors: Palette,
}

impl Context {
    pub(crate) fn new(host: Host, global: &Global, stdout: &Stdout) -> Self {
        Self {
            host,
            config: global.config.clone().unwrap_or_else(|| config::PATH.into()),
            config_is_named: global.config.is_some(),
            json: global.json,
            verbosity: match (global.quiet, global.verbose) {
                (true, _) => Verbosity::Quiet,
                (false, false) => Verbosity::Normal,
                (false, true) => Verbosity::Verbose,
            },
            terminal: stdout.is_terminal(),
            palette: stdout.palette(global.color.into()),
            palette_of_errors: output::palette_of_errors(global.color.into()),
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.verbosity == Verbosity::Quiet
    }

    pub(super) fn is_verbose(&self) -> bool {
        self.verbosity == Verbosity::Verbose
    }

    /// Says what else a person has to hear of, and what that makes of what came of the command otherwise.
    pub(crate) fn tell_troubles(&self, outcome: Outcome) -> Outcome {
        let mut unsaved = false;
        for trouble in self.host.troubles() {
            unsaved |= matches!(trouble, Trouble::Unsaved(_) | Trouble::Left(_));
            output::complain(&trouble.to_string(), self.palette_of_errors);
        }
        if unsaved && outcome == Outcome::Done {
            Outcome::Unsaved
        } else {
            outcome
        }
    }

    pub(super) fn warn(&self, message: &str) {
        if !self.is_quiet() {
            output::warn(message, self.palette_of_errors);
        }
    }
}

/// Whether this process may look into the kernel. The kernel's own refusals come too late to tell nothing from something that is hidden:
/// bpffs is closed to others.
pub(super) fn may_use_bpf() -> bool {
    // The call can't fail for the calling thread.
    capabilities(None).is_ok_and(|own| {
        own.effective.contains(CapabilitySet::SYS_ADMIN)
            || own
                .effective
                .contains(CapabilitySet::BPF | CapabilitySet::NET_ADMIN)
    })
}

/// Refuses early, with one line, what would fail somewhere in the middle.
pub(super) fn needs_root() -> Result<(), datapath::Error> {
    if may_use_bpf() {
        Ok(())
    } else {
        Err(datapath::Error::NotPermitted)
    }
}

/// What is in force, for the commands that read.
pub(super) fn live(context: &Context) -> Result<Option<Live>> {
    needs_root()?;
    Ok(lifecycle::live(&context.host)?)
}

/// One JSON value on one line.
pub(super) fn write_json(out: &mut dyn Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, value).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}
