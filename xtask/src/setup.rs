//! `cargo xtask setup`: installs what building and testing need and the machine lacks.

mod apt;
mod compiler;
pub(crate) mod fuzzer;
mod linker;
pub(crate) mod packager;
mod programs;
mod tool;

use anyhow::Result;

pub(crate) fn run() -> Result<()> {
    programs::ensure()?;
    compiler::ensure()?;
    linker::ensure()
}

/// Installs what the benchmark compares sipguard with. What can't be had is absent from its tables.
pub(crate) fn peers() {
    if let Err(error) = programs::peers() {
        eprintln!("{error:#}");
    }
}
