//! etcd, in the versions that clusters have. They are not installed: a server would run from then on, to which anybody on the machine may write.

use std::fs;

use anyhow::{Context as _, Result};

use super::suite::Suite;
use crate::machine;

const FOLDER: &str = "target/tools/etcd";
/// Debian's releases with etcd 3.4 and 3.5.
const SUITES: [&str; 2] = ["bookworm", "trixie"];
const PACKAGES: [&str; 2] = ["etcd-server", "etcd-client"];

/// Unpacks what is missing, a folder for each release.
pub(super) fn ensure() -> Result<()> {
    for name in SUITES {
        let folder = machine::workspace().join(FOLDER).join(name);
        if folder.is_dir() {
            continue;
        }
        let partial = folder.with_extension("partial");
        fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
        let suite = Suite::open(name, &partial)?;
        for package in PACKAGES {
            suite.unpack(package, &partial)?;
        }
        fs::rename(&partial, &folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    Ok(())
}
