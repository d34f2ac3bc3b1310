//! The log of bans, and the state, which has what the log did not take.

use crate::{
    datapath::Generation,
    host::{Host, Trouble},
    state::{BanLine, Bans, Moved, State, StateError},
};

use super::{error::Error, session::Session};

impl Session<'_> {
    /// All bans that were not taken back and have not ended.
    pub(super) fn bans(&self) -> Bans {
        self.not_ended(bans(self.host, &self.state))
    }

    pub(super) fn not_ended(&self, mut bans: Bans) -> Bans {
        bans.drop_ended(&self.state.clock, self.now().boot_ns);
        bans
    }

    /// Writes down what is said of bans.
    pub(super) fn log(&mut self, lines: &[BanLine]) {
        // What could not be written before comes first.
        if self.state.unlogged.is_empty() && self.host.store.append_bans(&self.lock, lines).is_ok()
        {
            return;
        }
        self.state.unlogged.extend_from_slice(lines);
        self.save();
    }

    /// Writes down what could not be written before, where it can be now.
    pub(super) fn log_the_rest(&mut self) {
        let lines = &self.state.unlogged;
        if !lines.is_empty() && self.host.store.append_bans(&self.lock, lines).is_ok() {
            self.state.unlogged.clear();
            self.save();
        }
    }

    /// Where the log has more lines than are of use, it is written anew.
    pub(super) fn tidy(&self, bans: &Bans) {
        if self.state.unlogged.is_empty() {
            // Else it stays as it is, and is as right.
            let _ = self.host.store.tidy_bans(bans);
        }
    }

    /// Moves the ends of bans with the time. They go into the state, so that what the clock is now reckoned to be is written in one step with
    /// them, and none is moved twice; [`Self::log_the_rest`] comes behind.
    pub(super) fn move_bans(&mut self, moved: &Moved) -> Result<(), Error> {
        let mut bans = self.bans();
        bans.move_with(&self.state.clock, moved);
        // What the kernel has of them, and of live sources, whose entries may have ends, too, follows, whatever the log's length is then.
        for number in Generation::all()? {
            if let Ok(generation) = Generation::open(number) {
                generation.set_revision_of_bans(u64::MAX)?;
            }
        }
        let bans = bans.iter().cloned().map(BanLine::Ban);
        self.state.unlogged.extend(bans);
        Ok(())
    }
}

/// What the log says, and what it did not take.
pub(super) fn read(host: &Host, state: &State) -> Result<Bans, StateError> {
    let mut bans = host.store.bans()?;
    if bans.damaged > 0 {
        host.note(Trouble::Unread(host.store.damaged_bans(bans.damaged)));
    }
    for line in &state.unlogged {
        bans.say(line.clone());
    }
    Ok(bans)
}

/// All bans that were not taken back, for those who only read them. Takes no lock.
pub fn bans(host: &Host, state: &State) -> Bans {
    match read(host, state) {
        Ok(bans) => bans,
        Err(error) => {
            host.note(Trouble::Unread(error));
            Bans::default()
        }
    }
}
