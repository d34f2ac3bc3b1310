//! Installing Debian packages.

use std::{path::Path, sync::OnceLock, time::Duration};

use anyhow::{Result, bail};

use crate::{machine, step};

/// Another package manager may be at work, on a fresh machine most of all.
const LOCK_SECONDS: u64 = 300;
const LIST_LIMIT: Duration = Duration::from_secs(LOCK_SECONDS + 300);

pub(super) fn install(packages: &[&str]) -> Result<()> {
    if machine::find("apt-get").is_none() {
        bail!("this system has no apt-get");
    }
    update()?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    apt_get(
        &format!("installing {}", packages.join(" ")),
        &install,
        step::LIMIT,
    )
}

/// Fetches packages, with those they need and this machine has not, into a folder that has a folder `partial`.
pub(super) fn download(packages: &[&str], folder: &Path) -> Result<()> {
    update()?;
    let archives = format!("--option=Dir::Cache::archives={}", folder.display());
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(["--download-only", &archives]);
    install.extend(packages);
    apt_get(
        &format!("fetching {}", packages.join(" ")),
        &install,
        step::LIMIT,
    )
}

/// The list of packages of a new machine is empty or old; one look a run is enough.
pub(super) fn update() -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_none() {
        apt_get("reading the list of packages", &["update"], LIST_LIMIT)?;
        DONE.get_or_init(|| ());
    }
    Ok(())
}

fn apt_get(what: &str, arguments: &[&str], limit: Duration) -> Result<()> {
    let mut command = machine::as_root("env")?;
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"])
        .arg(format!("--option=DPkg::Lock::Timeout={LOCK_SECONDS}"))
        .args(arguments);
    step::run(what, &mut command, limit)
}
