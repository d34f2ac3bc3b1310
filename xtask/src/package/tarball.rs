//! The same files for systems without dpkg.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// Everything below one folder with the first package's name, ready to be unpacked over `/`.
pub(super) fn make(folder: &Path, debs: &[PathBuf]) -> Result<PathBuf> {
    let name = debs
        .first()
        .and_then(|deb| deb.file_stem())
        .and_then(|stem| stem.to_str())
        .context("a package without a name")?;
    let tree = folder.join("files").join(name);
    for deb in debs {
        run(Command::new("dpkg-deb")
            .arg("--extract")
            .arg(deb)
            .arg(&tree))?;
    }
    fs::remove_dir_all(tree.join("usr/share/lintian")).context("what is for dpkg only")?;
    let tarball = folder.join(format!("{name}.tar.gz"));
    run(Command::new("tar")
        .args(["--create", "--gzip", "--sort=name", "--numeric-owner"])
        .args(["--owner=0", "--group=0", "--directory"])
        .arg(folder.join("files"))
        .arg("--file")
        .arg(&tarball)
        .arg(name))?;
    Ok(tarball)
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let status = command
        .status()
        .with_context(|| format!("starting {program}"))?;
    ensure!(status.success(), "{program}: {status}");
    Ok(())
}
