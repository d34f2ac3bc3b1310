//! `sipguard down`. JSON: `{"released":["eth0"]}`, the interfaces that were filtered until now.

use std::io::Write;

use anyhow::Result;
use serde_json::json;
use sipguard::lifecycle;

use super::{Context, needs_root, write_json};
use crate::output::joined;

pub(super) fn run(context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let released = lifecycle::down(&context.host)?;
    if context.json {
        return write_json(out, &json!({ "released": released }));
    }
    if context.is_quiet() {
        return Ok(());
    }
    if released.is_empty() {
        writeln!(out, "nothing was in force")?;
    } else {
        writeln!(
            out,
            "{}: not filtered any more; what the command line added is kept for the next `sipguard apply`",
            joined(released)
        )?;
    }
    Ok(())
}
