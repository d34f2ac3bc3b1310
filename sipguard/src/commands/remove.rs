//! `sipguard remove`. JSON: one object a line for every entry that was taken back,
//! `{"prefix":"203.0.113.7","service":"sip","action":"allow","until":null,"comment":null,"ended":false}`. `ended` is true for one that
//! was there no more because it had ended by itself, at most a day ago; `comment` is null then.

use std::{collections::BTreeSet, io::Write};

use anyhow::Result;
use serde_json::json;
use sipguard::{lifecycle, policy::ALL, prefix};

use super::{Context, effect, needs_root, write_json};
use crate::{
    cli::{Remove, flat},
    output::local,
};

pub(super) fn run(remove: &Remove, context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let prefixes = flat(&remove.prefixes);
    let service = remove.service.as_deref().filter(|name| *name != ALL);
    let removed = lifecycle::remove(&context.host, &prefixes, service)?;
    let own = removed.entries.iter().map(|entry| entry.service.clone());
    let ended = removed.ended.iter().map(|entry| entry.service.clone());
    let services: BTreeSet<_> = own.chain(ended).collect();
    let services: Vec<_> = services.into_iter().collect();
    for entry in removed.entries {
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
                    "ended": false,
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
    for entry in removed.ended {
        let prefix = prefix::format(entry.prefix);
        if context.json {
            write_json(
                out,
                &json!({
                    "prefix": prefix,
                    "service": entry.service,
                    "action": entry.action,
                    "until": entry.until,
                    "comment": null,
                    "ended": true,
                }),
            )?;
        } else if !context.is_quiet() {
            writeln!(
                out,
                "had ended: {} {prefix} for {}, at {}",
                entry.action,
                entry.service,
                local(entry.until)
            )?;
        }
    }
    if !context.json && !context.is_quiet() {
        effect::write(out, &effect::of(context, &prefixes, &services)?, "")?;
    }
    Ok(())
}
