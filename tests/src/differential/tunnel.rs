//! A tun device: packets come in without an Ethernet header, written by this process instead of a tunnel's.

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::{
    fs::{Mode, OFlags, open as open_file},
    io::{Errno, read, write},
};

use super::Carrier;
use crate::netns::Host;

/// Makes the device on this host, with the addresses that the frame builder knows.
pub(super) fn open(receiver: &Host) -> OwnedFd {
    let name = Carrier::Tunnel.interface();
    let end = receiver.enter(|| {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let end = open_file("/dev/net/tun", flags, Mode::empty()).expect("a kernel with tun");
        // SAFETY: all zeros are an `ifreq`.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *place = byte.cast_signed();
        }
        let kind = i16::try_from(libc::IFF_TUN | libc::IFF_NO_PI).expect("two low bits");
        request.ifr_ifru.ifru_flags = kind;
        // SAFETY: the kernel reads and writes a request of the size that this call is for.
        let made = unsafe { libc::ioctl(end.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        assert_eq!(made, 0, "{name}: {}", std::io::Error::last_os_error());
        end
    });
    // Room for all answers to what is sent at once.
    receiver.ip(&format!("link set {name} up txqueuelen 4096"));
    for (family, address) in [("-4", "192.0.2.1/24"), ("-6", "2001:db8::1/64 nodad")] {
        receiver.ip(&format!("{family} address add {address} dev {name}"));
        receiver.ip(&format!("{family} route add default dev {name}"));
    }
    end
}

/// Sends a packet. Of one that begins with no version that it knows, the kernel says so and makes nothing.
pub(super) fn send(end: &OwnedFd, packet: &[u8]) {
    match write(end, packet) {
        Ok(_) | Err(Errno::INVAL) => {}
        Err(error) => panic!("a packet of {} bytes: {error}", packet.len()),
    }
}

/// The packets that came out of the device.
pub(super) fn drain(end: &OwnedFd, each: &mut impl FnMut(&[u8])) {
    let mut buffer = [0; 2048];
    loop {
        match read(end, &mut buffer) {
            Ok(length) => each(&buffer[..length]),
            Err(Errno::AGAIN) => return,
            Err(error) => panic!("answers can't be read: {error}"),
        }
    }
}
