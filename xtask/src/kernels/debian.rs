//! Debian's kernels, as packages that are unpacked and never installed, from lists of packages that the system knows nothing of.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::matrix::Kernel;
use crate::{machine, setup, step};

const MIRROR: &str = "http://deb.debian.org/debian";
const LIMIT: Duration = Duration::from_mins(10);
/// How old a list of packages may be before it is read anew.
const FRESH: Duration = Duration::from_hours(24);

/// A kernel on disk.
#[derive(Clone, Debug)]
pub(super) struct Unpacked {
    /// As `uname -r` says it there.
    pub(super) release: String,
    /// The compressed kernel.
    pub(super) image: PathBuf,
    /// The folder with `kernel/` in it.
    pub(super) modules: PathBuf,
}

/// The newest one of its suite, below `folder`.
pub(super) fn fetch(kernel: &Kernel, folder: &Path) -> Result<Unpacked> {
    let lists = Lists::of(kernel.suite, folder)?;
    lists.update()?;
    let packages = lists.kernel_packages(kernel.package)?;
    let root = folder.join(&packages[0]);
    if !root.exists() {
        remove_others(folder)?;
        let unpacking = folder.join("unpacking");
        fs::create_dir_all(&unpacking)?;
        for package in &packages {
            lists.unpack(package, &unpacking)?;
        }
        fs::rename(&unpacking, &root)?;
    }
    unpacked(&root)
}

/// What an older version, or a run that was stopped, left behind.
fn remove_others(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() != "apt" && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn unpacked(root: &Path) -> Result<Unpacked> {
    let modules = ["usr/lib/modules", "lib/modules"].map(|folder| root.join(folder));
    let modules = modules.iter().find(|folder| folder.is_dir());
    let modules = modules.with_context(|| format!("no modules in {}", root.display()))?;
    let mut releases = fs::read_dir(modules)?;
    let Some(release) = releases.next() else {
        bail!("no modules in {}", modules.display());
    };
    let release = release?.file_name().to_string_lossy().into_owned();
    let modules = modules.join(&release);
    let image = [
        modules.join("vmlinuz"),
        root.join(format!("boot/vmlinuz-{release}")),
    ];
    let image = image.into_iter().find(|file| file.is_file());
    let image = image.with_context(|| format!("no kernel in {}", root.display()))?;
    Ok(Unpacked {
        release,
        image,
        modules,
    })
}

/// Lists of packages of one suite.
struct Lists {
    suite: &'static str,
    folder: PathBuf,
}

impl Lists {
    fn of(suite: &'static str, folder: &Path) -> Result<Self> {
        let keyring = setup::debian_keyring()?;
        let folder = folder.join("apt");
        for empty in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(empty))?;
        }
        fs::write(
            folder.join("sources.list"),
            format!("deb [signed-by={keyring} arch=amd64] {MIRROR} {suite} main\n"),
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
        Ok(Self { suite, folder })
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
            &format!("reading Debian {}'s list of packages", self.suite),
            self.command("apt-get").args(["--quiet", "update"]),
            LIMIT,
        )?;
        fs::write(read, "").context("writing down when the list was read")
    }

    /// The packages that a package of Debian's newest kernel stands for: the kernel itself first, then its modules, where they are
    /// in packages of their own.
    fn kernel_packages(&self, package: &str) -> Result<Vec<String>> {
        let mut ask = self.command("apt-cache");
        ask.args(["depends", "--recurse", "--important", package]);
        let answer = machine::answer(&mut ask);
        let answer = answer.with_context(|| format!("Debian {} has no {package}", self.suite))?;
        let parts = ["linux-image-", "linux-binary-", "linux-modules-"];
        let found: Vec<String> = answer
            .lines()
            .filter(|line| {
                parts.iter().any(|part| {
                    let version = line.strip_prefix(part);
                    version.is_some_and(|it| it.starts_with(|it: char| it.is_ascii_digit()))
                })
            })
            .map(str::to_owned)
            .collect();
        ensure!(
            !found.is_empty(),
            "Debian {}'s {package} leads to no kernel",
            self.suite
        );
        Ok(found)
    }

    fn unpack(&self, package: &str, root: &Path) -> Result<()> {
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
