//! A line for each thing that was looked at, ticked or crossed, with how long it took.

use std::{
    panic, thread,
    time::{Duration, Instant},
};

use anstream::println;
use anstyle::{AnsiColor, Style};
use anyhow::{Result, ensure};

pub(super) struct Checklist {
    started: Instant,
    failed: usize,
}

/// One thing to look at. Its answer is what was found; an error is what is wrong.
pub(super) struct Check<'a> {
    what: String,
    look: Box<dyn FnOnce() -> Result<String> + Send + 'a>,
}

impl<'a> Check<'a> {
    pub(super) fn new(
        what: impl Into<String>,
        look: impl FnOnce() -> Result<String> + Send + 'a,
    ) -> Self {
        Self {
            what: what.into(),
            look: Box::new(look),
        }
    }
}

pub(super) fn title(title: &str) {
    println!("\n{BOLD}{title}{BOLD:#}");
}

/// A command as a person types it, and what it prints.
pub(super) fn command(command: &str, run: impl FnOnce() -> Result<String>) -> Result<()> {
    let started = Instant::now();
    let printed = run()?;
    let took = started.elapsed().as_secs_f64();
    println!("\n{BOLD}$ {command:<72} {took:4.1} s{BOLD:#}");
    for line in printed.lines() {
        println!("  {line}");
    }
    Ok(())
}

impl Checklist {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            failed: 0,
        }
    }

    /// Looks at everything at once, and reports in the order given.
    pub(super) fn checks(&mut self, checks: Vec<Check<'_>>) {
        thread::scope(|scope| {
            let running: Vec<_> = checks
                .into_iter()
                .map(|check| {
                    let look = || {
                        let started = Instant::now();
                        ((check.look)(), started.elapsed())
                    };
                    (check.what, scope.spawn(look))
                })
                .collect();
            for (what, look) in running {
                let (answer, took) = look
                    .join()
                    .unwrap_or_else(|panic| panic::resume_unwind(panic));
                self.line(&what, answer, took);
            }
        });
    }

    fn line(&mut self, what: &str, answer: Result<String>, took: Duration) {
        match answer {
            Ok(found) if took < WORTH_SAYING => println!("  {GOOD}✓{GOOD:#} {what:<34} {found}"),
            Ok(found) => {
                let took = took.as_secs_f64();
                println!("  {GOOD}✓{GOOD:#} {what:<34} {found:<36} {took:4.1} s");
            }
            Err(error) => {
                self.failed += 1;
                println!("  {BAD}✗{BAD:#} {what:<34} {error:#}");
            }
        }
    }

    pub(super) fn end(self) -> Result<()> {
        ensure!(
            self.failed == 0,
            "{} of the lines above are wrong (✗)",
            self.failed
        );
        println!(
            "\nAll as it should be, after {:.1} s. Nothing of this is left on the machine.",
            self.started.elapsed().as_secs_f64()
        );
        Ok(())
    }
}

const WORTH_SAYING: Duration = Duration::from_millis(100);

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
