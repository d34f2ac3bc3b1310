//! `cargo xtask setup`: installs what building and testing need and the machine lacks.

mod apt;
mod compiler;
pub(crate) mod fuzzer;
mod linker;
pub(crate) mod packager;
mod programs;
mod sshd;
mod tool;

use anyhow::Result;

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
#[expect(dead_code, reason = "as above: main.rs")]
pub(crate) fn machines() -> Result<()> {
    programs::machines()
}
