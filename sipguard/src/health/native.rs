//! Whether packets are filtered in the driver where it could do that: MTU, offloads and queues are what keeps most drivers from it.

use crate::device::{Hook, driver};

use super::{Evidence, Finding, Kind};

pub(super) const FINDS: &[Kind] = &[Kind::UnsafeDriver, Kind::BehindDriver];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = unsafe_ones(evidence);
    findings.extend(slow_ones(evidence));
    findings
}

/// Those that run natively on drivers that lose or forget something there: their settings were changed since, or nobody has applied since.
fn unsafe_ones(evidence: &Evidence) -> Vec<Finding> {
    evidence
        .interfaces
        .iter()
        .filter(|interface| interface.mode == Some(Hook::Native))
        .filter_map(|interface| {
            let name = &interface.name;
            let device = evidence
                .devices
                .iter()
                .find(|device| device.name == *name)?;
            let why = driver::unsafe_natively(device)?;
            let mend = if driver::holds_on(device) {
                let largest = driver::largest_mtu(device);
                format!("ip link set dev {name} mtu {largest} && sipguard apply")
            } else {
                "sipguard apply".to_owned()
            };
            let about = format!("{name} is filtered in its driver, and must not be: {why}");
            Some(Kind::UnsafeDriver.wrong(about, mend).on(name))
        })
        .collect()
}

/// Those that could be filtered in their drivers.
fn slow_ones(evidence: &Evidence) -> Vec<Finding> {
    evidence
        .interfaces
        .iter()
        .filter(|interface| interface.mode == Some(Hook::Tc))
        .filter_map(|interface| {
            let name = &interface.name;
            let cause = interface.cause.as_deref()?;
            let device = evidence
                .devices
                .iter()
                .find(|device| device.name == *name)?;
            let largest = driver::largest_mtu(device);
            let mut note = String::new();
            let setting = if cause.contains("receive queues") {
                format!("ethtool -L {name} rx {}", device.queues)
            } else if cause.contains("GRO_HW") && driver::offloads_are_the_hypervisors(device) {
                note.push_str("; only the hypervisor can turn these offloads off");
                "# on the hypervisor: ctrl_guest_offloads=on for this card".to_owned()
            } else if cause.contains("MTU") && device.mtu > largest {
                note = format!("; frames of up to {largest} bytes are left then");
                format!("ip link set dev {name} mtu {largest}")
            } else if cause.contains("present settings") {
                format!("ethtool -K {name} lro off rx-gro-hw off")
            } else {
                // The driver can't, whatever its settings.
                return None;
            };
            let setting = if setting.starts_with('#') {
                setting
            } else {
                // What filters now filters until the driver does.
                format!("{setting} && sipguard apply")
            };
            let about =
                format!("{name} is filtered behind its driver, which costs more: {cause}{note}");
            Some(Kind::BehindDriver.advice(about, setting).on(name))
        })
        .collect()
}
