//! `sipguard man`.

use std::{fs, io::Write};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_mangen::Man as Page;

use super::Context;
use crate::cli::{Cli, Man};

pub(super) fn run(man: &Man, context: &Context, out: &mut dyn Write) -> Result<()> {
    let Some(folder) = &man.out else {
        Page::new(Cli::command()).render(&mut &mut *out)?;
        return Ok(());
    };
    let written = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        clap_mangen::generate_to(Cli::command(), folder)
    };
    written().with_context(|| format!("cannot write the pages into {}", folder.display()))?;
    if !context.is_quiet() {
        writeln!(out, "wrote the manual pages into {}", folder.display())?;
    }
    Ok(())
}
