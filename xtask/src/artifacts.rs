//! What cargo says that it has built.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// Something that cargo has built.
#[derive(Deserialize)]
pub(crate) struct Artifact {
    /// Where it is a program.
    pub(crate) executable: Option<PathBuf>,
    /// Of its package.
    pub(crate) manifest_path: PathBuf,
    pub(crate) target: Target,
    pub(crate) profile: Profile,
}

#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// Its first file.
    pub(crate) src_path: PathBuf,
}

#[derive(Deserialize)]
pub(crate) struct Profile {
    /// Whether it runs tests.
    pub(crate) test: bool,
}

/// Has cargo build what this command says.
pub(crate) fn built(cargo: &mut Command) -> Result<Vec<Artifact>> {
    let output = cargo
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "cargo: {}", output.status);
    // Other messages have no target.
    let lines = output.stdout.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice::<Artifact>(line).ok())
        .collect())
}
