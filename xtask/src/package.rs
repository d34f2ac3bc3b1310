//! `cargo xtask package`: two Debian packages, and a tarball of both, that run on Debian 11, Ubuntu 22.04 and everything newer.

mod files;
mod tarball;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{machine, setup};

/// Where the packages go, and below it what they are made of. Everything else there goes.
const FOLDER: &str = "target/package";
/// What is packaged, each with a program of the same name: what filters, and what asks the network, which needs it.
pub(crate) const PACKAGES: [&str; 2] = ["sipguard", "sipguard-fetch"];

pub(crate) fn run() -> Result<()> {
    for file in build()? {
        let size = fs::metadata(&file)?.len();
        let name = file.file_name().unwrap_or_default().display();
        println!("{size:>9} bytes  {FOLDER}/{name}");
    }
    Ok(())
}

/// Makes the packages, the tarball and their checksums, and returns all of them.
pub(crate) fn build() -> Result<Vec<PathBuf>> {
    setup::run(&[])?;
    let packager = setup::packager::ensure()?;
    let target = host()?;
    let programs = compile(&target)?;

    let folder = folder();
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("clearing {}", folder.display()))?;
    }
    let mut made = Vec::new();
    for name in PACKAGES {
        files::write(&folder.join("files").join(name), name, &programs, &target)?;
        made.push(deb(&packager, name, &target, &folder)?);
    }
    made.push(tarball::make(&folder, &made)?);
    made.push(sums(&folder, &made)?);
    Ok(made)
}

/// Where [`build`] puts them, and nothing else.
pub(crate) fn folder() -> PathBuf {
    machine::workspace().join(FOLDER)
}

/// The compiler's name for this machine.
fn host() -> Result<String> {
    let about = machine::answer(Command::new("rustc").args(["--version", "--verbose"]));
    about
        .as_deref()
        .and_then(|about| about.lines().find_map(|line| line.strip_prefix("host: ")))
        .map(str::to_owned)
        .context("rustc does not say what machine this is")
}

/// The programs, linked statically: a dynamic one needs at least the glibc of the machine that it was built on. Returns their folder.
fn compile(target: &str) -> Result<PathBuf> {
    for name in PACKAGES {
        let mut cargo = machine::cargo();
        cargo
            .args(["build", "--release", "--locked", "--package", name])
            // Named even though it is the host: what only helps to build must not be static.
            .args(["--target", target, "--target-dir"])
            .arg(machine::workspace().join("target"))
            .args(["--config", "profile.release.strip = true", "--config"])
            .arg(format!(
                r#"target.{target}.rustflags = ["-Ctarget-feature=+crt-static"]"#
            ));
        // Nothing of the command goes on after a panic, and nothing that it clears up is more than a crash leaves: what would do that is a tenth
        // of it. (The fetcher has other sources to ask.)
        if name == "sipguard" {
            cargo.args(["--config", r#"profile.release.panic = "abort""#]);
        }
        let status = cargo.status()?;
        ensure!(status.success(), "{name} could not be built");
    }
    Ok(machine::workspace()
        .join("target")
        .join(target)
        .join("release"))
}

fn deb(packager: &Path, name: &str, target: &str, folder: &Path) -> Result<PathBuf> {
    let made = machine::said(
        Command::new(packager)
            .current_dir(machine::workspace())
            .args(["--package", name, "--target", target])
            .args(["--no-build", "--no-strip", "--no-dbgsym", "--output"])
            .arg(folder),
    )?;
    Ok(PathBuf::from(made.trim_end()))
}

/// `SHA256SUMS`, as `sha256sum --check` reads it.
fn sums(folder: &Path, files: &[PathBuf]) -> Result<PathBuf> {
    let names = files.iter().filter_map(|file| file.file_name());
    let said = machine::said(Command::new("sha256sum").current_dir(folder).args(names))?;
    let sums = folder.join("SHA256SUMS");
    fs::write(&sums, said).with_context(|| format!("writing {}", sums.display()))?;
    Ok(sums)
}
