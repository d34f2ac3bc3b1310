//! The other side: the first process of a kernel that was booted for its tests.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{Read as _, Seek as _, Write as _},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    mount::{MountFlags, mount},
    system::{RebootCommand, finit_module, reboot, uname},
};

use super::plan::{Ended, Event, Job, PLAN, Plan};

/// The serial port that the host listens to.
const HOST: &str = "/dev/ttyS0";
const GLANCE: Duration = Duration::from_millis(5);
/// As much of a test's output as a person reads, in bytes.
const OUTPUT: usize = 8 << 10;

/// Runs the plan and switches the machine off.
pub(super) fn run() -> Result<()> {
    file_systems()?;
    let host = Host(Mutex::new(File::options().write(true).open(HOST)?));
    let last = match all(&host) {
        Ok(()) => Event::Done,
        Err(error) => Event::Stuck(format!("{error:#}")),
    };
    host.say(&last)?;
    reboot(RebootCommand::PowerOff)?;
    Ok(())
}

fn file_systems() -> Result<()> {
    for (kind, folder) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("bpf", "/sys/fs/bpf"),
    ] {
        fs::create_dir_all(folder)?;
        mount(kind, folder, kind, MountFlags::empty(), None)
            .with_context(|| format!("mounting {folder}"))?;
    }
    Ok(())
}

fn all(host: &Host) -> Result<()> {
    let release = uname().release().to_string_lossy().into_owned();
    host.say(&Event::Up(release))?;
    let plan: Plan = serde_json::from_slice(&fs::read(PLAN)?)?;
    let mut loaded = HashSet::new();
    // Modules that are loaded while a test runs would change what it meets.
    for jobs in plan.jobs.chunk_by(|one, next| one.modules == next.modules) {
        let modules = jobs.iter().flat_map(|job| &job.modules);
        for module in modules.filter(|module| loaded.insert(*module)) {
            let file = File::open(module)?;
            finit_module(&file, c"", 0).with_context(|| format!("loading {module}"))?;
        }
        at_once(jobs, host)?;
    }
    Ok(())
}

/// As many jobs at a time as there are processors.
fn at_once(jobs: &[Job], host: &Host) -> Result<()> {
    let left = Mutex::new(jobs.iter());
    let work = || -> Result<()> {
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(job) = next() {
            let ended = run_job(job).with_context(|| job.name.clone())?;
            host.say(&Event::Ended(ended))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..thread::available_parallelism()?.get())
            .map(|_| scope.spawn(work))
            .collect();
        workers.into_iter().try_for_each(|worker| {
            let ended = worker.join();
            ended.unwrap_or_else(|_| bail!("a thread of the guest panicked"))
        })
    })
}

fn run_job(job: &Job) -> Result<Ended> {
    let mut output = tempfile::tempfile()?;
    let started = Instant::now();
    let mut child = Command::new(&job.program)
        .args(&job.arguments)
        .env("PATH", "/bin")
        .env("RUST_BACKTRACE", "1")
        .envs(job.environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()?;
    let passed = loop {
        if let Some(status) = child.try_wait()? {
            break status.success();
        }
        if started.elapsed() > job.limit {
            child.kill()?;
            child.wait()?;
            writeln!(output, "not done after {} s", job.limit.as_secs())?;
            break false;
        }
        thread::sleep(GLANCE);
    };
    let seconds = started.elapsed().as_secs_f64();
    let mut said = Vec::new();
    output.rewind()?;
    output.read_to_end(&mut said)?;
    let end = &said[said.len().saturating_sub(OUTPUT)..];
    Ok(Ended {
        name: job.name.clone(),
        passed,
        seconds,
        output: String::from_utf8_lossy(end).into_owned(),
    })
}

/// The other end of the serial port, to which one event is told at a time.
struct Host(Mutex<File>);

impl Host {
    fn say(&self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        port.write_all(&line)
            .context("the host can't be told anything")
    }
}
