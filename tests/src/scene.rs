//! The scene of most integration tests: a gateway that sipguard guards, and an outside from which frames come with any source.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr},
    fs, io,
    net::{Ipv6Addr, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use sipguard::device;

use crate::{
    frame::{Frame, GATEWAY_V4, GATEWAY_V6, eth},
    netns::{BPFFS, End, Finished, Host, SCRATCH, Sandbox, Wire, join, sipguard, until},
};

/// Listed as a provider wherever a test needs one.
pub const PROVIDER: &str = "203.0.113.5";
/// Listed nowhere.
pub const SCANNER: &str = "198.51.100.7";
/// A port that nobody guards: what goes there tells that everything sent before has been dealt with.
pub const MARK: u16 = 40_404;

/// How long a datagram may take before the test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway and the outside, joined by any number of veth pairs whose two ends have the same name. All of the gateway's addresses
/// are on its loopback interface, so that it takes packets for them from any line.
pub struct Scene {
    /// The guarded host.
    pub gateway: Host,
    /// Where frames come from.
    pub outside: Host,
    lines: BTreeMap<String, Line>,
    mark: UdpSocket,
    // Kept, because a child of another thread holds every descriptor for a moment, and the port with it.
    sockets: Mutex<BTreeMap<u16, UdpSocket>>,
    sent: AtomicU64,
}

/// A way in: how frames for it begin, and where they are sent.
struct Line {
    begin: Frame,
    wire: Wire,
}

impl Scene {
    /// A gateway with these interfaces.
    #[must_use]
    pub fn new(sandbox: &Sandbox, interfaces: &[&str]) -> Self {
        let (gateway, outside) = (sandbox.host(), sandbox.host());
        for address in [format!("{GATEWAY_V4}/32"), format!("{GATEWAY_V6}/128")] {
            gateway.ip(&format!("address add {address} dev lo"));
        }
        let mark = gateway.enter(|| {
            for conf in ["all", "default"] {
                // Sources are made up, and no route leads back to them.
                fs::write(format!("/proc/sys/net/ipv4/conf/{conf}/rp_filter"), "0")
                    .expect("IPv4 can be set up");
            }
            bind(MARK)
        });
        mark.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut scene = Self {
            gateway,
            outside,
            lines: BTreeMap::new(),
            mark,
            sockets: Mutex::default(),
            sent: AtomicU64::new(0),
        };
        for interface in interfaces {
            scene.connect(interface);
        }
        scene
    }

    /// Joins the two by another veth pair, or by a new one after the old one was deleted.
    pub fn connect(&mut self, interface: &str) {
        let end = |host| End {
            host,
            interface,
            addresses: &[],
        };
        let [gateway, outside] = join(end(&self.gateway), end(&self.outside));
        let wire = self.outside.wire(interface);
        self.lead(interface, eth().macs(gateway, outside), wire);
    }

    /// Makes a way in to an interface of the gateway's that is no veth of ours: frames for it begin so, and are sent there.
    pub fn lead(&mut self, interface: &str, begin: Frame, wire: Wire) {
        self.lines
            .insert(interface.to_owned(), Line { begin, wire });
    }

    /// Where [`Self::sipguard`] reads its config.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        Path::new(SCRATCH).join("sipguard.toml")
    }

    /// Writes the config file.
    pub fn configure(&self, text: &str) {
        fs::write(self.config(), text).expect("the scratch folder is writable");
    }

    /// Runs sipguard on the gateway with the scene's config.
    pub fn sipguard(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Finished {
        let mut command = Command::new(sipguard());
        command.arg("--config").arg(self.config()).args(arguments);
        self.gateway.run(&mut command)
    }

    /// What a reboot leaves: the disk. Nothing filters until the next apply.
    pub fn reboot(&self, sandbox: &Sandbox) {
        sandbox.unmount_bpffs();
        sandbox.mount_bpffs();
        for interface in self.lines.keys() {
            until("the kernel has let go", || {
                // What let everything pass at its end may be there still.
                let device = self.gateway.enter(|| device::named(interface));
                device.is_ok_and(|device| device.is_none_or(|device| device.xdp.is_empty()))
                    && [5060, 5061].map(|port| self.passes(interface, SCANNER, port)) == [true; 2]
            });
        }
    }

    /// A way to send raw frames to the gateway's interface.
    #[must_use]
    pub fn wire(&self, interface: &str) -> &Wire {
        &self.lines[interface].wire
    }

    /// What frames to the gateway's interface have before their IP header.
    #[must_use]
    pub fn begin(&self, interface: &str) -> Frame {
        self.lines[interface].begin.clone()
    }

    /// Begins a frame from `source` to the gateway's interface.
    #[must_use]
    pub fn frame(&self, interface: &str, source: &str) -> Frame {
        self.begin(interface).ip(source)
    }

    /// Whether a datagram from `source` to a UDP port, coming in on `interface`, reaches a socket there.
    #[must_use]
    pub fn passes(&self, interface: &str, source: &str, port: u16) -> bool {
        self.delivers(interface, &self.frame(interface, source).udp(port), port)
    }

    /// Whether a datagram, of which this is all but what is in it, reaches a socket on this UDP port when it comes in on `interface`.
    #[must_use]
    pub fn delivers(&self, interface: &str, frame: &Frame, port: u16) -> bool {
        let text = format!("probe {}", self.number());
        let mut sockets = self.sockets.lock().expect("no other test's");
        let socket = sockets.entry(port).or_insert_with(|| {
            let socket = self.gateway.enter(|| bind(port));
            socket.set_nonblocking(true).expect("an option of sockets");
            socket
        });
        let frame = frame.clone().payload(text.as_bytes());
        self.wire(interface).send(&frame.bytes());
        self.settle(interface);
        let mut buffer = [0; 64];
        let mut arrived = false;
        while let Ok(length) = socket.recv(&mut buffer) {
            arrived |= &buffer[..length] == text.as_bytes();
        }
        arrived
    }

    /// Waits until everything sent to `interface` so far has been dealt with.
    pub fn settle(&self, interface: &str) {
        let text = self.mark(interface);
        let mut buffer = [0; 64];
        loop {
            let length = self
                .mark
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{interface} delivers nothing: {error}"));
            if &buffer[..length] == text.as_bytes() {
                return;
            }
        }
    }

    /// Waits until `interface` gets what is sent to it: one that comes up loses frames for a moment.
    pub fn await_link(&self, interface: &str) {
        let block = |block: bool| self.mark.set_nonblocking(!block).expect("an option");
        block(false);
        until("frames come in again", || {
            self.mark(interface);
            self.mark.recv(&mut [0; 64]).is_ok()
        });
        block(true);
    }

    /// Sends a frame that no filter of ours judges; returns what is in it.
    fn mark(&self, interface: &str) -> String {
        let text = format!("mark {}", self.number());
        let frame = self.frame(interface, SCANNER).udp(MARK);
        self.wire(interface)
            .send(&frame.payload(text.as_bytes()).bytes());
        text
    }

    fn number(&self) -> u64 {
        self.sent.fetch_add(1, Ordering::Relaxed)
    }
}

/// A socket for datagrams to this port, of both families, in the calling thread's network namespace.
#[must_use]
pub fn bind(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).expect("a free port");
    // On Linux 5.10 and 6.1 each datagram that comes through a veth with XDP takes a page of the room.
    set_socket_recv_buffer_size_force(&socket, 4 << 20).expect("these tests need root");
    socket
}

