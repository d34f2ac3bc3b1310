//! What is left of sipguard when it is purged.

use anyhow::{Result, ensure};

use super::reach;
use crate::vm::gateway::Gateway;

/// dpkg's and apt's own records of what they did are theirs, and the kernel puts files of its own (*.debug) into every bpffs.
const TRACES: &str = "find / /run /sys/fs/bpf -xdev -name '*sipguard*' \
     ! -path '/var/log/*' ! -path '/var/lib/dpkg/*' ! -path '/var/lib/apt/*' ! -path '/var/cache/apt/*' ! -path '/home/*' -print\n\
     find /sys/fs/bpf -mindepth 1 ! -name '*.debug' -print\n\
     ip -details link show | grep prog/xdp || true\n\
     dpkg-query --show sipguard sipguard-fetch 2> /dev/null || true\n\
     grep sipguard /etc/passwd /etc/group || true\n\
     systemctl list-unit-files --no-legend '*sipguard*' || true\n\
     sed '/^$/d' /proc/sys/net/ipv4/ip_local_reserved_ports";

pub(super) fn purge(gateway: &Gateway<'_>) -> Result<String> {
    gateway.run("DEBIAN_FRONTEND=noninteractive apt-get -qq purge sipguard sipguard-fetch")?;
    let left = gateway.run(TRACES)?;
    ensure!(left.trim().is_empty(), "this is left:\n{left}");
    reach::everybody()?;
    Ok("no file, pin, program, unit, user or setting; everybody is answered".to_owned())
}
