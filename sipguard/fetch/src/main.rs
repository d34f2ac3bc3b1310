//! `sipguard-fetch`: asks the network what sipguard's live sources are, and writes what it found to files; sends notices. It may do nothing else: it has no
//! rights, and sipguard reads what it writes as a stranger's.
#![cfg_attr(
    test,
    expect(
        clippy::unwrap_used,
        reason = "a test that panics is a test that fails"
    )
)]

mod ask;
mod clock;
mod countries;
mod credential;
mod dns;
mod http;
mod keep;
mod kinds;
mod notify;
mod schedule;
mod service;

use std::{
    io,
    path::PathBuf,
    process::ExitCode,
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde_json::json;
use sipguard_lists::task::{Task, Tasks};

use self::keep::Folder;

/// Asks for what sipguard's live sources are: each once, or again and again
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Which sources [default: all]
    sources: Vec<String>,
    /// Go on, and ask for each again when its answer ends
    #[arg(long = "loop", conflicts_with = "sources")]
    goes_on: bool,
    /// Print the networks of these countries in a database, as this program itself wants to know
    #[arg(long, value_name = "DATABASE", conflicts_with = "goes_on", hide = true)]
    countries: Option<PathBuf>,
    /// Send a notice to whoever wants them, and print what came of it, one JSON object a line
    #[arg(long, conflicts_with_all = ["goes_on", "sources", "countries"], hide = true)]
    test_notice: bool,
    /// What is to be asked for, as `sipguard apply` writes it
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/lib/sipguard/tasks.json"
    )]
    tasks: PathBuf,
    /// Where what was found is written
    #[arg(long, value_name = "FOLDER", default_value = keep::FOLDER)]
    folder: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sipguard-fetch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all was answered.
fn run(arguments: &Arguments) -> Result<bool> {
    if let Some(database) = &arguments.countries {
        let countries: Result<_, _> = arguments.sources.iter().map(|it| it.parse()).collect();
        countries::print(database, &countries?, io::stdout().lock())?;
        return Ok(true);
    }
    let folder = Folder::at(&arguments.folder);
    if arguments.test_notice {
        let tasks = tasks(arguments)?;
        let mut arrived = true;
        for notify::Tested { receiver, error } in notify::test(&tasks) {
            arrived &= error.is_none();
            println!("{}", json!({ "receiver": receiver, "error": error }));
        }
        Ok(arrived)
    } else if arguments.goes_on {
        notify::begin(&arguments.tasks, &arguments.folder)?;
        service::run(&arguments.tasks, &folder)
    } else {
        once(arguments, &folder)
    }
}

fn tasks(arguments: &Arguments) -> Result<Tasks> {
    Tasks::read(&arguments.tasks)?.with_context(|| {
        let file = arguments.tasks.display();
        format!("{file} is not there; `sipguard apply` writes it where there are live sources")
    })
}

fn once(arguments: &Arguments, folder: &Folder) -> Result<bool> {
    let tasks = tasks(arguments)?;
    for name in &arguments.sources {
        let is_there = tasks.sources.iter().any(|task| task.source == *name);
        ensure!(is_there, "no live source {name:?} is in force");
    }
    let tasks = &tasks;
    let is_wanted =
        |task: &&Task| arguments.sources.is_empty() || arguments.sources.contains(&task.source);
    let wanted: Vec<_> = tasks.sources.iter().filter(is_wanted).collect();
    let mut all_answered = true;
    for some in wanted.chunks(schedule::AT_A_TIME) {
        thread::scope(|scope| {
            let asked = some.iter().map(|&task| {
                let mut kind = kinds::kind(&task.kind, tasks);
                let question = move || ask::ask(&task.source, &mut *kind, folder, 0, clock::wall());
                scope.spawn(question)
            });
            let asked: Vec<ScopedJoinHandle<'_, _>> = asked.collect();
            for asked in asked {
                match asked.join() {
                    Ok(Ok(asked)) => {
                        println!("{}", asked.told);
                        all_answered &= !asked.failed;
                    }
                    Ok(Err(error)) => {
                        eprintln!("{error}");
                        all_answered = false;
                    }
                    // It said so itself.
                    Err(_) => all_answered = false,
                }
            }
        });
    }
    Ok(all_answered)
}
