//! Whether what is attached runs: a driver can forget a program and go on naming it, or take one and never run it.

use crate::datapath::{Proof, proofs};

use super::{Evidence, Finding, Kind};

pub(super) const FINDS: &[Kind] = &[Kind::ProgramDoesNotRun];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let attached: Vec<_> = evidence
        .interfaces
        .iter()
        .filter_map(|interface| {
            let name = interface.renamed.as_ref().unwrap_or(&interface.name);
            let device = evidence.devices.iter().find(|it| it.name == *name)?;
            Some((name, (device, interface.program?)))
        })
        .collect();
    let programs: Vec<_> = attached.iter().map(|&(_, program)| program).collect();
    // A kernel that does not count, before 5.8, proves nothing.
    let proofs = proofs(&programs, evidence.trust, evidence.now.boot_ns).unwrap_or_default();
    attached
        .iter()
        .zip(proofs)
        .filter_map(|((name, _), proof)| {
            let runs = match proof {
                Proof::Blind => "does not run: nothing is filtered",
                Proof::Partly => "does not run for all of them: some are not filtered",
                Proof::Runs | Proof::Quiet => return None,
            };
            let about =
                format!("packets arrive at {name}, and the program that is attached there {runs}");
            Some(
                Kind::ProgramDoesNotRun
                    .open(about, "sipguard repair")
                    .on(name),
            )
        })
        .collect()
}
