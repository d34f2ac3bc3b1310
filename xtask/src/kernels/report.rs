//! What each kernel's tests came to: a line for each test as it ends, and a table at the end.

use std::time::Instant;

use anstream::println;
use anstyle::{AnsiColor, Style};

use super::plan::Ended;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const BOLD: Style = Style::new().bold();

/// What a test says of a part of it that this kernel lacks.
const NOT_HERE: &str = "not on this kernel: ";

/// The results of one kernel.
pub(super) struct Results {
    /// Its release.
    pub(super) kernel: String,
    started: Instant,
    seconds: f64,
    ended: Vec<Ended>,
    exceptions: Vec<(String, &'static str)>,
    /// Why it did not get to the end.
    broken: Option<String>,
}

impl Results {
    pub(super) fn new(kernel: &str) -> Self {
        println!("\n{BOLD}{kernel}{BOLD:#}");
        Self {
            kernel: kernel.to_owned(),
            started: Instant::now(),
            seconds: 0.0,
            ended: Vec::new(),
            exceptions: Vec::new(),
            broken: None,
        }
    }

    pub(super) fn except(&mut self, test: &str, why: &'static str) {
        println!("  – {test:<72} not on this kernel: {why}");
        self.exceptions.push((test.to_owned(), why));
    }

    pub(super) fn end(&mut self, ended: Ended) {
        let Ended {
            name,
            passed,
            seconds,
            output,
        } = &ended;
        if *passed {
            println!("  {GOOD}✓{GOOD:#} {name:<72} {seconds:6.1} s");
            for line in output.lines().filter(|line| line.starts_with(NOT_HERE)) {
                println!("      {line}");
            }
        } else {
            println!("  {BAD}✗{BAD:#} {name:<72} {seconds:6.1} s");
            for line in output.lines() {
                println!("      {line}");
            }
        }
        self.ended.push(ended);
    }

    pub(super) fn close(&mut self, broken: Option<String>) {
        if let Some(why) = &broken {
            println!("  {BAD}✗{BAD:#} {why}");
        }
        self.broken = broken;
        self.seconds = self.started.elapsed().as_secs_f64();
    }

    pub(super) fn good(&self) -> bool {
        self.broken.is_none() && self.ended.iter().all(|test| test.passed)
    }

    /// What the verifier said of the largest program, where this kernel tells.
    fn verified(&self) -> String {
        let figures = self.ended.iter().flat_map(|test| test.output.lines());
        let figures = figures.filter_map(|line| {
            let (_, figure) = line.split_once("verified: Some(")?;
            figure.split_once(')')?.0.parse::<u32>().ok()
        });
        figures
            .max()
            .map_or_else(|| "–".to_owned(), |most| most.to_string())
    }
}

/// One row a kernel.
pub(super) fn table(all: &[Results]) {
    println!(
        "\n{BOLD}{:<32} {:>6} {:>6} {:>8} {:>9} {:>9}{BOLD:#}",
        "kernel", "passed", "failed", "not here", "verified", "seconds"
    );
    for results in all {
        let passed = results.ended.iter().filter(|test| test.passed).count();
        println!(
            "{:<32} {:>6} {:>6} {:>8} {:>9} {:>9.0}",
            results.kernel,
            passed,
            results.ended.len() - passed,
            results.exceptions.len(),
            results.verified(),
            results.seconds,
        );
    }
    for results in all {
        let kernel = &results.kernel;
        for (test, why) in &results.exceptions {
            println!("{kernel}: {test}: not on this kernel: {why}");
        }
        for test in results.ended.iter().filter(|test| !test.passed) {
            println!("{BAD}{kernel}: {} failed{BAD:#}", test.name);
        }
        if let Some(why) = &results.broken {
            println!("{BAD}{kernel}: {why}{BAD:#}");
        }
    }
}
