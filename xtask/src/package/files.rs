//! What a package holds and nobody writes by hand.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::machine::{self, said};

pub(super) fn write(folder: &Path, command: &Path, target: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let pages = folder.join("man");
    said(Command::new(command).arg("man").arg("--out").arg(&pages))?;
    for shell in ["bash", "zsh", "fish"] {
        let script = said(Command::new(command).args(["completions", shell]))?;
        fs::write(folder.join(format!("sipguard.{shell}")), script)?;
    }
    fs::write(folder.join("copyright"), copyright(target)?)?;
    let changes = folder.join("changelog");
    fs::write(&changes, changelog()?)?;
    said(
        Command::new("gzip")
            .args(["--best", "--no-name"])
            .arg(&changes),
    )?;
    Ok(())
}

/// The terms of sipguard, and of each library that is in the binary.
fn copyright(target: &str) -> Result<String> {
    let own = machine::workspace().join("sipguard/dist/deb/copyright");
    let own = fs::read_to_string(&own).with_context(|| format!("reading {}", own.display()))?;
    let tree = said(
        machine::cargo()
            .args([
                "tree",
                "--package",
                "sipguard",
                "--locked",
                "--target",
                target,
            ])
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
fn changelog() -> Result<String> {
    let git = Command::new("git")
        .current_dir(machine::workspace())
        .args(["log", "-1", "--format=%cD"])
        .output();
    let date = match git {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)?,
        _ => said(Command::new("date").arg("--rfc-email"))?,
    };
    Ok(format!(
        "sipguard ({}) unstable; urgency=medium\n\n  * See CHANGELOG.md in the sources.\n\n -- {}  {}\n",
        env!("CARGO_PKG_VERSION"),
        "sipguard contributors <sipguard@packages.invalid>",
        date.trim_end()
    ))
}