/// Everything pinned, as paths below bpffs.
#[must_use]
pub fn pins() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("bpffs can be read") {
            let path = entry.expect("bpffs can be read").path();
            let name = path.strip_prefix(BPFFS).expect("below bpffs");
            let name = name.display().to_string();
            // The kernel's own: nobody else can use a dot.
            if name.contains('.') {
                continue;
            }
            found.push(name);
            if path.is_dir() {
                walk(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(BPFFS), &mut found);
    found.sort();
    found
}

/// The number of the link that is pinned for an interface: as long as it is the same, the interface was never without a program.
#[must_use]
pub fn link_id(interface: &str) -> u32 {
    let mut pins = ["links", "tc-links"]
        .map(|kind| format!("{BPFFS}/sipguard/{kind}/{interface}"))
        .into_iter()
        .filter(|pin| Path::new(pin).exists());
    let link = pinned(&pins.next().expect("a link is pinned"));
    assert_eq!(pins.next(), None, "one link is pinned");
    let info = format!("/proc/self/fdinfo/{}", link.as_raw_fd());
    let info = fs::read_to_string(info).expect("a descriptor's description");
    let id = info.lines().find_map(|line| line.strip_prefix("link_id:"));
    id.expect("a link").trim().parse().expect("a number")
}

/// What is pinned there.
#[must_use]
pub fn pinned(path: &str) -> OwnedFd {
    /// include/uapi/linux/bpf.h, union `bpf_attr`, for `BPF_OBJ_GET`.
    #[repr(C)]
    struct Get {
        path: u64,
        descriptor: u32,
        flags: u32,
    }
    let path = CString::new(path).expect("no zeros");
    let get = Get {
        path: path.as_ptr() as u64,
        descriptor: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads as much of `get` as is said, and a path that ends.
    let opened = unsafe { libc::syscall(libc::SYS_bpf, 7, &raw const get, size_of::<Get>()) };
    assert!(opened >= 0, "{path:?}: {}", io::Error::last_os_error());
    // SAFETY: the kernel has just made it, for nobody else.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(opened).expect("a descriptor")) }
}
