//! CrowdSec, whose local API the tests and the benchmark ask for decisions, and its bouncer, which the benchmark compares sipguard with.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::apt;
use crate::{machine, step};

/// The local API, and the command that says what is banned.
pub(super) fn ensure() -> Result<()> {
    unpacked("crowdsec", &["crowdsec", "cscli"])
}

/// The bouncer that fills sets of nftables.
pub(super) fn ensure_bouncer() -> Result<()> {
    const BOUNCER: &str = "crowdsec-firewall-bouncer";
    unpacked(BOUNCER, &[BOUNCER])
}

/// Unpacks Debian's package below `target/tools`, with those that it needs and this machine has not. They are not installed: that would enrol
/// this machine at CrowdSec's central API, and start daemons.
fn unpacked(package: &str, programs: &[&str]) -> Result<()> {
    let folder = machine::workspace().join("target/tools").join(package);
    if folder.is_dir() {
        return Ok(());
    }
    if programs.iter().all(|name| machine::find(name).is_some()) {
        return fs::create_dir_all(&folder)
            .with_context(|| format!("creating {}", folder.display()));
    }
    let partial = folder.with_extension("partial");
    fs::create_dir_all(partial.join("partial"))
        .with_context(|| format!("creating {}", partial.display()))?;
    apt::download(&[package], &partial)?;
    for entry in fs::read_dir(&partial)? {
        let deb = entry?.path();
        if deb.extension().is_some_and(|it| it == "deb") {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(&deb).arg(&partial);
            step::run(&format!("unpacking {package}"), &mut unpack, step::LIMIT)?;
            fs::remove_file(deb)?;
        }
    }
    fs::rename(&partial, &folder).with_context(|| format!("creating {}", folder.display()))
}
