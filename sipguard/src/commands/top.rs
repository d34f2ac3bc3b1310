//! `sipguard top`: who knocks now, on a screen.

mod draw;
mod feed;
mod keys;
mod rates;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io::{self, IsTerminal as _},
    os::fd::{AsFd as _, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, read},
    termios::{QueueSelector, tcflush},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH},
    flag,
};
use sipguard::{lifecycle::NewEntry, report::CountersReport};

use self::{
    draw::{Colours, draw},
    feed::Feed,
    keys::{Key, keys},
    screen::Screen,
    view::{Do, Page, Prompt, Say, View},
};
use super::{Context, allow, effect, live, needs_root};
use crate::output::Palette;

/// How long there is between two looks at the counters, in nanoseconds.
const COUNTED_EVERY: u64 = 1_000_000_000;
/// How long there is at least between two drawings that no key asks for.
const DRAWN_EVERY: u64 = 300_000_000;

pub(super) fn run(context: &Context) -> Result<()> {
    needs_root()?;
    if context.json || !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        bail!(
            "top is a screen, and needs a terminal; `sipguard events` prints what it shows, and `sipguard events --json` for programs"
        );
    }
    if live(context)?.is_none() {
        bail!("nothing is in force: `sipguard apply` puts the config file in force");
    }
    let signals = Signals::wait_for().context("signals can't be waited for")?;
    let feed = Feed::open(&context.host);
    let mut view = View::new();
    view.deaf = feed.deaf();
    let screen = Screen::take().context("cannot take the terminal")?;
    Top {
        context,
        view,
        feed,
        screen,
        before: None,
        drawn_ns: 0,
    }
    .show(&signals)
}

/// Those that end it, and the one that says that the terminal has another size.
struct Signals {
    ended: Arc<AtomicBool>,
    resized: Arc<AtomicBool>,
}

impl Signals {
    fn wait_for() -> io::Result<Self> {
        let signals = Self {
            ended: Arc::default(),
            resized: Arc::default(),
        };
        for signal in [SIGTERM, SIGHUP, SIGINT, SIGQUIT] {
            flag::register(signal, Arc::clone(&signals.ended))?;
        }
        flag::register(SIGWINCH, Arc::clone(&signals.resized))?;
        Ok(signals)
    }
}

struct Top<'c> {
    context: &'c Context,
    view: View,
    feed: Feed,
    screen: Screen,
    /// The counters as they were read last, and when.
    before: Option<(CountersReport, u64)>,
    /// When it was drawn last.
    drawn_ns: u64,
}

