//! `sipguard notify`.
//!
//! JSON, one object a line for every receiver in force:
//! ```json
//! {"receiver":"webhook","sent":12,"waiting":0,"lost":0,"tried":"2026-03-01T12:00:00Z","failing":null,"error":null}
//! ```
//! `receiver` is `webhook` or `mail`; `sent` and `lost` count since the spool was begun, `waiting` is how many are still to be sent; `failing`
//! is since when nothing can be sent, and `error` why. With `--test`: `{"receiver":"webhook","arrived":true,"error":null}`, and the exit code is
//! 1 where one did not arrive.

use std::io::Write;

use anyhow::{Result, ensure};
use serde_json::json;
use sipguard::{fetcher::Fetcher, report::ReceiverReport};

use super::{Context, Outcome, live, write_json};
use crate::{
    cli,
    output::{self, Grouped, Rows, rough},
    progress,
};

pub(super) fn run(notify: &cli::Notify, context: &Context, out: &mut dyn Write) -> Result<Outcome> {
    let live = live(context)?;
    let wanted = live.as_ref().and_then(|live| live.notify());
    ensure!(
        wanted.is_some(),
        "nobody wants notices: write webhook or mail below [notify] in {}, then `sipguard apply`",
        context.config.display()
    );
    if notify.test {
        return test(context, out);
    }
    let receivers = ReceiverReport::all(&context.host, wanted);
    if context.json {
        for receiver in &receivers {
            write_json(out, receiver)?;
        }
    } else {
        tell(&receivers, context, out)?;
    }
    Ok(Outcome::Done)
}

fn test(context: &Context, out: &mut dyn Write) -> Result<Outcome> {
    let tested = progress::during("sending a notice", || Fetcher::find()?.test_notice())?;
    let mut outcome = Outcome::Done;
    for one in &tested {
        if one.error.is_some() {
            outcome = Outcome::Wrong;
        }
        if context.json {
            let arrived = one.error.is_none();
            write_json(
                out,
                &json!({ "receiver": one.receiver, "arrived": arrived, "error": one.error }),
            )?;
        } else if let Some(error) = &one.error {
            output::complain(
                &format!("{}: {error}", one.receiver),
                context.palette_of_errors,
            );
        } else if !context.is_quiet() {
            writeln!(out, "{}: it has been taken", one.receiver)?;
        }
    }
    Ok(outcome)
}

fn tell(receivers: &[ReceiverReport], context: &Context, out: &mut dyn Write) -> Result<()> {
    let now = context.host.now().wall;
    let ago = |time| rough(now.duration_since(time).as_secs().max(0));
    let titles = ["RECEIVER", ">SENT", ">WAITING", ">LOST", "TRIED", ""];
    let mut rows = Rows::new(&titles, context.palette);
    for receiver in receivers {
        let error = receiver.error.as_deref().unwrap_or_default();
        let (style, note) = match receiver.failing {
            Some(since) => (context.palette.bad, format!("for {}: {error}", ago(since))),
            None => (anstyle::Style::new(), String::new()),
        };
        rows.add(
            style,
            [
                receiver.receiver.to_owned(),
                Grouped(receiver.sent).to_string(),
                Grouped(receiver.waiting).to_string(),
                Grouped(receiver.lost).to_string(),
                receiver
                    .tried
                    .map_or_else(|| "never".to_owned(), |tried| format!("{} ago", ago(tried))),
                note,
            ],
        );
    }
    Ok(rows.write(out)?)
}
