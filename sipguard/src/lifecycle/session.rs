//! The right to change things, and the state that goes with it.
//!
//! The state has two places: the disk, and a copy in the kernel beside what is in force, which is as new or newer. Both are written each
//! time, the disk first. Whoever reads takes the newer one, so that what was said while the disk could not be written, or was lost there,
//! counts as long as what is in force does.

use std::collections::BTreeMap;

use super::error::Error;
use crate::{
    datapath::{self, Generation, Pins, Switched, Text},
    host::{Host, Trouble},
    state::{Lock, State, StateError},
    tables::Now,
};

/// The right to change things, for one command.
pub struct Session<'h> {
    pub(super) host: &'h Host,
    pub(super) state: State,
    /// Interfaces that were not filtered and should have been, until this session began.
    pub(super) guarded: Vec<(String, Switched)>,
    /// Generations that were opened to be settled, by number.
    pub(super) read: BTreeMap<u64, Generation>,
    // In this order: who waits for the first gets it when the other is free, too.
    _pins: Pins,
    pub(super) lock: Lock,
}

impl<'h> Session<'h> {
    /// Waits for other commands to finish; what was left is as it was.
    pub(super) fn open(host: &'h Host) -> Result<Self, Error> {
        let lock = host.store.lock();
        let pins = Pins::make().map_err(datapath::Error::from)?;
        host.store.clear(&lock);
        let Newest {
            mut state,
            unread,
            is_on_disk,
        } = newest(host);
        if let Some(error) = unread {
            host.note(Trouble::Unread(host.store.set_aside(error)));
        }
        if !is_on_disk {
            // Whoever changes something is told where it still can't be, and everybody by the findings.
            let _ = host.store.save(&mut state);
        }
        let before = state.clock.clone();
        let moved = state.look_at_the_clock(host.now(), host.boot());
        let mut session = Self {
            host,
            state,
            guarded: Vec::new(),
            read: BTreeMap::new(),
            _pins: pins,
            lock,
        };
        if let Some(moved) = &moved {
            session.move_bans(moved)?;
        }
        if moved.is_some() || session.state.clock.is_news_after(&before) {
            session.save();
        }
        session.log_the_rest();
        Ok(session)
    }

    /// The boot clock, and the time as it is reckoned to be.
    pub(super) fn now(&self) -> Now {
        self.state.now(self.host.now().boot_ns)
    }

    /// The state, as it is on disk.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Writes the state. Where the disk does not take it, the host is told, and the command goes on.
    pub(super) fn save(&mut self) {
        let saved = self.host.store.save(&mut self.state);
        let copied = copy(&self.state);
        // Without either, what is asked for is in force until the next command, which goes back to what the disk has.
        drop(copied);
        if let Err(error) = saved {
            self.host.note(Trouble::Unsaved(error));
        }
    }

    /// The number of the next generation: never used before, whatever became of the state.
    pub(super) fn next_number(&mut self) -> Result<u64, Error> {
        let pinned = Generation::all()?.last().map_or(0, |newest| newest + 1);
        let number = self.state.next_generation().max(pinned);
        self.state.generation = number;
        self.save();
        Ok(number)
    }
}

/// The state, for those who only read it. Takes no lock.
pub fn state(host: &Host) -> State {
    let Newest { state, unread, .. } = newest(host);
    if let Some(error) = unread {
        host.note(Trouble::Unread(error));
    }
    state
}

/// The time as it is reckoned to be, for those who only read the state.
pub fn now(host: &Host, state: &State) -> Now {
    let now = host.now();
    let mut clock = state.clock.clone();
    clock.look(now, host.boot());
    Now {
        wall: clock.time(now.boot_ns),
        ..now
    }
}

/// The newer one of both.
pub(crate) struct Newest {
    pub(crate) state: State,
    /// Why there is none on disk.
    pub(crate) unread: Option<StateError>,
    /// Whether the disk has it, too.
    pub(crate) is_on_disk: bool,
}

/// Asks the disk and the kernel.
pub(crate) fn newest(host: &Host) -> Newest {
    // Others may not ask the kernel, and a copy that can't be read is none.
    let copy = datapath::text(Text::State).ok().flatten();
    let copy = copy.and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok());
    let (disk, unread) = match host.store.load() {
        Ok(disk) => (disk, None),
        Err(error) => (State::default(), Some(error)),
    };
    match copy.filter(|copy| unread.is_some() || copy.written > disk.written) {
        Some(state) => Newest {
            state,
            unread,
            is_on_disk: false,
        },
        None => Newest {
            state: disk,
            is_on_disk: unread.is_none(),
            unread,
        },
    }
}

/// Writes the copy.
pub(super) fn copy(state: &State) -> Result<(), datapath::Error> {
    // A structure with derived serialisers and string keys has nothing in it that can't be written.
    datapath::keep_text(Text::State, &serde_json::to_vec(state).unwrap_or_default())
}
