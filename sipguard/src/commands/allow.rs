//! `sipguard allow` and `sipguard deny`.
//!
//! JSON, one object: `{"action":"allow","prefixes":["203.0.113.7"],"services":["sip","web"],"until":null,"in_force":true}`. `until` is when
//! it ends by itself, in RFC 3339; `in_force` is false where nothing is, so that it waits for the next apply.

use std::io::Write;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::json;
use sipguard::{
    lifecycle::{self, Changed, Word},
    policy::Action,
    prefix, when,
};

use super::{Context, needs_root, write_json};
use crate::{
    cli::{Say, flat},
    output::{joined, local},
};

pub(super) fn run(say: &Say, action: Action, context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let prefixes = flat(&say.prefixes);
    let until = say
        .until
        .or_else(|| Some(when::after(say.lasts?, Timestamp::now())));
    let word = Word {
        action,
        until,
        comment: say.comment.clone(),
    };
    let Changed { services, in_force } = lifecycle::add(&prefixes, say.service.as_deref(), &word)?;
    let prefixes: Vec<_> = prefixes.into_iter().map(prefix::format).collect();
    if context.json {
        return write_json(
            out,
            &json!({
                "action": action,
                "prefixes": prefixes,
                "services": services,
                "until": until,
                "in_force": in_force,
            }),
        );
    }
    if !in_force {
        context.warn("nothing is in force; this waits for the next `sipguard apply`");
    }
    if !context.is_quiet() {
        let done = match action {
            Action::Allow => "allowed",
            Action::Deny => "denied",
        };
        let (prefixes, services) = (joined(prefixes), joined(services));
        let end = until.map_or_else(String::new, |until| format!(", until {}", local(until)));
        writeln!(out, "{done} {prefixes} for {services}{end}")?;
    }
    Ok(())
}
