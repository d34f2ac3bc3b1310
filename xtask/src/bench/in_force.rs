//! When a change is in force in the kernel, apart from when the command that makes it has ended: by then it is on the disk, too.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{bpf::XDP_PASS, frames, guard};

/// How often the kernel is asked. One processor may have to do for both.
const GLANCE: Duration = Duration::from_micros(500);
const MACS: [[u8; 6]; 2] = [[2; 6], [4; 6]];
const TARGET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Does something, and tells when the program that is in force judges SIP from this source otherwise than before.
///
/// # Errors
/// Where that does not come about: what takes the place of the program is not seen.
pub(super) fn judged_otherwise<T>(
    source: Ipv4Addr,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Instant)> {
    let program = guard::program_in_force()?;
    let (from, to) = (IpAddr::V4(source), IpAddr::V4(TARGET));
    let frame = frames::udp(MACS, from, to, 5060, false, &[]);
    let passes = || Ok::<_, anyhow::Error>(program.verdict(&frame)? == XDP_PASS.cast_unsigned());
    let before = passes()?;
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = || -> Result<_> {
            loop {
                let is_last = has_ended.load(Ordering::Acquire);
                if passes()? != before {
                    return Ok(Some(Instant::now()));
                }
                if is_last {
                    return Ok(None);
                }
                thread::sleep(GLANCE);
            }
        };
        let watching = scope.spawn(watch);
        let done = work();
        has_ended.store(true, Ordering::Release);
        let changed = watching
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let done = done?;
        let changed = changed.with_context(|| format!("{source} is judged as before"))?;
        Ok((done, changed))
    })
}
