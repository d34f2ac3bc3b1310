//! Programs from crates.io, kept below `target/` so that the user's own tools stay as they are.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{machine, step};

/// A program at the one version that is known to work.
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// What it says to `--version`.
    pub(super) answer: &'static str,
    pub(super) why: &'static str,
}

impl Tool {
    pub(super) fn path(&self) -> PathBuf {
        folder().join("bin").join(self.name)
    }

    pub(super) fn ensure(&self) -> Result<()> {
        let there = machine::answer(Command::new(self.path()).arg("--version"));
        if there.is_some_and(|version| version.trim_end() == self.answer) {
            return Ok(());
        }
        let Self {
            name, version, why, ..
        } = self;
        let mut install = machine::cargo();
        install
            .args(["install", name, "--locked", "--force"])
            .args(["--version", &format!("={version}"), "--root"])
            .arg(folder());
        step::run(
            &format!("building {name} {version}, which {why}"),
            &mut install,
            step::LIMIT,
        )
        .with_context(|| format!("{name} could not be built"))
    }
}

fn folder() -> PathBuf {
    machine::workspace().join("target/tools")
}
