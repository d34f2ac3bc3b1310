//! The two clocks.

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::tables::Now;

/// Both clocks, now.
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let nanoseconds = i128::from(boot.tv_sec) * 1_000_000_000 + i128::from(boot.tv_nsec);
    Now {
        boot_ns: u64::try_from(nanoseconds).unwrap_or_default(),
        wall: Timestamp::now(),
    }
}
