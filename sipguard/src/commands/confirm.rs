//! `sipguard confirm` and `sipguard rollback`.
//!
//! JSON, one object: `{"generation":4,"released":["eth1"]}`. `generation` is the one in force now, null where nothing is; `released` are
//! interfaces that were filtered until now.

use std::io::Write;

use anyhow::Result;
use serde_json::json;
use sipguard::lifecycle::{self, Decided};

use super::{Context, needs_root, write_json};

pub(super) fn confirm(context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let decided = lifecycle::confirm(&context.host)?;
    let generation = decided.pending.generation;
    let says = format!("confirmed: generation {generation} stays in force");
    write(&decided, Some(generation), &says, context, out)
}

pub(super) fn rollback(context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let decided = lifecycle::rollback(&context.host)?;
    let previous = decided.pending.previous;
    let says = match previous {
        Some(previous) => format!("taken back: generation {previous} is in force again"),
        None => "taken back: nothing is in force, as before".to_owned(),
    };
    write(&decided, previous, &says, context, out)
}

fn write(
    decided: &Decided,
    generation: Option<u64>,
    says: &str,
    context: &Context,
    out: &mut dyn Write,
) -> Result<()> {
    let released = &decided.released;
    if context.json {
        return write_json(
            out,
            &json!({ "generation": generation, "released": released }),
        );
    }
    if context.is_quiet() {
        return Ok(());
    }
    writeln!(out, "{says}")?;
    for interface in released {
        writeln!(out, "{interface}: not filtered any more")?;
    }
    Ok(())
}
