//! The programs that the tests and the demo drive.

use anyhow::{Context as _, Result, bail};

use super::apt;
use crate::machine;

struct Program {
    name: &'static str,
    package: &'static str,
    why: &'static str,
}

const fn program(name: &'static str, package: &'static str, why: &'static str) -> Program {
    Program { name, package, why }
}

const PROGRAMS: &[Program] = &[
    program(
        "sipp",
        "sip-tester",
        "the gateway and the provider that calls it",
    ),
    program("svmap", "sipvicious", "the scanner that looks for gateways"),
    program(
        "sipsak",
        "sipsak",
        "single SIP requests, over TCP and IPv6 too",
    ),
    program(
        "ip",
        "iproute2",
        "hosts and links: network namespaces, veth, VLAN",
    ),
    program(
        "unshare",
        "util-linux",
        "tells whether such hosts can be made",
    ),
    program("ping", "iputils-ping", "shows that ICMP goes on"),
    program("curl", "curl", "fetches the gateway's web page"),
    program(
        "strace",
        "strace",
        "kills sipguard at each of its system calls, to see what a crash leaves",
    ),
    program(
        "tcpdump",
        "tcpdump",
        "counts packets, to compare sipguard's counters with",
    ),
    program(
        "systemd-analyze",
        "systemd",
        "runs the service as a gateway would",
    ),
    program(
        "udevadm",
        "udev",
        "tells what becomes of an interface that appears",
    ),
    program("nft", "nftables", "turns connection tracking on"),
    program("ssh", "openssh-client", "deploys to gateways"),
    program("lintian", "lintian", "finds what is wrong with a package"),
    program(
        "readelf",
        "binutils",
        "tells which systems the packaged command runs on",
    ),
    program(
        "editcap",
        "wireshark-common",
        "turns captures into the other formats that are read",
    ),
];

/// What the benchmark measures beside sipguard.
const PEERS: &[Program] = &[
    program("nft", "nftables", "drops at three of its hooks"),
    program("iptables", "iptables", "drops what ipset has not"),
    program("ipset", "ipset", "sets of prefixes"),
    program("xdp-filter", "xdp-tools", "drops in XDP, too"),
    program(
        "ethtool",
        "ethtool",
        "has a cable deliver frames as a driver does",
    ),
    program("iptables-save", "iptables", "prints rules to import"),
    program(
        "fail2ban-client",
        "fail2ban",
        "prints banned addresses to import",
    ),
];

/// What boots other kernels.
const MACHINES: &[Program] = &[
    program(
        "qemu-system-x86_64",
        "qemu-system-x86",
        "a machine of software, for another kernel than this one",
    ),
    program("xz", "xz-utils", "unpacks a kernel's modules"),
    program("nft", "nftables", "turns connection tracking on"),
    program("wg", "wireguard-tools", "sets a WireGuard tunnel up"),
];

/// What makes a gateway's system, and logs in there.
const GATEWAYS: &[Program] = &[
    program("debootstrap", "debootstrap", "fetches and unpacks a Debian"),
    program("mkfs.ext4", "e2fsprogs", "makes a disk of it"),
    program("ssh", "openssh-client", "logs in on the gateway"),
];

pub(super) fn ensure() -> Result<()> {
    install(PROGRAMS)
}

pub(super) fn gateways() -> Result<()> {
    install(GATEWAYS)
}

pub(super) fn machines() -> Result<()> {
    install(MACHINES)
}

pub(super) fn peers() -> Result<()> {
    install(PEERS)
}

fn install(programs: &'static [Program]) -> Result<()> {
    let missing = missing(programs);
    if missing.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = missing
        .iter()
        .map(|program| {
            format!(
                "  {:<8} {:<13} {}",
                program.name, program.package, program.why
            )
        })
        .collect();
    let listed = listed.join("\n");
    eprintln!("programs that are missing, their Debian packages, and what for:\n{listed}");

    let mut packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    packages.dedup();
    apt::install(&packages).with_context(|| {
        format!("install these programs by hand, then run this again:\n{listed}\nthe reason")
    })?;

    let still: Vec<&str> = self::missing(programs)
        .iter()
        .map(|program| program.name)
        .collect();
    if !still.is_empty() {
        bail!("installed, but not on PATH: {}", still.join(" "));
    }
    Ok(())
}

fn missing(programs: &'static [Program]) -> Vec<&'static Program> {
    programs
        .iter()
        .filter(|program| machine::find(program.name).is_none())
        .collect()
}
