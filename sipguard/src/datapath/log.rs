//! What the kernel programs log, where they are built to: with the feature `log`, which the shipped object is built without.

use std::os::fd::AsFd as _;

use aya_log::EbpfLogger;
use rustix::event::{PollFd, PollFlags, poll};

use super::{Error, attachments};
use crate::tables::Now;

/// Hands what all attached programs log to `logger`, until the process ends.
///
/// # Errors
/// Where nothing is attached, or the kernel can't be asked.
pub fn follow(logger: &'static dyn log::Log, now: Now) -> Result<(), Error> {
    let mut logs = attachments(now)?
        .iter()
        .map(|link| EbpfLogger::init_from_id_with_logger(link.program, logger))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::kernel("can't read the programs' log", &error))?;
    if logs.is_empty() {
        return Err(Error::Kernel {
            what: "nothing logs".to_owned(),
            cause: "nothing is attached; run `sipguard apply` first".to_owned(),
        });
    }
    loop {
        logs.iter_mut().for_each(EbpfLogger::flush);
        let mut ready: Vec<_> = logs
            .iter()
            .map(|log| PollFd::from_borrowed_fd(log.as_fd(), PollFlags::IN))
            .collect();
        poll(&mut ready, None)
            .map_err(|errno| Error::io("can't wait for the log", &errno.into()))?;
    }
}
