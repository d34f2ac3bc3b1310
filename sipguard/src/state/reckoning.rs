//! What time it is, as far as it can be believed.
//!
//! People say by the wall clock when an entry ends, and a wall clock can be wrong: it begins anywhere on a board without a battery, it is
//! set by hand, and it is put right by the network some time after boot. The boot clock only ever counts the time that passes, and begins
//! anew with each boot. So:
//!
//! - It is at least as late as the latest time that is sure, and what passed on the boot clock since. A clock that is behind that is not
//!   believed.
//! - A clock that is ahead is on trial. It is sure when it still says the same, and [`HOLDS`] have passed on the boot clock. Until then
//!   nothing is forgotten because of it.
//! - What it is reckoned to be meanwhile: while no clock of this boot was sure, what the clock on trial says, for there is none better; after
//!   that, what the boot clock says.
//! - Where that moves, all ends are reckoned anew; those that were said as so long from now, in this boot, move with it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::clock::Now;

/// How long a clock that is ahead has to go on saying the same.
pub const HOLDS: SignedDuration = SignedDuration::from_hours(1);

/// What clocks may differ by and agree: the network sets them by less each day, and leap seconds are no more.
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// How far apart the times are that are written down where nothing else is.
const NOTED: SignedDuration = SignedDuration::from_mins(10);

/// What is known of the time. The default knows nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reckoning {
    /// It was at least so late when the boot clock said [`boot_ns`](Self::boot_ns).
    latest: Timestamp,
    /// Nanoseconds of the boot clock; 0 where `latest` is of an earlier boot.
    boot_ns: u64,
    /// Which boot that was.
    boot: String,
    /// Whether a clock of this boot was sure.
    #[serde(default)]
    sure: bool,
    /// A clock that is ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trial: Option<Trial>,
}

/// How the time that is reckoned moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// By how much.
    pub by: SignedDuration,
    /// In which boot it was reckoned so before.
    boot: String,
}

/// What a clock said when it was first seen to say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    wall: Timestamp,
    boot_ns: u64,
}

impl Trial {
    fn at(self, boot_ns: u64) -> Timestamp {
        later(self.wall, boot_ns.saturating_sub(self.boot_ns))
    }
}

impl Default for Reckoning {
    fn default() -> Self {
        Self {
            latest: Timestamp::UNIX_EPOCH,
            boot_ns: 0,
            boot: String::new(),
            sure: false,
            trial: None,
        }
    }
}

fn later(wall: Timestamp, nanoseconds: u64) -> Timestamp {
    // A span of boot-clock nanoseconds is at most 584 years.
    let passed = SignedDuration::from_nanos(i64::try_from(nanoseconds).unwrap_or(i64::MAX));
    wall.checked_add(passed).unwrap_or(Timestamp::MAX)
}

impl Reckoning {
    /// It is at least so late.
    pub fn least(&self, boot_ns: u64) -> Timestamp {
        later(self.latest, boot_ns.saturating_sub(self.boot_ns))
    }

    /// What it is reckoned to be.
    pub fn time(&self, boot_ns: u64) -> Timestamp {
        let least = self.least(boot_ns);
        match self.trial {
            Some(trial) if !self.sure => least.max(trial.at(boot_ns)),
            _ => least,
        }
    }

    /// Looks at the clocks, in this boot. Returns how far the time moved from what it was reckoned to be, where that matters.
    pub fn look(&mut self, now: Now, boot: &str) -> Option<Moved> {
        let before = Self::clone(self);
        if self.boot != boot {
            // That boot began after the latest time that is sure.
            *self = Self {
                latest: self.latest,
                boot: boot.to_owned(),
                ..Self::default()
            };
        }
        let reckoned = self.time(now.boot_ns);
        let agrees = |other: Timestamp| now.wall.duration_since(other).abs() <= TOLERANCE;
        let least = self.least(now.boot_ns);
        if agrees(least) && self.sure {
            self.settle_on(now);
        } else if now.wall >= least || agrees(least) {
            match self.trial {
                Some(trial) if agrees(trial.at(now.boot_ns)) => {
                    let held = now.boot_ns.saturating_sub(trial.boot_ns);
                    if i128::from(held) >= HOLDS.as_nanos() {
                        self.settle_on(now);
                    }
                }
                // It is seen for the first time, or was set since.
                _ => {
                    self.trial = Some(Trial {
                        wall: now.wall,
                        boot_ns: now.boot_ns,
                    });
                }
            }
        }
        // What passed is sure, too, also after the next boot.
        self.latest = self.least(now.boot_ns);
        self.boot_ns = now.boot_ns;
        let time = self.time(now.boot_ns);
        let by = if before.boot == boot {
            time.duration_since(reckoned)
        } else {
            // How long the machine was off is not known, but it can't be earlier than when it was on: a clock was ahead then, or is behind
            // now.
            let earlier = time.duration_since(before.time(before.boot_ns));
            earlier.min(SignedDuration::ZERO)
        };
        (by.abs() > TOLERANCE).then_some(Moved {
            by,
            boot: before.boot,
        })
    }

    /// Whether this is to be written down at once, and not only with the next change.
    pub fn is_news_after(&self, before: &Self) -> bool {
        let known = |it: &Self| (it.boot.clone(), it.sure, it.trial);
        let noted = self.latest.duration_since(before.latest);
        known(self) != known(before) || noted >= NOTED
    }

    fn settle_on(&mut self, now: Now) {
        *self = Self {
            latest: self.latest.max(now.wall),
            boot_ns: now.boot_ns,
            boot: std::mem::take(&mut self.boot),
            sure: true,
            trial: None,
        };
    }

    /// Whether an entry has ended for good: nothing that a clock says later brings it back.
    pub fn is_over(&self, until: Option<Timestamp>, added: Timestamp, boot_ns: u64) -> bool {
        let Some(until) = until else {
            return false;
        };
        // What was said by this clock, and is over by it, is over by the boot clock.
        let by_this_clock = match self.trial {
            Some(trial) if !self.sure => added >= trial.wall,
            _ => true,
        };
        until <= self.least(boot_ns) || by_this_clock && until <= self.time(boot_ns)
    }

    /// Moves an entry with the time that was said to last so long: what was left of it is left, from now on by this boot's clock.
    pub fn move_with(
        &self,
        until: &mut Option<Timestamp>,
        lasts_in: &mut Option<String>,
        added: &mut Timestamp,
        moved: &Moved,
    ) {
        if lasts_in.as_ref() == Some(&moved.boot) {
            *lasts_in = Some(self.boot.clone());
            let at = |time: Timestamp| time.checked_add(moved.by).unwrap_or(time);
            *until = until.map(at);
            *added = at(*added);
        }
    }
}

#[cfg(test)]
mod tests;
