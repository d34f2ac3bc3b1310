//! The `PATH` of demo and tests: a folder with links to the programs that they declare, and to those of Debian's smallest system.
//!
//! A program that nobody declared then fails on every machine, and not on a new one alone.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::programs::{self, Purpose};
use crate::machine;

const FOLDER: &str = "target/path";
/// Where the packages of the smallest system have their programs; on most systems two of these are links to the others.
const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
/// Links from there choose among several packages' programs of one name.
const ALTERNATIVES: &str = "/etc/alternatives";

/// Brings the folder up to date; what needs no change stays untouched, for somebody may be using it.
pub(super) fn ensure(purpose: Purpose) -> Result<PathBuf> {
    let folder = machine::workspace()
        .join(FOLDER)
        .join(format!("{purpose:?}").to_lowercase());
    fill(&folder, purpose).with_context(|| format!("filling {}", folder.display()))?;
    folder.canonicalize().context("the folder of programs")
}

fn fill(folder: &Path, purpose: Purpose) -> Result<()> {
    let mut wanted = smallest_system()?;
    for name in programs::names(purpose) {
        let path = machine::find(name).with_context(|| format!("no program {name} here"))?;
        wanted.insert(name.to_owned(), path);
    }
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if wanted.get(&name) == fs::read_link(entry.path()).ok().as_ref() {
            wanted.remove(&name);
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    for (name, path) in wanted {
        match symlink(path, folder.join(name)) {
            // Another run makes the same links.
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// The programs of the packages that every Debian has, by name.
fn smallest_system() -> Result<BTreeMap<String, PathBuf>> {
    let all = machine::said(Command::new("dpkg-query").args([
        "--show",
        "--showformat=${binary:Package} ${Essential} ${Priority}\n",
    ]))
    .context("what belongs to the smallest system is told by dpkg, which Debian and Ubuntu have")?;
    let packages: Vec<&str> = all
        .lines()
        .filter(|line| line.ends_with(" required") || line.contains(" yes "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    ensure!(!packages.is_empty(), "dpkg knows of no essential package");
    let files = machine::said(
        Command::new("dpkg-query")
            .arg("--listfiles")
            .args(&packages),
    )?;
    let mut found = BTreeMap::new();
    for file in files.lines().map(Path::new) {
        let Some((folder, name)) = file.parent().zip(file.file_name()) else {
            continue;
        };
        if FOLDERS.iter().any(|it| Path::new(it) == folder) && file.is_file() {
            found.insert(name.to_string_lossy().into_owned(), file.to_owned());
        }
    }
    // `awk` is mawk, by two links that belong to no package.
    let own: Vec<PathBuf> = found
        .values()
        .filter_map(|it| it.canonicalize().ok())
        .collect();
    for entry in fs::read_dir(ALTERNATIVES)? {
        let entry = entry?;
        let target = entry.path().canonicalize();
        let Some(file) = FOLDERS
            .iter()
            .map(|folder| Path::new(folder).join(entry.file_name()))
            .find(|file| fs::read_link(file).is_ok_and(|it| it == entry.path()))
        else {
            continue;
        };
        if target.is_ok_and(|target| own.contains(&target)) {
            found.insert(entry.file_name().to_string_lossy().into_owned(), file);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_system_has_and_what_is_declared() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stale = folder.path().join("stale");
        symlink("/nowhere", &stale).expect("an empty folder");
        fill(folder.path(), Purpose::Deploy).expect("a Debian, and what is declared");
        for (name, wanted) in [
            ("sh", true),
            // By an alternative of mawk's.
            ("awk", true),
            ("dpkg", true),
            ("ssh", true),
            // Of a package whose other program only others declare.
            ("ssh-keygen", false),
            ("ip", false),
            ("cargo", false),
        ] {
            assert_eq!(folder.path().join(name).exists(), wanted, "{name}");
        }
        assert!(fs::symlink_metadata(stale).is_err());
    }
}
