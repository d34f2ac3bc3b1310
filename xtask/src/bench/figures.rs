//! All figures of one run, and the tables that people read.

use std::fs;

use anstream::println;
use serde::Serialize;

use super::{
    agent, bans, calls, captures, crowdsec, fleet, listener, micro, scanner, sizes, sources,
    turns::Ratio,
    veth::{self, Receives},
};
use crate::machine;

#[derive(Serialize)]
pub(super) struct Figures {
    machine: Machine,
    pub(super) micro: Vec<micro::Row>,
    pub(super) veth: Vec<veth::Row>,
    pub(super) listener: Option<listener::Row>,
    pub(super) scanner: Option<scanner::Row>,
    pub(super) calls: Vec<calls::Row>,
    pub(super) apply: Vec<sizes::Row>,
    pub(super) agent: Vec<agent::Row>,
    pub(super) bans: Vec<bans::Row>,
    pub(super) sources: Vec<sources::Row>,
    pub(super) crowdsec: Vec<crowdsec::Row>,
    pub(super) fleet: Vec<fleet::Row>,
    pub(super) captures: Vec<captures::Row>,
}

#[derive(Serialize)]
struct Machine {
    cpu: String,
    cpus: usize,
    kernel: String,
    date: String,
    /// What each program says of its version.
    versions: Vec<String>,
}

impl Figures {
    pub(super) fn new() -> Self {
        let said = |program: &str, words: &[&str]| -> Option<String> {
            let program = machine::find(program)?;
            let text = machine::answer(std::process::Command::new(program).args(words))?;
            Some(text.lines().next()?.trim().to_owned())
        };
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let sipguard = machine::workspace().join("target/release/sipguard");
        let versions = [
            machine::answer(std::process::Command::new(sipguard).arg("--version"))
                .map(|text| text.trim().to_owned()),
            said("nft", &["--version"]),
            said("fail2ban-client", &["--version"]),
            said("iptables", &["--version"]),
            said("ipset", &["--version"]),
            said("xdp-filter", &["--version"]),
            said("tcpdump", &["--version"]),
            said("tshark", &["--version"]),
        ];
        Self {
            machine: Machine {
                cpu: model
                    .unwrap_or_default()
                    .trim_matches([' ', '\t', ':'])
                    .to_owned(),
                cpus: std::thread::available_parallelism().map_or(1, usize::from),
                kernel: said("uname", &["-sr"]).unwrap_or_default(),
                date: said("date", &["--iso-8601"]).unwrap_or_default(),
                versions: versions.into_iter().flatten().collect(),
            },
            micro: Vec::new(),
            veth: Vec::new(),
            listener: None,
            scanner: None,
            calls: Vec::new(),
            apply: Vec::new(),
            agent: Vec::new(),
            bans: Vec::new(),
            sources: Vec::new(),
            crowdsec: Vec::new(),
            fleet: Vec::new(),
            captures: Vec::new(),
        }
    }

    pub(super) fn print_machine(&self) {
        let Machine {
            cpu,
            cpus,
            kernel,
            date,
            versions,
        } = &self.machine;
        println!("{cpus} × {cpu}, {kernel}, {date}");
        println!("{}\n", versions.join("; "));
    }

    pub(super) fn print_micro(&self) {
        let mut sizes: Vec<usize> = self.micro.iter().map(|row| row.entries).collect();
        sizes.dedup();
        let head: Vec<String> = sizes.iter().map(|size| format!("{size:>14}")).collect();
        println!("ns a packet over an empty program (its target), by entries");
        println!("{:<32}{}", "", head.concat());
        let mut cases: Vec<&str> = Vec::new();
        for row in self.micro.iter().filter(|row| row.filter != "empty") {
            if !cases.contains(&row.case.as_str()) {
                cases.push(&row.case);
            }
        }
        for case in cases {
            let cells = sizes.iter().map(|&size| {
                let found = self
                    .micro
                    .iter()
                    .find(|row| row.case == case && row.entries == size);
                let cell = found.map(|row| format!("{} (≤ {})", row.ns_over_empty, row.target));
                format!("{:>14}", cell.unwrap_or_default())
            });
            println!("{case:<32}{}", cells.collect::<String>());
        }
        println!();
    }

