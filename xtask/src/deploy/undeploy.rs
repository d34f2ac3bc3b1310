//! `cargo xtask undeploy`: hosts as if sipguard had never been there.

use anyhow::Result;

use super::{
    address::Address,
    facts::{self, Deployment, TRACES},
    fleet::Fleet,
    results::{HostResult, Line},
    ssh::{Failure, Ssh},
    steps,
};

const UNDEPLOY: &str = include_str!("undeploy.sh");

pub(crate) fn run(fleet: &Fleet) -> Result<()> {
    fleet.each(true, |host, line| undeploy(&fleet.ssh, host, line))
}

fn undeploy(ssh: &Ssh, host: &Address, line: &Line<'_>) -> HostResult {
    line.step("checking");
    // Which version it is does not matter.
    let look = || facts::look(ssh, host, "");
    let before = match look() {
        Ok(facts) => facts,
        Err(failure) => return steps::not_begun(&failure),
    };
    if before.deployment == Some(Deployment::Underway) {
        return steps::nothing_changed(
            "another deployment is at work there: try again in a minute",
            &before,
        );
    }
    if before.traces.is_empty() {
        return HostResult::unchanged(before.in_force());
    }
    line.step("removing");
    let removed = ssh.script(host, &format!("traces='{TRACES}'\n{UNDEPLOY}"));
    line.step("looking for what is left");
    let after = match (look(), &removed) {
        (Ok(after), _) => after,
        (Err(failure), _) => {
            return HostResult::failed(
                format!("{failure}; some of it may be removed: run it again"),
                "unknown",
            );
        }
    };
    match removed {
        Err(Failure::Said(why)) => HostResult::failed(format!("removing: {why}"), after.in_force()),
        _ if after.traces.is_empty() => HostResult::done(
            "removed: no file, no pin, no program is left",
            after.in_force(),
        ),
        _ => HostResult::failed(
            format!("left: {}", after.traces.join(" ")),
            after.in_force(),
        ),
    }
}
