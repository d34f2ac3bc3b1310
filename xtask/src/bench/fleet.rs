//! A hundred gateways that have one list in etcd: how long a change takes from the beginning of `etcdctl put` until each fetcher has it in its file,
//! and until it is in the kernel.
//!
//! A hundred hosts would have a hundred times the processors of this one. So all of them have a fetcher here, and only some a kernel's part, in a
//! network of their own with pins and a state of their own: those are in force as late as they are beside everything that all others do at
//! that moment.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{Effort, guard::INTERFACE};
use crate::{
    certificates::certify,
    etcd::{Etcd, RELEASES},
    machine,
    netns::{End, Host, Process, SCRATCH, STATE, Sandbox, join},
};

const GATEWAYS: usize = 100;
/// How many of them have a kernel's part.
const KERNELS: usize = 10;
/// How many changes are made.
const CHANGES: u32 = 20;
const KEY: &str = "/sipguard/providers";
const SERVER: &str = "192.0.2.53";
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) gateways: usize,
    pub(super) entries: usize,
    pub(super) p50_seconds: f64,
    pub(super) p99_seconds: f64,
}

pub(super) fn run(sandbox: &Sandbox, effort: &Effort) -> Result<Vec<Row>> {
    let folder = Path::new(SCRATCH).join("fleet");
    fs::create_dir_all(&folder)?;
    certify(&folder, SERVER);
    let (gateway, server) = (sandbox.host(), sandbox.host());
    let end = |host, addresses| End {
        host,
        interface: INTERFACE,
        addresses,
    };
    join(
        end(&gateway, &["192.0.2.1/24"]),
        end(&server, &["192.0.2.53/24"]),
    );
    let etcd = Etcd::new(RELEASES[1], server, &folder, SERVER);
    let _server = etcd.start(&[]);
    let list = |last: u32| -> String {
        let fixed = (0..effort.fleet_entries)
            .map(|place| format!("198.18.{}.{}\n", place / 250, place % 250));
        fixed
            .chain([format!("203.0.113.{}\n", last % 250)])
            .collect()
    };
    etcd.put(KEY, &list(0));

    let config = folder.join("sipguard.toml");
    fs::write(
        &config,
        format!(
            "interfaces = [\"{INTERFACE}\"]\n[sources]\nfleet = {{ etcd = [\"{}\"], key = \"{KEY}\", ca_file = \"{}\" }}\n\
             [services.sip]\nudp = [5060]\nallow = [\"fleet\"]\n",
            etcd.endpoint(),
            folder.join("ca.pem").display()
        ),
    )?;
    let found = |number: usize| folder.join(number.to_string());
    for number in 0..GATEWAYS {
        fs::create_dir(found(number))?;
    }
    let kernels = (0..KERNELS).map(|number| Kernel::new(sandbox, &config, &found(number)));
    let kernels = kernels.collect::<Result<Vec<_>>>()?;
    let tasks = folder.join("tasks.json");
    fs::copy(kernels[0].state().join("tasks.json"), &tasks)?;
    let fetch = machine::workspace().join("target/release/sipguard-fetch");
    let fetchers = (0..GATEWAYS).map(|number| {
        let mut fetcher = Command::new(&fetch);
        fetcher.arg("--tasks").arg(&tasks);
        fetcher.arg("--folder").arg(found(number)).arg("--loop");
        gateway.spawn(&mut fetcher)
    });
    let _fetchers: Vec<Process> = fetchers.collect();

    let mut stamps = vec![None; GATEWAYS];
    let (mut files, mut forces) = (Vec::new(), Vec::new());
    for change in 0..=CHANGES {
        let began = Instant::now();
        // All of it at first.
        if change > 0 {
            etcd.put(KEY, &list(change));
        }
        let (file, force) = follow(began, &kernels, &found, &mut stamps)?;
        if change > 0 {
            files.extend(file);
            forces.extend(force);
        }
    }
    let row = |what, gateways, mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[(times.len() as f64 * share) as usize];
        Row {
            what,
            gateways,
            entries: effort.fleet_entries + 1,
            p50_seconds: at(0.5),
            p99_seconds: at(0.99),
        }
    };
    Ok(vec![
        row("in the fetcher's file", GATEWAYS, files),
        row("in force in the kernel", KERNELS, forces),
    ])
}

