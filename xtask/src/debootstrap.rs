//! A Debian in a folder.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::step;

/// Fetches a release's smallest system and unpacks it into a folder, with more packages, whose names are separated by commas; from [`crate::setup::mirror`].
pub(crate) fn make(release: &str, packages: &str, folder: &Path, mirror: &str) -> Result<()> {
    let mut debootstrap = Command::new("debootstrap");
    debootstrap
        .args(["--variant=minbase", "--include", packages, release])
        .arg(folder)
        .arg(mirror);
    step::run(
        &format!("fetching and unpacking Debian ({release})"),
        &mut debootstrap,
        step::LIMIT,
    )
}
