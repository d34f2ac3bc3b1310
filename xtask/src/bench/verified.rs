//! How long the kernel's verifier has a command wait: what strace sees of `BPF_PROG_LOAD`, beside which nothing is traced.

use std::{collections::HashMap, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::netns::{Host, SCRATCH};

/// Seconds in which at least one program was being loaded while a command ran, programs side by side counted once.
pub(super) fn seconds(host: &Host, command: &Command) -> Result<f64> {
    let log = Path::new(SCRATCH).join("verified.strace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "--seccomp-bpf", "-ttt", "-T", "-e", "trace=bpf", "-o"])
        .arg(&log)
        .arg(command.get_program())
        .args(command.get_args());
    let finished = host.run(&mut strace);
    ensure!(finished.status.success(), "strace: {}", finished.stderr);
    let text = fs::read_to_string(&log).context("what strace wrote")?;
    Ok(together(loads(&text)))
}

/// When each load began, and how long it took.
fn loads(log: &str) -> Vec<(f64, f64)> {
    // Of a call that another thread's stand between, the line has two parts.
    let mut open = HashMap::new();
    let mut loads = Vec::new();
    for line in log.lines() {
        let mut words = line.split_whitespace();
        let thread = words.next().unwrap_or_default();
        let began = words.next().and_then(|word| word.parse::<f64>().ok());
        if line.contains("bpf(BPF_PROG_LOAD") {
            open.insert(thread, began);
        } else if !line.contains("bpf resumed") {
            continue;
        }
        let took = line.rsplit_once('<').map(|(_, took)| took);
        let took = took.and_then(|took| took.trim_end_matches('>').parse::<f64>().ok());
        if let Some(took) = took {
            let began = open.remove(thread).flatten();
            loads.extend(began.map(|began| (began, took)));
        }
    }
    loads
}

/// How long at least one of them lasted.
fn together(mut loads: Vec<(f64, f64)>) -> f64 {
    loads.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut seconds, mut until) = (0.0, 0.0_f64);
    for (began, took) in loads {
        let end = began + took;
        seconds += (end - began.max(until)).max(0.0);
        until = until.max(end);
    }
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_side_by_side_are_counted_once() {
        let log = "7 10.0 bpf(BPF_MAP_CREATE, {}, 72) = 3 <0.5>\n\
                   7 11.0 bpf(BPF_PROG_LOAD, {} <unfinished ...>\n\
                   8 11.5 bpf(BPF_PROG_LOAD, {}, 144) = 4 <0.25>\n\
                   7 12.0 <... bpf resumed>, 144) = 5 <1.0>\n\
                   8 13.0 bpf(BPF_PROG_LOAD, {}, 144) = 6 <0.5>\n";
        let loads = loads(log);
        assert_eq!(loads, [(11.5, 0.25), (11.0, 1.0), (13.0, 0.5)]);
        assert!((together(loads) - 1.5).abs() < 1e-9);
    }
}
