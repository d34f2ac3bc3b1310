//! The steps of the story: which one runs now, and at the end a table of them.

use std::{
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use anstream::{eprintln, println};
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const TICK: Duration = Duration::from_millis(250);

pub(super) struct Steps {
    started: Instant,
    done: Vec<Step>,
}

struct Step {
    what: &'static str,
    found: Option<String>,
    took: Duration,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            done: Vec::new(),
        }
    }

    /// One step: what it returns is what was found.
    pub(super) fn step(
        &mut self,
        what: &'static str,
        run: impl FnOnce() -> Result<String>,
    ) -> Result<()> {
        let progress = start(what);
        let started = Instant::now();
        let found = run();
        let took = started.elapsed();
        progress.finish_and_clear();
        match &found {
            Ok(found) => eprintln!(
                "  {GOOD}✓{GOOD:#} {what}: {found}, {:.1} s",
                took.as_secs_f64()
            ),
            Err(_) => eprintln!("  {BAD}✗{BAD:#} {what}, {:.1} s", took.as_secs_f64()),
        }
        self.done.push(Step {
            what,
            found: found.as_ref().ok().cloned(),
            took,
        });
        found.map(drop).map_err(|error| error.context(what))
    }

    /// All steps so far, with their seconds.
    pub(super) fn print(&self) {
        println!();
        for Step { what, found, took } in &self.done {
            let took = took.as_secs_f64();
            match found {
                Some(found) => println!("{GOOD}✓{GOOD:#} {what:<46} {took:>6.1} s   {found}"),
                None => println!("{BAD}✗{BAD:#} {what:<46} {took:>6.1} s"),
            }
        }
        println!(
            "  {:<46} {:>6.1} s",
            "all",
            self.started.elapsed().as_secs_f64()
        );
    }
}

fn start(what: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        eprintln!("{what} …");
    }
    let style = ProgressStyle::with_template("{spinner} {msg} … {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    // Draws nothing where there is no terminal.
    let bar = ProgressBar::new_spinner()
        .with_style(style)
        .with_message(what);
    bar.enable_steady_tick(TICK);
    bar
}
