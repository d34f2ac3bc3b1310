//! `sipguard check --pcap`.
//!
//! JSON, one object a line and packet:
//! ```json
//! {"n":1,"action":"drop","reason":"unlisted","service":"sip","source":"198.51.100.7","protocol":"udp","port":5060}
//! ```
//! `n` counts from 1. What doesn't apply is null: `reason` where nothing is guarded, the rest where no ports were found. `action` is what
//! the policy says; in monitor mode `"enforced":false` is added. `"truncated":true` is added where the capture holds only the beginning
//! of the packet: the verdict is on that. With `--against live`, `"live":{"action":"pass","reason":"allowed"}` is what is in force.
//!
//! Of a packet that was not judged everything is null, and one of these is added: `"direction":"out"` where this gateway has sent it, and
//! `"left_out":"USB (link type 189)"`, in words, where it can't be.

mod drops;
mod explain;
mod fate;
mod line;
mod own;
mod summary;
mod tally;

use std::{
    fs::{File, Metadata},
    io::{self, IsTerminal as _, Read, Seek as _, Write},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use sipguard::{
    capture::{self, Packet},
    device,
    rehearsal::{Compiled, Rehearsal},
};

use self::{
    drops::Drops,
    fate::{Fate, Judge, Sent},
    line::Lines,
    summary::Summary,
};
use super::{Context, live, needs_root};
use crate::cli::{Against, Check};

pub(super) fn run(
    check: &Check,
    file: &Path,
    context: &Context,
    out: &mut dyn Write,
) -> Result<()> {
    if check.kernel || check.against.is_some() {
        needs_root()?;
    }
    let mut judge = judge(check, context)?;
    let mut input = Input::open(file)?;
    if let Some(number) = check.explain {
        return explain::run(number, &mut judge, &mut input, context, out);
    }
    let drops = match &check.drops {
        Some(name) => Some(Drops::create(name, &input)?),
        None => None,
    };
    let mut each = Each {
        lines: context.json.then(|| Lines::new(&judge)),
        drops,
    };
    let mut summary = Summary::new(&judge);
    let is_read_twice = !each.is_empty() && judge.must_recognise() && input.is_file();
    // Which packets this gateway has sent is known at a capture's end. Where each is told of by itself, a file is read again for that.
    let mut end = input.read(context, |packet| {
        let fate = judge.fate(packet)?;
        summary.add(&judge, packet, &fate);
        if is_read_twice {
            return Ok(());
        }
        each.tell(&judge, packet, &fate, out)
    })?;
    summary.finish(&judge);
    if is_read_twice {
        judge.sent = Sent::Recognised(summary.own());
        input.rewind()?;
        end = input.read(context, |packet| {
            let fate = judge.fate(packet)?;
            each.tell(&judge, packet, &fate, out)
        })?;
    } else if !each.is_empty() {
        for own in summary.own() {
            context.warn(&format!(
                "{own} seems to be this gateway itself, and packets from it were judged, because what comes through a pipe is read once; name it with --own"
            ));
        }
    }
    if let Some(drops) = each.drops {
        drops.finish()?;
    }
    if !context.json {
        summary.write(&judge, out, context)?;
    }
    // Before the error, where both go to one terminal.
    out.flush()?;
    end.and_then(|()| summary.judged_something())
        .with_context(|| shown(file))
}

/// Who judges, and what.
fn judge(check: &Check, context: &Context) -> Result<Judge> {
    let now = context.host.now();
    let compiled = Compiled::of_file(&context.host, &context.config)?;
    let policy = if check.kernel {
        Rehearsal::in_kernel(compiled)
    } else {
        Rehearsal::on_host(compiled, now)
    };
    let other = match check.against {
        None => None,
        Some(Against::Live) => {
            let live = live(context)?.ok_or_else(|| {
                anyhow!("nothing is in force to compare with: leave out --against live, or run `sipguard apply` first")
            })?;
            Some(Rehearsal::of_live(&live))
        }
    };
    let sent = match check.against {
        _ if check.judges_all() => Sent::Nothing,
        _ if !check.own.is_empty() => Sent::From(check.own.clone()),
        Some(Against::Live) => Sent::From(device::addresses()?.into_iter().collect()),
        None => Sent::NotSaid,
    };
    Ok(Judge::new(policy, other, sent, now))
}

/// Who is told of each packet by itself.
struct Each {
    lines: Option<Lines>,
    drops: Option<Drops>,
}

impl Each {
    const fn is_empty(&self) -> bool {
        self.lines.is_none() && self.drops.is_none()
    }

    #[inline]
    fn tell(
        &mut self,
        judge: &Judge,
        packet: &Packet<'_>,
        fate: &Fate,
        out: &mut dyn Write,
    ) -> Result<()> {
        if let Some(lines) = &mut self.lines {
            lines.write(out, packet, fate)?;
        }
        if let Some(drops) = &mut self.drops {
            drops.add(judge, packet, fate)?;
        }
        Ok(())
    }
}

/// A capture, and how far it has been read.
struct Input {
    file: std::path::PathBuf,
    from: From,
}

enum From {
    Standard,
    File(File),
}

impl Input {
    fn open(file: &Path) -> Result<Self> {
        let from = if file == Path::new("-") {
            From::Standard
        } else {
            From::File(File::open(file).with_context(|| {
                format!(
                    "cannot open {}; name a capture, or - for standard input",
                    shown(file)
                )
            })?)
        };
        Ok(Self {
            file: file.to_owned(),
            from,
        })
    }

    /// What the system says of it, unless it is standard input.
    fn metadata(&self) -> Option<Metadata> {
        match &self.from {
            From::Standard => None,
            From::File(file) => file.metadata().ok(),
        }
    }

    /// How long it is, in bytes, where that is known.
    fn length(&self) -> Option<u64> {
        let metadata = self.metadata()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// Whether it can be read again.
    fn is_file(&self) -> bool {
        self.length().is_some()
    }

    fn rewind(&mut self) -> Result<()> {
        if let From::File(file) = &mut self.from {
            file.rewind().with_context(|| shown(&self.file))?;
        }
        Ok(())
    }

    /// Hands over every packet. An error of the capture itself is what is returned inside: what came before has its verdicts all the same.
    fn read(
        &mut self,
        context: &Context,
        mut each: impl FnMut(&Packet<'_>) -> Result<()>,
    ) -> Result<Result<()>> {
        let progress = progress(self.length(), context);
        let end = {
            let input: Box<dyn Read + '_> = match &mut self.from {
                From::Standard => Box::new(io::stdin().lock()),
                From::File(file) => Box::new(file),
            };
            capture::read(progress.wrap_read(input), |packet| {
                each(&packet).with_context(|| format!("packet {}", packet.number))
            })
        };
        progress.finish_and_clear();
        match end {
            Err(error) if error.downcast_ref::<capture::CaptureError>().is_none() => Err(error),
            end => Ok(end),
        }
    }
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") {
        "standard input".to_owned()
    } else {
        file.display().to_string()
    }
}

/// On a terminal that shows nothing else meanwhile.
fn progress(length: Option<u64>, context: &Context) -> ProgressBar {
    let alone = io::stderr().is_terminal() && !context.is_quiet();
    if !alone || context.json && context.terminal {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{wide_bar} {percent}% {eta} left"),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {bytes} {bytes_per_sec}",
        ),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
