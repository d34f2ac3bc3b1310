//! Who is who on the gateway's cable, and the cable.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::Command,
};

use anyhow::{Result, ensure};

use crate::{machine, netns::Host};

/// The cable's end outside the gateway.
pub(super) const TAP: &str = "gateway";
/// The gateway's end, for QEMU.
pub(super) const MAC: &str = "02:51:90:00:10:01";
/// What the gateway's udev calls its card, after the slot that it is in.
pub(super) const INTERFACE: &str = "ens3";

/// Somebody with an IPv4 and an IPv6 address of a network of their own.
pub(super) struct Party {
    pub(super) addresses: [IpAddr; 2],
    networks: [&'static str; 2],
}

impl Party {
    /// The addresses as `ip` has them.
    fn with_lengths(&self) -> impl Iterator<Item = String> {
        self.addresses
            .iter()
            .zip(self.networks)
            .map(|(address, network)| {
                let length = network.rsplit('/').next().unwrap_or_default();
                format!("{address}/{length}")
            })
    }
}

/// The machine.
pub(super) const GATEWAY: Party = Party {
    addresses: [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    ],
    networks: ["192.0.2.0/24", "2001:db8::/64"],
};
/// Who deploys, from the gateway's own network; listed.
pub(super) const ADMIN: Party = Party {
    addresses: [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10)),
    ],
    networks: GATEWAY.networks,
};
/// Whose calls must come in: listed.
pub(super) const PROVIDER: Party = Party {
    addresses: [
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0, 0, 0, 0, 0x10)),
    ],
    networks: ["203.0.113.0/24", "2001:db8:203::/48"],
};
/// Whom nobody listed.
pub(super) const SCANNER: Party = Party {
    addresses: [
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, 66)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x198, 0, 0, 0, 0, 0x66)),
    ],
    networks: ["198.51.100.0/24", "2001:db8:198::/48"],
};

/// What the gateway's systemd-networkd reads: everybody is on its one cable.
pub(super) fn configuration() -> String {
    let mut lines = vec![format!(
        "[Match]\nName={INTERFACE}\n[Network]\nIPv6AcceptRA=no"
    )];
    lines.extend(
        GATEWAY
            .with_lengths()
            .map(|address| format!("Address={address}")),
    );
    for network in [PROVIDER, SCANNER].iter().flat_map(|party| party.networks) {
        lines.push(format!("[Route]\nDestination={network}\nScope=link"));
    }
    lines.join("\n") + "\n"
}

/// Makes the cable's end on this host, with everybody's addresses but the gateway's.
pub(super) fn plug_in(host: &Host) -> Result<()> {
    if !Path::new("/dev/net/tun").exists() {
        // Some systems have it as a module that nobody needed so far.
        let _ = machine::answer(Command::new("modprobe").arg("tun"));
    }
    ensure!(
        Path::new("/dev/net/tun").exists(),
        "this machine has no /dev/net/tun: its kernel can't make the virtual machine's cable"
    );
    host.ip(&format!("tuntap add mode tap name {TAP}"));
    host.ip(&format!("link set {TAP} up"));
    for party in [ADMIN, PROVIDER, SCANNER] {
        for address in party.with_lengths() {
            host.ip(&format!("address add {address} dev {TAP}"));
        }
    }
    Ok(())
}
