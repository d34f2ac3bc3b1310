//! Whether the filter comes back with the machine.

use std::{fs, path::Path};

use super::{Finding, Kind, Survey};

pub(super) const FINDS: &[Kind] = &[Kind::NotEnabled];

const UNITS: &str = "/etc/systemd/system";

pub(super) fn check(survey: &Survey) -> Vec<Finding> {
    let installed = Path::new("/usr/lib/systemd/system/sipguard.service").exists();
    let systemd = Path::new("/run/systemd/system").exists();
    if !(systemd && installed) || matches!(survey.live, Ok(None)) || enabled() {
        return Vec::new();
    }
    vec![Kind::NotEnabled.wrong(
        "sipguard.service is not enabled: after a reboot nothing is filtered",
        "systemctl enable sipguard.service",
    )]
}

/// Whether some target wants it.
fn enabled() -> bool {
    let wants = fs::read_dir(UNITS).into_iter().flatten().flatten();
    wants
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "wants")
        })
        .any(|path| path.join("sipguard.service").is_symlink())
}
