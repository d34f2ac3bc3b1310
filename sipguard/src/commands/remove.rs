//! `sipguard remove`. JSON: one object a line for every entry that was taken back,
//! `{"prefix":"203.0.113.7","service":"sip","action":"allow","until":null,"comment":null,"ended":false}`. `ended` is true for one that
//! was there no more because it had ended by itself, at most a day ago; `comment` is null then.

use std::{collections::BTreeSet, fmt, io::Write};

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use sipguard::{
    lifecycle,
    policy::{ALL, Action},
    prefix,
};

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
    let own = removed.entries.iter().map(|entry| Line {
        prefix: prefix::format(entry.prefix),
        service: &entry.service,
        action: entry.action,
        until: entry.until,
        comment: entry.comment.as_deref(),
        ended: false,
    });
    let ended = removed.ended.iter().map(|entry| Line {
        prefix: prefix::format(entry.prefix),
        service: &entry.service,
        action: entry.action,
        until: Some(entry.until),
        comment: None,
        ended: true,
    });
    for line in own.chain(ended) {
        if context.json {
            write_json(out, &line)?;
        } else if !context.is_quiet() {
            writeln!(out, "{line}")?;
        }
    }
    if !context.json && !context.is_quiet() {
        effect::write(out, &effect::of(context, &prefixes, &services)?, "")?;
    }
    Ok(())
}

/// What was taken back, or had ended by itself.
#[derive(Serialize)]
struct Line<'e> {
    prefix: String,
    service: &'e str,
    action: Action,
    until: Option<Timestamp>,
    comment: Option<&'e str>,
    ended: bool,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            prefix,
            service,
            action,
            ..
        } = self;
        match self.until.filter(|_| self.ended) {
            Some(until) => write!(
                f,
                "had ended: {action} {prefix} for {service}, at {}",
                local(until)
            ),
            None => write!(f, "removed: {action} {prefix} for {service}"),
        }
    }
}