    pub(super) fn print_veth(&self) {
        for (receives, processor) in [
            (Receives::SameProcessor, "the processor that sends"),
            (Receives::OtherProcessor, "another processor"),
        ] {
            println!(
                "drops on the cable, received on {processor}: ns a packet, of the fair limit, of empty (at full speed; median of the rounds, half of them)"
            );
            println!(
                "{:<34}{:>13}{:>9}{:>8}{:>8}{:>9}{:>20}{:>9}{:>20}",
                "filter", "frames", "entries", "fast", "median", "of limit", "", "of empty", ""
            );
            for row in self.veth.iter().filter(|row| row.receives == receives) {
                let entries = row.entries.map(|entries| entries.to_string());
                let part = |ratio: Ratio| {
                    let Ratio {
                        fast,
                        median,
                        low,
                        high,
                    } = ratio;
                    format!(
                        "{fast:>9.3}{:>20}",
                        format!("{median:.3} {low:.3}–{high:.3}")
                    )
                };
                println!(
                    "{:<34}{:>13}{:>9}{:>8.1}{:>8.1}{}{}",
                    row.filter,
                    row.frames,
                    entries.unwrap_or_default(),
                    row.fast_ns,
                    row.median_ns,
                    part(row.of_limit),
                    part(row.of_empty)
                );
            }
            println!();
        }
    }

    pub(super) fn print_scanner(&self) {
        if let Some(row) = &self.scanner {
            println!(
                "a scanner of 10 packets/s beside {} packets/s from 16,384 sources: told of after {:.1} s (median of {} runs; the longest {:.1} s)\n",
                row.flood,
                row.median(),
                row.told.len(),
                row.longest()
            );
        }
    }

    pub(super) fn print_listener(&self) {
        if let Some(row) = &self.listener {
            let Ratio {
                fast,
                median,
                low,
                high,
            } = row.heard;
            println!(
                "drops while somebody listens: {:.1} ns a packet at full speed, {:.1} while nobody does: {fast:.3} (median of the rounds, half of them: {median:.3} {low:.3}–{high:.3})",
                row.heard_ns, row.unheard_ns
            );
            println!(
                "{} packets, {} events, {} left out, {} lost; the listener: {:.1}% of a processor, {:.1} MiB\n",
                row.packets,
                row.events,
                row.left_out,
                row.lost,
                row.processor * 100.0,
                row.peak_mib
            );
        }
    }

    pub(super) fn print_apply(&self) {
        println!(
            "{:<26}{:>9}{:>10}{:>12}{:>10}",
            "a policy in force", "entries", "s", "verifier s", "peak MiB"
        );
        for sizes::Row {
            what,
            entries,
            seconds,
            verified,
            peak_mib,
        } in &self.apply
        {
            let verified = verified.map_or_else(String::new, |it| format!("{it:.3}"));
            println!("{what:<26}{entries:>9}{seconds:>10.3}{verified:>12}{peak_mib:>10.0}");
        }
        println!();
    }

    pub(super) fn print_agent(&self) {
        for row in &self.agent {
            println!("{}, {} entries", row.agent, row.entries);
            println!(
                "  left alone: {:.1} MiB, {:.2}% of a processor",
                row.idle_mib,
                row.idle_processor * 100.0
            );
            println!(
                "  in a flood of {} packets/s: {:.1} MiB, {:.1}% of a processor; {:.0} events/s, {:.0} left out for each, {} lost\n",
                row.dropped,
                row.peak_mib,
                row.processor * 100.0,
                row.events,
                row.left_out,
                row.lost
            );
        }
    }

