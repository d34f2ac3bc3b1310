//! `cargo xtask demo`: a gateway, its provider and a scanner, before and after `sipguard apply`.

mod attempts;
mod burst;
mod business;
mod capture;
mod checklist;
mod guard;
pub(crate) mod media;
pub(crate) mod network;
pub(crate) mod sip;
mod web;

use std::{env, process::Command};

use anstream::println;
use anyhow::{Result, ensure};
use clap::Args;

use crate::{
    machine,
    netns::{self, Sandbox},
    setup::{self, Purpose},
};
use attempts::Expected;
use capture::Capture;
use checklist::{Check, Checklist};
use media::Media;
use network::Network;

#[derive(Args)]
pub(crate) struct Arguments {
    /// All is set up and built: what the demo says to itself, as root, with the programs that it may use
    #[arg(long, hide = true)]
    built: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.built {
        setup::run(&[Purpose::Demo])?;
        build()?;
        // sudo has a `PATH` of its own.
        let mut again = machine::as_root("env")?;
        again
            .arg(machine::variable("PATH", &setup::path(Purpose::Demo)?))
            .arg(env::current_exe()?)
            .args(["demo", "--built"]);
        ensure!(again.status()?.success(), "the demo failed");
        return Ok(());
    }
    let possible = Command::new("unshare")
        .args(["--mount", "--net", "true"])
        .status()?;
    ensure!(
        possible.success(),
        "namespaces can't be made here, not even by root: a container needs --privileged"
    );
    netns::sandbox(show)
}

/// Builds the command as it is shipped.
pub(crate) fn build() -> Result<()> {
    machine::build(
        machine::workspace(),
        &["--release", "--package", "sipguard"],
    )
}

/// Needs no end: whatever the demo makes on this machine is gone with its process.
fn show(sandbox: &Sandbox) -> Result<()> {
    let network = Network::new(sandbox)?;
    let gateway = &network.gateway;
    introduce(&network);
    let mut checklist = Checklist::new();
    let _serving = sip::serve(&gateway.host, gateway.addresses);
    web::serve(&gateway.host)?;

    checklist::title("Without sipguard, the scanner gets");
    checklist.checks(attempts::all(&network, Expected::Found));

    let cable = Capture::start(&network.internet, gateway.uplink, guard::PORTS);
    cable.settle()?;
    let rows = guard::rows(&network, &cable)?;
    let media = Media::start(gateway, &[&network.provider, &network.scanner])?;

    checklist::command("sipguard apply", || {
        guard::sipguard(&gateway.host, &["apply"])
    })?;

    checklist::title("With sipguard, the scanner gets");
    checklist.checks(attempts::all(&network, Expected::Nothing));
    checklist.checks(vec![Check::new("a burst at all guarded ports", || {
        let sent = burst::send(&network)?;
        cable.settle()?;
        let seen = cable.count(burst::FILTER)?.packets;
        let found = format!("{sent} sent, tcpdump saw {seen}");
        ensure!(seen == sent, found);
        Ok(found)
    })]);

    checklist::title("Everything else goes on");
    checklist.checks(business::all(&network));
    checklist.checks(vec![Check::new("RTP both ways, all the time", || {
        media.end()
    })]);

    cable.settle()?;
    checklist::title(
        "Packets to guarded ports: tcpdump on the gateway's cable, and `sipguard stats`",
    );
    checklist.checks(guard::compare(&gateway.host, rows, &cable)?);
    cable.end()?;
    checklist.end()
}

fn introduce(network: &Network) {
    println!("Three hosts, and an internet that routes between them:");
    for (site, role) in [
        (
            &network.gateway,
            "takes calls on 5060, UDP and TCP; a web page on 80",
        ),
        (&network.provider, "listed in the gateway's sipguard.toml"),
        (&network.scanner, "not listed"),
    ] {
        let [v4, v6] = site.addresses;
        println!("  {:<10} {v4:<14} {v6:<14} {role}", site.uplink);
    }
}
