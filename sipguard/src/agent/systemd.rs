//! What systemd wants to hear of a service (sd_notify(3)): that it is ready, alive, and about to end.

use std::{
    env,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// The way to systemd; none, where it has not started this process.
#[derive(Debug)]
pub struct Systemd {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How long systemd waits for a sign of life.
    patience: Option<Duration>,
}

impl Systemd {
    /// As the environment says.
    pub fn find() -> Self {
        let microseconds = env::var("WATCHDOG_USEC").ok();
        let microseconds = microseconds.and_then(|text| text.parse().ok());
        let address = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let name = name.as_bytes();
            match name.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
            }
            .ok()
        });
        let socket = address.and_then(|address| {
            let socket = UnixDatagram::unbound().ok()?;
            // Whoever waits for systemd does nothing else.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        Self {
            patience: microseconds
                .map(Duration::from_micros)
                .filter(|_| socket.is_some()),
            socket,
        }
    }

    /// How often it is to be told that this process is alive: four times in the time that systemd waits, as one of these may find no room there, or come
    /// late on a host that is busy.
    pub fn watchdog(&self) -> Option<Duration> {
        self.patience.map(|patience| patience / 4)
    }

    /// Says it. There is nobody to tell where that fails.
    pub fn say(&self, what: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(what.as_bytes(), address);
        }
    }
}

/// It does its work.
pub const READY: &str = "READY=1";
/// It is alive.
pub const ALIVE: &str = "WATCHDOG=1";
/// It is about to end.
pub const STOPPING: &str = "STOPPING=1";
