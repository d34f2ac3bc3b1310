//! Whether somebody else's program is where ours is or should be, or before it.

use sipguard::{datapath, device::Hook, policy::AttachMode};

use super::{Finding, Host, wrong};

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let before = host.interfaces.iter().flat_map(|interface| {
        interface.before.iter().map(|other| {
            wrong(
                format!(
                    "the TC program {} (id {}) runs before sipguard's on {} and may take packets that sipguard then never sees; an apply \
                     puts sipguard's first again",
                    other.name, other.id, interface.name
                ),
                "sipguard apply",
            )
        })
    });
    xdp(host).into_iter().chain(before).collect()
}

fn xdp(host: &Host) -> Vec<Finding> {
    let (Ok(policy), Ok(live)) = (&host.policy, &host.live) else {
        return Vec::new();
    };
    let ours = live.as_ref().map_or(&[][..], |live| &live.links);
    policy
        .interfaces
        .iter()
        // At TC ingress, ours gets what an XDP program lets pass.
        .filter(|interface| interface.mode != AttachMode::Tc)
        .filter_map(|interface| {
            host.devices
                .iter()
                .find(|device| device.name == interface.name)
        })
        .filter_map(|device| {
            let id = datapath::foreign(device, ours)?;
            let foreign = device.xdp.iter().find(|attached| attached.program == id)?;
            let hook = match foreign.hook {
                Hook::Native => "xdpdrv",
                Hook::Offloaded => "xdpoffload",
                Hook::Generic | Hook::Tc => "xdpgeneric",
            };
            Some(wrong(
                format!(
                    "the XDP program {} (id {id}) is on {} and is not sipguard's; end what attached it, or take it off",
                    datapath::program_name(id),
                    device.name
                ),
                format!("ip link set dev {} {hook} off", device.name),
            ))
        })
        .collect()
}
