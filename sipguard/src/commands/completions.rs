//! `sipguard completions`.

use std::io::Write;

use anyhow::Result;
use clap::CommandFactory as _;

use crate::cli::{Cli, Completions};

pub(super) fn run(completions: &Completions, out: &mut dyn Write) -> Result<()> {
    // The generator does not forgive a writer that fails, such as a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(
        completions.shell,
        &mut Cli::command(),
        "sipguard",
        &mut script,
    );
    out.write_all(&script)?;
    Ok(())
}
