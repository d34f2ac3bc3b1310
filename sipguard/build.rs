//! Builds the kernel program and leaves its object at `$OUT_DIR/sipguard-ebpf`.

use std::{
    env,
    fs::{self, File},
    hash::Hasher as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain, build_ebpf};
use object::{
    build::elf::{Builder, SectionData},
    elf,
};
use siphasher::sip::SipHasher13;

const OBJECT: &str = "sipguard-ebpf";
/// The name under which `cargo xtask setup` links the compiler of the kernel side.
const TOOLCHAIN: &str = "sipguard-bpf";

fn main() {
    if let Err(error) = build() {
        println!("cargo::error={error:#}");
    }
}

fn build() -> Result<()> {
    let workspace = workspace()?;
    let tools = workspace.join("target/tools/bin");
    let linker = tools.join("bpf-linker");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", linker.display());

    if !linker.exists() || !toolchain_answers() {
        bail!(
            "the compiler of the kernel program is not set up: run `cargo xtask setup` in {}",
            workspace.display()
        );
    }

    let log = env::var_os("CARGO_FEATURE_LOG").is_some();
    let shared = shared_folder(&workspace, log)?;
    let own = PathBuf::from(env::var_os("OUT_DIR").context("not run by cargo")?);
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([tools].into_iter().chain(env::split_paths(&path)))?;
    // SAFETY: nothing else runs in this process yet.
    unsafe {
        env::set_var("PATH", path);
        // Where the linked compiler is a stable release, this is what lets it build `core` for BPF.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        env::set_var("OUT_DIR", &shared);
        // aya-build shows each line that the inner commands print as a warning: only complaints are worth that.
        env::set_var("CARGO_TERM_QUIET", "true");
        env::set_var("RUSTUP_LOG", "error");
    }

    let root = workspace.join("sipguard-ebpf");
    let package = Package {
        name: OBJECT,
        root_dir: root
            .to_str()
            .context("the path of the checkout is not UTF-8")?,
        features: if log { &["log"] } else { &[] },
        ..Package::default()
    };
    // Builds of two profiles may run at once, and one must not copy what the other is writing.
    let lock = File::create(shared.join("lock"))?;
    lock.lock()?;
    build_ebpf([package], Toolchain::Custom(TOOLCHAIN))?;
    let object = fs::read(shared.join(OBJECT)).context("reading the object")?;
    let object = stripped(&object).context("taking what debuggers want out of the object")?;
    // By which a command knows whether what is in force was made of it.
    let mut hasher = SipHasher13::new();
    hasher.write(&object);
    println!("cargo::rustc-env=OBJECT_DIGEST={:016x}", hasher.finish());
    fs::write(own.join(OBJECT), object).context("writing the object")?;
    Ok(())
}

/// What a debugger would want is nine tenths of the object, and would be a tenth of the command that has it inside.
fn stripped(object: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(object)?;
    for section in &mut builder.sections {
        let name = &section.name;
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    // The linker has one table of names for sections and symbols, and the writer wants two.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut bytes = Vec::new();
    builder.write(&mut bytes)?;
    Ok(bytes)
}

/// Each of cargo's commands and profiles has its own `OUT_DIR`, and `core` for BPF takes a minute: they share one.
fn shared_folder(workspace: &Path, log: bool) -> Result<PathBuf> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").context("not run by cargo")?;
    let variant = if log { "log" } else { "shipped" };
    let folder = workspace.join("target/bpf").join(arch).join(variant);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder)
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
