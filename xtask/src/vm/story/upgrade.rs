//! An upgrade with apt, while listed and unlisted sources go on asking.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{config, reach};
use crate::{
    machine, netns,
    package::PACKAGES,
    vm::{
        gateway::Gateway,
        network::{PROVIDER, SCANNER},
        probe::PATIENCE,
        traffic,
    },
};

/// Short, so that many questions meet the moment of the swap; late answers are what the listener is asked about.
const KNOCK: Duration = Duration::from_millis(10);

pub(super) fn under_traffic(gateway: &Gateway<'_>, packages: &Path) -> Result<String> {
    let newer = newer(packages)?;
    for file in &newer.files {
        gateway.copy(file)?;
    }
    // The same policy would not be loaded anew: the package's program is the one that runs.
    gateway.put(&config::longer())?;
    let before = generation(gateway)?;
    reach::hear_anew(gateway)?;

    let parties = [(&SCANNER, KNOCK), (&PROVIDER, PATIENCE)];
    let ((), [scanner, provider]) = traffic::during(parties, || {
        gateway.run(&format!(
            "DEBIAN_FRONTEND=noninteractive apt-get -qq install /home/admin/*_{}.deb",
            newer.version
        ))?;
        Ok(())
    })?;

    let version = gateway.run("dpkg-query --show --showformat='${Version}' sipguard")?;
    ensure!(version == newer.version, "the gateway has {version}");
    let after = generation(gateway)?;
    ensure!(before != after, "nothing was swapped: {after}");
    ensure!(
        scanner.arrived == 0,
        "{} of {} unlisted questions arrived",
        scanner.arrived,
        scanner.asked
    );
    reach::nobody_unlisted_was_heard(gateway)?;
    ensure!(
        provider.arrived == provider.asked,
        "{} of {} listed questions were answered",
        provider.arrived,
        provider.asked
    );
    Ok(format!(
        "to {version}; {} unlisted questions: nothing; {} listed: answers",
        scanner.asked, provider.asked
    ))
}

fn generation(gateway: &Gateway<'_>) -> Result<String> {
    let listed = gateway.run("ls /sys/fs/bpf/sipguard/generations")?;
    Ok(listed.split_whitespace().collect::<Vec<_>>().join(" "))
}

struct Newer {
    files: Vec<PathBuf>,
    version: String,
}

/// The same packages under a higher version number.
fn newer(packages: &Path) -> Result<Newer> {
    let mut newer = Newer {
        files: Vec::new(),
        version: String::new(),
    };
    for name in PACKAGES {
        let mut files = fs::read_dir(packages)?.filter_map(|entry| Some(entry.ok()?.path()));
        let package = files
            .find(|file| {
                let file = file.file_name().unwrap_or_default().to_string_lossy();
                file.ends_with(".deb") && file.split('_').next() == Some(name)
            })
            .with_context(|| format!("there is no package {name}"))?;
        let tree = Path::new(netns::SCRATCH).join(format!("newer-{name}"));
        machine::said(
            Command::new("dpkg-deb")
                .arg("--raw-extract")
                .arg(package)
                .arg(&tree),
        )?;
        let control = tree.join("DEBIAN/control");
        let text = fs::read_to_string(&control)?;
        let old = text
            .lines()
            .find_map(|line| line.strip_prefix("Version: "))
            .context("a package without a version")?;
        newer.version = format!("{old}+newer");
        let version = &newer.version;
        // The second one depends on just this version of the first one.
        let text = text
            .replace(
                &format!("Version: {old}\n"),
                &format!("Version: {version}\n"),
            )
            .replace(&format!("(= {old})"), &format!("(= {version})"));
        fs::write(&control, text)?;
        let file = Path::new(netns::SCRATCH).join(format!("{name}_{version}.deb"));
        machine::said(
            Command::new("dpkg-deb")
                .args(["--root-owner-group", "--build"])
                .arg(&tree)
                .arg(&file),
        )?;
        newer.files.push(file);
    }
    Ok(newer)
}
