//! Where events come from. Where nobody has anything to tell, the graphs go on, and it is tried again.

use std::os::fd::{AsFd as _, BorrowedFd};

use sipguard::{
    clock::Now,
    events::{Event, Source, Wanted},
    host::Host,
    policy::Hide,
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
    /// Or why nobody tells anything.
    from: Result<Source, String>,
    /// When it was tried last.
    tried: u64,
}

impl Feed {
    pub(super) fn open(host: &Host) -> Self {
        Self {
            from: open(host),
            tried: host.now().boot_ns,
            host: host.clone(),
        }
    }

    /// Why nobody tells anything, where that is so.
    pub(super) fn deaf(&self) -> Option<String> {
        self.from.as_ref().err().cloned()
    }

    /// What can be read when [`Self::read`] is to be called.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.from.as_ref().ok().map(Source::as_fd)
    }

    /// Adds what has come; returns whether there was anything.
    pub(super) fn read(&mut self, view: &mut View) -> bool {
        let mut came = false;
        if let Ok(source) = &mut self.from
            && let Err(error) = source.read(|event: Event| {
                view.knocks.note(&event, Hide::default());
                came = true;
            })
        {
            self.from = Err(error.to_string());
        }
        came
    }

    /// Where nobody tells anything, looks for somebody who does.
    pub(super) fn try_again(&mut self, view: &mut View, now: Now) {
        let is_due = now.boot_ns.saturating_sub(self.tried) >= AGAIN;
        if is_due && self.from.is_err() {
            self.tried = now.boot_ns;
            self.from = open(&self.host);
        }
        view.deaf = self.deaf();
    }
}

fn open(host: &Host) -> Result<Source, String> {
    Source::open(host, WANTED).map_err(|error| error.to_string())
}
