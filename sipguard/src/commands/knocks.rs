//! `sipguard knocks`.
//!
//! JSON, one object a line and source, those that knocked most first:
//! ```json
//! {"source":"198.51.100.7","first":"2026-03-01T12:00:00Z","last":"2026-03-01T12:03:00Z","told":42,"minutes":3,"services":["sip"],
//!  "ports":[5060],"methods":["INVITE"],"user_agents":["friendly-scanner"],"users":["100"],
//!  "numbers":[{"dialled":"900972595123456","number":"+972595123456","country":"IL","high_risk":false,"times":9}],
//!  "attempts":[{"attempt":"toll_fraud","evidence":"+972595123456 (IL) in 3 ways"}]}
//! ```
//! `told` is how many of its packets the kernel told of, in how many different `minutes`: a sample, never the count. Of services, ports, methods,
//! User-Agents, users and numbers a few are kept, those that came most often first. In `numbers` what is not known or hidden is null; `attempts`
//! has `scan`, `brute_force` and `toll_fraud`, the worst one last. What a source says is escaped, and cut off after 64 characters.

use std::io::Write;

use anyhow::{Result, bail};
use compact_str::CompactString;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sipguard::{
    agent::{
        attempts::{self, Attempt},
        knocks::{self, Attempted, Few, Knock},
    },
    lifecycle,
};
use sipguard_lists::said::Said;

use super::{Context, needs_root, write_json};
use crate::{
    cli::Knocks,
    output::{Grouped, Rows, count, local},
};

/// How many numbers that many sources dialled are named.
const NUMBERS: usize = 5;

pub(super) fn run(arguments: &Knocks, context: &Context, out: &mut dyn Write) -> Result<()> {
    needs_root()?;
    let read = knocks::read(context.host.store.folder());
    if let Some(trouble) = &read.trouble {
        context.warn(&trouble.to_string());
    }
    if !read.is_there {
        bail!(
            "nobody has kept who knocks: `systemctl enable --now sipguard-agent` does from now on, and `sipguard events` shows who knocks now"
        );
    }
    let now = lifecycle::now(&context.host, &lifecycle::state(&context.host));
    let since = arguments.since.map(|since| began(now.wall, since));
    let wanted = read.knocks.iter();
    let mut wanted: Vec<_> = wanted
        .filter(|knock| since.is_none_or(|since| knock.last >= since))
        .collect();
    wanted.sort_by_key(|knock| (std::cmp::Reverse(knock.told), knock.source));
    if context.json {
        return wanted
            .into_iter()
            .try_for_each(|knock| write_json(out, &object(knock)));
    }
    if wanted.is_empty() {
        let since = since.map_or_else(String::new, |since| format!(" since {}", local(since)));
        writeln!(out, "nobody has knocked{since}")?;
        return Ok(());
    }
    write_table(out, &wanted, context)?;
    write_sum(out, &wanted)?;
    let left_out = read.knocks.left_out();
    if left_out > 0 {
        writeln!(
            out,
            "{} more packets were dropped that the kernel did not tell of; `sipguard stats` counts all of them",
            Grouped(left_out)
        )?;
    }
    Ok(())
}

/// A clock near the beginning of time has seen everything.
fn began(now: Timestamp, since: SignedDuration) -> Timestamp {
    now.checked_sub(since).unwrap_or(Timestamp::MIN)
}

fn write_table(out: &mut dyn Write, knocks: &[&Knock], context: &Context) -> Result<()> {
    let palette = context.palette;
    let mut rows = Rows::new(
        &["SOURCE", ">KNOCKS", "FIRST", "LAST", "TRIES", "SAYS"],
        palette,
    );
    for knock in knocks {
        let attempt = attempts::of(knock).last().map(Attempt::what);
        let style = match attempt {
            Some(Attempted::TollFraud) => palette.bad,
            Some(Attempted::BruteForce) => palette.warning,
            Some(Attempted::Scan) | None => anstyle::Style::new(),
        };
        rows.add(
            style,
            [
                knock.source.to_string(),
                Grouped(knock.told).to_string(),
                minute(knock.first),
                minute(knock.last),
                attempt.map_or("-", Attempted::words).to_owned(),
                says(knock),
            ],
        );
    }
    Ok(rows.write(out)?)
}

