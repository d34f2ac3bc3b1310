//! A network of its own for the new machine, with a way to where packages come from, and to nothing of this machine.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::netns::{Host, Sandbox, until};

/// slirp4netns answers there, by asking whom this machine asks.
pub(super) const NAMESERVER: &str = "10.0.2.3";

pub(super) struct Network {
    host: Host,
    uplink: Child,
}

impl Network {
    pub(super) fn new(sandbox: &Sandbox) -> Result<Self> {
        let host = sandbox.host();
        // It speaks for the namespace by sockets of this machine's own, and changes nothing about this machine's network.
        let uplink = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "slirp4netns", "--configure"])
            .args(["--disable-host-loopback", "--netns-type=path"])
            .args([&host.namespace(), "tap0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting slirp4netns")?;
        let network = Self { host, uplink };
        network.inside(|| {
            until("slirp4netns has made a network", || {
                let routes = fs::read_to_string("/proc/thread-self/net/route");
                routes.is_ok_and(|routes| routes.contains("tap0\t00000000"))
            });
        });
        Ok(network)
    }

    /// Runs what starts processes in this network.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.host.enter(work)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Both fail only where it ended already.
        let _ = self.uplink.kill();
        let _ = self.uplink.wait();
    }
}
