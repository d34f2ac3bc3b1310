//! `cargo xtask test`: every test of the workspace, as root, because they load programs into the kernel.

use std::process::Command;

use anyhow::{Result, ensure};
use clap::Args;

use crate::{machine, setup};

#[derive(Args)]
pub(crate) struct Arguments {
    /// What is handed on to `cargo test`, for example `-p sipguard` or a part of a test's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    // `cargo test` builds a package's command only for tests of that package; ours are in one of their own.
    succeed(machine::cargo().args(["build", "--workspace"]))?;
    let mut test = machine::cargo();
    test.arg("test");
    if !arguments
        .cargo
        .iter()
        .any(|it| it == "-p" || it.starts_with("--package"))
    {
        test.arg("--workspace");
    }
    if !machine::is_root() {
        machine::ask_for_sudo()?;
        // Built as the user, run as root: nothing in `target/` ends up belonging to root.
        test.args([
            "--config",
            r#"target."cfg(all())".runner = ["sudo", "--preserve-env"]"#,
        ]);
    }
    succeed(test.args(&arguments.cargo))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
    ensure!(status.success(), "cargo {}: {status}", arguments.join(" "));
    Ok(())
}
