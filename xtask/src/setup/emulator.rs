//! A QEMU that runs kernels which change their own instructions.
//!
//! QEMU 7.2, which Debian 12 has, now and then executes one that the kernel has replaced since: with programs exchanged under a flood of
//! frames, 6.12 panicked in `bpf_dispatcher_xdp_func` in each of four runs. 10.0 did not, in runs of the same length.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use super::suite::Suite;
use crate::machine;

const PROGRAM: &str = "qemu-system-x86_64";
const GOOD: u32 = 10;
const FOLDER: &str = "target/tools/qemu";
/// With its firmware. What they need else is what the system's own QEMU needs.
const PACKAGES: [&str; 4] = [
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
];

/// Unpacks the one of Debian's backports where the system's is older; any other system's is taken as it is.
pub(super) fn ensure() -> Result<()> {
    let folder = machine::workspace().join(FOLDER);
    if folder.is_dir() || version().is_none_or(|version| version >= GOOD) {
        return Ok(());
    }
    let Some(release) = machine::debian() else {
        return Ok(());
    };
    let partial = folder.with_extension("partial");
    fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
    let suite = Suite::open(&format!("{release}-backports"), &partial)?;
    for package in PACKAGES {
        suite.unpack(package, &partial)?;
    }
    fs::rename(&partial, &folder).with_context(|| format!("creating {}", folder.display()))
}

/// The one to run.
pub(crate) fn program() -> PathBuf {
    let unpacked = machine::workspace()
        .join(FOLDER)
        .join("usr/bin")
        .join(PROGRAM);
    if unpacked.is_file() {
        unpacked
    } else {
        PROGRAM.into()
    }
}

/// The first number of the system's own.
fn version() -> Option<u32> {
    let said = machine::answer(Command::new(PROGRAM).arg("--version"))?;
    let (_, version) = said.split_once("version ")?;
    version.split('.').next()?.parse().ok()
}
