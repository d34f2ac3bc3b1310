//! Whether what is attached runs: a driver can forget a program and go on naming it, or take one and never run it.

use sipguard::datapath::{Proof, watch};

use super::{Finding, Host, wrong};

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let attached: Vec<_> = host
        .interfaces
        .iter()
        .filter_map(|interface| {
            let device = host.devices.iter().find(|it| it.name == interface.name)?;
            Some((&interface.name, (device.index, interface.program?)))
        })
        .collect();
    let programs: Vec<_> = attached.iter().map(|&(_, program)| program).collect();
    // A kernel that does not count, before 5.8, proves nothing.
    let proofs = watch(&programs).unwrap_or_default();
    attached
        .iter()
        .zip(proofs)
        .filter(|&(_, proof)| proof == Proof::Blind)
        .map(|((name, _), _)| {
            wrong(
                format!("packets arrive at {name}, and the program that is attached there does not run: nothing is filtered"),
                "sipguard repair",
            )
        })
        .collect()
}