/// Waits until every gateway has another file than before, and each kernel what is in it; tells when, in seconds.
fn follow(
    began: Instant,
    kernels: &[Kernel],
    found: &(dyn Fn(usize) -> PathBuf + Sync),
    stamps: &mut [Option<(u64, i64)>],
) -> Result<(Vec<f64>, Vec<f64>)> {
    thread::scope(|scope| {
        let (mut files, mut refreshes) = (Vec::new(), Vec::new());
        let mut missing: Vec<usize> = (0..GATEWAYS).collect();
        while !missing.is_empty() {
            ensure!(
                began.elapsed() < PATIENCE,
                "{} have no change",
                missing.len()
            );
            missing.retain(|&number| {
                let file = fs::metadata(found(number).join("fleet.json"));
                let stamp = file.ok().map(|file| (file.ino(), file.mtime_nsec()));
                if stamp == stamps[number] {
                    return true;
                }
                stamps[number] = stamp;
                files.push(began.elapsed().as_secs_f64());
                if let Some(kernel) = kernels.get(number) {
                    refreshes.push(
                        scope.spawn(move || {
                            kernel.refresh().map(|()| began.elapsed().as_secs_f64())
                        }),
                    );
                }
                false
            });
            thread::sleep(Duration::from_millis(1));
        }
        let forces = refreshes.into_iter().map(|refresh| match refresh.join() {
            Ok(in_force) => in_force,
            Err(panicked) => std::panic::resume_unwind(panicked),
        });
        Ok((files, forces.collect::<Result<_>>()?))
    })
}

/// A gateway's network, pins and state.
struct Kernel {
    host: Host,
    _peer: Host,
    /// Has the mounts.
    holder: Process,
    config: PathBuf,
}

impl Kernel {
    fn new(sandbox: &Sandbox, config: &Path, found: &Path) -> Result<Self> {
        let (host, peer) = (sandbox.host(), sandbox.host());
        let end = |host| End {
            host,
            interface: INTERFACE,
            addresses: &[],
        };
        join(end(&host), end(&peer));
        fs::create_dir_all(Path::new(SCRATCH).join("sipguard-fetch"))?;
        let mounts = format!(
            "mount -t bpf bpf /sys/fs/bpf && mount -t tmpfs tmpfs {STATE} && mount --bind {} {SCRATCH}/sipguard-fetch && echo mounted && exec sleep 1000",
            found.display()
        );
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "private", "sh", "-c", &mounts]);
        let holder = host.spawn(&mut holder);
        holder.wait_for_output("mounted");
        let kernel = Self {
            host,
            _peer: peer,
            holder,
            config: config.to_owned(),
        };
        kernel.sipguard(&["apply", "--offline"])?;
        Ok(kernel)
    }

    fn state(&self) -> PathBuf {
        let pid = self.holder.pid().as_raw_nonzero();
        PathBuf::from(format!("/proc/{pid}/root{STATE}"))
    }

    fn refresh(&self) -> Result<()> {
        self.sipguard(&["--quiet", "refresh", "--offline"])
    }

    fn sipguard(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new("nsenter");
        let pid = self.holder.pid().as_raw_nonzero();
        command
            .arg(format!("--mount=/proc/{pid}/ns/mnt"))
            .arg(machine::workspace().join("target/release/sipguard"))
            .arg("--config")
            .arg(&self.config)
            .args(words);
        let finished = self.host.run(&mut command);
        ensure!(finished.status.success(), "{}", finished.stderr.trim());
        Ok(())
    }
}
