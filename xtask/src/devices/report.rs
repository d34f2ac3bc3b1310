//! What frames said of each card on each kernel: a line a step as the card's story ends, and a table for the manual.

use anstream::println;
use anstyle::{AnsiColor, Style};

use crate::kernels::plan::Ended;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const BOLD: Style = Style::new().bold();

/// A card's story on a kernel.
pub(super) struct Story {
    kernel: String,
    card: String,
    /// Where the filter runs, as `apply` says it.
    runs: String,
    /// How long the card was silent, at `apply` and at `down`, in milliseconds.
    silent: Vec<String>,
    steps: Vec<Step>,
    /// It came to its end, and all was well.
    well: bool,
}

struct Step {
    name: String,
    well: bool,
    note: String,
}

impl Story {
    /// From what the test of `tests/tests/cards.rs` printed.
    pub(super) fn new(kernel: &str, ended: &Ended) -> Self {
        let mut story = Self {
            kernel: kernel.to_owned(),
            card: ended.name.clone(),
            runs: String::new(),
            silent: Vec::new(),
            steps: Vec::new(),
            well: ended.passed,
        };
        for line in ended.output.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                ["runs", text] => text
                    .trim_start_matches("eth0: ")
                    .clone_into(&mut story.runs),
                ["silent", "apply" | "down", milliseconds] => {
                    story.silent.push(milliseconds.to_owned());
                }
                ["step", name, verdict, note] => story.steps.push(Step {
                    name: name.to_owned(),
                    well: verdict == "well",
                    note: note.to_owned(),
                }),
                _ => {}
            }
        }
        story
    }

    pub(super) fn well(&self) -> bool {
        self.well
    }

    pub(super) fn print(&self, ended: &Ended) {
        println!(
            "\n{BOLD}{}, {}{BOLD:#} ({:.0} s)",
            self.card, self.kernel, ended.seconds
        );
        for Step { name, well, note } in &self.steps {
            let (style, sign) = if *well { (GOOD, '✓') } else { (BAD, '✗') };
            println!("  {style}{sign}{style:#} {name:<22} {note}");
        }
        if !self.well && self.steps.iter().all(|step| step.well) {
            println!("{}", ended.output);
        }
    }

    /// The steps that went wrong, and what the first of them met.
    fn wrong(&self) -> String {
        let wrong: Vec<&Step> = self.steps.iter().filter(|step| !step.well).collect();
        match wrong.first() {
            None if self.well => "–".to_owned(),
            None => "it did not come to its end".to_owned(),
            Some(first) => {
                let names: Vec<&str> = wrong.iter().map(|step| step.name.as_str()).collect();
                format!("{}: {}", names.join(", "), first.note)
            }
        }
    }
}

/// One row a card and kernel, in Markdown.
pub(super) fn table(stories: &[Story]) {
    println!("\n| card | kernel | the filter runs | silent at `apply` and `down`, ms | wrong |");
    println!("| --- | --- | --- | --- | --- |");
    for story in stories {
        let Story {
            kernel, card, runs, ..
        } = story;
        let silent = story.silent.join(", ");
        println!(
            "| {card} | {kernel} | {runs} | {silent} | {} |",
            story.wrong()
        );
    }
}
