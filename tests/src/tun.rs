//! Interfaces whose other end is a file descriptor: what is written there comes in.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use crate::netns::{Host, Wire};

/// What the frames of such an interface begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tun {
    /// An IP header.
    Ip,
    /// Four bytes of what the kernel calls packet information: flags, and the EtherType of what follows (`struct tun_pi` in
    /// include/uapi/linux/if_tun.h).
    Information,
    /// An Ethernet header.
    Ethernet,
}

impl Host {
    /// Makes an interface and brings it up; it is there until the wire is dropped.
    #[must_use]
    pub fn tun(&self, interface: &str, kind: Tun) -> Wire {
        let descriptor = self.enter(|| open(interface, kind));
        self.ip(&format!("link set {interface} up"));
        Wire::new(descriptor)
    }
}

/// Makes an interface that is there until this is dropped, in the network namespace of this thread.
pub(crate) fn open(interface: &str, kind: Tun) -> OwnedFd {
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    let tun = tun.expect("the kernel has tun");
    let flags = match kind {
        Tun::Ip => libc::IFF_TUN | libc::IFF_NO_PI,
        Tun::Information => libc::IFF_TUN,
        Tun::Ethernet => libc::IFF_TAP | libc::IFF_NO_PI,
    };
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: i16::try_from(flags).expect("a few bits"),
        },
    };
    // SAFETY: the kernel reads and writes one `ifreq`.
    let made = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw const request) };
    assert_eq!(made, 0, "{interface}: {}", io::Error::last_os_error());
    tun.into()
}
