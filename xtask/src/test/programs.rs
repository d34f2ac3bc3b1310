//! Runs test programs, as many at once as there are processors: most of them wait most of the time.

use std::{
    io::{self, Write as _},
    num::NonZero,
    panic,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use crate::{artifacts::Artifact, machine};

/// Runs them all, each by `runner`. What one prints is shown when it has ended.
///
/// # Errors
/// Which have failed, once all have ended; what could not be started.
pub(super) fn run(programs: &[Artifact], runner: &[String]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<String>> {
        let mut failed = Vec::new();
        while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !succeeds(program, runner)? {
                failed.push(source(program));
            }
        }
        Ok(failed)
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let failed = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| {
            let ended = worker.join();
            ended.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
        });
        ended.collect::<Result<Vec<_>>>()
    })?;
    let failed = failed.concat();
    ensure!(failed.is_empty(), "tests fail in {}", failed.join(", "));
    Ok(())
}

fn succeeds(program: &Artifact, runner: &[String]) -> Result<bool> {
    let source = source(program);
    let [first, rest @ ..] = runner else {
        unreachable!("there is a command");
    };
    let executable = program.executable.as_ref();
    let folder = program.manifest_path.parent();
    eprintln!("{source} …");
    let began = Instant::now();
    let output = Command::new(first)
        .args(rest)
        .arg(executable.context("cargo says not where it is")?)
        // As cargo does.
        .current_dir(folder.context("a package has a folder")?)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {source}"))?;
    let mut shown = io::stdout().lock();
    let seconds = began.elapsed().as_secs_f64();
    writeln!(shown, "\n{source}: {} after {seconds:.1} s", output.status)?;
    shown.write_all(&output.stdout)?;
    shown.write_all(&output.stderr)?;
    Ok(output.status.success())
}

/// Where its tests are.
fn source(program: &Artifact) -> String {
    let file = &program.target.src_path;
    let workspace = machine::workspace().canonicalize();
    let within = workspace.ok();
    let within = within.and_then(|workspace| file.strip_prefix(workspace).ok());
    within.unwrap_or(file).display().to_string()
}
