//! The two clocks. Nobody but [`Host`](crate::host::Host) asks them.

use std::fs;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The two clocks at one moment: the kernel's, by which timed entries end, and the one by which people set their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub boot_ns: u64,
    /// The wall clock.
    pub wall: Timestamp,
}

/// Both clocks, now.
#[expect(clippy::disallowed_methods, reason = "this is where they are asked")]
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let nanoseconds = i128::from(boot.tv_sec) * 1_000_000_000 + i128::from(boot.tv_nsec);
    Now {
        boot_ns: u64::try_from(nanoseconds).unwrap_or_default(),
        wall: Timestamp::now(),
    }
}

/// What the kernel calls this boot; no two have one name. Empty where there is no /proc, so that it is always the same one.
pub fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}
