//! `sipguard learn`.
//!
//! JSON, one object:
//! ```json
//! {"packets":5000,"messages":321,"left_out":0,"own":["192.0.2.1"],"unclear":[],
//!  "proposals":[{"source":"providers","entry":"203.0.113.5","addresses":["203.0.113.5"],"why":["this gateway registered there as 4711, 3 times"]}],
//!  "refused":[{"address":"198.51.100.7","why":["it says that it is a scanner (User-Agent friendly-scanner)"],"requests":220}]}
//! ```
//! `packets` are UDP datagrams and TCP segments, `messages` those in which a SIP message begins, `left_out` pairs of addresses that
//! were forgotten to make room for others: nothing spoke for them, or for too many. `own` are this gateway's addresses; `unclear` pairs of addresses of which nothing tells which one is this gateway. `source` is `providers`
//! or `phones`, `entry` what stands in its list: an address, a network, or a name. `why` are sentences for people, which may change. `refused` begins with
//! whoever sent most requests.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use sipguard::{
    capture::{self, Begins},
    learn::{Learner, Packet, Socket},
    prose::rough,
};
use tokio::{
    runtime,
    signal::ctrl_c,
    time::{MissedTickBehavior, interval},
};

use super::{Context, write_json};
use crate::cli::Learn;

/// How often the socket is emptied.
const EVERY: Duration = Duration::from_millis(50);

pub(super) fn run(learn: &Learn, context: &Context, out: &mut dyn Write) -> Result<()> {
    let mut learner = Learner::new(&learn.own);
    let (end, from) = match (&learn.pcap, &learn.interface) {
        (Some(file), _) => (of_capture(&mut learner, file, context), shown(file)),
        (None, Some(interface)) => {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let end = runtime.block_on(of_interface(&mut learner, interface, learn, context));
            (end, interface.clone())
        }
        // One of them is required.
        (None, None) => return Ok(()),
    };
    // Before anything was heard there is nothing to say.
    let end = match end {
        Err(error) if learner.messages() == 0 => return Err(error),
        end => end,
    };
    let findings = learner.findings();
    if context.json {
        write_json(out, &findings)?;
    } else {
        findings.write_config(out, &from, learn.interface.as_deref())?;
    }
    out.flush()?;
    end
}

fn of_capture(learner: &mut Learner, file: &Path, context: &Context) -> Result<()> {
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(file).with_context(|| {
            format!(
                "cannot open {}; name a capture, or - for standard input",
                shown(file)
            )
        })?;
        Box::new(opened)
    };
    let bar = bar(context);
    let mut scratch = Vec::new();
    let end = capture::read(input, |captured: capture::Packet<'_>| -> Result<()> {
        // What can't be read says nothing, and neither does what is no IP.
        if let Ok(frame) = captured.frame {
            let bytes = match frame.begins {
                Begins::Ethernet | Begins::Ip => frame.bytes,
                Begins::Network(_) => frame.with_ethernet(&mut scratch),
            };
            if let Some(packet) = Packet::read(bytes, frame.link()) {
                learner.note(&packet, captured.direction);
            }
        }
        if captured.number.is_multiple_of(4096) {
            bar.set_message(format!(
                "{} packets, {} SIP messages",
                captured.number,
                learner.messages()
            ));
            bar.tick();
        }
        Ok(())
    });
    bar.finish_and_clear();
    end.with_context(|| shown(file))
}

/// Listens for so long, or until Ctrl-C.
async fn of_interface(
    learner: &mut Learner,
    interface_name: &str,
    learn: &Learn,
    context: &Context,
) -> Result<()> {
    let mut socket = Socket::open(interface_name)?;
    let lasts = learn.lasts.map_or(u64::MAX, |lasts| {
        u64::try_from(lasts.as_nanos()).unwrap_or(u64::MAX)
    });
    let begin = context.host.now().boot_ns;
    let bar = bar(context);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopped = ctrl_c();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            stopped = &mut stopped => {
                bar.finish_and_clear();
                return Ok(stopped?);
            }
        }
        socket
            .read(|packet, direction| learner.note(packet, Some(direction)))
            .with_context(|| interface_name.to_owned())?;
        let passed = context.host.now().boot_ns.saturating_sub(begin);
        if passed >= lasts {
            bar.finish_and_clear();
            return Ok(());
        }
        let left = i64::try_from((lasts - passed) / 1_000_000_000).unwrap_or(i64::MAX);
        bar.set_message(format!(
            "{} SIP messages, {} left",
            learner.messages(),
            rough(left)
        ));
        bar.tick();
    }
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    }
}

/// On a terminal.
fn bar(context: &Context) -> ProgressBar {
    if !io::stderr().is_terminal() || context.is_quiet() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    match ProgressStyle::with_template("{spinner} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
