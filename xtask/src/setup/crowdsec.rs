//! CrowdSec, whose local API the tests ask for decisions.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::apt;
use crate::{machine, step};

const FOLDER: &str = "target/tools/crowdsec";

/// Unpacks Debian's package, with those that it needs and this machine has not. They are not installed: that would enrol this machine at
/// CrowdSec's central API, and start the daemon.
pub(super) fn ensure() -> Result<()> {
    let folder = machine::workspace().join(FOLDER);
    if folder.is_dir() {
        return Ok(());
    }
    if ["crowdsec", "cscli"]
        .iter()
        .all(|name| machine::find(name).is_some())
    {
        return fs::create_dir_all(&folder)
            .with_context(|| format!("creating {}", folder.display()));
    }
    let partial = folder.with_extension("partial");
    fs::create_dir_all(partial.join("partial"))
        .with_context(|| format!("creating {}", partial.display()))?;
    apt::download(&["crowdsec"], &partial)?;
    for entry in fs::read_dir(&partial)? {
        let deb = entry?.path();
        if deb.extension().is_some_and(|it| it == "deb") {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(&deb).arg(&partial);
            step::run("unpacking crowdsec", &mut unpack, step::LIMIT)?;
            fs::remove_file(deb)?;
        }
    }
    fs::rename(&partial, &folder).with_context(|| format!("creating {}", folder.display()))
}
