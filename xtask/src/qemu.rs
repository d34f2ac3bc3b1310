//! Booting another kernel in a machine of software: QEMU without KVM, so that it runs wherever a program runs.
//!
//! The machine has processors, memory and one serial console, and nothing else but what the caller gives it. What its console says
//! is in a file, which outlives it. [`crate::setup::run`] installs QEMU.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::setup;

const GLANCE: Duration = Duration::from_millis(50);
/// How much of the console is shown where something went wrong.
const TAIL_LINES: usize = 30;

/// A machine that is not switched on yet.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// A compressed kernel image.
    pub(crate) kernel: PathBuf,
    /// An initramfs.
    pub(crate) initrd: PathBuf,
    /// What the kernel is told beside the console's name; a panic always ends the machine.
    pub(crate) command_line: String,
    /// In MiB.
    pub(crate) memory: u32,
    /// How many processors.
    pub(crate) processors: u32,
    /// More of QEMU's arguments: disks, network cards.
    pub(crate) arguments: Vec<OsString>,
    /// The file for what the console says; one that is there is written over.
    pub(crate) console: PathBuf,
    /// A file of its own for what the kernel says, on a second serial port: nothing of it gets in between the lines of the first one,
    /// which then is `/dev/ttyS0` and not `/dev/console`.
    pub(crate) messages: Option<PathBuf>,
}

impl Machine {
    /// Switches the machine on. It is killed when what is returned is dropped, and when this thread ends.
    pub(crate) fn start(&self) -> Result<Running> {
        // QEMU would make it, but not before somebody reads it.
        File::create(&self.console)
            .with_context(|| format!("creating {}", self.console.display()))?;
        let port = usize::from(self.messages.is_some());
        let command_line = format!("console=ttyS{port} panic=-1 {}", self.command_line);
        let mut command = Command::new(setup::emulator());
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            // Behind cmpxchg16b, which the kernel's allocator lives by where it is there, QEMU 7.2 now and then has wrong flags, and
            // then the kernel panics.
            .args(["-cpu", "max,-cx16"])
            // Without being told, it runs all processors in one thread.
            .args(["-accel", "tcg,thread=multi", "-no-reboot"])
            .args(["-m", &format!("{}M", self.memory)])
            .args(["-smp", &self.processors.to_string()])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd)
            .args(["-append", &command_line])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for file in [Some(&self.console), self.messages.as_ref()]
            .into_iter()
            .flatten()
        {
            let mut serial = OsString::from("file:");
            serial.push(file);
            command.arg("-serial").arg(serial);
        }
        // SAFETY: between fork and exec only a system call is made; nothing is allocated.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let child = command.spawn().context("starting qemu-system-x86_64")?;
        Ok(Running {
            child,
            console: Console::open(&self.console)?,
        })
    }
}

/// A machine that runs.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    console: Console,
}

impl Running {
    /// Waits until the machine switches itself off; `line` gets each line of the console soon after it is there.
    ///
    /// # Errors
    /// Where it is still on after `limit`, and where QEMU fails: with the console's last lines.
    pub(crate) fn until_off(&mut self, limit: Duration, mut line: impl FnMut(&str)) -> Result<()> {
        let started = Instant::now();
        loop {
            let ended = self.has_ended()?;
            self.console.lines(&mut line)?;
            if ended {
                return Ok(());
            }
            self.wait("ended", started, limit)?;
        }
    }

    /// Waits until a line of the console is the one that is waited for.
    ///
    /// # Errors
    /// Where there is none within `limit`, and where the machine is off before: with the console's last lines.
    pub(crate) fn until_said(
        &mut self,
        what: &str,
        limit: Duration,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let started = Instant::now();
        loop {
            let ended = self.has_ended()?;
            let mut said = false;
            self.console.lines(|line| said |= is_it(line))?;
            if said {
                return Ok(());
            }
            ensure!(!ended, "the machine is off, and has not {what}");
            self.wait(what, started, limit)?;
        }
    }

    fn has_ended(&mut self) -> Result<bool> {
        match self.child.try_wait()? {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => {
                let mut complaint = String::new();
                if let Some(mut stderr) = self.child.stderr.take() {
                    stderr.read_to_string(&mut complaint)?;
                }
                bail!("qemu-system-x86_64: {status}\n{}", complaint.trim_end());
            }
        }
    }

    /// Waits a moment; an error where it has been too long.
    fn wait(&self, what: &str, started: Instant, limit: Duration) -> Result<()> {
        if started.elapsed() <= limit {
            thread::sleep(GLANCE);
            return Ok(());
        }
        let said = fs::read(&self.console.path).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        bail!(
            "the machine has not {what} within {} s; the end of {}:\n{tail}",
            limit.as_secs(),
            self.console.path.display()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the serial console said, line by line.
#[derive(Debug)]
struct Console {
    path: PathBuf,
    file: File,
    read: u64,
    /// The line that has no end yet.
    begun: Vec<u8>,
}

impl Console {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            read: 0,
            begun: Vec::new(),
        })
    }

    /// Hands on the lines that were ended since the last call.
    fn lines(&mut self, mut line: impl FnMut(&str)) -> Result<()> {
        self.file.seek(SeekFrom::Start(self.read))?;
        let length = self.file.read_to_end(&mut self.begun)?;
        self.read += u64::try_from(length)?;
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let ended: Vec<u8> = self.begun.drain(..=end).collect();
            line(String::from_utf8_lossy(&ended).trim_end_matches(['\r', '\n']));
        }
        Ok(())
    }
}
