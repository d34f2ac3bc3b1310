//! An apply that waits to be confirmed, as `apply` and `status` tell it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{datapath::Pending, tables::Now};

/// In the JSON of `apply` and `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfirmationReport {
    /// The generation that waits.
    pub generation: u64,
    /// The generation that is in force unless it is confirmed; null where nothing is then.
    pub previous: Option<u64>,
    /// Until when it can be confirmed.
    pub until: Timestamp,
    /// How long that is from now; 0 where it is over.
    pub seconds_left: u64,
    /// Whether it is over, so that the previous generation is in force again.
    pub lapsed: bool,
}

impl ConfirmationReport {
    /// Of what the kernel has, now.
    pub fn new(pending: Pending, now: Now) -> Self {
        let left = pending.left(now);
        let over = Duration::from_nanos(now.boot_ns.saturating_sub(pending.deadline));
        let from_now = match left {
            Some(left) => SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX),
            None => -SignedDuration::try_from(over).unwrap_or(SignedDuration::MAX),
        };
        Self {
            generation: pending.generation,
            previous: pending.previous,
            until: now.wall.checked_add(from_now).unwrap_or(Timestamp::MAX),
            // Rounded up: what is left is never told as nothing.
            seconds_left: left.map_or(0, |left| {
                left.as_secs() + u64::from(left.subsec_millis() > 0)
            }),
            lapsed: left.is_none(),
        }
    }
}
