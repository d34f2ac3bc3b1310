//! `cargo xtask test`: every test of the workspace, as root, because they load programs into the kernel; and with no other programs on their
//! `PATH` than those that are declared for them.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
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
    let chosen = arguments
        .cargo
        .iter()
        .any(|it| it.starts_with("-p") || it.starts_with("--package"));
    // `cargo test` builds a package's command only for tests of that package; ours are in one of their own.
    let mut build = machine::cargo();
    build.arg("build");
    let mut test = machine::cargo();
    test.arg("test");
    if chosen {
        build.args(["--package", "sipguard", "--package", "sipguard-fetch"]);
    } else {
        // Some tests are about the package.
        package::build()?;
        build.arg("--workspace");
        test.arg("--workspace");
    }
    succeed(&mut build)?;
    // Built as the user, with all that the machine has, and run as root, with what is declared: nothing in `target/` ends up belonging to
    // root. sudo has a `PATH` of its own, so that ours comes behind it.
    let path = setup::path(Purpose::Test)?;
    let path = machine::variable("PATH", &path);
    let path = path.to_str().context("the checkout's path is no text")?;
    let mut runner = vec!["env", path];
    if !machine::is_root() {
        machine::ask_for_sudo()?;
        runner.splice(..0, ["sudo", "--preserve-env"]);
    }
    let runner = serde_json::to_string(&runner)?;
    test.args([
        "--config",
        &format!(r#"target."cfg(all())".runner = {runner}"#),
    ]);
    // What fails is told at once, not one failure a run.
    succeed(test.arg("--no-fail-fast").args(&arguments.cargo))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
    ensure!(status.success(), "cargo {}: {status}", arguments.join(" "));
    Ok(())
}
