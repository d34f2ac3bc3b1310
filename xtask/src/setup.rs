//! `cargo xtask setup`: installs what building and testing need and the machine lacks.

mod apt;
mod compiler;
mod crowdsec;
mod emulator;
mod etcd;
pub(crate) mod fuzzer;
mod linker;
pub(crate) mod packager;
mod path;
mod programs;
mod sources;
mod sshd;
mod suite;
mod tool;

use std::path::PathBuf;

use anyhow::Result;

pub(crate) use self::{
    emulator::program as emulator,
    programs::{Purpose, package},
    sources::{Source, mirror},
    suite::Suite,
};

/// Installs what building needs, and what these purposes need.
pub(crate) fn run(purposes: &[Purpose]) -> Result<()> {
    programs::ensure(purposes)?;
    if purposes.contains(&Purpose::Test) {
        sshd::ensure()?;
    }
    if purposes.contains(&Purpose::Test) || purposes.contains(&Purpose::Bench) {
        etcd::ensure()?;
        crowdsec::ensure()?;
    }
    if purposes.contains(&Purpose::Kernels) || purposes.contains(&Purpose::Vm) {
        emulator::ensure()?;
    }
    compiler::ensure()?;
    linker::ensure()
}

/// Installs the programs of a purpose that builds nothing.
pub(crate) fn programs(purpose: Purpose) -> Result<()> {
    programs::ensure(&[purpose])?;
    if purpose == Purpose::Rivals {
        crowdsec::ensure_bouncer()?;
    }
    Ok(())
}

/// The `PATH` on which there is what a purpose declares, and nothing else but what every system has.
pub(crate) fn path(purpose: Purpose) -> Result<PathBuf> {
    path::ensure(purpose)
}
