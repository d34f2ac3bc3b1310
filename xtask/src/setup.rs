//! `cargo xtask setup`: installs what building and testing need and the machine lacks.

mod apt;
mod compiler;
pub(crate) mod fuzzer;
mod linker;
pub(crate) mod packager;
mod programs;
mod sshd;
mod tool;

use std::path::Path;

use anyhow::Result;

pub(crate) fn run() -> Result<()> {
    programs::ensure()?;
    sshd::ensure()?;
    compiler::ensure()?;
    linker::ensure()
}

/// Installs what the benchmark compares sipguard with. What can't be had is absent from its tables.
pub(crate) fn peers() {
    if let Err(error) = programs::peers() {
        eprintln!("{error:#}");
    }
}

/// Installs what boots other kernels (see [`crate::qemu`]); only the tasks that do so need it.
pub(crate) fn machines() -> Result<()> {
    programs::machines()
}

/// Installs what makes and reaches a gateway to boot.
pub(crate) fn gateways() -> Result<()> {
    programs::gateways()
}

/// Where the keys of Debian's archive are; installs them on a system that is not Debian.
pub(crate) fn debian_keyring() -> Result<&'static str> {
    const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    if !Path::new(KEYRING).exists() {
        apt::install(&["debian-archive-keyring"])?;
    }
    Ok(KEYRING)
}
