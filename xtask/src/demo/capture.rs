//! What really went to the gateway's guarded ports, counted by somebody who knows nothing of sipguard: tcpdump, where
//! the internet's cable to the gateway begins.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::netns::{Host, Process, SCRATCH, until};

const GLANCE: Duration = Duration::from_millis(10);
/// After this long without a packet, none is on its way any more.
const STILL: Duration = Duration::from_millis(300);

pub(super) struct Capture<'a> {
    host: &'a Host,
    tcpdump: Process,
    packets: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Count {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            packets: self.packets - before.packets,
            bytes: self.bytes - before.bytes,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("{} packets, {} bytes", self.packets, self.bytes))
    }
}

impl<'a> Capture<'a> {
    /// Captures what `host` sends out of `interface` and `filter` lets through.
    pub(super) fn start(host: &'a Host, interface: &str, filter: &str) -> Self {
        let packets = Path::new(SCRATCH).join("capture.pcap");
        let mut tcpdump = tcpdump();
        tcpdump
            .args(["--immediate-mode", "--packet-buffered", "-Q", "out"])
            .args(["-i", interface, "-w"])
            .arg(&packets)
            .arg(filter);
        let tcpdump = host.spawn(&mut tcpdump);
        until("tcpdump listens", || {
            tcpdump.stderr().contains("listening on")
        });
        Self {
            host,
            tcpdump,
            packets,
        }
    }

    /// Waits until nothing comes any more.
    pub(super) fn settle(&self) -> Result<()> {
        let (mut length, mut since) = (0, Instant::now());
        while since.elapsed() < STILL {
            thread::sleep(GLANCE);
            let now = fs::metadata(&self.packets)?.len();
            if now != length {
                (length, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Counts those of the packets so far that `filter` lets through.
    pub(super) fn count(&self, filter: &str) -> Result<Count> {
        let mut tcpdump = tcpdump();
        tcpdump
            .args(["-q", "-e", "-r"])
            .arg(&self.packets)
            .arg(filter);
        let mut count = Count::default();
        for line in self.host.run(&mut tcpdump).succeeded().stdout.lines() {
            // 02:51:90:00:00:05 > 02:51:90:00:00:06, IPv4, length 74: …
            let bytes = line
                .split_once(", length ")
                .and_then(|(_, rest)| rest.split_once(':')?.0.parse::<u64>().ok())
                .with_context(|| format!("tcpdump names no length: {line}"))?;
            count.packets += 1;
            count.bytes += bytes;
        }
        Ok(count)
    }

    /// Ends it, and makes sure that it saw everything.
    pub(super) fn end(self) -> Result<()> {
        self.tcpdump.signal(Signal::INT);
        let said = self.tcpdump.wait().stderr;
        ensure!(
            said.contains("\n0 packets dropped by kernel"),
            "tcpdump missed packets: {said}"
        );
        Ok(())
    }
}

/// Without names and times; and as root, because this one's user may not write to our folder.
fn tcpdump() -> Command {
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-n", "-t", "-Z", "root"]);
    tcpdump
}
