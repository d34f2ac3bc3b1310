//! One boot: a plan goes in, and what became of its jobs comes out.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    image::Image,
    plan::{Ended, Event, Job, PLAN, Plan},
};
use crate::qemu::Machine;

/// Where tests find the command beside them, as they do below `target/`.
const SIPGUARD: &str = "/target/debug/sipguard";
pub(crate) const TESTS: &str = "/target/debug/deps";
const GUEST: &str = "/guest";
/// How long one test may take.
pub(crate) const TEST_LIMIT: Duration = Duration::from_mins(5);
/// No kernel takes that long, not even beside other work.
pub(crate) const LIMIT: Duration = Duration::from_mins(40);
const MEMORY: u32 = 1536;

/// What every machine runs: its first process, and what is tested.
pub(crate) struct Programs {
    pub(crate) guest: PathBuf,
    pub(crate) sipguard: PathBuf,
}

impl Programs {
    /// Completes an initramfs that has its jobs' programs and modules already.
    pub(crate) fn complete(&self, mut image: Image, jobs: Vec<Job>, path: &Path) -> Result<()> {
        image.executable(GUEST, self.guest.clone())?;
        image.executable(SIPGUARD, self.sipguard.clone())?;
        image.file(PLAN, serde_json::to_vec(&Plan { jobs })?);
        image.write(path)
    }
}

/// A kernel, and what it is booted with.
pub(crate) struct Boot<'a> {
    /// The compressed kernel.
    pub(crate) kernel: &'a Path,
    /// As `uname -r` says it there.
    pub(crate) release: &'a str,
    /// What [`Programs::complete`] made.
    pub(crate) initrd: &'a Path,
    /// More of QEMU's arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Where the consoles' logs go.
    pub(crate) folder: &'a Path,
    /// How long it may take altogether.
    pub(crate) limit: Duration,
}

impl Boot<'_> {
    /// Boots, and hands on what each of so many jobs came to. An error says why it did not get to the end.
    pub(crate) fn run(self, jobs: usize, mut each: impl FnMut(Ended)) -> Result<(), String> {
        let messages = self.folder.join("kernel.log");
        let mut up = None;
        let mut ended = 0;
        let mut end = Err("the machine ended before its tests".to_owned());
        let off = self.switch_on(&messages, |line| match serde_json::from_str(line) {
            Ok(Event::Up(release)) => up = Some(release),
            Ok(Event::Ended(test)) => {
                ended += 1;
                each(test);
            }
            Ok(Event::Stuck(why)) => end = Err(why),
            Ok(Event::Done) => end = Ok(()),
            Err(error) => end = Err(format!("{error}: {line}")),
        });
        if let Err(error) = off {
            end = Err(format!("{error:#}"));
        }
        if end.is_ok() && (ended != jobs || up.as_deref() != Some(self.release)) {
            end = Err(format!("{ended} of {jobs} tests on {up:?}"));
        }
        end.map_err(|why| {
            let log = messages.display();
            format!("{why}; what the kernel said is in {log}")
        })
    }

    fn switch_on(&self, messages: &Path, line: impl FnMut(&str)) -> Result<()> {
        let machine = Machine {
            kernel: self.kernel.to_owned(),
            initrd: self.initrd.to_owned(),
            command_line: format!("rdinit={GUEST} -- kernels-guest"),
            memory: MEMORY,
            processors: 2,
            arguments: self.arguments.clone(),
            console: self.folder.join("console.log"),
            messages: Some(messages.to_owned()),
        };
        let mut running = machine.start().context("switching the machine on")?;
        running.until_off(self.limit, line)
    }
}
