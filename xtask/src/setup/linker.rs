//! bpf-linker, kept below `target/` so that the user's own tools stay as they are.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{machine, step};

/// Reads LLVM 22: see the compiler's version.
const VERSION: &str = "0.10.3";

pub(super) fn ensure() -> Result<()> {
    let tools = machine::workspace().join("target/tools");
    let there = machine::answer(Command::new(tools.join("bin/bpf-linker")).arg("--version"));
    if there.is_some_and(|version| version.trim_end() == format!("bpf-linker {VERSION}")) {
        return Ok(());
    }
    let mut install = machine::cargo();
    install
        .args(["install", "bpf-linker", "--locked", "--force"])
        .args(["--version", &format!("={VERSION}"), "--root"])
        .arg(&tools);
    step::run(
        &format!("building bpf-linker {VERSION}, which links the kernel program"),
        &mut install,
        step::LIMIT,
    )
    .context("bpf-linker could not be built")
}
