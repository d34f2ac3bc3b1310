//! What a process takes: time, processor time, memory.

use std::{
    fs,
    io::{Read as _, Seek as _},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::netns::Host;

/// How often a process is looked at.
const GLANCE: Duration = Duration::from_millis(1);
/// How long a tick of /proc/PID/stat is on every system that Linux runs on today (`USER_HZ`).
const TICK: f64 = 0.01;

/// What a command took until it ended.
#[derive(Clone, Copy, Default)]
pub(super) struct Watched {
    pub(super) seconds: f64,
    pub(super) processor_seconds: f64,
    pub(super) peak_mib: f64,
}

/// Runs a command and watches it. Not by the host's own way of running commands: that does not tell how much memory one held.
pub(super) fn run(what: &str, host: &Host, command: &mut Command) -> Result<Watched> {
    let mut stderr = tempfile::tempfile()?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr.try_clone()?);
    host.enter(|| {
        let began = Instant::now();
        let mut child = command.spawn().with_context(|| what.to_owned())?;
        let mut watched = Watched::default();
        let status = loop {
            watched.peak_mib = peak_mib(child.id()).unwrap_or(watched.peak_mib);
            watched.processor_seconds =
                processor_seconds(child.id()).unwrap_or(watched.processor_seconds);
            if let Some(status) = child.try_wait()? {
                break status;
            }
            thread::sleep(GLANCE);
        };
        watched.seconds = began.elapsed().as_secs_f64();
        if !status.success() {
            let mut told = String::new();
            stderr.rewind()?;
            stderr.read_to_string(&mut told)?;
            bail!("{what}: {}", told.trim());
        }
        Ok(watched)
    })
}

/// The most memory that a process has held so far. What the kernel says when it has ended, getrusage(2), is that of the process that started
/// it, where that held more.
pub(super) fn peak_mib(process: u32) -> Option<f64> {
    mib(process, "VmHWM:")
}

/// The memory that a process holds now.
pub(super) fn now_mib(process: u32) -> Option<f64> {
    mib(process, "VmRSS:")
}

fn mib(process: u32, what: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let held = status.lines().find_map(|line| line.strip_prefix(what))?;
    let kib: f64 = held.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024.0)
}

/// The processor time that a process has used so far.
pub(super) fn processor_seconds(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may have anything in it: the fields from the third one on.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) * TICK)
}
