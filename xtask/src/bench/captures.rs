//! What it takes to judge a capture, beside what others take to read it: processor time and memory. The file is in the page cache and on
//! disk, all programs have their turn one after the other, and medians are told.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    mem,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::{Effort, turns::Turns, watched};
use crate::machine;

const PACKETS: u32 = 1_000_000;
/// In bytes; with what stands in front of each the file is 447 MB.
const FRAME: usize = 431;
/// How many sources the packets come from that are not listed.
const SOURCES: [u32; 2] = [1_000, 1_000_000];
/// tshark has read so many when the others are through with all.
const FOR_TSHARK: u32 = 50_000;
/// How often a command is asked for its memory.
const GLANCE: Duration = Duration::from_millis(1);

const CONFIG: &str = r#"
[sources]
providers = ["203.0.113.0/24"]
[services.sip]
udp = [5060]
tcp = [5060]
allow = ["providers"]
"#;

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) program: &'static str,
    /// Unlisted ones in the capture.
    pub(super) sources: u32,
    pub(super) packets: u32,
    /// Of processor time; the median.
    pub(super) ns_per_packet: f64,
    /// The same as a part of tcpdump's, in the median of the rounds; nothing where there is no tcpdump.
    pub(super) of_tcpdump: Option<f64>,
    /// The most memory that it held at one time.
    pub(super) peak_mib: f64,
}

pub(super) fn run(effort: &Effort) -> Result<Vec<Row>> {
    let folder = machine::workspace().join("target/bench-captures");
    fs::create_dir_all(&folder)?;
    let rows = measured(&folder, effort);
    fs::remove_dir_all(&folder)?;
    rows
}

fn measured(folder: &Path, effort: &Effort) -> Result<Vec<Row>> {
    let config = folder.join("policy.toml");
    fs::write(&config, CONFIG)?;
    let mut rows = Vec::new();
    for sources in SOURCES {
        let file = folder.join("capture.pcap");
        write(&file, sources)?;
        rows.extend(beside_each_other(&file, &config, sources, effort)?);
    }
    Ok(rows)
}

fn beside_each_other(
    file: &Path,
    config: &Path,
    sources: u32,
    effort: &Effort,
) -> Result<Vec<Row>> {
    let sipguard = machine::workspace().join("target/release/sipguard");
    let sipguard = |more: &[&str]| {
        let mut command = Command::new(&sipguard);
        command.args(["check", "--config"]).arg(config);
        command.arg("--pcap").arg(file).args(more);
        command
    };
    let other = |name: &str, words: &[&str]| {
        let mut command = Command::new(name);
        command.args(words).arg("-r").arg(file);
        command
    };
    let mut programs = vec![
        ("sipguard", PACKETS, sipguard(&[])),
        (
            "sipguard --json",
            PACKETS,
            sipguard(&["--json", "--in", "all"]),
        ),
    ];
    if machine::find("tcpdump").is_some() {
        let mut tcpdump = other("tcpdump", &["-nn", "-w", "/dev/null"]);
        tcpdump.arg("udp port 5060");
        programs.push(("tcpdump", PACKETS, tcpdump));
    }
    if machine::find("tshark").is_some() {
        let count = FOR_TSHARK.to_string();
        let words = [
            "-n",
            "-c",
            &count,
            "-w",
            "/dev/null",
            "-Y",
            "udp.port == 5060",
        ];
        programs.push(("tshark", FOR_TSHARK, other("tshark", &words)));
    }
    let mut times: Vec<Turns> = programs.iter().map(|_| Turns::default()).collect();
    let mut peaks = vec![0.0_f64; programs.len()];
    for round in 0..effort.capture_rounds as usize {
        for turn in 0..programs.len() {
            // Each round begins with another one.
            let place = (turn + round) % programs.len();
            let (name, packets, command) = &mut programs[place];
            let (seconds, peak) = measure(command).context(*name)?;
            times[place].push(seconds * 1e9 / f64::from(*packets));
            peaks[place] = peaks[place].max(peak);
        }
    }
    let tcpdump = programs.iter().position(|(name, ..)| *name == "tcpdump");
    let rows = programs.iter().zip(&times).zip(peaks);
    let rows = rows.map(|((&(program, packets, _), own), peak_mib)| Row {
        program,
        sources,
        packets,
        ns_per_packet: own.median(),
        of_tcpdump: tcpdump.map(|tcpdump| times[tcpdump].ratio(own).median),
        peak_mib,
    });
    Ok(rows.collect())
}

/// Processor time in seconds, and MiB. By what the kernel says when it has ended: while it runs, that is counted in hundredths of a second.
fn measure(command: &mut Command) -> Result<(f64, f64)> {
    let before = of_children()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut peak = 0.0;
    let status = loop {
        peak = watched::peak_mib(child.id()).unwrap_or(peak);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(GLANCE);
    };
    ensure!(status.success(), "it failed: {status}");
    Ok((of_children()? - before, peak))
}

/// The processor time of all processes that have ended, in seconds.
fn of_children() -> Result<f64> {
    // SAFETY: all zeros is a value of it.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: it writes where it is told to, and no more than that.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    ensure!(result == 0, io::Error::last_os_error());
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// Of ten packets three are media, two come from a provider, and five from somebody who is not listed.
fn write(file: &PathBuf, sources: u32) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    let header = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1];
    out.write_all(header.map(u32::to_le_bytes).as_flattened())?;
    let mut frame = vec![b'x'; FRAME];
    let length = FRAME as u16 - 14;
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    frame[14..34].fill(0);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    (frame[22], frame[23]) = (60, 17);
    frame[30..34].copy_from_slice(&[192, 0, 2, 1]);
    frame[40..42].fill(0);
    frame[38..40].copy_from_slice(&(length - 20).to_be_bytes());
    for number in 0..PACKETS {
        let (source, port) = match number % 10 {
            0..3 => (0xcb00_7100 + number % 8, 20_000_u16),
            3..5 => (0xcb00_7100 + number % 8, 5060),
            // All different, until they come again; an odd factor spreads them.
            _ => ((number % sources).wrapping_mul(0x9e37_79b1), 5060),
        };
        frame[26..30].copy_from_slice(&source.to_be_bytes());
        frame[34..38].copy_from_slice([port.to_be_bytes(), port.to_be_bytes()].as_flattened());
        let length = FRAME as u32;
        let header = [
            1_700_000_000 + number / 1000,
            number % 1000 * 1000,
            length,
            length,
        ];
        out.write_all(header.map(u32::to_le_bytes).as_flattened())?;
        out.write_all(&frame)?;
    }
    // Not while others are measured.
    out.into_inner()?.sync_all()?;
    Ok(())
}
