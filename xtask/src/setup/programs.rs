//! The programs that tasks start, and where Debian has them.

use anyhow::{Context as _, Result, bail};

use super::apt;
use crate::machine;

/// What a program is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `cargo xtask demo`
    Demo,
    /// `cargo xtask test`
    Test,
    /// `cargo xtask bench`, sipguard's own part of it
    Bench,
    /// `cargo xtask board`
    Board,
    /// What the benchmark compares sipguard with; what can't be had is absent from its tables
    Rivals,
    /// `cargo xtask kernels`, and what else boots Debian's kernels
    Kernels,
    /// `cargo xtask devices`, beside that
    Devices,
    /// `cargo xtask vm`
    Vm,
    /// `cargo xtask deploy` and `undeploy`
    Deploy,
    /// `cargo xtask fresh`
    Fresh,
}

use Purpose::{Bench, Board, Demo, Deploy, Devices, Fresh, Kernels, Rivals, Test, Vm};

struct Program {
    name: &'static str,
    /// Debian's package.
    package: &'static str,
    why: &'static str,
    needed_by: &'static [Purpose],
}

const fn program(
    name: &'static str,
    package: &'static str,
    why: &'static str,
    needed_by: &'static [Purpose],
) -> Program {
    Program {
        name,
        package,
        why,
        needed_by,
    }
}

/// Demo and tests find these on their `PATH`, and what Debian's smallest system has ([`mod@super::path`]).
#[rustfmt::skip]
const PROGRAMS: &[Program] = &[
    // SIP
    program("sipp", "sip-tester", "the gateway and the provider that calls it", &[Demo, Test, Bench]),
    program("svmap", "sipvicious", "the scanner that looks for gateways", &[Demo, Test]),
    program("svwar", "sipvicious", "the scanner that looks for users", &[Test]),
    program("svcrack", "sipvicious", "guesses passwords", &[Test]),
    program("kamailio", "kamailio", "a gateway that phones register with", &[Test]),
    program("sipsak", "sipsak", "single SIP requests, over TCP and IPv6 too", &[Demo, Test]),
    // Networks
    program("ip", "iproute2", "hosts and links: network namespaces, veth, VLAN", &[Demo, Test, Bench, Board, Kernels, Vm]),
    program("tc", "iproute2", "hands packets on, as other people's rules do", &[Test, Kernels]),
    program("ss", "iproute2", "tells who listens", &[Demo, Bench]),
    program("ping", "iputils-ping", "shows that ICMP goes on", &[Demo, Test, Kernels]),
    program("curl", "curl", "fetches the gateway's web page", &[Demo]),
    program("ethtool", "ethtool", "changes queues, and has a cable deliver frames as a driver does", &[Test, Bench, Kernels, Devices]),
    program("sysctl", "procps", "changes settings of the kernel as an administrator would", &[Test, Kernels]),
    program("pgrep", "procps", "finds the threads that receive", &[Test]),
    program("chrt", "util-linux", "gives them their place", &[Test]),
    program("wg", "wireguard-tools", "sets a WireGuard tunnel up", &[Kernels]),
    // Name servers
    program("dnsmasq", "dnsmasq-base", "answers for a provider's names, and lets them change", &[Test, Vm]),
    program("nsd", "nsd", "answers for a provider's zone, and refuses all else", &[Test]),
    program("ldns-keygen", "ldnsutils", "makes keys of zones", &[Test]),
    program("ldns-signzone", "ldnsutils", "signs zones", &[Test]),
    // Web servers
    program("nginx", "nginx-light", "has lists to be fetched", &[Test]),
    program("apache2", "apache2-bin", "has lists to be fetched, too", &[Test]),
    program("openssl", "openssl", "makes the web server's certificate, and an authority to trust", &[Test]),
    // Monitoring
    program("promtool", "prometheus", "checks metrics, tries the alert rules, and asks Prometheus", &[Test, Board]),
    program("prometheus", "prometheus", "collects metrics", &[Board]),
    program("aiosmtpd", "python3-aiosmtpd", "is the mail server that notices go to", &[Test]),
    // Captures
    program("tcpdump", "tcpdump", "counts packets, to compare sipguard's counters with, and reads captures beside it", &[Demo, Test, Rivals]),
    program("editcap", "wireshark-common", "turns captures into the other formats that are read", &[Test]),
    program("mergecap", "wireshark-common", "puts captures of several interfaces into one", &[Test]),
    program("zstd", "zstd", "compresses captures", &[Test]),
    program("dumpcap", "wireshark-common", "writes captures", &[Test]),
    program("capinfos", "wireshark-common", "tells what is in a capture", &[Test]),
    program("tshark", "tshark", "writes captures, and reads them, live ones too", &[Test, Rivals]),
    program("sngrep", "sngrep", "writes captures of SIP, and reads them", &[Test]),
    // Other filters
    program("nft", "nftables", "turns connection tracking on, translates addresses, and prints rules to import", &[Test, Rivals, Kernels]),
    program("iptables", "iptables", "makes rules to import", &[Test, Rivals]),
    program("ip6tables", "iptables", "makes rules to import", &[Test]),
    program("iptables-save", "iptables", "prints rules to import", &[Test]),
    program("ip6tables-save", "iptables", "prints rules to import", &[Test]),
    program("iptables-nft", "iptables", "translates addresses, by either back end", &[Test]),
    program("iptables-nft-save", "iptables", "prints rules that translate addresses", &[Test]),
    program("iptables-legacy", "iptables", "translates addresses, by either back end", &[Test]),
    program("iptables-legacy-save", "iptables", "prints rules that translate addresses", &[Test]),
    program("ip6tables-nft", "iptables", "translates addresses, by either back end", &[Test]),
    program("ip6tables-nft-save", "iptables", "prints rules that translate addresses", &[Test]),
    program("ip6tables-legacy", "iptables", "translates addresses, by either back end", &[Test]),
    program("ip6tables-legacy-save", "iptables", "prints rules that translate addresses", &[Test]),
    program("iptables-nft-restore", "iptables", "loads rules to import", &[Test]),
    program("iptables-legacy-restore", "iptables", "loads rules to import", &[Test]),
    program("ip6tables-nft-restore", "iptables", "loads rules to import", &[Test]),
    program("ip6tables-legacy-restore", "iptables", "loads rules to import", &[Test]),
    program("ipset", "ipset", "sets of prefixes, to import and to drop by", &[Test, Rivals]),
    program("fail2ban-server", "fail2ban", "bans with sipguard, and has bans to import", &[Test, Rivals]),
    program("fail2ban-client", "fail2ban", "asks it, and prints banned addresses to import", &[Test, Rivals]),
    program("xdp-filter", "xdp-tools", "drops in XDP, too", &[Rivals]),
    // The system
    program("tmux", "tmux", "a terminal, to see what is on its screen", &[Test]),
    program("unshare", "util-linux", "tells whether namespaces can be made, and makes them", &[Demo, Fresh]),
    program("strace", "strace", "kills sipguard at each of its system calls, to see what a crash leaves", &[Test, Bench]),
    program("systemctl", "systemd", "starts and stops the service", &[Test]),
    program("systemd-sysusers", "systemd", "makes the user of sipguard-fetch", &[Test]),
    program("systemd-analyze", "systemd", "reads the service's unit as a gateway would", &[Test]),
    program("udevadm", "udev", "tells what becomes of an interface that appears", &[Test]),
    // The package, and where it goes
    program("lintian", "lintian", "finds what is wrong with a package", &[Test]),
    program("readelf", "binutils", "tells which systems the packaged command runs on", &[Test]),
    program("ssh", "openssh-client", "logs in on gateways", &[Test, Vm, Deploy]),
    program("ssh-keygen", "openssh-client", "makes the keys that gateways let in", &[Test, Vm]),
    // What lintian and systemd-analyze start
    program("ar", "binutils", "takes packages apart for lintian", &[Test]),
    program("strings", "binutils", "finds texts in programs for lintian", &[Test]),
    program("file", "file", "tells lintian what a file is", &[Test]),
    program("man", "man-db", "shows lintian and systemd-analyze that a page can be read", &[Test]),
    program("lexgrog", "man-db", "finds a page's title for lintian", &[Test]),
    program("nroff", "groff-base", "what man makes a page with", &[Test]),
    program("groff", "groff-base", "what man makes a page with", &[Test]),
    program("troff", "groff-base", "what man makes a page with", &[Test]),
    program("grotty", "groff-base", "what man makes a page with", &[Test]),
    program("preconv", "groff-base", "what man makes a page with", &[Test]),
    program("tbl", "groff-base", "what man makes a page with", &[Test]),
    program("col", "bsdextrautils", "what man makes a page with", &[Test]),
    // Other systems
    program("qemu-system-x86_64", "qemu-system-x86", "a machine of software, for another kernel than this one", &[Kernels, Vm]),
    program("xz", "xz-utils", "unpacks a kernel's modules", &[Kernels]),
    program("strip", "binutils", "takes debug information off what a small machine holds", &[Kernels]),
    program("debootstrap", "debootstrap", "fetches and unpacks a Debian", &[Vm, Fresh]),
    program("mkfs.ext4", "e2fsprogs", "makes a disk of it", &[Vm]),
    program("modprobe", "kmod", "loads what a gateway's cable needs", &[Vm]),
    program("slirp4netns", "slirp4netns", "the way to package sources out of a network of its own", &[Fresh]),
    program("git", "git", "clones what is tried", &[Fresh]),
];