/// Without the seconds.
fn minute(time: Timestamp) -> String {
    let mut text = local(time);
    text.truncate("2026-03-01 12:00".len());
    text
}

/// What a source says, the most telling thing first; `top` shows the same.
pub(super) fn says(knock: &Knock) -> String {
    let mut words = Vec::new();
    if let Some(method) = knock.methods.most() {
        words.push(Said(method).to_string());
    }
    match (knock.numbers.most(), knock.users.most()) {
        (Some(number), _) => words.push(number.to_string()),
        (None, Some(user)) => words.push(Said(user).to_string()),
        (None, None) => {}
    }
    if let Some(agent) = knock.user_agents.most() {
        words.push(Said(agent).to_string());
    }
    if words.is_empty() {
        let ports: Vec<_> = knock
            .ports
            .iter()
            .map(|seen| seen.what.to_string())
            .collect();
        if !ports.is_empty() {
            words.push(format!("no SIP, port {}", ports.join(" ")));
        }
    }
    words.join("  ")
}

/// What all of them try together.
fn write_sum(out: &mut dyn Write, knocks: &[&Knock]) -> Result<()> {
    let sum = attempts::sum(knocks.iter().copied());
    let first = knocks.iter().map(|knock| knock.first).min();
    let sources = count(knocks.len(), "source", "sources");
    let since = first.map_or_else(String::new, |first| format!(" since {}", local(first)));
    write!(out, "\n{sources} knocked{since}")?;
    let mut comma = ":";
    for (attempt, of) in sum.attempts.iter().rev() {
        let tried = match attempt {
            Attempted::TollFraud => "tried toll fraud",
            Attempted::BruteForce => "guessed users or passwords",
            Attempted::Scan => "scanned",
        };
        write!(out, "{comma} {} {tried}", Grouped(of.sources as u64))?;
        comma = ",";
    }
    writeln!(out)?;
    let dialled = sum.numbers.iter().filter(|number| number.is_toll_fraud());
    for number in dialled.take(NUMBERS) {
        let risk = if number.number.high_risk {
            ", high-risk"
        } else {
            ""
        };
        writeln!(
            out,
            "{}{risk}: dialled by {}, in {}",
            number.number,
            count(number.sources, "source", "sources"),
            count(number.prefixes, "way", "ways"),
        )?;
    }
    Ok(())
}

fn object(knock: &Knock) -> Value {
    let numbers = knock.numbers.by_times().into_iter().map(|seen| {
        let number = &seen.what;
        json!({
            "dialled": said(number.dialled.as_deref()),
            "number": said(number.number.as_deref()),
            "country": said(number.country.as_deref()),
            "high_risk": number.high_risk,
            "times": seen.times,
        })
    });
    let attempts = attempts::of(knock).into_iter().map(
        |attempt| json!({ "attempt": attempt.what().name(), "evidence": attempt.to_string() }),
    );
    let ports = knock.ports.by_times().into_iter().map(|seen| seen.what);
    json!({
        "source": knock.source,
        "first": knock.first,
        "last": knock.last,
        "told": knock.told,
        "minutes": knock.minutes,
        "services": texts(&knock.services),
        "ports": ports.collect::<Vec<_>>(),
        "methods": texts(&knock.methods),
        "user_agents": texts(&knock.user_agents),
        "users": texts(&knock.users),
        "numbers": numbers.collect::<Vec<_>>(),
        "attempts": attempts.collect::<Vec<_>>(),
    })
}

fn said(text: Option<&str>) -> Option<String> {
    text.map(|text| Said(text).to_string())
}

fn texts<const N: usize>(few: &Few<CompactString, N>) -> Vec<String> {
    let texts = few.by_times().into_iter();
    texts.map(|seen| Said(&seen.what).to_string()).collect()
}
