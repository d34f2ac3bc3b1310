//! The `sipguard` command.
#![cfg_attr(
    test,
    expect(
        clippy::unwrap_used,
        reason = "a test that panics is a test that fails"
    )
)]

mod cli;
mod commands;
mod output;
mod progress;

use std::{io, process::ExitCode};

use clap::Parser as _;
use sipguard::host::Host;

use crate::{
    cli::Cli,
    commands::{Context, Outcome},
    output::Stdout,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut stdout = Stdout::new();
    #[expect(clippy::disallowed_methods, reason = "made here, and handed down")]
    let host = Host::system();
    let context = Context::new(host, &cli.global, &stdout);
    let result = commands::run(cli.command, &context, &mut stdout).and_then(|outcome| {
        io::Write::flush(&mut stdout)?;
        Ok(outcome)
    });
    let outcome = match result {
        Ok(outcome) => outcome,
        // Whoever read our output has seen enough.
        Err(error) if is_closed_pipe(&error) => Outcome::Done,
        Err(error) => {
            // Only printing leaves the system's errors bare.
            let bare = error.chain().len() == 1 && error.is::<io::Error>();
            let error = if bare {
                error.context("cannot write the output")
            } else {
                error
            };
            output::complain(&format!("{error:#}"), context.palette_of_errors);
            Outcome::Wrong
        }
    };
    context.tell_troubles(outcome).into()
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
