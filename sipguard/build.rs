//! Builds the kernel program and leaves its object at `$OUT_DIR/sipguard-ebpf`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain, build_ebpf};

/// The name under which `cargo xtask setup` links the compiler of the kernel side.
const TOOLCHAIN: &str = "sipguard-bpf";

fn main() -> Result<()> {
    let workspace = workspace()?;
    let tools = workspace.join("target/tools/bin");
    let linker = tools.join("bpf-linker");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", linker.display());

    if !linker.exists() || !toolchain_answers() {
        println!(
            "cargo::error=the compiler of the kernel program is not set up: run `cargo xtask setup` in {}",
            workspace.display()
        );
        return Ok(());
    }

    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([tools].into_iter().chain(env::split_paths(&path)))?;
    // SAFETY: nothing else runs in this process yet.
    unsafe {
        env::set_var("PATH", path);
        // Where the linked compiler is a stable release, this is what lets it build `core` for BPF.
        env::set_var("RUSTC_BOOTSTRAP", "1");
    }

    let root = workspace.join("sipguard-ebpf");
    let root = root
        .to_str()
        .context("the path of the checkout is not UTF-8")?;
    let features: &[&str] = if env::var_os("CARGO_FEATURE_LOG").is_some() {
        &["log"]
    } else {
        &[]
    };
    let package = Package {
        name: "sipguard-ebpf",
        root_dir: root,
        features,
        ..Package::default()
    };
    build_ebpf([package], Toolchain::Custom(TOOLCHAIN))
}

fn workspace() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").context("not run by cargo")?;
    fs::canonicalize(Path::new(&package).join("..")).context("the package is not in its workspace")
}

fn toolchain_answers() -> bool {
    Command::new("rustup")
        .args(["run", TOOLCHAIN, "rustc", "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
