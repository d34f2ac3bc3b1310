//! Which processor does what: one is the gateway's, with all that it receives; another one is the world's.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::{Pid, getpriority_process, setpriority_process},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use super::guard::INTERFACE;
use crate::netns::{Host, SCRATCH};

/// The first and the last that we may use, which are not two halves of one core where there are more.
#[derive(Clone, Copy)]
pub(super) struct Places {
    pub(super) gateway: usize,
    pub(super) world: usize,
}

impl Places {
    /// Nothing where there is only one.
    pub(super) fn find() -> Result<Option<Self>> {
        let ours = sched_getaffinity(None)?;
        let mut cpus = (0..CpuSet::MAX_CPU).filter(|&cpu| ours.is_set(cpu));
        Ok(cpus
            .next()
            .zip(cpus.next_back())
            .map(|(gateway, world)| Self { gateway, world }))
    }
}

/// Does something on one processor; the threads and programs that it starts stay there.
pub(super) fn on<T>(cpu: usize, what: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = sched_getaffinity(None)?;
    pin(None, cpu)?;
    let done = what();
    sched_setaffinity(None, &before)?;
    done
}

fn pin(thread: Option<Pid>, cpu: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    Ok(sched_setaffinity(thread, &only)?)
}

/// Has a thread of the kernel take what arrives at the host, on this processor, where it waits for its turn like the host's programs
/// (Documentation/networking/napi.rst, "Threaded NAPI"). A veth's packets are else taken by the processor that sent them. Returns the threads, one for each
/// queue.
pub(super) fn receive_on(cpu: usize, host: &Host) -> Result<Vec<Pid>> {
    let before = receivers()?;
    host.enter(|| -> Result<()> {
        // What it shows is of the namespace that mounts it.
        let sys = Path::new(SCRATCH).join("sys");
        fs::create_dir_all(&sys)?;
        mount("sysfs", &sys, "sysfs", MountFlags::empty(), None)?;
        let done = fs::write(sys.join(format!("class/net/{INTERFACE}/threaded")), "1");
        unmount(&sys, UnmountFlags::DETACH)?;
        done.context("threaded NAPI")
    })?;
    let mut new = receivers()?;
    new.retain(|thread| !before.contains(thread));
    ensure!(!new.is_empty(), "no thread took over {INTERFACE}");
    for &thread in &new {
        pin(Some(thread), cpu)?;
        // As the host's programs, which are above whatever else this machine does.
        setpriority_process(Some(thread), getpriority_process(None)?)?;
    }
    Ok(new)
}

/// Lets nothing else run on a thread's processor while it runs (this thread's, where there is none): neither other programs, nor the kernel's
/// thread that takes over from an interrupt and waits for its turn like any other.
pub(super) fn first(thread: Option<Pid>) -> Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    let thread = Pid::as_raw(thread);
    // SAFETY: reads one structure; a thread that has ended is an error.
    let result = unsafe { libc::sched_setscheduler(thread, libc::SCHED_FIFO, &raw const lowest) };
    ensure!(result == 0, "SCHED_FIFO: {}", io::Error::last_os_error());
    Ok(())
}

/// The kernel's threads that receive for interfaces of this name.
fn receivers() -> Result<Vec<Pid>> {
    let mut threads = Vec::new();
    for process in fs::read_dir("/proc")? {
        let process = process?;
        let number = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else {
            continue;
        };
        // One that ended meanwhile has no name.
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        if name.starts_with(&format!("napi/{INTERFACE}-")) {
            threads.push(pid);
        }
    }
    Ok(threads)
}
