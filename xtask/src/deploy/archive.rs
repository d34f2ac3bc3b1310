//! What goes to a host, as one archive.

use std::{
    fs::{self, File},
    io::Seek as _,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    judgement::{Install, Todo},
    payload::{Config, Package},
};
use crate::package::PACKAGES;

/// Runs on the host.
const TRANSACTION: &str = include_str!("transaction.sh");

/// An archive of everything that a host needs to do by itself what is to do.
pub(super) fn archive(
    package: &Package,
    config: Option<&Config>,
    todo: &Todo,
    patience: u64,
) -> Result<File> {
    let folder = tempfile::tempdir()?;
    let new = folder.path().join("new");
    fs::create_dir(&new)?;
    let install = match todo.install {
        Install::Nothing => "keep",
        Install::Deb => {
            for (deb, name) in package.debs.iter().zip(PACKAGES) {
                fs::copy(deb, new.join(format!("{name}.deb")))?;
            }
            "deb"
        }
        Install::Tarball => {
            fs::copy(&package.tarball, new.join("package.tar.gz"))?;
            "tar"
        }
    };
    let config_is = match config.filter(|_| todo.config) {
        Some(config) => {
            fs::write(new.join("sipguard.toml"), &config.text)?;
            "new"
        }
        None => "keep",
    };
    fs::write(
        folder.path().join("plan"),
        format!("package={install}\nconfig_is={config_is}\npatience={patience}\n"),
    )?;
    fs::write(folder.path().join("transaction.sh"), TRANSACTION)?;

    let mut archive = tempfile::tempfile()?;
    let status = Command::new("tar")
        .args(["--create", "--numeric-owner", "--owner=0", "--group=0"])
        .args(["--mode=u=rwX,go=rX", "--directory"])
        .arg(folder.path())
        .arg(".")
        .stdout(archive.try_clone()?)
        .status()
        .context("starting tar")?;
    ensure!(status.success(), "tar: {status}");
    archive.rewind()?;
    Ok(archive)
}
