//! What a host gets: the package, and its config.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{address::Address, ssh::input};
use crate::{
    machine::said,
    package::{self, PACKAGES},
};

/// What `cargo xtask package` makes. All of it goes to every host: a host without live sources has a service that waits, and one that gets some
/// later needs nothing else.
pub(super) struct Package {
    /// In the order of [`PACKAGES`].
    pub(super) debs: Vec<PathBuf>,
    pub(super) tarball: PathBuf,
    pub(super) version: String,
    /// As dpkg calls it.
    pub(super) architecture: String,
    /// `sha256sum` of its files where they are when they are installed; but for the config, and for what is only to be read, which some
    /// hosts leave out.
    pub(super) sums: String,
}

/// The config for one host.
pub(super) struct Config {
    pub(super) path: PathBuf,
    pub(super) text: Vec<u8>,
    pub(super) sum: String,
}

impl Package {
    /// Builds it, or takes it from a folder where it was built before.
    pub(super) fn new(folder: Option<&Path>) -> Result<Self> {
        let files = match folder {
            None => package::build()?,
            Some(folder) => {
                said(Command::new("sha256sum").current_dir(folder).args([
                    "--check",
                    "--quiet",
                    "SHA256SUMS",
                ]))
                .with_context(|| format!("{} has no whole package", folder.display()))?;
                let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
                entries.into_iter().map(|entry| entry.path()).collect()
            }
        };
        let one = |name: &str, ending: &str| {
            let mut found = files.iter().filter(|file| {
                let file = file.file_name().unwrap_or_default().to_string_lossy();
                file.ends_with(ending) && file.split('_').next() == Some(name)
            });
            let (first, second) = (found.next(), found.next());
            ensure!(
                second.is_none(),
                "there is more than one {ending} of {name}"
            );
            first
                .cloned()
                .with_context(|| format!("there is no {ending} of {name}"))
        };
        let debs = PACKAGES.map(|name| one(name, ".deb"));
        let debs = debs.into_iter().collect::<Result<Vec<_>>>()?;
        let tarball = one("sipguard", ".tar.gz")?;
        let name = tarball.file_name().unwrap_or_default().to_string_lossy();
        let mut words = name.trim_end_matches(".tar.gz").split('_').skip(1);
        let (Some(version), Some(architecture), None) = (words.next(), words.next(), words.next())
        else {
            anyhow::bail!("{} is not sipguard's", tarball.display());
        };
        Ok(Self {
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            sums: sums(&tarball)?,
            debs,
            tarball,
        })
    }
}

fn sums(tarball: &Path) -> Result<String> {
    let folder = tempfile::tempdir()?;
    said(
        Command::new("tar")
            .args(["--extract", "--strip-components=1", "--file"])
            .arg(tarball)
            .arg("--directory")
            .arg(folder.path()),
    )?;
    let sums = said(
        Command::new("find")
            .current_dir(folder.path())
            .args(["usr/bin", "usr/lib", "-type", "f"])
            .args(["-exec", "sha256sum", "{}", "+"]),
    )?;
    Ok(sums.replace("  usr/", "  /usr/"))
}

impl Config {
    /// `hosts/NAME.toml` beside the common file, where there is one, or else the common one.
    pub(super) fn of(host: &Address, common: &Path) -> Result<Self> {
        let own = common
            .parent()
            .unwrap_or(Path::new(""))
            .join("hosts")
            .join(format!("{}.toml", host.name));
        let path = if own.exists() { own } else { common.to_owned() };
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let mut sum = Command::new("sha256sum");
        let sum = said(sum.stdin(Stdio::from(input(&text)?)))?;
        let sum = sum.split_whitespace().next().unwrap_or_default().to_owned();
        Ok(Self { path, text, sum })
    }
}
