//! `sipguard apply`.
//!
//! JSON, one object:
//! ```json
//! {"generation":3,"changed":true,"interfaces":[…],"released":["eth1"],"entries":{"config":12,"command_line":1},"enforced":true,
//!  "changes":{"mode":null,"interfaces":[],"services":[{"name":"web","from":{…},"to":null}],
//!             "sources":[{"name":"trunk","from":null,"to":{"kind":"names","allow":["sip"],"deny":[]}}],"tables":["notify"],
//!             "entries":{"added":{"count":1,"first":[{"prefix":"203.0.113.7","service":"sip","action":"allow","timed":false}]},
//!                        "removed":{"count":0,"first":[]}}},
//!  "cut_off":null,"ephemeral":{"ports":[50600],"reserve":"50600"},"pending":null,"kept":false,"doubts":[],"sources":[…]}
//! ```
//! `interfaces` as in `status`; `released` are interfaces that are not filtered any more; `enforced` is false where nothing is dropped;
//! `generation` is null where no interface is configured. `changes` is where the policy differs from what was in force: `from` is null for
//! what is new, `to` for what is gone; `tables` are those of the config that say something else, of `dns`, `notify` and `events`. `cut_off` is `{"address":"198.51.100.10","services":["web"]}` where the address of the SSH session
//! loses access; `ephemeral` tells which guarded ports this host's own connections may get.
//! `pending` is as in `status`, where the apply is to be confirmed; `kept` is true where the config file can't be used, or was taken back, so
//! that the last policy that was in force for good was applied instead; then the exit code is 5. `doubts` are lists that may not be what they
//! are meant to be; `sources` as in `status`: `{"doubt":"nobody_allowed","service":"sip"}`, `{"doubt":"empty_source","source":"providers","file":null}`,
//! `{"doubt":"shrunk_source","source":"blocked","file":"/etc/sipguard/blocked.txt","from":100,"to":3}`. Only where there are interfaces that can't be guarded: `refused`, a list of
//! `{"interface":"br0","why":"…"}`; they are told on standard error, too, and the exit code is 1.
//!
//! `--dry-run` has `"dry_run":true` instead of `generation`, `interfaces` and `released`; `changed` is whether an apply would do anything.

use std::{io::Write, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};
use sipguard::{
    lifecycle::{self, Applied, Instead, Options, Outlook, Planned, Refused},
    report::{self, ConfirmationReport, SourceReport},
};

use super::{Context, Outcome, confirmation, difference, needs_root, policy_warnings, write_json};
use crate::{
    cli::Apply,
    output::{self, count},
    progress,
};

pub(super) fn run(apply: &Apply, context: &Context, out: &mut dyn Write) -> Result<Outcome> {
    needs_root()?;
    if apply.dry_run {
        return dry_run(apply, context, out);
    }
    let begin = context.host.now().boot_ns;
    let applied = progress::during("putting the config in force", || {
        lifecycle::apply(&context.host, &context.config, options(apply))
    })?;
    let took = Duration::from_nanos(context.host.now().boot_ns.saturating_sub(begin));

    let fallbacks = lifecycle::state(&context.host).fallbacks;
    let interfaces = report::interfaces(&context.host, &fallbacks)?
        .map_or_else(Vec::new, |(_, interfaces)| interfaces);
    let Applied {
        policy,
        absent,
        outlook,
        ..
    } = &applied;
    let pending = applied
        .pending
        .map(|pending| ConfirmationReport::new(pending, context.host.now()));
    let instead = tell_instead(applied.instead.as_ref(), context);
    for warning in policy_warnings::warnings(policy, absent, outlook, &context.config) {
        context.warn(&warning);
    }
    let sources = sources(context)?;
    for source in &sources {
        if let Some(warning) = policy_warnings::of_source(source) {
            context.warn(&warning);
        }
    }
    let outcome = instead.or(tell_refused(&applied.refused, context));
    if context.json {
        let mut json = json!({
            "generation": applied.generation,
            "changed": applied.changed,
            "interfaces": interfaces,
            "released": applied.released,
            "entries": { "config": applied.policy.entries.len(), "command_line": applied.own },
            "enforced": applied.generation.is_some() && policy_warnings::enforced(policy),
            "changes": outlook.difference,
            "cut_off": cut_off(outlook),
            "ephemeral": outlook.ephemeral,
            "pending": pending,
            "kept": applied.instead.is_some(),
            "doubts": outlook.doubts,
            "sources": sources,
        });
        add_refused(&mut json, &applied.refused);
        write_json(out, &json)?;
        return Ok(outcome);
    }
    if context.is_quiet() {
        return Ok(outcome);
    }
    for interface in interfaces {
        writeln!(out, "{}: {interface}", interface.names())?;
    }
    for released in &applied.released {
        writeln!(out, "{released}: not filtered any more")?;
    }
    if let Some(generation) = applied.generation {
        let of_config = count(applied.policy.entries.len(), "entry", "entries");
        let says = if applied.changed {
            "in force"
        } else {
            "unchanged"
        };
        writeln!(
            out,
            "{says}: generation {generation}, {of_config} of the config, {} of the command line",
            applied.own
        )?;
    }
    if let Some(summary) = difference::summary(&outlook.difference) {
        writeln!(out, "changes: {summary}")?;
    }
    if let Some(pending) = pending {
        writeln!(out, "{}", confirmation::sentence(&pending))?;
    }
    if context.is_verbose() {
        writeln!(out, "took {:.1} ms", took.as_secs_f64() * 1000.0)?;
    }
    Ok(outcome)
}

