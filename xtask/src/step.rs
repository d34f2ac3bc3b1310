//! One long step: says what it does, shows that it goes on, keeps its output for when it fails.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::machine;

const GLANCE: Duration = Duration::from_millis(100);
/// How much of a failed step's output is shown.
const TAIL_LINES: usize = 30;

/// No step of a slow machine behind a slow line takes longer than this.
pub(crate) const LIMIT: Duration = Duration::from_mins(30);

pub(crate) fn run(what: &str, command: &mut Command, limit: Duration) -> Result<()> {
    let target = machine::workspace().join("target");
    fs::create_dir_all(&target).with_context(|| format!("creating {}", target.display()))?;
    run_and_log(what, command, limit, &target.join("setup.log"))
}

/// Keeps its output in a file of its own.
pub(crate) fn run_and_log(
    what: &str,
    command: &mut Command,
    limit: Duration,
    log: &Path,
) -> Result<()> {
    let output = File::create(log).with_context(|| format!("creating {}", log.display()))?;

    let started = Instant::now();
    let progress = Progress::start(what);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            progress.end("given up after", started.elapsed());
            bail!("{what}: not done after {} s", limit.as_secs());
        }
        progress.show(started.elapsed());
        thread::sleep(GLANCE);
    };
    if status.success() {
        progress.end("done in", started.elapsed());
        return Ok(());
    }
    progress.end("failed after", started.elapsed());
    let output = fs::read(log).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    let lines: Vec<&str> = output.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    bail!("{what}: {status}, with this output:\n{tail}");
}

/// On a terminal one line that counts the seconds; elsewhere a line at the start and one at the end.
struct Progress<'a> {
    what: &'a str,
    terminal: bool,
}

impl<'a> Progress<'a> {
    fn start(what: &'a str) -> Self {
        let terminal = io::stderr().is_terminal();
        if !terminal {
            eprintln!("{what} …");
        }
        Self { what, terminal }
    }

    fn show(&self, elapsed: Duration) {
        if self.terminal {
            eprint!("\r{} … {} s", self.what, elapsed.as_secs());
            // A terminal that went away is no reason to stop the step.
            let _ = io::stderr().flush();
        }
    }

    fn end(&self, how: &str, elapsed: Duration) {
        let start = if self.terminal { "\r" } else { "" };
        eprintln!("{start}{}: {how} {:.1} s", self.what, elapsed.as_secs_f64());
    }
}
