//! `cargo xtask deploy`: sipguard and its config on gateways, or on none of them what they did not have.
//!
//! What changes a host is a script that runs there (`deploy/transaction.sh`) and takes everything back by itself once it has not heard of us
//! for a while. Here is what goes on in its order: look, copy, install, apply with commit-confirm, look again, confirm.

mod address;
mod archive;
mod facts;
mod fleet;
mod judgement;
mod payload;
mod results;
mod ssh;
mod steps;
pub(crate) mod undeploy;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

pub(crate) use fleet::Fleet;
use payload::{Config, Package};
use steps::Host;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    fleet: Fleet,
    /// The config for all hosts, but for those that have their own in hosts/NAME.toml beside it (NAME as in --host). Without it they keep theirs
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long a host waits for the next word from here before it takes itself back
    #[arg(long, value_name = "SECONDS", default_value = "60s", value_parser = seconds)]
    confirm: Duration,
    /// Take the package from this folder, where `cargo xtask package` made it before
    #[arg(long, value_name = "FOLDER")]
    package: Option<PathBuf>,
    /// Check the hosts and show what would change; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments {
        fleet,
        config,
        confirm,
        package,
        dry_run,
    } = arguments;
    let configs = match config {
        Some(common) => fleet
            .hosts
            .iter()
            .map(|host| Config::of(host, common).map(Some))
            .collect::<Result<Vec<_>>>()?,
        None => fleet.hosts.iter().map(|_| None).collect(),
    };
    let package = Package::new(package.as_deref())?;
    fleet.each(!dry_run, |address, line| {
        let config = fleet
            .hosts
            .iter()
            .zip(&configs)
            .find(|(host, _)| *host == address)
            .and_then(|(_, config)| config.as_ref());
        let host = Host {
            ssh: &fleet.ssh,
            address,
            package: &package,
            config,
            patience: *confirm,
            line,
        };
        host.deploy(*dry_run)
    })
}

/// `60s`, as `sipguard apply --confirm` has it.
fn seconds(text: &str) -> Result<Duration> {
    let number = text
        .strip_suffix('s')
        .and_then(|number| number.parse().ok())
        .context("write seconds, such as 60s")?;
    ensure!(
        (5..=3600).contains(&number),
        "it should be between 5s and 3600s"
    );
    Ok(Duration::from_secs(number))
}
