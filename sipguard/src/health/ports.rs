//! Ports of guarded bridges, bonds and the like: some frames stay with the port that they come in by, and the device that is guarded never gets
//! them.

use super::{Evidence, Finding, Kind};
use crate::{
    device::{Device, Hook},
    kernel,
    prose::joined,
    report::InterfaceReport,
};

pub(super) const FINDS: &[Kind] = &[Kind::PortKeepsFrames];

/// Devices whose ports hand on most of what they receive, and not all.
///
/// Frames to 01:80:c2:00:00:02 to 0f stay with each port of a bridge (`br_handle_frame` in net/bridge/br_input.c), those to any of that group
/// with a port that a bond or a team does not use (`bond_handle_frame` in drivers/net/bonding/bond_main.c, `team_handle_frame` in
/// drivers/net/team/team_core.c), and those without a tag with a port of HSR (`hsr_handle_frame` in net/hsr/hsr_slave.c).
const KINDS: [&str; 4] = ["bridge", "bond", "team", "hsr"];

/// Stands beside the package's.
const FILE: &str = "/etc/sysctl.d/51-sipguard-ports.conf";

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    evidence
        .interfaces
        .iter()
        // A bond that is filtered natively is so in its ports' drivers.
        .filter(|interface| interface.mode == Some(Hook::Tc))
        .filter_map(|interface| finding(interface, evidence))
        .collect()
}

fn finding(interface: &InterfaceReport, evidence: &Evidence) -> Option<Finding> {
    let name = interface.renamed.as_ref().unwrap_or(&interface.name);
    let device = evidence.devices.iter().find(|it| it.name == *name)?;
    if !KINDS.contains(&device.kind.as_deref()?) {
        return None;
    }
    let is_guarded = |port: &Device| {
        evidence
            .interfaces
            .iter()
            .any(|it| it.mode.is_some() && it.renamed.as_ref().unwrap_or(&it.name) == &port.name)
    };
    let ports: Vec<_> = evidence
        .devices
        .iter()
        .filter(|port| port.controller == Some(device.index) && !is_guarded(port))
        .map(|port| port.name.as_str())
        .filter(|port| takes_packets(port))
        .collect();
    if ports.is_empty() {
        return None;
    }
    let about = format!(
        "{name} is filtered and {} not: frames to some Ethernet addresses (01:80:c2:00:00:0e, for one) stay with the port that they come in \
         by, where this host takes the packets in them unjudged",
        match ports[..] {
            [port] => format!("its port {port} is"),
            _ => format!("its ports {} are", joined(&ports)),
        }
    );
    let settings: Vec<_> = ports
        .iter()
        .flat_map(|port| {
            [
                (port, "net/ipv4", "rp_filter = 2"),
                (port, "net/ipv6", "disable_ipv6 = 1"),
            ]
        })
        .map(|(port, family, setting)| format!("'{family}/conf/{port}/{setting}'"))
        .collect();
    let mend = format!(
        "printf '%s\\n' {} >> {FILE} && sysctl -p {FILE}",
        settings.join(" ")
    );
    Some(Kind::PortKeepsFrames.open(about, mend).on(name))
}

/// Whether this host takes IP packets from a port that has no address of its own: IPv4 unless the way back to the sender is asked for, which
/// never is by a port (`__fib_validate_source` in net/ipv4/fib_frontend.c), IPv6 unless it is off.
fn takes_packets(port: &str) -> bool {
    let setting = |family, conf, name| kernel::setting(&format!("net/{family}/conf/{conf}/{name}"));
    // The larger one of the two counts.
    let asks = ["all", port].map(|conf| setting("ipv4", conf, "rp_filter"));
    let asks = asks.iter().flatten().any(|asks| asks != "0");
    // Where there is no IPv6 at all, there is no setting of it.
    let takes_v6 = setting("ipv6", port, "disable_ipv6").is_some_and(|off| off == "0");
    !asks || takes_v6
}
