//! Something that moves while people wait.

use std::{
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes no longer needs no sign of life.
const SHORT: Duration = Duration::from_millis(300);
const EVERY: Duration = Duration::from_millis(100);

/// Does something, and meanwhile shows on a terminal what is being done and for how long it has been. Elsewhere it stays silent.
pub(crate) fn during<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    // On standard error; hidden where that is no terminal.
    if ProgressDrawTarget::stderr().is_hidden() {
        return work();
    }
    thread::scope(|scope| {
        let (done, waiting) = channel::<()>();
        scope.spawn(move || {
            if waiting.recv_timeout(SHORT) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let bar = ProgressBar::new_spinner().with_elapsed(SHORT);
            // The template is one that is known to be right.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.set_message(what);
            while waiting.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                bar.tick();
            }
            bar.finish_and_clear();
        });
        let result = work();
        // The other end is there, or has nothing to wait for.
        drop(done);
        result
    })
}
