//! What the tests of `cargo xtask deploy` have on their gateways.

use std::fs;

use anyhow::{Context as _, Result};

use super::apt;
use crate::machine;

const PACKAGES: [&str; 2] = ["openssh-server", "sudo"];
const FOLDER: &str = "target/tools/sshd";

/// Fetches the packages that this machine has not. They are not installed: it would let people in by SSH from then on.
pub(super) fn ensure() -> Result<()> {
    let folder = machine::workspace().join(FOLDER);
    if folder.is_dir() {
        return Ok(());
    }
    if ["sshd", "sudo"]
        .iter()
        .all(|name| machine::find(name).is_some())
    {
        return fs::create_dir_all(&folder)
            .with_context(|| format!("creating {}", folder.display()));
    }
    let partial = folder.with_extension("partial");
    fs::create_dir_all(partial.join("partial"))
        .with_context(|| format!("creating {}", partial.display()))?;
    apt::download(&PACKAGES, &partial)?;
    fs::rename(&partial, &folder).with_context(|| format!("creating {}", folder.display()))
}
