//! Who listens: grants, ten times a second, and hands on what the kernel tells.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use serde::{Deserialize, Serialize};
use sipguard_ebpf::{
    abi::Action,
    event::{BYTES_MOST, DROPS, Grant, PASSES, Record},
};

use super::event::Event;
use crate::{
    datapath::{self, Heard, Rings},
    host::Host,
    lifecycle,
};

/// How many grants a source is told of once in: a second.
const GRANTS_A_SECOND: u32 = 10;
/// As long as one of them lasts, in nanoseconds.
const GRANT_LASTS_NS: i64 = 100_000_000;
/// How many of a frame's first bytes are usual: a SIP message's first line and the headers behind it, as far as they are short.
const BYTES: usize = 128;

/// Why nobody can listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Nothing is filtered.
    #[error("nothing is in force, so that there is nothing to tell of: run `sipguard apply` first")]
    Nothing,
    /// What is in force can't be asked for.
    #[error(transparent)]
    Lifecycle(#[from] lifecycle::Error),
    /// The kernel refuses.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// A clock can't be had.
    #[error("can't wait for events: {0}")]
    Clock(io::Error),
}

/// What is to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// What passes to guarded ports, too.
    pub passes: bool,
    /// How many of a frame's first bytes.
    pub bytes: usize,
}

impl Wanted {
    /// Whether this event is among it.
    pub fn takes(self, event: &Event) -> bool {
        self.passes || event.action == Action::Drop
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            passes: false,
            bytes: BYTES,
        }
    }
}

/// The one process that is told. As long as it lives and grants, the kernel tells; once it is dropped, or dead, nothing is told of any more.
pub struct Listener {
    rings: Option<Rings>,
    wanted: Wanted,
    clock: OwnedFd,
    /// The grant before.
    grant: Grant,
    /// How many grants there were in this second.
    granted: u32,
    lost: u64,
}

impl Listener {
    /// Begins to listen, and grants.
    ///
    /// # Errors
    /// Where nothing is in force, another process listens, or this kernel can't tell.
    pub fn open(host: &Host, wanted: Wanted) -> Result<Self, ListenError> {
        if lifecycle::live(host)?.is_none() {
            return Err(ListenError::Nothing);
        }
        let rings = Rings::open(wanted.bytes)?;
        let grant = rings.granted()?;
        let mut listener = Self {
            rings: Some(rings),
            wanted,
            clock: clock().map_err(ListenError::Clock)?,
            grant,
            granted: 0,
            lost: 0,
        };
        listener.grant()?;
        Ok(listener)
    }

    /// Wants something else from the next grant on.
    pub fn want(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    /// To be called ten times a second, after [`Self::read`]: lets the kernel tell of so much more. Once a second, everybody may be told of again,
    /// and what was made anew meanwhile (`sipguard down`, and an apply behind it) is listened to.
    ///
    /// # Errors
    /// What the kernel refused; and where another process has begun to listen to what was made anew.
    pub fn grant(&mut self) -> Result<(), ListenError> {
        if self.granted.is_multiple_of(GRANTS_A_SECOND) {
            self.follow()?;
            // The standard library's hashers begin with what the system has drawn.
            self.grant.seed = RandomState::new().build_hasher().finish();
            self.grant.second = self.grant.second % 255 + 1;
        }
        self.granted = self.granted.wrapping_add(1);
        self.grant.number = self.grant.number.wrapping_add(1);
        self.grant.reasons = DROPS | if self.wanted.passes { PASSES } else { 0 };
        self.grant.bytes = u32::try_from(self.wanted.bytes.min(BYTES_MOST)).unwrap_or_default();
        if let Some(rings) = &self.rings {
            rings.grant(self.grant)?;
        }
        Ok(())
    }

    fn follow(&mut self) -> Result<(), ListenError> {
        if let Some(rings) = &mut self.rings {
            if rings.is_current()? {
                return Ok(());
            }
            self.rings = None;
        }
        match Rings::open(self.wanted.bytes) {
            Ok(rings) => self.rings = Some(rings),
            // Nothing is in force at this time.
            Err(datapath::Error::OtherVersion { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Hands on what was told since, each record with its frame's first bytes.
    pub fn read(&mut self, mut each: impl FnMut(&Record, &[u8])) {
        // The clock has ticked, or not.
        let _ = rustix::io::read(&self.clock, &mut [0; 8]);
        let Some(rings) = &mut self.rings else {
            return;
        };
        let lost = &mut self.lost;
        rings.read(|heard| match heard {
            Heard::Lost(count) => *lost += count,
            Heard::Event(record, first) => each(&record, first),
        });
    }

    /// How many events found no room since it began. They are among what events say was left out.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl AsFd for Listener {
    /// Can be read whenever [`Self::read`] and then [`Self::grant`] are to be called.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.clock.as_fd()
    }
}

/// Ticks ten times a second.
fn clock() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let clock = timerfd_create(TimerfdClockId::Monotonic, flags)?;
    let every = Timespec {
        tv_sec: 0,
        tv_nsec: GRANT_LASTS_NS,
    };
    let ticks = Itimerspec {
        it_interval: every,
        it_value: every,
    };
    timerfd_settime(&clock, TimerfdTimerFlags::empty(), &ticks)?;
    Ok(clock)
}
