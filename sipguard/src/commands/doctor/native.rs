//! Whether packets are filtered in the driver where it could do that: MTU, offloads and queues are what keeps most drivers from it.

use sipguard::device::Hook;

use super::{Finding, Host, advice};

/// What every driver with native XDP takes.
const MTU: u32 = 1500;

pub(super) fn check(host: &Host) -> Vec<Finding> {
    host.interfaces
        .iter()
        .filter(|interface| interface.mode == Some(Hook::Tc))
        .filter_map(|interface| {
            let name = &interface.name;
            let cause = interface.cause.as_deref()?;
            let device = host.devices.iter().find(|device| device.name == *name)?;
            let setting = if cause.contains("receive queues") {
                format!("ethtool -L {name} rx {}", device.queues)
            } else if cause.contains("MTU") && device.mtu > MTU {
                format!("ip link set dev {name} mtu {MTU}")
            } else if cause.contains("present settings") {
                format!("ethtool -K {name} lro off rx-gro-hw off")
            } else {
                // The driver can't, whatever its settings.
                return None;
            };
            Some(advice(
                format!("{name} is filtered behind its driver, which costs more: {cause}"),
                // An apply keeps the place of what is attached.
                format!("{setting} && sipguard down && sipguard apply"),
            ))
        })
        .collect()
}
