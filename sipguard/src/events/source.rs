//! Where a command has events from: the agent, which hands them on, or where none runs the kernel, of which one process at a time is told. An agent that
//! comes later gets the kernel: whoever only looks must not keep it from noticing what it is there for.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use super::{Event, Generations, ListenError, Listener, Wanted, hand_on};
use crate::host::Host;

/// How often it is looked whether an agent has come, nanoseconds of the boot clock.
const LOOK: u64 = 2_000_000_000;

/// Why there are no events.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Something is where the agent would be.
    #[error("can't reach {path}: {0}", path = hand_on::PATH)]
    Unreachable(io::Error),
    /// What comes from there is no event, or the system refuses.
    #[error("can't read from the agent: {0}")]
    Unreadable(io::Error),
    /// It is gone.
    #[error("the agent, which hands events on, has ended")]
    Ended,
    /// Without an agent, it is not to be had from the kernel.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// See the module.
pub struct Source {
    host: Host,
    wanted: Wanted,
    from: From,
    /// When it was looked for an agent last.
    looked: u64,
    /// What was lost before the agent came.
    lost: u64,
}

enum From {
    Agent(hand_on::Client),
    Kernel(Box<(Listener, Generations)>),
}

impl Source {
    /// Begins.
    ///
    /// # Errors
    /// Where nobody tells anything.
    pub fn open(host: &Host, wanted: Wanted) -> Result<Self, SourceError> {
        let from = if let Some(agent) = agent(wanted).map_err(SourceError::Unreachable)? {
            From::Agent(agent)
        } else {
            let listener = Listener::open(host, wanted)?;
            From::Kernel(Box::new((listener, Generations::default())))
        };
        Ok(Self {
            host: host.clone(),
            wanted,
            from,
            looked: host.now().boot_ns,
            lost: 0,
        })
    }

    /// Hands on what has come. To be called ten times a second, or whenever it can be read.
    ///
    /// # Errors
    /// Where no more will come.
    pub fn read(&mut self, mut each: impl FnMut(Event)) -> Result<(), SourceError> {
        let (listener, generations) = match &mut self.from {
            From::Agent(agent) => {
                let there = agent.read(each).map_err(SourceError::Unreadable)?;
                return there.then_some(()).ok_or(SourceError::Ended);
            }
            From::Kernel(kernel) => &mut **kernel,
        };
        let now = self.host.now();
        listener.read(|record, first| each(generations.event(record, first, now)));
        listener.grant()?;
        if now.boot_ns.saturating_sub(self.looked) >= LOOK {
            self.looked = now.boot_ns;
            // Whatever else is there can't take it over.
            if let Ok(Some(agent)) = agent(self.wanted) {
                self.lost += listener.lost();
                self.from = From::Agent(agent);
            }
        }
        Ok(())
    }

    /// How many events we were too slow for.
    pub fn lost(&self) -> u64 {
        self.lost
            + match &self.from {
                From::Agent(agent) => agent.lost(),
                From::Kernel(kernel) => kernel.0.lost(),
            }
    }
}

impl AsFd for Source {
    /// Can be read whenever [`Self::read`] is to be called.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.from {
            From::Agent(agent) => agent.as_fd(),
            From::Kernel(kernel) => kernel.0.as_fd(),
        }
    }
}

fn agent(wanted: Wanted) -> io::Result<Option<hand_on::Client>> {
    hand_on::Client::connect(Path::new(hand_on::PATH), wanted)
}
