//! What people see: a line for each host while it is at work, and a table at the end.

use std::{fmt, time::Duration};

use anstream::{eprintln, println};
use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::address::Address;

/// What became of a host.
#[derive(Debug)]
pub(crate) struct HostResult {
    end: End,
    /// What filters there now.
    in_force: String,
}

#[derive(Debug)]
enum End {
    Done(String),
    /// There was nothing to do.
    Unchanged,
    Failed(String),
    NotBegun,
}

impl HostResult {
    pub(super) fn done(what: impl Into<String>, in_force: impl Into<String>) -> Self {
        Self {
            end: End::Done(what.into()),
            in_force: in_force.into(),
        }
    }

    pub(super) fn unchanged(in_force: impl Into<String>) -> Self {
        Self {
            end: End::Unchanged,
            in_force: in_force.into(),
        }
    }

    pub(super) fn failed(why: impl Into<String>, in_force: impl Into<String>) -> Self {
        Self {
            end: End::Failed(why.into()),
            in_force: in_force.into(),
        }
    }

    pub(super) fn not_begun() -> Self {
        Self {
            end: End::NotBegun,
            in_force: "what was before".to_owned(),
        }
    }

    pub(crate) fn is_well(&self) -> bool {
        matches!(self.end, End::Done(_) | End::Unchanged)
    }

    fn style(&self) -> Style {
        let color = match self.end {
            End::Done(_) => AnsiColor::Green,
            End::Unchanged => return Style::new(),
            End::Failed(_) => AnsiColor::Red,
            End::NotBegun => AnsiColor::Yellow,
        };
        color.on_default()
    }
}

impl fmt::Display for HostResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            End::Done(what) => write!(f, "{what}"),
            End::Unchanged => write!(f, "nothing to do"),
            End::Failed(why) => write!(f, "failed: {why}"),
            End::NotBegun => write!(f, "not begun"),
        }
    }
}

/// Of all hosts.
pub(super) struct Progress {
    bars: MultiProgress,
    /// In a pipe every step is a line of its own.
    terminal: bool,
}

/// Of one host.
pub(crate) struct Line<'a> {
    progress: &'a Progress,
    bar: ProgressBar,
    host: String,
}

impl Progress {
    pub(super) fn new() -> Self {
        let target = ProgressDrawTarget::stderr();
        let terminal = !target.is_hidden();
        Self {
            bars: MultiProgress::with_draw_target(target),
            terminal,
        }
    }

    pub(super) fn line(&self, host: &Address) -> Line<'_> {
        let bar = self.bars.add(ProgressBar::new_spinner());
        // The template is one that is known to be right.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_prefix(host.to_string());
        if self.terminal {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Line {
            progress: self,
            bar,
            host: host.to_string(),
        }
    }
}

impl Line<'_> {
    /// What is being done now.
    pub(super) fn step(&self, what: &str) {
        if self.progress.terminal {
            self.bar.set_message(what.to_owned());
        } else {
            eprintln!("{}: {what}", self.host);
        }
    }

    /// What was found.
    pub(super) fn note(&self, what: &str) {
        self.progress
            .bars
            .suspend(|| println!("{}: {what}", self.host));
    }

    pub(super) fn end(&self, outcome: &HostResult) {
        if self.progress.terminal {
            self.bar.finish_and_clear();
        }
        let style = outcome.style();
        self.note(&format!("{style}{outcome}{style:#}"));
    }
}

/// One line a host.
pub(super) fn table(outcomes: &[(&Address, HostResult)]) {
    let rows: Vec<_> = outcomes
        .iter()
        .map(|(host, outcome)| {
            [
                host.to_string(),
                outcome.in_force.clone(),
                outcome.to_string(),
            ]
        })
        .collect();
    let width = |column: usize, title: &str| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max();
        longest.unwrap_or(0).max(title.len())
    };
    let (host, in_force) = (width(0, "HOST"), width(1, "IN FORCE"));
    println!("\n{:<host$}  {:<in_force$}  RESULT", "HOST", "IN FORCE");
    for (row, (_, outcome)) in rows.iter().zip(outcomes) {
        let style = outcome.style();
        println!(
            "{:<host$}  {:<in_force$}  {style}{}{style:#}",
            row[0], row[1], row[2]
        );
    }
}
