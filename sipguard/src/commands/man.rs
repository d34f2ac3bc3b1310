//! `sipguard man`.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
};

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use clap_mangen::Man as Page;

use super::Context;
use crate::cli::{Cli, Man};

/// What the page of all commands ends with; the config file has a page of its own, `dist/sipguard.toml.5`.
const SEE_ALSO: &str = ".SH \"SEE ALSO\"\n\\fBsipguard.toml\\fR(5), the config file\n";

pub(super) fn run(man: &Man, context: &Context, out: &mut dyn Write) -> Result<()> {
    let Some(folder) = &man.out else {
        Page::new(Cli::command()).render(&mut &mut *out)?;
        write!(out, "{SEE_ALSO}")?;
        return Ok(());
    };
    let written = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        clap_mangen::generate_to(Cli::command(), folder)?;
        let page = OpenOptions::new()
            .append(true)
            .open(folder.join("sipguard.1"));
        page?.write_all(SEE_ALSO.as_bytes())
    };
    written().with_context(|| format!("cannot write the pages into {}", folder.display()))?;
    if !context.is_quiet() {
        writeln!(out, "wrote the manual pages into {}", folder.display())?;
    }
    Ok(())
}