    pub(super) fn print_sources(&self) {
        println!(
            "\n{:<26}{:>10}{:>10}{:>14}{:>18}",
            "a live list, entries", "s", "changes", "in the kernel", "on the disk, too"
        );
        for row in &self.sources {
            println!(
                "{:<26}{:>10.3}{:>10}{:>14.3}{:>18.3}",
                row.entries,
                row.seconds,
                row.changes,
                row.change_seconds,
                row.change_on_disk_seconds
            );
        }
    }

    pub(super) fn print_crowdsec(&self) {
        println!(
            "\n{:<26}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>18}{:>8}",
            "CrowdSec's decisions, by",
            "decisions",
            "s",
            "cpu s",
            "peak MiB",
            "one more",
            "one less",
            "on the disk, too",
            "idle"
        );
        for row in &self.crowdsec {
            let on_disk = row.on_disk_seconds;
            let on_disk = on_disk.map_or("–".to_owned(), |seconds| format!("{seconds:.3}"));
            println!(
                "{:<26}{:>10}{:>10.3}{:>10.2}{:>10.0}{:>10.3}{:>10.3}{on_disk:>18}{:>8.3}",
                row.by,
                row.decisions,
                row.seconds,
                row.processor_seconds,
                row.peak_mib,
                row.more_seconds,
                row.less_seconds,
                row.idle
            );
        }
    }

    pub(super) fn print_fleet(&self) {
        println!(
            "\n{:<26}{:>10}{:>10}{:>10}{:>10}",
            "a change of etcd's list", "gateways", "entries", "p50 s", "p99 s"
        );
        for row in &self.fleet {
            println!(
                "{:<26}{:>10}{:>10}{:>10.3}{:>10.3}",
                row.what, row.gateways, row.entries, row.p50_seconds, row.p99_seconds
            );
        }
    }

    pub(super) fn print_captures(&self) {
        println!(
            "\n{:<26}{:>10}{:>12}{:>12}{:>10}",
            "a capture, sources", "sources", "ns/packet", "of tcpdump", "MiB"
        );
        for row in &self.captures {
            let part = row.of_tcpdump.map(|part| format!("{part:.2}"));
            println!(
                "{:<26}{:>10}{:>12.0}{:>12}{:>10.1}",
                row.program,
                row.sources,
                row.ns_per_packet,
                part.unwrap_or_default(),
                row.peak_mib
            );
        }
    }

    pub(super) fn print_bans(&self) {
        println!(
            "{:<26}{:>9}{:>10}{:>10}{:>16}",
            "bans by other programs", "bans", "s", "ms each", "s to stop"
        );
        for bans::Row {
            by,
            bans,
            seconds,
            stop_seconds,
        } in &self.bans
        {
            let each = seconds * 1e3 / *bans as f64;
            let stop = stop_seconds.map_or("–".to_owned(), |stop| format!("{stop:.3}"));
            println!("{by:<26}{bans:>9}{seconds:>10.3}{each:>10.2}{stop:>16}");
        }
        println!();
    }

    pub(super) fn print_calls(&self) {
        println!(
            "{:<56}{:>12}{:>12}{:>12}{:>9}{:>9}{:>16}",
            "calls under flood",
            "packets/s",
            "taken",
            "completed",
            "p50 ms",
            "p99 ms",
            "media lost"
        );
        for row in &self.calls {
            let time =
                |time: Option<f64>| time.map_or("–".to_owned(), |time| format!("{time:.1}"));
            println!(
                "{:<56}{:>12}{:>12}{:>12}{:>9}{:>9}{:>16}",
                row.filter,
                row.flood,
                row.taken,
                format!("{}/{}", row.completed, row.calls),
                time(row.p50_ms),
                time(row.p99_ms),
                format!("{}/{}", row.media_lost, row.media_sent)
            );
        }
    }
}
