//! Whether the filter comes back with the machine, and all that was said of it.

use std::{fs, path::Path};

use super::{Evidence, Finding, Kind};

pub(super) const FINDS: &[Kind] = &[Kind::NotEnabled, Kind::StateNotOnDisk];

const UNITS: &str = "/etc/systemd/system";

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    not_enabled(evidence)
        .into_iter()
        .chain(not_on_disk(evidence))
        .collect()
}

fn not_enabled(evidence: &Evidence) -> Option<Finding> {
    let installed = Path::new("/usr/lib/systemd/system/sipguard.service").exists();
    let systemd = Path::new("/run/systemd/system").exists();
    if !(systemd && installed)
        || matches!(evidence.live, Ok(None))
        || is_enabled("sipguard.service")
    {
        return None;
    }
    Some(Kind::NotEnabled.wrong(
        "sipguard.service is not enabled: after a reboot nothing is filtered",
        "systemctl enable sipguard.service",
    ))
}

fn not_on_disk(evidence: &Evidence) -> Option<Finding> {
    let why = evidence.unsaved.as_ref()?;
    let about = format!("what the command line added does not survive a restart: {why}");
    // Whatever changes something writes it, if it can, and says why it can't.
    Some(Kind::StateNotOnDisk.wrong(about, evidence.apply()))
}

/// Whether some target wants a unit.
pub(super) fn is_enabled(unit: &str) -> bool {
    let wants = fs::read_dir(UNITS).into_iter().flatten().flatten();
    wants
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "wants")
        })
        .any(|path| path.join(unit).is_symlink())
}
