//! `cargo xtask setup`: installs what building and testing need and the machine lacks.

mod apt;
mod compiler;
mod linker;
mod programs;

use anyhow::Result;

pub(crate) fn run() -> Result<()> {
    programs::ensure()?;
    compiler::ensure()?;
    linker::ensure()
}
