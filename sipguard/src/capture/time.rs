//! When a packet was captured, as the file counts it: turned into a time only where somebody asks.

use jiff::Timestamp;

/// How a file counts time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// Ticks a second.
    pub(super) rate: u64,
    /// Seconds to be added.
    pub(super) offset: i64,
}

/// When a packet was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    pub(super) ticks: u64,
    pub(super) clock: Clock,
}

impl Clock {
    /// In so many parts of a second since 1970.
    pub(super) const fn of(rate: u64) -> Self {
        Self { rate, offset: 0 }
    }
}

impl Time {
    /// The time, where it is one that can be told.
    #[must_use]
    pub fn timestamp(self) -> Option<Timestamp> {
        let Clock { rate, offset } = self.clock;
        let seconds = i64::try_from(self.ticks / rate).ok()?.checked_add(offset)?;
        let nanoseconds = u128::from(self.ticks % rate) * 1_000_000_000 / u128::from(rate);
        Timestamp::new(seconds, i32::try_from(nanoseconds).ok()?).ok()
    }
}
