//! `sipguard log`, in builds with the feature `log` only: a line for each packet that is dropped, for debugging the kernel program.

use std::io::Write as _;

use anyhow::Result;
use sipguard::datapath;

use super::Context;

/// Prints records as they come.
struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // Whoever no longer reads ends the command with the next signal; there is nobody else to tell.
        let _ = writeln!(std::io::stdout(), "{}", record.args());
    }

    fn flush(&self) {}
}

pub(super) fn run(context: &Context) -> Result<()> {
    Ok(datapath::follow_log(&Lines, context.host.now())?)
}
