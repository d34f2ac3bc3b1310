//! What a package holds and nobody writes by hand.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::machine::{self, said};

/// Writes what belongs into the package of this name, with programs from that folder.
pub(super) fn write(folder: &Path, name: &str, programs: &Path, target: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    if name == "sipguard" {
        of_the_command(folder, &programs.join(name))?;
    }
    fs::write(folder.join("copyright"), copyright(name, target)?)?;
    let changes = folder.join("changelog");
    fs::write(&changes, changelog(name)?)?;
    said(
        Command::new("gzip")
            .args(["--best", "--no-name"])
            .arg(&changes),
    )?;
    Ok(())
}

/// What a command with many others below it says of itself.
fn of_the_command(folder: &Path, command: &Path) -> Result<()> {
    let pages = folder.join("man");
    said(Command::new(command).arg("man").arg("--out").arg(&pages))?;
    for shell in ["bash", "zsh", "fish"] {
        let script = said(Command::new(command).args(["completions", shell]))?;
        fs::write(folder.join(format!("sipguard.{shell}")), script)?;
    }
    Ok(())
}

/// The terms of sipguard, and of each library that is in the binary.
fn copyright(name: &str, target: &str) -> Result<String> {
    let own = machine::workspace().join("sipguard/dist/deb/copyright");
    let own = fs::read_to_string(&own).with_context(|| format!("reading {}", own.display()))?;
    let tree = said(
        machine::cargo()
            .args(["tree", "--package", name, "--locked", "--target", target])
            .args(["--edges", "normal", "--prefix", "none", "--no-dedupe"])
            .args(["--format", "{p} | {l}"]),
    )?;
    let mut libraries: Vec<_> = tree
        .lines()
        // The workspace's own packages are named with their folder.
        .filter(|line| !line.contains(" (/"))
        .filter_map(|line| line.split_once(" | "))
        .map(|(library, terms)| {
            format!(" {}: {terms}\n", library.trim_end_matches(" (proc-macro)"))
        })
        .collect();
    libraries.sort();
    libraries.dedup();
    Ok(format!(
        "{own}\nComment: The Rust libraries, with their versions and terms:\n{}",
        libraries.concat()
    ))
}

/// Debian's form, with the date of the last commit, so that the same sources make the same package.
fn changelog(name: &str) -> Result<String> {
    let git = Command::new("git")
        .current_dir(machine::workspace())
        .args(["log", "-1", "--format=%cD"])
        .output();
    let date = match git {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)?,
        _ => said(Command::new("date").arg("--rfc-email"))?,
    };
    Ok(format!(
        "{name} ({}) unstable; urgency=medium\n\n  * See CHANGELOG.md in the sources.\n\n -- {}  {}\n",
        env!("CARGO_PKG_VERSION"),
        "sipguard contributors <sipguard@packages.invalid>",
        date.trim_end()
    ))
}
