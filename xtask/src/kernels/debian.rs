//! Debian's kernels, as packages that are unpacked and never installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::matrix::Kernel;
use crate::setup::Suite;

/// A kernel on disk.
#[derive(Clone, Debug)]
pub(crate) struct Unpacked {
    /// As `uname -r` says it there.
    pub(crate) release: String,
    /// The compressed kernel.
    pub(crate) image: PathBuf,
    /// The folder with `kernel/` in it.
    pub(crate) modules: PathBuf,
}

/// The newest one of its suite, below `folder`.
pub(crate) fn fetch(kernel: &Kernel, folder: &Path) -> Result<Unpacked> {
    let suite = Suite::open(kernel.suite, folder)?;
    let packages = kernel_packages(&suite, kernel.package)?;
    let root = folder.join(&packages[0]);
    if !root.exists() {
        remove_others(folder)?;
        let unpacking = folder.join("unpacking");
        fs::create_dir_all(&unpacking)?;
        for package in &packages {
            suite.unpack(package, &unpacking)?;
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

/// The packages that a package of Debian's newest kernel stands for: the kernel itself first, then its modules, where they are
/// in packages of their own.
fn kernel_packages(suite: &Suite, package: &str) -> Result<Vec<String>> {
    let answer = suite.needed_by(package)?;
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
        suite.name()
    );
    Ok(found)
}
