//! Whether the agent can hear what the kernel tells.

use std::path::Path;

use super::{Evidence, Finding, Kind, boot};
use crate::datapath;

pub(super) const FINDS: &[Kind] = &[Kind::AgentDeaf];

const FILE: &str = "/etc/sysctl.d/52-sipguard-agent.conf";
const UNIT: &str = "sipguard-agent.service";
/// What systemd has where the unit runs, by whomever it was started.
const RUNS: &str = "/sys/fs/cgroup/system.slice/sipguard-agent.service";

pub(super) fn check(_: &Evidence) -> Vec<Finding> {
    // Whoever runs the agent by hand has all rights, and hears.
    if !boot::is_enabled(UNIT) && !Path::new(RUNS).exists() {
        return Vec::new();
    }
    let refused = datapath::services_are_refused().map(|value| {
        let about = format!(
            "{UNIT} hears nothing of who knocks, nor of a provider that has moved: kernel.perf_event_paranoid is {value}, with which this kernel lets \
             no service listen"
        );
        let mend = format!("echo 'kernel.perf_event_paranoid = 2' > {FILE} && sysctl -p {FILE}");
        Kind::AgentDeaf.wrong(about, mend)
    });
    refused.into_iter().collect()
}
