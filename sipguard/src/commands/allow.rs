//! `sipguard allow` and `sipguard deny`.
//!
//! JSON, one object: `{"action":"allow","prefixes":["203.0.113.7"],"services":["sip","web"],"until":null,"in_force":true,"effects":[…]}`.
//! `until` is when it ends by itself, in RFC 3339; `in_force` is false where nothing is, so that it waits for the next apply. `effects` is what
//! `effect.rs` says.

use std::io::Write;

use anyhow::{Result, bail};
use ipnet::IpNet;
use serde_json::json;
use sipguard::{
    lifecycle::{self, Changed, Effect, End, NewEntry},
    policy::{ALL, Action},
    prefix,
};

use super::{Context, effect, needs_root, write_json};
use crate::{
    cli::{Lasts, Say, flat},
    output::{joined, local},
};

pub(super) fn run(say: &Say, action: Action, context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let prefixes = flat(&say.prefixes);
    let end = match (say.until, say.lasts) {
        (Some(until), _) => Some(End::At(until)),
        (None, Some(Lasts::For(lasts))) => Some(End::After(lasts)),
        (None, Some(Lasts::Forever) | None) => None,
    };
    let new = NewEntry {
        action,
        end,
        comment: say.comment.clone(),
    };
    let service = match say.service.as_deref() {
        Some(ALL) => None,
        None if action == Action::Allow => the_only_one(context)?,
        named => named.map(str::to_owned),
    };
    let (changed, effects) = self::say(context, &prefixes, service.as_deref(), &new)?;
    let Changed {
        services,
        until,
        in_force,
    } = changed;
    if context.json {
        let prefixes: Vec<_> = prefixes.into_iter().map(prefix::format).collect();
        return write_json(
            out,
            &json!({
                "action": action,
                "prefixes": prefixes,
                "services": services,
                "until": until,
                "in_force": in_force,
                "effects": effect::json(&effects),
            }),
        );
    }
    if !in_force {
        context.warn("nothing is in force; this waits for the next `sipguard apply`");
    }
    if !context.is_quiet() {
        let end = until.map_or_else(String::new, |until| format!(", until {}", local(until)));
        effect::write(out, &effects, &end)?;
    }
    Ok(())
}

/// Says it, and asks the kernel what came of it.
pub(super) fn say(
    context: &Context,
    prefixes: &[IpNet],
    service: Option<&str>,
    new: &NewEntry,
) -> Result<(Changed, Vec<Effect>)> {
    let changed = lifecycle::add(&context.host, prefixes, service, new)?;
    let effects = effect::of(context, prefixes, &changed.services)?;
    Ok((changed, effects))
}

/// Who is let in to one service seldom has business with another: where there are several, it must be said which.
fn the_only_one(context: &Context) -> Result<Option<String>> {
    let Some(live) = lifecycle::live(&context.host)? else {
        return Ok(None);
    };
    let names: Vec<_> = live
        .generation
        .description
        .services
        .iter()
        .map(|found| found.service.name.as_str())
        .collect();
    if let [first, _, ..] = *names {
        bail!(
            "say to which service: --service {first}, or --service {ALL} for all of them ({})",
            joined(names)
        );
    }
    Ok(None)
}
