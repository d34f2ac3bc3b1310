//! `cargo xtask test`: every test of the workspace, as root, because they load programs into the kernel; and with no other programs on their
//! `PATH` than those that are declared for them.

mod programs;

use std::{panic, process::Command, thread};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    artifacts::{self, Artifact},
    machine, package,
    setup::{self, Purpose},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// What is handed on to `cargo test`, for example `-p sipguard` or a part of a test's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run(&[Purpose::Test])?;
    if arguments.cargo.is_empty() {
        return everything();
    }
    let chosen = arguments
        .cargo
        .iter()
        .any(|it| it.starts_with("-p") || it.starts_with("--package"));
    let mut test = machine::cargo();
    test.arg("test");
    if chosen {
        let packages = ["--package", "sipguard", "--package", "sipguard-fetch"];
        build(&packages)?;
    } else {
        // Some tests are about the packages.
        package::build()?;
        build(&["--workspace"])?;
        test.arg("--workspace");
    }
    let runner = serde_json::to_string(&runner()?)?;
    test.args([
        "--config",
        &format!(r#"target."cfg(all())".runner = {runner}"#),
    ]);
    // What fails is told at once, not one failure a run.
    succeed(test.arg("--no-fail-fast").args(&arguments.cargo))
}

fn everything() -> Result<()> {
    let programs = thread::scope(|scope| {
        // Linking them takes one processor long: what else is tested is built beside it.
        let packages = scope.spawn(package::build);
        let programs = programs();
        let packages = packages.join();
        packages.unwrap_or_else(|panicked| panic::resume_unwind(panicked))?;
        programs
    })?;
    let ended = programs::run(&programs, &runner()?);
    let mut test = machine::cargo();
    succeed(test.args(["test", "--workspace", "--doc"])).and(ended)
}

/// Builds all that is tested, and returns the programs that test it, by the names of their files.
fn programs() -> Result<Vec<Artifact>> {
    build(&["--workspace"])?;
    let mut test = machine::cargo();
    let mut programs = artifacts::built(test.args(["test", "--workspace", "--no-run"]))?;
    programs.retain(|program| program.profile.test && program.executable.is_some());
    programs.sort_by(|one, other| one.target.src_path.cmp(&other.target.src_path));
    Ok(programs)
}

/// `cargo test` builds a package's command only for tests of that package; ours are in one of their own.
fn build(packages: &[&str]) -> Result<()> {
    succeed(machine::cargo().arg("build").args(packages))
}

/// What runs a test program. It is built as the user, with all that the machine has, and run as root, with what is declared: nothing in
/// `target/` ends up belonging to root. sudo has a `PATH` of its own, so that ours comes behind it.
fn runner() -> Result<Vec<String>> {
    let path = setup::path(Purpose::Test)?;
    let path = machine::variable("PATH", &path);
    let path = path.to_str().context("the checkout's path is no text")?;
    let mut runner = vec!["env", path];
    if !machine::is_root() {
        machine::ask_for_sudo()?;
        runner.splice(..0, ["sudo", "--preserve-env"]);
    }
    Ok(runner.into_iter().map(str::to_owned).collect())
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
    ensure!(status.success(), "cargo {}: {status}", arguments.join(" "));
    Ok(())
}
