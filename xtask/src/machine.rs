//! The machine that the tasks run on: where the checkout is, which programs there are, who we are.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

/// A user's `PATH` often lacks these; what is there is run as root in the end.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The top folder of the checkout.
pub(crate) fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The name of the Debian release that this is.
pub(crate) fn debian() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let value = |key: &str| {
        let mut lines = release.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(value.trim_matches('"').to_owned())
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME"))?
}

pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    cargo
}

/// Has cargo build sipguard as these arguments say, in the `target` folder of a checkout.
pub(crate) fn build(checkout: &Path, arguments: &[&str]) -> Result<()> {
    let status = cargo()
        .current_dir(checkout)
        .arg("build")
        .args(arguments)
        .arg("--target-dir")
        .arg(checkout.join("target"))
        .status()?;
    ensure!(
        status.success(),
        "sipguard could not be built in {}",
        checkout.display()
    );
    Ok(())
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `program` as root: directly, or through sudo, which may ask for a password here.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    ask_for_sudo()?;
    let mut command = Command::new("sudo");
    command.arg("--").arg(program);
    Ok(command)
}

pub(crate) fn ask_for_sudo() -> Result<()> {
    if find("sudo").is_none() {
        bail!("this step needs root, and there is no sudo here: run it again as root");
    }
    let status = Command::new("sudo").arg("--validate").status()?;
    ensure!(status.success(), "this step needs root, and sudo said no");
    Ok(())
}

/// A variable of the environment, as `env` takes it.
pub(crate) fn variable(name: &str, value: &Path) -> OsString {
    let mut variable = OsString::from(name);
    variable.push("=");
    variable.push(value);
    variable
}

/// What a quick program prints, which has to succeed.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let program = command.get_program().display().to_string();
    let output = command
        .output()
        .with_context(|| format!("starting {program}"))?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// What a program prints, or nothing where it can't be run or fails.
pub(crate) fn answer(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}
