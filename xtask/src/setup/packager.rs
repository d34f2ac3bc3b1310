//! cargo-deb.

use std::path::PathBuf;

use anyhow::Result;

use super::tool::Tool;

const PACKAGER: Tool = Tool {
    name: "cargo-deb",
    version: "3.8.0",
    answer: "cargo-deb 3.8.0",
    why: "makes the Debian package",
};

/// Only packaging needs it, and it takes a minute to build. Returns where it is.
pub(crate) fn ensure() -> Result<PathBuf> {
    PACKAGER.ensure()?;
    Ok(PACKAGER.path())
}
