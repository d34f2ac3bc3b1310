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
    gateway.copy(&newer.file)?;
    // The same policy would not be loaded anew: the package's program is the one that runs.
    gateway.put(&config::longer())?;
    let before = generation(gateway)?;
    reach::hear_anew(gateway)?;

    let parties = [(&SCANNER, KNOCK), (&PROVIDER, PATIENCE)];
    let ((), [scanner, provider]) = traffic::during(parties, || {
        gateway.run(&format!(
            "DEBIAN_FRONTEND=noninteractive apt-get -qq install /home/admin/{}",
            newer.name
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
    file: PathBuf,
    name: String,
    version: String,
}

/// The same package under a higher version number.
fn newer(packages: &Path) -> Result<Newer> {
    let mut files = fs::read_dir(packages)?.filter_map(|entry| Some(entry.ok()?.path()));
    let package = files
        .find(|file| file.extension().is_some_and(|it| it == "deb"))
        .context("there is no package")?;
    let tree = Path::new(netns::SCRATCH).join("newer");
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
    let version = format!("{old}+newer");
    let text = text.replace(
        &format!("Version: {old}\n"),
        &format!("Version: {version}\n"),
    );
    fs::write(&control, text)?;
    let name = format!("sipguard_{version}.deb");
    let file = Path::new(netns::SCRATCH).join(&name);
    machine::said(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .arg(&tree)
            .arg(&file),
    )?;
    Ok(Newer {
        file,
        name,
        version,
    })
}
