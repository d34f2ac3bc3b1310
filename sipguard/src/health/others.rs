//! Whether somebody else's program is where ours is or should be, or before it.

use crate::{datapath, device::Hook, policy::AttachMode};

use super::{Evidence, Finding, Kind};

pub(super) const FINDS: &[Kind] = &[Kind::ForeignXdpProgram, Kind::ForeignTcProgram];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let before = evidence.interfaces.iter().flat_map(|interface| {
        interface.before.iter().map(|other| {
            let name = &interface.name;
            let about = format!(
                "the TC program {} (id {}) runs before sipguard's on {name} and may take packets that sipguard then never sees; an apply \
                 puts sipguard's first again",
                other.name, other.id
            );
            Kind::ForeignTcProgram.open(about, "sipguard apply").on(name)
        })
    });
    xdp(evidence).into_iter().chain(before).collect()
}

fn xdp(evidence: &Evidence) -> Vec<Finding> {
    if evidence.live.is_err() {
        return Vec::new();
    }
    let in_force = evidence
        .in_force()
        .map(|live| &live.generation.description.interfaces);
    // What the config names now, or named.
    let wanted = evidence
        .policy
        .as_ref()
        .ok()
        .map(|policy| &policy.interfaces);
    wanted
        .or(in_force)
        .into_iter()
        .flatten()
        // At TC ingress, ours gets what an XDP program lets pass.
        .filter(|interface| interface.mode != AttachMode::Tc)
        .filter_map(|interface| {
            evidence.devices
                .iter()
                .find(|device| device.name == interface.name)
        })
        .filter_map(|device| {
            let id = datapath::foreign(device, &evidence.links)?;
            let foreign = device.xdp.iter().find(|attached| attached.program == id)?;
            let hook = match foreign.hook {
                Hook::Native => "xdpdrv",
                Hook::Offloaded => "xdpoffload",
                Hook::Generic | Hook::Tc => "xdpgeneric",
            };
            let name = &device.name;
            let about = format!(
                "the XDP program {} (id {id}) is on {name} and is not sipguard's; end what attached it, or take it off",
                datapath::program_name(id)
            );
            let mend = format!("ip link set dev {name} {hook} off");
            Some(Kind::ForeignXdpProgram.wrong(about, mend).on(name))
        })
        .collect()
}
