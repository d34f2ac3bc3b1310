//! What a host gets: the package, and its config.

use std::{
    fs::{self, File},
    io::Seek as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    address::Address,
    judgement::{Install, Todo},
    ssh::input,
};
use crate::{machine::said, package};

/// Runs on the host.
const TRANSACTION: &str = include_str!("transaction.sh");

/// What `cargo xtask package` makes.
pub(super) struct Package {
    deb: PathBuf,
    tarball: PathBuf,
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
    text: Vec<u8>,
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
        let one = |ending: &str| {
            let mut found = files
                .iter()
                .filter(|file| file.to_string_lossy().ends_with(ending));
            let (first, second) = (found.next(), found.next());
            ensure!(second.is_none(), "there is more than one package");
            first
                .cloned()
                .with_context(|| format!("there is no {ending} of a package"))
        };
        let (deb, tarball) = (one(".deb")?, one(".tar.gz")?);
        let name = deb.file_stem().unwrap_or_default().to_string_lossy();
        let mut words = name.split('_');
        let (Some("sipguard"), Some(version), Some(architecture), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            anyhow::bail!("{} is not sipguard's", deb.display());
        };
        Ok(Self {
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            sums: sums(&tarball)?,
            deb,
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
            fs::copy(&package.deb, new.join("package.deb"))?;
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
