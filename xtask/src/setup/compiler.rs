//! The compiler of the kernel program: a Rust with its library source, whose LLVM the linker reads.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::apt;
use crate::{machine, step};

/// The name that sipguard's build script asks rustup for, whichever way the compiler came.
const TOOLCHAIN: &str = "sipguard-bpf";
/// Goes with the linker's version: it reads what this LLVM writes.
const LLVM: &str = "22.";
const NIGHTLY: &str = "nightly-2026-05-20";
/// Where Debian's packages put it.
const DEBIAN_SYSROOT: &str = "/usr";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// Where the line is so slow that this is not enough, Debian's packages may still come; and a machine behind a
/// firewall that answers nothing should not wait longer.
const DOWNLOAD_LIMIT: Duration = Duration::from_mins(3);

pub(super) fn ensure() -> Result<()> {
    ensure!(
        machine::find("rustup").is_some(),
        "rustup is missing: sipguard needs rustup's stable Rust and a second compiler beside it"
    );
    if usable(TOOLCHAIN).is_ok() {
        return Ok(());
    }
    eprintln!(
        "the compiler of the kernel program is missing (Rust with its library source, LLVM {LLVM}x)"
    );

    let nightly = match nightly() {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    eprintln!("rustup could not fetch {NIGHTLY}; trying Debian's packages");
    debian().map_err(|debian| {
        anyhow!(
            "no compiler for the kernel program: install one of these by hand, then run this again\n  \
             rustup toolchain install {NIGHTLY} --profile minimal --component rust-src\n  \
             the packages {} (Debian, Ubuntu)\n\
             rustup: {nightly:#}\npackages: {debian:#}",
            DEBIAN_PACKAGES.join(" and ")
        )
    })
}

fn nightly() -> Result<()> {
    let sysroot = if let Ok(sysroot) = usable(NIGHTLY) {
        sysroot
    } else {
        let mut install = Command::new("rustup");
        install
            .args(["toolchain", "install", NIGHTLY, "--no-self-update"])
            .args(["--profile", "minimal", "--component", "rust-src"]);
        step::run(&format!("fetching {NIGHTLY}"), &mut install, DOWNLOAD_LIMIT)?;
        usable(NIGHTLY)?
    };
    link(&sysroot)
}

fn debian() -> Result<()> {
    if link(Path::new(DEBIAN_SYSROOT)).is_err() {
        apt::install(&DEBIAN_PACKAGES)?;
        link(Path::new(DEBIAN_SYSROOT))?;
    }
    Ok(())
}

fn link(sysroot: &Path) -> Result<()> {
    let mut link = Command::new("rustup");
    link.args(["toolchain", "link", TOOLCHAIN]).arg(sysroot);
    machine::answer(&mut link)
        .with_context(|| format!("rustup can't use the compiler in {}", sysroot.display()))?;
    usable(TOOLCHAIN).map(drop)
}

/// The folder of a toolchain that can build the kernel program.
fn usable(toolchain: &str) -> Result<PathBuf> {
    let version = rustc(toolchain, &["--version", "--verbose"])?;
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .unwrap_or("unknown");
    ensure!(
        llvm.starts_with(LLVM),
        "{toolchain} has LLVM {llvm}, not {LLVM}x"
    );
    let sysroot = PathBuf::from(rustc(toolchain, &["--print", "sysroot"])?.trim_end());
    ensure!(
        sysroot.join("lib/rustlib/src/rust/library/core").is_dir(),
        "{toolchain} has no library source"
    );
    Ok(sysroot)
}

fn rustc(toolchain: &str, arguments: &[&str]) -> Result<String> {
    let mut rustc = Command::new("rustup");
    rustc.args(["run", toolchain, "rustc"]).args(arguments);
    machine::answer(&mut rustc).with_context(|| format!("{toolchain} is not there"))
}
