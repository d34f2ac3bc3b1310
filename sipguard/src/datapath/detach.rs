//! Ending a link at once. Without its pin it ends, too, but the kernel gets to it some time later (`bpf_link_put` in
//! kernel/bpf/syscall.c), and until then the interface is filtered and has no room for another program.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use super::{
    Error,
    pins::{self, Links},
    table::call,
};

/// include/uapi/linux/bpf.h, enum bpf_cmd.
const OBJ_GET: libc::c_int = 7;
const LINK_DETACH: libc::c_int = 34;

/// For `OBJ_GET`, include/uapi/linux/bpf.h, union bpf_attr.
#[repr(C)]
struct Get {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// For `LINK_DETACH`, include/uapi/linux/bpf.h, union bpf_attr.
#[repr(C)]
struct Detach {
    link: u32,
}

/// Ends an interface's link of this kind, if there is one.
///
/// # Errors
/// Where the pin can't be removed.
pub(super) fn detach(links: Links, interface: &str) -> Result<(), Error> {
    detach_at(&links.pin(&pins::pin_name(interface)), interface)
}

/// Ends the link that is pinned there, if there is one.
pub(super) fn detach_at(path: &Path, interface: &str) -> Result<(), Error> {
    let link = match get(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => {
            found.map_err(|error| Error::io(format!("can't open {}", path.display()), &error))?
        }
    };
    // In this order, because a link that is pinned and detached would look like one in force if a crash came in between.
    pins::remove(path)?;
    let mut attributes = Detach {
        link: link.as_raw_fd().cast_unsigned(),
    };
    // SAFETY: these are the command's attributes, and no buffers are behind them.
    unsafe { call(LINK_DETACH, &mut attributes) }
        .map_err(|error| Error::io(format!("can't detach from {interface}"), &error))?;
    Ok(())
}

fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = Get {
        path: path.as_ptr() as u64,
        descriptor: 0,
        flags: 0,
    };
    // SAFETY: these are the command's attributes, and the path ends with a zero.
    let descriptor = unsafe { call(OBJ_GET, &mut attributes) }?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
