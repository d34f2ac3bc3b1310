//! The new machine: a folder, and what is mounted and started there.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::outside::NAMESERVER;
use crate::{
    debootstrap,
    machine::{self, said},
    setup::{self, Source},
    step,
};

/// Beside Debian's smallest system: what rustup asks for, because the compiler links with it.
const PACKAGES: &str = "gcc,libc6-dev";
/// The first process there, with the folder, the toolchain and its name, and the task.
const START: &str = include_str!("start.sh");
/// By links to it, rustup is all of these.
const PROXIES: [&str; 6] = [
    "cargo",
    "rustc",
    "rustdoc",
    "rustfmt",
    "cargo-fmt",
    "cargo-clippy",
];
/// What of this machine's environment says how packages and crates are reached.
const ENVIRONMENT: [&str; 7] = [
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "RUSTUP_DIST_SERVER",
    "RUSTUP_UPDATE_ROOT",
    "CARGO_HTTP_MULTIPLEXING",
];
/// What the machine is called.
const NAME: &str = "new-machine";
/// Whom this machine trusts, where Debian keeps it.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Whom the new machine trusts: a place that installing packages does not write over.
const CERTIFICATES: &str = "/etc/trusted.crt";
/// For one command, which builds everything.
const LIMIT: Duration = Duration::from_hours(2);

/// What each new machine begins with, made once with debootstrap.
pub(super) struct Base {
    folder: PathBuf,
    release: String,
    mirror: String,
    apt_sources: String,
    apt_settings: String,
    rustup: PathBuf,
    /// The folder of rustup's stable Rust.
    toolchain: PathBuf,
}

impl Base {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let release = machine::debian()
            .context("a new machine is Debian's of this release, and this is no Debian")?;
        let sources = Source::all()?.into_iter().map(|source| source.line());
        let settings = said(Command::new("apt-config").args(["dump", "Acquire"]))?;
        // How servers are spoken to; not what else is fetched here.
        let settings = settings.lines().filter(|line| {
            ["http", "https", "Check-"]
                .iter()
                .any(|it| line.starts_with(&format!("Acquire::{it}")))
        });
        let sysroot =
            said(Command::new("rustup").args(["run", "stable", "rustc", "--print", "sysroot"]))?;
        Ok(Self {
            folder: folder.join("debian"),
            mirror: setup::mirror()?,
            apt_sources: sources.collect(),
            apt_settings: settings.flat_map(|line| [line, "\n"]).collect(),
            rustup: machine::find("rustup").context("rustup is missing")?,
            toolchain: PathBuf::from(sysroot.trim_end()),
            release,
        })
    }

    pub(super) fn ensure(&self) -> Result<()> {
        let recipe = format!("{} {PACKAGES}\n", self.release);
        let written = self.folder.with_extension("recipe");
        if fs::read_to_string(&written).is_ok_and(|it| it == recipe) {
            return Ok(());
        }
        // Until all is done, what is there is of no recipe.
        let _ = fs::remove_file(&written);
        clear(&self.folder)?;
        debootstrap::make(&self.release, PACKAGES, &self.folder, &self.mirror)?;
        fs::write(&written, recipe).context("writing down what was made")
    }
}

pub(super) struct System<'a> {
    base: &'a Base,
    root: PathBuf,
}

impl<'a> System<'a> {
    pub(super) fn new(base: &'a Base, folder: &Path, clone: &Path) -> Result<Self> {
        let root = folder.join("machine");
        clear(&root)?;
        let system = Self { base, root };
        copy(&base.folder, &system.root)?;
        system.reach_packages()?;
        system.bring_rust()?;
        copy(clone, &system.root.join("root/sipguard"))?;
        Ok(system)
    }

    fn reach_packages(&self) -> Result<()> {
        let write = |path: &str, text: &str| {
            fs::write(self.root.join(path), text).with_context(|| format!("writing {path}"))
        };
        // Where the command that made it left a link.
        let _ = fs::remove_file(self.root.join("etc/resolv.conf"));
        write("etc/resolv.conf", &format!("nameserver {NAMESERVER}\n"))?;
        // As Debian's installer does it: sipsak, for one, looks its own machine up.
        let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {NAME}\n::1 localhost\n");
        write("etc/hosts", &hosts)?;
        write("etc/hostname", &format!("{NAME}\n"))?;
        write("etc/apt/sources.list", &self.base.apt_sources)?;
        write("etc/apt/apt.conf.d/90fetch", &self.base.apt_settings)?;
        let trusted = env::var_os("SSL_CERT_FILE").map_or_else(|| TRUSTED.into(), PathBuf::from);
        if trusted.exists() {
            let copy = format!("{}{CERTIFICATES}", self.root.display());
            fs::copy(&trusted, copy).context("copying the certificates")?;
            let https = format!("Acquire::https::CAInfo \"{CERTIFICATES}\";\n");
            write("etc/apt/apt.conf.d/91certificates", &https)?;
        }
        Ok(())
    }

    fn bring_rust(&self) -> Result<()> {
        let cargo = self.root.join("root/.cargo");
        let programs = cargo.join("bin");
        fs::create_dir_all(&programs)?;
        fs::copy(self.base.rustup.canonicalize()?, programs.join("rustup"))
            .context("copying rustup")?;
        for proxy in PROXIES {
            symlink("rustup", programs.join(proxy))?;
        }
        // Where crates come from, if it is not the usual place.
        let own = env::var_os("CARGO_HOME").map(PathBuf::from);
        let own = own.or_else(|| Some(env::home_dir()?.join(".cargo")));
        if let Some(own) = own
            .map(|own| own.join("config.toml"))
            .filter(|own| own.exists())
        {
            fs::copy(own, cargo.join("config.toml")).context("copying cargo's settings")?;
        }
        Ok(())
    }

    /// Runs `cargo xtask` with a task there, as root, and writes what it says to a file.
    pub(super) fn cargo_xtask(&self, task: &str, log: &Path) -> Result<()> {
        let toolchain = &self.base.toolchain;
        let name = toolchain.file_name().context("a toolchain has a name")?;
        let mut start = Command::new("setpriv");
        start
            .args(["--pdeathsig", "KILL"])
            .args([
                "unshare",
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--fork",
                "--kill-child",
            ])
            .args(["sh", "-ec", START, "start"])
            .args([&self.root, toolchain])
            .arg(name)
            .arg(task);
        if Path::new(&format!("{}{CERTIFICATES}", self.root.display())).exists() {
            start.arg(machine::variable("SSL_CERT_FILE", Path::new(CERTIFICATES)));
        }
        let own = ENVIRONMENT
            .iter()
            .flat_map(|name| [(*name).to_owned(), name.to_uppercase()]);
        for (name, value) in own.filter_map(|name| Some((name.clone(), env::var_os(name)?))) {
            start.arg(machine::variable(&name, Path::new(&value)));
        }
        step::run_and_log(&format!("cargo xtask {task}"), &mut start, LIMIT, log)
    }
}

impl Drop for System<'_> {
    fn drop(&mut self) {
        // The next one is made anew in any case.
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn clear(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("clearing {}", folder.display()))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    said(copy.args(["--archive", "--reflink=auto"]).args([from, to])).map(drop)
}
