//! `sipguard remove`. JSON: one object a line for every entry that was taken back,
//! `{"prefix":"203.0.113.7","service":"sip","action":"allow","until":null,"comment":null}`.

use std::{collections::BTreeSet, io::Write};

use anyhow::Result;
use serde_json::json;
use sipguard::{lifecycle, policy::ALL, prefix};

use super::{Context, effect, needs_root, write_json};
use crate::cli::{Remove, flat};

pub(super) fn run(remove: &Remove, context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let prefixes = flat(&remove.prefixes);
    let service = remove.service.as_deref().filter(|name| *name != ALL);
    let removed = lifecycle::remove(&context.host, &prefixes, service)?;
    let services: BTreeSet<_> = removed.iter().map(|entry| entry.service.clone()).collect();
    let services: Vec<_> = services.into_iter().collect();
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
    if !context.json && !context.is_quiet() {
        effect::write(out, &effect::of(context, &prefixes, &services)?, "")?;
    }
    Ok(())
}
