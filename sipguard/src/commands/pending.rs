//! An apply that waits to be confirmed, as `apply` and `status` tell it.

use std::{fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sipguard::{datapath, tables::Now};

use crate::output::{local, rough};

/// In the JSON of `apply` and `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Pending {
    /// The generation that waits.
    pub(super) generation: u64,
    /// The generation that is in force unless it is confirmed; null where nothing is then.
    pub(super) previous: Option<u64>,
    /// Until when it can be confirmed.
    pub(super) until: Timestamp,
    /// How long that is from now; 0 where it is over.
    pub(super) seconds_left: u64,
    /// Whether it is over, so that the previous generation is in force again.
    pub(super) lapsed: bool,
}

impl Pending {
    pub(super) fn new(pending: datapath::Pending, now: Now) -> Self {
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

/// What is in force otherwise, after which one of both words fits.
fn before(previous: Option<u64>) -> String {
    match previous {
        Some(previous) => format!("generation {previous} is in force again"),
        None => "nothing is filtered any more".to_owned(),
    }
}

/// What is to be done, and until when.
impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation, until, ..
        } = self;
        let before = before(self.previous);
        if self.lapsed {
            return write!(
                f,
                "generation {generation} was not confirmed until {}: {before}",
                local(*until)
            );
        }
        let left = rough(i64::try_from(self.seconds_left).unwrap_or(i64::MAX));
        write!(
            f,
            "generation {generation} waits for `sipguard confirm` until {} ({left} left), or {before}; `sipguard rollback` takes it back at once",
            local(*until)
        )
    }
}
