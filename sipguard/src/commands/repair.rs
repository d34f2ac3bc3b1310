//! `sipguard repair`. JSON: `{"repaired":[{"interface":"eth0","mode":"tc","cause":"…"}]}`, the interfaces that were not filtered as they
//! should have been until now; `mode` is null where the program stayed in its place. `refused` as in `apply`. `entries` is how many entries of bans and live
//! sources the kernel had not, or had too many; they are compared every ten minutes.

use std::io::Write;

use anyhow::Result;
use serde_json::json;
use sipguard::{
    device::Hook,
    lifecycle::{self, Repaired},
};

use super::{Context, Outcome, apply, needs_root, write_json};
use crate::output::count;

pub(super) fn run(context: &Context, out: &mut dyn Write) -> Result<Outcome> {
    needs_root()?;
    let Repaired {
        interfaces,
        refused,
        entries,
    } = lifecycle::repair(&context.host)?;
    let outcome = apply::tell_refused(&refused, context);
    if context.json {
        let repaired: Vec<_> = interfaces
            .iter()
            .map(|(name, switched)| {
                json!({ "interface": name, "mode": switched.hook.map(Hook::name), "cause": switched.fallback })
            })
            .collect();
        let mut json = json!({ "repaired": repaired, "entries": entries });
        apply::add_refused(&mut json, &refused);
        write_json(out, &json)?;
        return Ok(outcome);
    }
    for (name, switched) in &interfaces {
        let mode = switched.hook.map_or("as before", Hook::name);
        let cause = switched
            .fallback
            .as_ref()
            .map_or_else(String::new, |cause| format!(" ({cause})"));
        // Somebody should know, however quiet it is to be: until now packets passed that should not have.
        context.warn(&format!(
            "{name} was not filtered as it should be, and is now: {mode}{cause}"
        ));
    }
    if entries > 0 {
        context.warn(&format!(
            "{} of bans and live sources {} missing in the kernel, or too many, and {} right now",
            count(entries, "entry", "entries"),
            if entries == 1 { "was" } else { "were" },
            if entries == 1 { "is" } else { "are" },
        ));
    }
    if interfaces.is_empty() && entries == 0 && refused.is_empty() && !context.is_quiet() {
        writeln!(out, "nothing to repair")?;
    }
    Ok(outcome)
}
