//! Where events come from: the agent, where one runs, else the kernel itself, of which one process at a time is told. Where neither has anything
//! to tell, the graphs go on, and it is tried again.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use sipguard::{
    clock::Now,
    events::{Event, Listener, Wanted, hand_on},
    host::Host,
    sip,
};

use super::view::View;

/// No packet that passes, and as much of a frame as SIP may need.
const WANTED: Wanted = Wanted {
    passes: false,
    bytes: sip::MOST,
};
/// How long it takes until it is tried again, nanoseconds of the boot clock.
const AGAIN: u64 = 2_000_000_000;

pub(super) struct Feed {
    host: Host,
    from: From,
    /// When it was tried last.
    tried: u64,
}

enum From {
    Agent(hand_on::Client),
    Kernel(Box<Listener>),
    /// Nobody, and why.
    Nobody(String),
}

impl Feed {
    pub(super) fn open(host: &Host) -> Self {
        Self {
            from: From::open(host),
            tried: host.now().boot_ns,
            host: host.clone(),
        }
    }

    /// What is said while no source is shown.
    pub(super) fn origin(&self) -> String {
        match &self.from {
            From::Agent(_) | From::Kernel(_) => "nobody has knocked since this began".to_owned(),
            From::Nobody(why) => format!("no sources: {why}"),
        }
    }

    /// What can be read when [`Self::read`] is to be called.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.from {
            From::Agent(agent) => Some(agent.as_fd()),
            From::Kernel(kernel) => Some(kernel.as_fd()),
            From::Nobody(_) => None,
        }
    }

    /// Adds what has come; returns whether there was anything.
    pub(super) fn read(&mut self, view: &mut View, now: Now) -> bool {
        let mut came = false;
        let each = |event: Event| {
            view.knocks.note(&event);
            came = true;
        };
        let failed = match &mut self.from {
            From::Agent(agent) => match agent.read(each) {
                Ok(true) => None,
                Ok(false) => Some("the agent has ended".to_owned()),
                Err(error) => Some(error.to_string()),
            },
            From::Kernel(kernel) => {
                kernel.read(now, each);
                kernel.grant().err().map(|error| error.to_string())
            }
            From::Nobody(_) => None,
        };
        if let Some(why) = failed {
            self.from = From::Nobody(why);
        }
        came
    }

    /// Where nobody tells anything, looks for somebody who does.
    pub(super) fn try_again(&mut self, view: &mut View, now: Now) {
        let is_due = now.boot_ns.saturating_sub(self.tried) >= AGAIN;
        if is_due && matches!(self.from, From::Nobody(_)) {
            self.tried = now.boot_ns;
            self.from = From::open(&self.host);
        }
        view.origin = self.origin();
    }
}

impl From {
    fn open(host: &Host) -> Self {
        match hand_on::Client::connect(Path::new(hand_on::PATH), WANTED) {
            Ok(Some(agent)) => return Self::Agent(agent),
            Ok(None) => {}
            Err(error) => return Self::Nobody(format!("{}: {error}", hand_on::PATH)),
        }
        match Listener::open(host, WANTED) {
            Ok(listener) => Self::Kernel(Box::new(listener)),
            Err(error) => Self::Nobody(error.to_string()),
        }
    }
}
