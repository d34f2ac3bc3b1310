//! A kernel that forbids to listen, as Debian's do with a `kernel.perf_event_paranoid` of 3, whatever rights one has.

use std::{io, mem::offset_of, os::unix::process::CommandExt as _, process::Command};

/// Has this kernel be such a one for a command, and for all that it starts.
pub fn to_listen(command: &mut Command) {
    // SAFETY: the function makes two system calls, and touches no memory but its own.
    unsafe { command.pre_exec(forbid) };
}

/// seccomp(2): `perf_event_open` is answered with EACCES from now on.
#[expect(
    clippy::cast_possible_truncation,
    reason = "calls, places and steps have small numbers"
)]
fn forbid() -> io::Result<()> {
    let step = |code: u32, jumps: (u8, u8), k: u32| libc::sock_filter {
        code: code as u16,
        jt: jumps.0,
        jf: jumps.1,
        k,
    };
    let number = offset_of!(libc::seccomp_data, nr) as u32;
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (0, 0), number),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            (0, 1),
            libc::SYS_perf_event_open as u32,
        ),
        step(
            libc::BPF_RET | libc::BPF_K,
            (0, 0),
            libc::SECCOMP_RET_ERRNO | libc::EACCES as u32,
        ),
        step(libc::BPF_RET | libc::BPF_K, (0, 0), libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the filter, which is as long as it says. Nothing that is started gets rights that we have not.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == 0
    };
    if set {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
