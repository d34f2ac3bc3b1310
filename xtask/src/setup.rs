//! `cargo xtask setup`: installs what building and testing need and the machine lacks.

mod apt;
mod compiler;
mod emulator;
pub(crate) mod fuzzer;
mod linker;
pub(crate) mod packager;
mod programs;
mod sshd;
mod suite;
mod tool;

use anyhow::Result;

pub(crate) use self::{emulator::program as emulator, suite::Suite};

pub(crate) fn run() -> Result<()> {
    programs::ensure()?;
    sshd::ensure()?;
    compiler::ensure()?;
    linker::ensure()
}

/// Installs what the benchmark compares sipguard with. What can't be had is absent from its tables.
pub(crate) fn peers() {
    if let Err(error) = programs::peers() {
        eprintln!("{error:#}");
    }
}

/// Installs what boots other kernels (see [`crate::qemu`]); only the tasks that do so need it.
pub(crate) fn machines() -> Result<()> {
    programs::machines()?;
    emulator::ensure()
}

/// Installs what makes and reaches a gateway to boot.
pub(crate) fn gateways() -> Result<()> {
    programs::gateways()
}
