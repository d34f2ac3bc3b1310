//! `sipguard remove`. JSON: one object a line for every entry that was taken back,
//! `{"prefix":"203.0.113.7","service":"sip","action":"allow","until":null,"comment":null}`.

use std::io::Write;

use anyhow::Result;
use serde_json::json;
use sipguard::{lifecycle, prefix};

use super::{Context, needs_root, write_json};
use crate::cli::{Remove, flat};

pub(super) fn run(remove: &Remove, context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let removed = lifecycle::remove(&flat(&remove.prefixes), remove.service.as_deref())?;
    for entry in removed {
        let prefix = prefix::format(entry.prefix);
        if context.json {
            write_json(
                out,
                &json!({
                    "prefix": prefix,
                    "service": entry.service,
                    "action": entry.action,
                    "until": entry.until,
                    "comment": entry.comment,
                }),
            )?;
        } else if !context.is_quiet() {
            writeln!(
                out,
                "removed: {} {prefix} for {}",
                entry.action, entry.service
            )?;
        }
    }
    Ok(())
}