/// How the live sources of what is in force fare.
fn sources(context: &Context) -> Result<Vec<SourceReport>> {
    let Some(live) = lifecycle::live(&context.host)? else {
        return Ok(Vec::new());
    };
    let state = lifecycle::state(&context.host);
    let now = lifecycle::now(&context.host, &state);
    Ok(SourceReport::all(
        &context.host,
        &live.generation,
        &state,
        now,
    )?)
}

fn options(apply: &Apply) -> Options {
    Options {
        confirm: apply.confirm,
        all_or_nothing: apply.all_or_nothing,
        strict: apply.strict,
        offline: apply.offline,
    }
}

/// Names the interfaces that can't be guarded.
pub(super) fn tell_refused(refused: &[Refused], context: &Context) -> Outcome {
    for refused in refused {
        output::complain(&refused.why.to_string(), context.palette_of_errors);
    }
    if refused.is_empty() {
        Outcome::Done
    } else {
        Outcome::Wrong
    }
}

/// Only there where there are any.
pub(super) fn add_refused(json: &mut Value, refused: &[Refused]) {
    let named = refused
        .iter()
        .map(|refused| json!({ "interface": refused.interface, "why": refused.why.to_string() }));
    if !refused.is_empty() {
        json["refused"] = named.collect();
    }
}

/// Says why what is in force is not what the config file says.
fn tell_instead(instead: Option<&Instead>, context: &Context) -> Outcome {
    let why = match instead {
        None => return Outcome::Done,
        Some(Instead::Unusable(error)) => error.to_string(),
        Some(Instead::TakenBack { .. }) => format!(
            "{} was taken back, because it was not confirmed",
            context.config.display()
        ),
    };
    output::complain(&why, context.palette_of_errors);
    output::complain(
        "what was in force before is applied instead; `sipguard doctor` names what to mend",
        context.palette_of_errors,
    );
    Outcome::Instead
}

/// Says what would be done, and does nothing.
fn dry_run(apply: &Apply, context: &Context, out: &mut dyn Write) -> Result<Outcome> {
    let planned = progress::during("comparing", || {
        lifecycle::plan(&context.host, &context.config, options(apply))
    })?;
    let Planned {
        policy,
        absent,
        outlook,
        ..
    } = &planned;
    let instead = tell_instead(planned.instead.as_ref(), context);
    for warning in policy_warnings::warnings(policy, absent, outlook, &context.config) {
        context.warn(&warning);
    }
    let outcome = instead.or(tell_refused(&planned.refused, context));
    if context.json {
        let mut json = json!({
            "dry_run": true,
            "changed": planned.changes,
            "entries": { "config": policy.entries.len(), "command_line": planned.own },
            "enforced": !policy.interfaces.is_empty() && policy_warnings::enforced(policy),
            "changes": outlook.difference,
            "cut_off": cut_off(outlook),
            "ephemeral": outlook.ephemeral,
            "kept": planned.instead.is_some(),
            "doubts": outlook.doubts,
        });
        add_refused(&mut json, &planned.refused);
        write_json(out, &json)?;
        return Ok(outcome);
    }
    difference::write(out, &outlook.difference, context.palette)?;
    if !planned.changes {
        writeln!(out, "nothing would change")?;
    } else if outlook.difference.is_empty() {
        writeln!(
            out,
            "this policy is in force already; `sipguard apply` would load it into the kernel again"
        )?;
    } else if !context.is_quiet() {
        writeln!(
            out,
            "nothing was changed; `sipguard apply` puts this in force"
        )?;
    }
    Ok(outcome)
}

fn cut_off(outlook: &Outlook) -> Option<Value> {
    let (login, lost) = outlook.cut_off.as_ref()?;
    let services: Vec<_> = lost.iter().map(|(service, _)| service).collect();
    Some(json!({ "address": login.address, "services": services }))
}
