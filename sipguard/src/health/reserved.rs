//! Guarded ports that an outgoing connection may get as its own, whose answers would then be dropped.

use crate::warnings::{self, Ephemeral};

use super::{Evidence, Finding, Kind};
use crate::prose::joined;

pub(super) const FINDS: &[Kind] = &[Kind::PortNotReserved];

/// Stands in for the package's, which reserves the default ports.
const FILE: &str = "/etc/sysctl.d/50-sipguard.conf";

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let guarding = evidence.policy.as_ref().ok();
    let guarding = guarding.filter(|policy| !policy.interfaces.is_empty());
    let Some(Ephemeral { ports, reserve }) = guarding.and_then(warnings::ephemeral) else {
        return Vec::new();
    };
    vec![Kind::PortNotReserved.wrong(
        format!(
            "an outgoing connection may get a guarded port as its own, and then its answers are dropped: {} is not reserved",
            joined(ports)
        ),
        format!("echo 'net.ipv4.ip_local_reserved_ports = {reserve}' > {FILE} && sysctl -p {FILE}"),
    )]
}
