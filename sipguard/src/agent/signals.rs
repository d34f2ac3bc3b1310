//! The signals that ask a process to end, as something to be polled: nothing is interrupted by them.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd},
    ptr,
};

/// Readable once one has come.
#[derive(Debug)]
pub(super) struct Signals(OwnedFd);

impl Signals {
    /// SIGTERM and SIGINT, for this thread and those that it starts from now on.
    ///
    /// # Errors
    /// Where the system has no descriptor left.
    pub(super) fn take() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigemptyset` makes the whole set, and `sigaddset` only reads and writes it.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        }
        // SAFETY: the set was made above, and nobody wants the one before.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
        // SAFETY: the set was made above.
        let made = unsafe { libc::signalfd(-1, set.as_ptr(), flags) };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, for nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(made) }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
