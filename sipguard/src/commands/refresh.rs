//! `sipguard refresh`.
//!
//! JSON, one object a line for every source: `{"source":"trunk","outcome":"changed","entries":3,"new":1,"gone":0,"why":null}`. `outcome` is
//! `changed`, `unchanged`, `nothing` (nothing was found for it yet) or `refused`, and then `why` says why; `entries` is null unless it changed,
//! `new` and `gone` also where there are too many to be counted. The exit code is 1 where something was refused, or nothing was found.

use std::io::Write;

use anyhow::Result;
use serde_json::json;
use sipguard::lifecycle::{self, RefreshOptions, RefreshOutcome, Refreshed};

use super::{Context, Outcome, needs_root, write_json};
use crate::{
    cli,
    output::{self, count},
    progress,
};

pub(super) fn run(
    refresh: &cli::Refresh,
    context: &Context,
    out: &mut dyn Write,
) -> Result<Outcome> {
    needs_root()?;
    let options = RefreshOptions {
        offline: refresh.offline,
        accept: refresh.accept,
        forget: refresh.forget,
    };
    let refreshed = progress::during("asking for live sources", || {
        lifecycle::refresh(&context.host, &refresh.sources, options)
    })?;
    let mut outcome = Outcome::Done;
    for one in &refreshed {
        match &one.outcome {
            RefreshOutcome::Refused(why) => {
                output::complain(why, context.palette_of_errors);
                outcome = Outcome::Wrong;
            }
            RefreshOutcome::Nothing => {
                context.warn(&format!(
                    "{}: nothing was found yet; `sipguard status` says why",
                    one.source
                ));
                outcome = Outcome::Wrong;
            }
            RefreshOutcome::Unchanged | RefreshOutcome::Changed { .. } => {}
        }
        if context.json {
            write_json(out, &json(one))?;
        } else if !context.is_quiet() {
            tell(one, out)?;
        }
    }
    if refreshed.is_empty() && !context.json && !context.is_quiet() {
        writeln!(out, "no live source is in force")?;
    }
    Ok(outcome)
}

fn json(one: &Refreshed) -> serde_json::Value {
    let (outcome, counts, why) = match &one.outcome {
        RefreshOutcome::Nothing => ("nothing", [None; 3], None),
        RefreshOutcome::Unchanged => ("unchanged", [None; 3], None),
        RefreshOutcome::Changed { entries, new, gone } => {
            ("changed", [Some(*entries), *new, *gone], None)
        }
        RefreshOutcome::Refused(why) => ("refused", [None; 3], Some(why)),
    };
    let [entries, new, gone] = counts;
    json!({
        "source": one.source, "outcome": outcome, "entries": entries, "new": new, "gone": gone, "why": why,
    })
}

fn tell(one: &Refreshed, out: &mut dyn Write) -> Result<()> {
    let source = &one.source;
    match one.outcome {
        RefreshOutcome::Unchanged => writeln!(out, "{source}: unchanged")?,
        RefreshOutcome::Changed { entries, new, gone } => {
            let entries = count(entries, "entry", "entries");
            match (new, gone) {
                (Some(new), Some(gone)) => {
                    writeln!(out, "{source}: {entries}, {new} new, {gone} gone")?;
                }
                _ => writeln!(out, "{source}: {entries}, many of them new")?,
            }
        }
        // It was told already.
        RefreshOutcome::Nothing | RefreshOutcome::Refused(_) => {}
    }
    Ok(())
}
