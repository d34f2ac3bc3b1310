//! The two clocks: one for what is written down, and one to wait by.

use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::schedule::Moment;

/// The wall clock, in whole seconds, as they are written down.
#[expect(clippy::disallowed_methods, reason = "this is where it is asked")]
pub(crate) fn wall() -> Timestamp {
    let now = Timestamp::now();
    // Whatever it says, its second is one.
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The time since the machine was started: it goes on while that sleeps, and nobody sets it.
pub(crate) fn boot() -> Moment {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}
