//! Debian's packages, from lists that the system knows nothing of: they are unpacked and never installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

use super::{apt, sources::mirror};
use crate::{machine, step};

const LIMIT: Duration = Duration::from_mins(10);
/// How old a list of packages may be before it is read anew.
const FRESH: Duration = Duration::from_hours(24);

/// One of Debian's suites of packages, with lists of its own below a folder.
pub(crate) struct Suite {
    name: String,
    folder: PathBuf,
}

impl Suite {
    /// Reads its lists, unless they are fresh.
    pub(crate) fn open(name: &str, folder: &Path) -> Result<Self> {
        let (keyring, mirror) = (keyring()?, mirror()?);
        let folder = folder.join("apt");
        for empty in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(empty))?;
        }
        fs::write(
            folder.join("sources.list"),
            format!("deb [signed-by={keyring} arch=amd64] {mirror} {name} main\n"),
        )?;
        let at = folder.canonicalize()?;
        let at = at.display();
        // apt reads the system's settings first, its proxies among them.
        fs::write(
            folder.join("apt.conf"),
            format!(
                r#"Dir::State::Lists "{at}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{at}/cache";
Dir::Etc::SourceList "{at}/sources.list";
Dir::Etc::SourceParts "-";
APT::Architecture "amd64";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "3";
"#
            ),
        )?;
        let suite = Self {
            name: name.to_owned(),
            folder,
        };
        suite.update()?;
        Ok(suite)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Itself and the packages that it needs, each on a line of its own, among others.
    pub(crate) fn needed_by(&self, package: &str) -> Result<String> {
        let mut ask = self.command("apt-cache");
        ask.args(["depends", "--recurse", "--important", package]);
        let answer = machine::answer(&mut ask);
        answer.with_context(|| format!("Debian {} has no {package}", self.name))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.folder.join("apt.conf"));
        command
    }

    fn update(&self) -> Result<()> {
        let read = self.folder.join("read");
        let age = fs::metadata(&read)
            .and_then(|read| read.modified())
            .map(|then| SystemTime::now().duration_since(then).unwrap_or_default());
        if age.is_ok_and(|age| age < FRESH) {
            return Ok(());
        }
        step::run(
            &format!("reading Debian {}'s list of packages", self.name),
            self.command("apt-get").args(["--quiet", "update"]),
            LIMIT,
        )?;
        fs::write(read, "").context("writing down when the list was read")
    }

    /// Fetches a package and unpacks it below `root`.
    pub(crate) fn unpack(&self, package: &str, root: &Path) -> Result<()> {
        let debs = self.folder.join("cache/archives");
        step::run(
            &format!("fetching {package}"),
            self.command("apt-get")
                .args(["--quiet", "download", package])
                .current_dir(&debs),
            LIMIT,
        )?;
        for entry in fs::read_dir(&debs)? {
            let deb = entry?.path();
            if deb.extension().is_some_and(|it| it == "deb") {
                step::run(
                    &format!("unpacking {package}"),
                    Command::new("dpkg-deb").arg("-x").arg(&deb).arg(root),
                    LIMIT,
                )?;
                fs::remove_file(deb)?;
            }
        }
        Ok(())
    }
}

/// Where the keys of Debian's archive are; installs them where they are missing.
fn keyring() -> Result<&'static str> {
    const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    if !Path::new(KEYRING).exists() {
        apt::install(&["debian-archive-keyring"])?;
    }
    Ok(KEYRING)
}
