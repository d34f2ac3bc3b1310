//! `cargo xtask`: what a developer of sipguard runs.

mod machine;
mod setup;
mod step;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Sets this machine up for sipguard, and runs its tests.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

// Every task calls `setup::run` first: one command is enough on a new machine.
#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need; does nothing when all is there
    Setup,
    /// Run every test (as root, through sudo where needed)
    Test(test::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup => {
            setup::run()?;
            println!("everything is set up");
            Ok(())
        }
        Task::Test(arguments) => test::run(&arguments),
    }
}
