//! A tun device: packets come in without an Ethernet header, written by this process instead of a tunnel's.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{OFlags, fcntl_setfl},
    io::{Errno, read, write},
};

use super::Carrier;
use crate::{
    netns::Host,
    tun::{self, Tun},
};

/// Makes the device on this host, with the addresses that the frame builder knows.
pub(super) fn open(receiver: &Host) -> OwnedFd {
    let name = Carrier::Tunnel.interface();
    let end = receiver.enter(|| tun::open(name, Tun::Ip));
    fcntl_setfl(&end, OFlags::NONBLOCK).expect("an open file");
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
