//! `sipguard` alone: what is in force, or how to begin.

use std::io::Write;

use anyhow::Result;
use clap::CommandFactory as _;

use super::{Context, Outcome, live, may_use_bpf, status};
use crate::cli::{self, Cli};

pub(super) fn run(context: &Context, out: &mut dyn Write) -> Result<Outcome> {
    if may_use_bpf() && (context.json || live(context)?.is_some()) {
        return status::run(&cli::Status { check: false }, context, out);
    }
    write!(out, "{}", Cli::command().render_help())?;
    let next = if !may_use_bpf() {
        "Run `sudo sipguard` to see what is in force.".to_owned()
    } else if context.config.exists() {
        let file = context.config.display();
        format!("Nothing is in force. Next: fill in {file}, then `sipguard apply`.")
    } else {
        "Nothing is in force. Next: `sipguard init` writes a config file.".to_owned()
    };
    writeln!(out, "\n{next}")?;
    Ok(Outcome::Done)
}