/// Installs what is missing of what these purposes need.
pub(super) fn ensure(purposes: &[Purpose]) -> Result<()> {
    let missing = missing(purposes);
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
    packages.sort_unstable();
    packages.dedup();
    apt::install(&packages).with_context(|| {
        format!("install these programs by hand, then run this again:\n{listed}\nthe reason")
    })?;

    let still: Vec<&str> = self::missing(purposes)
        .iter()
        .map(|program| program.name)
        .collect();
    if !still.is_empty() {
        bail!("installed, but not on PATH: {}", still.join(" "));
    }
    Ok(())
}

/// The names of the programs that a purpose needs.
pub(super) fn names(purpose: Purpose) -> impl Iterator<Item = &'static str> {
    let all = PROGRAMS.iter();
    let needed = all.filter(move |program| program.needed_by.contains(&purpose));
    needed.map(|program| program.name)
}

/// Debian's package of a program, as far as any task declares it.
pub(crate) fn package(name: &str) -> Option<&'static str> {
    let program = PROGRAMS.iter().find(|program| program.name == name)?;
    Some(program.package)
}

fn missing(purposes: &[Purpose]) -> Vec<&'static Program> {
    let needed = PROGRAMS.iter().filter(|program| {
        let by = program.needed_by;
        by.iter().any(|purpose| purposes.contains(purpose))
    });
    needed
        .filter(|program| machine::find(program.name).is_none())
        .collect()
}
