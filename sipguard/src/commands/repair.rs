//! `sipguard repair`. JSON: `{"repaired":[{"interface":"eth0","mode":"tc","cause":"…"}]}`, the interfaces that were not filtered as they
//! should have been until now; `mode` is null where the program stayed in its place. `refused` as in `apply`.

use std::io::Write;

use anyhow::Result;
use serde_json::json;
use sipguard::{
    device::Hook,
    lifecycle::{self, Repaired},
};

use super::{Context, Outcome, apply, needs_root, write_json};

pub(super) fn run(context: &Context, out: &mut dyn Write) -> Result<Outcome> {
    needs_root()?;
    let Repaired {
        interfaces,
        refused,
    } = lifecycle::repair(&context.host)?;
    let outcome = apply::tell_refused(&refused, context);
    if context.json {
        let repaired: Vec<_> = interfaces
            .iter()
            .map(|(name, switched)| {
                json!({ "interface": name, "mode": switched.hook.map(Hook::name), "cause": switched.fallback })
            })
            .collect();
        let mut json = json!({ "repaired": repaired });
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
    if interfaces.is_empty() && refused.is_empty() && !context.is_quiet() {
        writeln!(out, "nothing to repair")?;
    }
    Ok(outcome)
}
