//! `cargo xtask undeploy`: hosts as if sipguard had never been there.

use anyhow::Result;

use super::{
    address::Address,
    facts::{self, Deployment, TRACES},
    fleet::Fleet,
    report::{Line, Outcome},
    ssh::{Failure, Ssh},
    steps,
};

const UNDEPLOY: &str = include_str!("undeploy.sh");

pub(crate) fn run(fleet: &Fleet) -> Result<()> {
    fleet.each(true, |host, line| undeploy(&fleet.ssh, host, line))
}

fn undeploy(ssh: &Ssh, host: &Address, line: &Line<'_>) -> Outcome {
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
        return Outcome::unchanged(before.in_force());
    }
    line.step("removing");
    let removed = ssh.script(host, &format!("traces='{TRACES}'\n{UNDEPLOY}"));
    line.step("looking for what is left");
    let after = match (look(), &removed) {
        (Ok(after), _) => after,
        (Err(failure), _) => {
            return Outcome::failed(
                format!("{failure}; some of it may be removed: run it again"),
                "unknown",
            );
        }
    };
    match removed {
        Err(Failure::Said(why)) => Outcome::failed(format!("removing: {why}"), after.in_force()),
        _ if after.traces.is_empty() => Outcome::done(
            "removed: no file, no pin, no program is left",
            after.in_force(),
        ),
        _ => Outcome::failed(
            format!("left: {}", after.traces.join(" ")),
            after.in_force(),
        ),
    }
}
