//! `sipguard ban` and `sipguard unban`.
//!
//! JSON of `ban`, one object: `{"prefixes":["203.0.113.9"],"by":"fail2ban","until":"2026-11-28T18:00:00Z","in_force":true,"effects":[…]}`.
//! `by` and `until` are null where nothing was said; `in_force` is false where nothing is, so that it waits for the next apply; `effects` is
//! what `effect.rs` says. Of `unban`, one object: `{"prefixes":["203.0.113.9"],"effects":[…]}`, the prefixes that were banned until now.

use std::{collections::BTreeSet, io::Write};

use anyhow::Result;
use serde_json::json;
use sipguard::{
    lifecycle::{self, Banned, Effect},
    policy::Action,
    prefix,
    state::Unban,
};
use sipguard_ebpf::abi::Layer;

use super::{Context, effect, needs_root, write_json};
use crate::{
    cli::{self, Lasts, flat},
    output::local,
};

pub(super) fn ban(ban: &cli::Ban, context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let prefixes = flat(&ban.prefixes);
    let lasts = match ban.lasts {
        Lasts::For(lasts) => Some(lasts),
        Lasts::Forever => None,
    };
    let Banned {
        until,
        services,
        again,
    } = lifecycle::ban(&context.host, &prefixes, ban.by.as_deref(), lasts)?;
    let in_force = !services.is_empty();
    if context.is_quiet() && !context.json {
        return Ok(());
    }
    let effects = effect::of(context, &prefixes, &services)?;
    if context.json {
        let prefixes: Vec<_> = prefixes.into_iter().map(prefix::format).collect();
        return write_json(
            out,
            &json!({
                "prefixes": prefixes,
                "by": ban.by,
                "until": until,
                "in_force": in_force,
                "effects": effect::json(&effects),
            }),
        );
    }
    if !in_force {
        context.warn("nothing is in force; this waits for the next `sipguard apply`");
    }
    let end = until.map_or_else(String::new, |until| format!(", until {}", local(until)));
    effect::write(out, &effects, &end)?;
    if !again {
        tell_of_allowed(context, &effects);
    }
    Ok(())
}

/// Once: whoever bans an address that a person has allowed has seen something that this person has to know of.
fn tell_of_allowed(context: &Context, effects: &[Effect]) {
    let allowed = effects.iter().filter(|effect| {
        effect.by.is_some() && effect.layer == Layer::Hand && effect.action == Action::Allow
    });
    let allowed: BTreeSet<_> = allowed.map(|effect| effect.prefix).collect();
    for prefix in allowed {
        context.warn(&format!(
            "{} is allowed by hand, and what a person wrote decides: the ban is kept, and does nothing there; somebody forges that address, or \
             has taken it over",
            prefix::format(prefix)
        ));
    }
}

pub(super) fn unban(unban: &cli::Unban, context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let by = unban.by.clone();
    let unbans: Vec<_> = if unban.all {
        vec![Unban { prefix: None, by }]
    } else {
        flat(&unban.prefixes)
            .into_iter()
            .map(|prefix| Unban {
                prefix: Some(prefix),
                by: by.clone(),
            })
            .collect()
    };
    let freed = lifecycle::unban(&context.host, &unbans)?;
    if context.is_quiet() && !context.json {
        return Ok(());
    }
    let services = lifecycle::live(&context.host)?.map_or_else(Vec::new, |live| {
        let services = live.generation.description.services.iter();
        services.map(|found| found.service.name.clone()).collect()
    });
    // Of thousands each by itself would say nothing.
    let effects = if unban.all {
        Vec::new()
    } else {
        effect::of(context, &freed, &services)?
    };
    if context.json {
        let prefixes: Vec<_> = freed.into_iter().map(prefix::format).collect();
        return write_json(
            out,
            &json!({ "prefixes": prefixes, "effects": effect::json(&effects) }),
        );
    }
    if unban.all {
        writeln!(
            out,
            "{} taken back",
            crate::output::count(freed.len(), "ban", "bans")
        )?;
        return Ok(());
    }
    for prefix in flat(&unban.prefixes) {
        if !freed.contains(&prefix) {
            writeln!(out, "{} was not banned", prefix::format(prefix))?;
        }
    }
    effect::write(out, &effects, "")
}
