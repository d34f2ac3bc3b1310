//! What a change came to, as the kernel says after it.
//!
//! JSON, an array: `[{"prefix":"203.0.113.0/24","service":"sip","action":"deny","by":"203.0.113.0/24","enforced":true,"exceptions":12}]`.
//! `by` is the prefix of the entry that decides, null where none does and the service's default counts; `exceptions` is how many more
//! specific entries in force do the opposite inside the prefix; `enforced` is false in monitor mode.

use std::{collections::BTreeMap, io::Write};

use anyhow::Result;
use ipnet::IpNet;
use serde_json::{Value, json};
use sipguard::{
    lifecycle::{self, Effect},
    policy::Action,
    prefix,
};

use super::Context;
use crate::output::{Grouped, joined};

/// Nothing where nothing is in force.
pub(super) fn of(
    context: &Context,
    prefixes: &[IpNet],
    services: &[String],
) -> Result<Vec<Effect>> {
    match lifecycle::live(&context.host)? {
        Some(live) => Ok(lifecycle::effects(
            &live,
            prefixes,
            services,
            context.host.now(),
        )?),
        None => Ok(Vec::new()),
    }
}

pub(super) fn json(effects: &[Effect]) -> Value {
    let effects = effects.iter().map(|effect| {
        json!({
            "prefix": prefix::format(effect.prefix),
            "service": effect.service,
            "action": effect.action,
            "by": effect.by.map(prefix::format),
            "enforced": effect.enforced,
            "exceptions": effect.exceptions,
        })
    });
    effects.collect()
}

/// A sentence for what happens to each prefix, and one for what goes on inside it. `end` is added where the prefix's own entry decides.
pub(super) fn write(out: &mut dyn Write, effects: &[Effect], end: &str) -> Result<()> {
    /// The services of which something is true, and how many exceptions there are.
    #[derive(Default)]
    struct Of<'e> {
        services: Vec<&'e str>,
        exceptions: usize,
    }
    let mut groups = BTreeMap::<_, Of<'_>>::new();
    // Of one family alone it is not everybody.
    let any = prefix::ANY
        .iter()
        .all(|any| effects.iter().any(|effect| effect.prefix == *any));
    for effect in effects {
        let decides = match effect.by {
            Some(by) if by == effect.prefix => Decides::Own,
            Some(by) => Decides::Other(name(by, true)),
            None => Decides::Default,
        };
        let is_allowed = effect.action == Action::Allow;
        let group = (
            name(effect.prefix, any),
            is_allowed,
            effect.enforced,
            decides,
        );
        let of = groups.entry(group).or_default();
        if !of.services.contains(&effect.service.as_str()) {
            of.services.push(&effect.service);
        }
        of.exceptions += effect.exceptions;
    }
    for ((prefix, is_allowed, enforced, decides), of) in groups {
        let (done, opposite) = if is_allowed {
            ("allowed", "denying")
        } else {
            ("denied", "allowing")
        };
        let why = match decides {
            Decides::Own => end.to_owned(),
            Decides::Other(by) => format!(": {by} decides"),
            Decides::Default => ": it is not listed".to_owned(),
        };
        let monitor = if enforced {
            ""
        } else {
            " (monitor mode: counted only)"
        };
        let services = joined(of.services);
        writeln!(out, "{prefix} is {done} for {services} now{why}{monitor}")?;
        let show = if prefix == ANY {
            "sipguard list".to_owned()
        } else {
            format!("sipguard list {prefix}")
        };
        match of.exceptions {
            0 => {}
            1 => writeln!(
                out,
                "1 more specific entry inside it goes on {opposite}; `{show}` shows it"
            )?,
            many => writeln!(
                out,
                "{} more specific entries inside it go on {opposite}; `{show}` shows them",
                Grouped(many as u64)
            )?,
        }
    }
    Ok(())
}

/// Which entry decides.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Decides {
    /// The prefix's own.
    Own,
    /// One that covers it, by its name.
    Other(String),
    /// None.
    Default,
}

/// What both families' all is called.
const ANY: &str = "any";

fn name(net: IpNet, any: bool) -> String {
    if any && prefix::ANY.contains(&net) {
        ANY.to_owned()
    } else {
        prefix::format(net)
    }
}
