//! Whether somebody else's XDP program is where ours is or should be.

use sipguard::{
    datapath::{self, LinkError},
    device::Hook,
};

use super::{Finding, Host, wrong};

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let (Ok(policy), Ok(live)) = (&host.policy, &host.live) else {
        return Vec::new();
    };
    let ours = live.as_ref().map_or(&[][..], |live| &live.links);
    policy
        .interfaces
        .iter()
        .filter_map(|interface| {
            host.devices
                .iter()
                .find(|device| device.name == interface.name)
        })
        .filter_map(|device| {
            let Err(LinkError::Busy { program, id, .. }) = datapath::refuse_foreign(device, ours)
            else {
                return None;
            };
            let foreign = device.xdp.iter().find(|attached| attached.program == id)?;
            let hook = match foreign.hook {
                Hook::Native => "xdpdrv",
                Hook::Generic => "xdpgeneric",
                Hook::Offloaded => "xdpoffload",
            };
            Some(wrong(
                format!(
                    "the XDP program {program} (id {id}) is on {} and is not sipguard's; end what attached it, or take it off",
                    device.name
                ),
                format!("ip link set dev {} {hook} off", device.name),
            ))
        })
        .collect()
}
