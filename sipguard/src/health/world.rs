//! Interfaces that lead to the internet and are not guarded.

use std::{collections::BTreeSet, fs};

use crate::device::Device;

use super::{Evidence, Finding, Kind, evidence::quoted};

pub(super) const FINDS: &[Kind] = &[Kind::InternetUnguarded, Kind::InternetUnguardable];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Ok(policy) = &evidence.policy else {
        return Vec::new();
    };
    let guarded: Vec<_> = policy
        .interfaces
        .iter()
        .map(|interface| interface.name.as_str())
        .collect();
    let file = quoted(&evidence.config);
    default_routes()
        .iter()
        .filter_map(|name| evidence.devices.iter().find(|device| device.name == *name))
        .filter(|device| !covered(device, &guarded, &evidence.devices))
        .map(|device| {
            let name = &device.name;
            if let Err(why) = &device.link {
                let about = format!("{name} leads to the internet and can't be guarded: {why}");
                return Kind::InternetUnguardable
                    .wrong(about, evidence.edit())
                    .on(name);
            }
            let below = if name.starts_with("ppp") {
                " (or guard the Ethernet port below it, which is faster and survives a redial)"
            } else {
                ""
            };
            let about = format!("{name} leads to the internet and is not guarded{below}");
            let mend = format!(
                "printf '\\n[[interface]]\\nname = \"{name}\"\\n' >> {file} && sipguard apply --config {file}"
            );
            // Where the config names others, it may be meant so.
            let found = if policy.interfaces.is_empty() {
                Kind::InternetUnguarded.open(about, mend)
            } else {
                Kind::InternetUnguarded.wrong(about, mend)
            };
            found.on(name)
        })
        .collect()
}

/// Whether what arrives there met the filter: on the device, or on all that it receives through (the port of a VLAN, the ports of a
/// bridge or bond). What a tunnel unpacks met it nowhere else.
fn covered(device: &Device, guarded: &[&str], devices: &[Device]) -> bool {
    const RECEIVES_THROUGH: [&str; 5] = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"];
    let through = device
        .kind
        .as_deref()
        .is_some_and(|kind| RECEIVES_THROUGH.contains(&kind));
    if guarded.contains(&device.name.as_str()) {
        return true;
    }
    let mut below = devices
        .iter()
        .filter(|other| {
            other.controller == Some(device.index) || through && device.below == Some(other.index)
        })
        .peekable();
    below.peek().is_some() && below.all(|other| covered(other, guarded, devices))
}

/// The interfaces of this network namespace's default routes.
pub(super) fn default_routes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // Columns as in net/ipv4/fib_trie.c: interface, destination, …, mask.
    for line in lines("route").skip(1) {
        let columns: Vec<_> = line.split_whitespace().collect();
        if let [interface, "00000000", _, _, _, _, _, "00000000", ..] = columns[..] {
            found.insert(interface.to_owned());
        }
    }
    // As in net/ipv6/route.c: destination, its length, …, interface.
    for line in lines("ipv6_route") {
        let columns: Vec<_> = line.split_whitespace().collect();
        if let [network, "00", .., interface] = columns[..]
            && network.bytes().all(|digit| digit == b'0')
            // The kernel's own route for what has none.
            && interface != "lo"
        {
            found.insert(interface.to_owned());
        }
    }
    found
}

fn lines(table: &str) -> impl Iterator<Item = String> {
    let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
    text.lines()
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_guarded_below_is_guarded() {
        let port = Device::plain(1, "eth0");
        let mut vlan = Device::plain(2, "eth0.5");
        vlan.kind = Some("vlan".to_owned());
        vlan.below = Some(1);
        let bridge = Device::plain(3, "br0");
        let mut first = Device::plain(4, "eth1");
        let mut second = Device::plain(5, "eth2");
        first.controller = Some(3);
        second.controller = Some(3);
        let mut tunnel = Device::plain(6, "gre1");
        tunnel.kind = Some("gre".to_owned());
        tunnel.below = Some(1);
        let devices = [port, vlan, bridge, first, second, tunnel];
        let covered = |index: usize, guarded: &[&str]| covered(&devices[index], guarded, &devices);
        assert!(covered(0, &["eth0"]));
        assert!(covered(1, &["eth0"]));
        assert!(!covered(0, &["eth0.5"]));
        assert!(!covered(2, &["eth1"]));
        assert!(covered(2, &["eth1", "eth2"]));
        assert!(covered(2, &["br0"]));
        assert!(!covered(5, &["eth0"]));
        assert!(covered(5, &["gre1"]));
    }
}
