//! Services to which nobody is let in.

use super::{Evidence, Finding, Kind};
use crate::{policy::protocol_name, prose::joined, warnings::nobody_allowed};

pub(super) const FINDS: &[Kind] = &[Kind::NobodyLetIn];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let policy = evidence.policy.as_ref().ok();
    let Some(policy) = policy.filter(|policy| !policy.interfaces.is_empty()) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for service in nobody_allowed(policy, &evidence.state, evidence.now.wall) {
        let mut listening = Vec::new();
        for (&protocol, ports) in &service.ports {
            let name = protocol_name(protocol);
            let ports = ports.iter();
            let ports = ports.filter(|&&port| evidence.sockets.is_waited_on(protocol, port));
            listening.extend(ports.map(|port| format!("{name} {port}")));
        }
        let name = &service.name;
        let nobody = format!("nobody is let in to {name}, by the config or by `sipguard allow`");
        let mend = format!("sipguard allow ADDRESS --service {name}");
        let found = if listening.is_empty() {
            Kind::NobodyLetIn.advice(nobody, mend)
        } else {
            let about = format!("a program waits on {}, and {nobody}", joined(listening));
            Kind::NobodyLetIn.wrong(about, mend)
        };
        findings.push(found.of(name));
    }
    findings
}