impl Top<'_> {
    /// Until somebody leaves, a signal comes or the terminal is gone.
    fn show(mut self, signals: &Signals) -> Result<()> {
        let terminal = io::stdin();
        let mut changed = true;
        loop {
            if signals.ended.load(Ordering::Relaxed) {
                return Ok(());
            }
            changed |= signals.resized.swap(false, Ordering::Relaxed);
            let now = self.context.host.now().boot_ns;
            let counted = self.before.as_ref().map(|(_, counted)| *counted);
            if counted.is_none_or(|counted| now.saturating_sub(counted) >= COUNTED_EVERY) {
                self.count(now)?;
                self.feed.try_again(&mut self.view, self.context.host.now());
                changed = true;
            }
            if changed && now.saturating_sub(self.drawn_ns) >= DRAWN_EVERY {
                self.draw()?;
                changed = false;
            }
            let next = match &self.before {
                _ if changed => DRAWN_EVERY,
                Some((_, counted)) => (counted + COUNTED_EVERY).saturating_sub(now),
                None => COUNTED_EVERY,
            };
            let ready = self.wait(terminal.as_fd(), Duration::from_nanos(next))?;
            if ready.terminal {
                match press(terminal.as_fd())? {
                    Some(keys) if self.press(&keys, terminal.as_fd())? => self.draw()?,
                    // Somebody leaves, or nobody is there any more.
                    _ => return Ok(()),
                }
            }
            if ready.feed {
                changed |= self.feed.read(&mut self.view);
            }
        }
    }

    /// Until one of them can be read, a signal comes, or the time is over.
    fn wait(&self, terminal: BorrowedFd<'_>, time: Duration) -> Result<Ready> {
        let time = Timespec::try_from(time).ok();
        let mut both = vec![PollFd::from_borrowed_fd(terminal, PollFlags::IN)];
        let feed = self.feed.descriptor();
        both.extend(feed.map(|feed| PollFd::from_borrowed_fd(feed, PollFlags::IN)));
        match poll(&mut both, time.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the terminal"),
        }
        let mut ready = both.iter().map(|fd| !fd.revents().is_empty());
        Ok(Ready {
            terminal: ready.next().unwrap_or_default(),
            feed: ready.next().unwrap_or_default(),
        })
    }

    /// Does what these keys are for; returns whether it goes on.
    fn press(&mut self, keys: &[Key], terminal: BorrowedFd<'_>) -> Result<bool> {
        for key in keys {
            let asked = self.view.asks();
            match self.view.press(*key) {
                None => {}
                Some(Do::Leave) => return Ok(false),
                Some(Do::Redraw) => self.screen.clear()?,
                Some(Do::Say(say)) => self.say(&say),
            }
            // Whoever has typed on, or pasted something, has not seen the question.
            if self.view.asks() && !asked {
                tcflush(terminal, QueueSelector::IFlush).context("cannot read the terminal")?;
                break;
            }
        }
        Ok(true)
    }

    fn draw(&mut self) -> Result<()> {
        let now = self.context.host.now();
        let colours = Colours::new(self.context.palette != Palette::default());
        let (screen, view) = (&mut self.screen, &mut self.view);
        screen
            .draw(|frame| draw(frame, view, now.wall, colours))
            .context("cannot draw")?;
        self.drawn_ns = now.boot_ns;
        Ok(())
    }

    /// Adds a second to the graphs.
    fn count(&mut self, now: u64) -> Result<()> {
        let mut report = CountersReport::take(&self.context.host)?;
        self.view.in_force = report.generation.is_some();
        if let Some((before, then)) = &self.before {
            report.rates(before, Duration::from_nanos(now.saturating_sub(*then)));
            self.view.rates.add(&report);
        }
        self.before = Some((report, now));
        Ok(())
    }

    /// What `sipguard allow` or `sipguard deny` does; what comes of it is shown.
    fn say(&mut self, say: &Say) {
        let new = NewEntry {
            action: say.action,
            end: None,
            comment: None,
        };
        let prefixes = [IpNet::from(say.source)];
        let mut told = Vec::new();
        let done = allow::say(self.context, &prefixes, say.service.as_deref(), &new);
        let done = done.and_then(|(_, effects)| effect::write(&mut told, &effects, ""));
        let mut lines: Vec<_> = String::from_utf8_lossy(&told)
            .lines()
            .map(str::to_owned)
            .collect();
        if let Err(error) = done {
            lines.push(format!("{error:#}"));
        }
        let troubles = self.context.host.troubles();
        lines.extend(troubles.iter().map(ToString::to_string));
        self.view.prompt = Prompt::Message(lines.join("; "));
        self.view.page = match self.view.page {
            Page::Help => Page::Sources,
            page => page,
        };
    }
}

/// What can be read.
struct Ready {
    terminal: bool,
    feed: bool,
}

/// The keys that were pressed; `None` where the terminal is gone.
fn press(terminal: BorrowedFd<'_>) -> Result<Option<Vec<Key>>> {
    let mut bytes = [0; 256];
    match read(terminal, &mut bytes) {
        Ok(0) | Err(Errno::IO) => Ok(None),
        Ok(length) => Ok(Some(keys(&bytes[..length]))),
        Err(Errno::INTR | Errno::AGAIN) => Ok(Some(Vec::new())),
        Err(error) => Err(error).context("cannot read the terminal"),
    }
}
