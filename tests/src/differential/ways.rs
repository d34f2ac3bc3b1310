//! Ways into a receiver that only some kernels have. What a kernel lacks is named with its reason, never passed over.

use std::{
    collections::BTreeMap,
    fmt, io,
    os::fd::{AsRawFd as _, OwnedFd},
    process::Command,
};

use rustix::{
    fs::{Mode, OFlags, open},
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
};

use super::{INNER_VLAN, OUTER_VLAN};
use crate::{frame::eth, netns::Host};

/// A way in that only some kernels have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// VLAN devices, and VLAN devices on them.
    Vlan,
    /// A PPPoE session.
    Session,
    /// The authentication header.
    Authentication,
    /// Sockets of UDP-Lite.
    UdpLite,
    /// Sockets of SCTP.
    Sctp,
}

/// Which ways there are.
#[derive(Debug, Default)]
pub struct Ways {
    there: Vec<Way>,
    lacking: BTreeMap<Way, io::Error>,
    /// A session lives as long as these are open.
    session: Vec<OwnedFd>,
}

impl Ways {
    /// Whether this one is there.
    #[must_use]
    pub fn has(&self, way: Way) -> bool {
        self.there.contains(&way)
    }

    /// Whatever else went wrong is no lack, or a way that is there would go untried.
    pub(super) fn note<T>(&mut self, way: Way, found: io::Result<T>) -> Option<T> {
        match found {
            Ok(found) => {
                self.there.push(way);
                Some(found)
            }
            Err(error) if is_lack(&error) => {
                self.lacking.insert(way, error);
                None
            }
            Err(error) => panic!("{way:?}: {error}"),
        }
    }

    /// Devices for tags of both kinds, and for a tag inside each. They need no IP addresses: Linux takes what is for any of the host's,
    /// wherever it comes in. But on tunnels they need an Ethernet address of their own: older kernels (5.10) bring up none that
    /// inherit what is no such address.
    pub(super) fn try_vlan(&mut self, receiver: &Host, interface: &str) {
        let add = |below: &str, name: &str, kind: &str, id: u16| {
            let words = format!(
                "link add link {below} name {name} address 02:00:00:00:00:01 type vlan proto {kind} id {id}"
            );
            ip(receiver, &words)?;
            ip(receiver, &format!("link set dev {name} up"))
        };
        let found = [("q", "802.1Q"), ("ad", "802.1ad")]
            .iter()
            .try_for_each(|(name, kind)| {
                add(interface, name, kind, OUTER_VLAN)?;
                add(name, &format!("{name}.inner"), "802.1Q", INNER_VLAN)
            });
        self.note(Way::Vlan, found);
    }

    /// Takes packets with an authentication header of the frame builder's key, which is none.
    pub(super) fn try_authentication(&mut self, receiver: &Host) {
        let found = [("0.0.0.0", "192.0.2.1"), ("::", "2001:db8::1")]
            .iter()
            .try_for_each(|(from, to)| {
                let words = format!("xfrm state add src {from} dst {to} proto ah spi 0x1000");
                let words = words.split(' ').chain(["mode", "transport"]);
                let mut command = Command::new("ip");
                command.args(words).args(["auth", "digest_null", ""]);
                succeed(receiver, &mut command)
            });
        self.note(Way::Authentication, found);
    }

    /// A session on `eth0`, of the number that the frame builder writes.
    pub(super) fn try_session(&mut self, receiver: &Host) {
        let found = receiver.enter(session);
        let found = found.and_then(|kept| ip(receiver, "link set ppp0 up").map(|()| kept));
        self.session = self.note(Way::Session, found).unwrap_or_default();
    }
}

impl fmt::Display for Ways {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(text, "this kernel has {:?}", self.there)?;
        for (way, error) in &self.lacking {
            writeln!(text, "not on this kernel: {way:?} ({error})")?;
        }
        Ok(())
    }
}

/// What a kernel says, by number or through `ip`, of devices and protocols that it was built without.
fn is_lack(error: &io::Error) -> bool {
    let said = error.to_string();
    let words = [
        "Unknown device type",
        "Requested type not found",
        "not supported",
    ];
    words.iter().any(|words| said.contains(words))
}

fn ip(receiver: &Host, words: &str) -> io::Result<()> {
    succeed(receiver, Command::new("ip").args(words.split_whitespace()))
}

fn succeed(receiver: &Host, command: &mut Command) -> io::Result<()> {
    let finished = receiver.run(command);
    if finished.status.success() {
        return Ok(());
    }
    let line = finished.stderr.lines().next().unwrap_or_default();
    Err(io::Error::other(line.to_owned()))
}

/// What pppd and its plugin do for a session (Documentation/networking/ppp_generic.rst), without anybody to speak PPP with: a unit that
/// comes up takes IPv4 and IPv6. The session lives as long as what is returned.
///
/// # Errors
/// Where this kernel has no PPPoE.
///
/// # Panics
/// Never: the address has its size.
pub fn session() -> io::Result<Vec<OwnedFd>> {
    /// `struct sockaddr_pppox` of include/uapi/linux/if_pppox.h.
    #[repr(C, packed)]
    struct Address {
        family: u16,
        protocol: u32,
        session: [u8; 2],
        remote: [u8; 6],
        device: [u8; 16],
    }
    // include/uapi/linux/ppp-ioctl.h
    const PPPIOCGCHAN: libc::Ioctl = 0x8004_7437;
    const PPPIOCATTCHAN: libc::Ioctl = 0x4004_7438;
    const PPPIOCNEWUNIT: libc::Ioctl = 0xc004_743e;
    const PPPIOCCONNECT: libc::Ioctl = 0x4004_743a;

    let pppox = u16::try_from(libc::AF_PPPOX).expect("a small number");
    let flags = SocketFlags::CLOEXEC;
    let family = AddressFamily::from_raw(pppox);
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    let header = eth().pppoe().bytes();
    let mut address = Address {
        family: pppox,
        protocol: 0,
        session: [header[16], header[17]],
        remote: [2, 0, 0, 0, 0, 2],
        device: [0; 16],
    };
    address.device[..4].copy_from_slice(b"eth0");
    let size = libc::socklen_t::try_from(size_of::<Address>()).expect("thirty bytes");
    // SAFETY: the pointer is to an address of the size that is said, and the kernel only reads it.
    let done = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size) };
    ensure(done)?;

    let ioctl = |file: &OwnedFd, request, number: &mut i32| {
        // SAFETY: each of these requests reads or writes one number.
        ensure(unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut *number) })
    };
    let ppp = || open("/dev/ppp", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let (channel, unit) = (ppp()?, ppp()?);
    let mut number = 0;
    ioctl(&socket, PPPIOCGCHAN, &mut number)?;
    ioctl(&channel, PPPIOCATTCHAN, &mut number)?;
    // Any number would do, but the caller looks for ppp0.
    let mut first = 0;
    ioctl(&unit, PPPIOCNEWUNIT, &mut first)?;
    ioctl(&channel, PPPIOCCONNECT, &mut first)?;
    Ok(vec![socket, channel, unit])
}

fn ensure(returned: libc::c_int) -> io::Result<()> {
    match returned {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has connection tracking put fragments together. Nothing is tracked.
pub(super) fn track_connections(receiver: &Host) {
    let rules = "table inet defragment {
        chain first { type filter hook prerouting priority raw; notrack; }
        chain second { type filter hook input priority filter; ct state established accept; }
    }";
    receiver.run(Command::new("nft").arg(rules)).succeeded();
}
