//! The agent: killed, it comes back, and the filter goes on meanwhile.

use anyhow::Result;

use super::reach;
use crate::vm::gateway::Gateway;

/// Its end is no end.
pub(super) fn killed(gateway: &Gateway<'_>) -> Result<String> {
    gateway.run(
        "systemctl kill --signal=KILL sipguard-agent\n\
         tries=0\n\
         until systemctl show --property=NRestarts sipguard-agent | grep -q '=[1-9]' && systemctl is-active --quiet sipguard-agent; do\n\
         tries=$((tries + 1)); [ $tries -lt 600 ] || { systemctl status sipguard-agent; exit 1; }\n\
         sleep 0.1\n\
         done",
    )?;
    reach::as_guarded(gateway)
}
