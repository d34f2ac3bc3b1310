//! `sipguard clock`.
//!
//! JSON, one object: `{"clock":"2026-03-01T12:00:00Z","reckoned":"2026-03-01T12:00:00Z","believed":true}`. `clock` is what this host's clock
//! says, `reckoned` the time by which entries end, and `believed` whether the two are one.

use std::io::Write;

use anyhow::Result;
use serde_json::json;
use sipguard::{
    lifecycle::{self, Clocks},
    state::TOLERANCE,
};

use super::{Context, needs_root, write_json};
use crate::output::local;

pub(super) fn run(context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let Clocks { now, reckoned } = lifecycle::clock(&context.host)?;
    let believed = now.wall.duration_since(reckoned.wall).abs() <= TOLERANCE;
    if context.json {
        return write_json(
            out,
            &json!({ "clock": now.wall, "reckoned": reckoned.wall, "believed": believed }),
        );
    }
    if context.is_quiet() {
        return Ok(());
    }
    let (clock, time) = (local(now.wall), local(reckoned.wall));
    if believed {
        writeln!(out, "it is {time}")?;
    } else {
        writeln!(
            out,
            "the clock says {clock}, which is not believed: entries end as if it were {time}"
        )?;
    }
    Ok(())
}
