//! What must go on as if there were no sipguard.

use std::{net::IpAddr, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{
    checklist::Check,
    network::{Network, family},
    sip::{self, Transport},
    web,
};
use crate::netns::Host;

/// Over each protocol: at 25 a second, done in a little more than two seconds.
const CALLS: u64 = 50;
/// Seconds.
const CALLS_LIMIT: u64 = 20;
const PAGE_LIMIT: u64 = 5;

pub(super) fn all(network: &Network) -> Vec<Check<'_>> {
    let provider = &network.provider;
    let mut checks = Vec::new();
    for pair @ (_, to) in provider.to(&network.gateway) {
        let family = family(to);
        for transport in Transport::ALL {
            checks.push(Check::new(
                format!("provider's calls, {}, {family}", transport.name()),
                move || calls(network, pair, transport),
            ));
        }
        checks.push(Check::new(
            format!("provider's web page, {family}"),
            move || web::fetch(&provider.host, to, PAGE_LIMIT)?.context("no connection"),
        ));
        checks.push(Check::new(format!("ping, {family}"), move || {
            ping(&provider.host, to)
        }));
    }
    checks.push(Check::new("neighbours (ARP, ND)", || {
        Ok(network.rediscover())
    }));
    checks
}

fn calls(network: &Network, pair: (IpAddr, IpAddr), transport: Transport) -> Result<String> {
    let calls = sip::call(&network.provider.host, pair, transport, CALLS, CALLS_LIMIT)?;
    let found = format!(
        "{} completed, {} retransmissions",
        calls.completed, calls.retransmissions
    );
    ensure!(
        calls.completed == CALLS && calls.retransmissions == 0,
        found
    );
    Ok(found)
}

fn ping(host: &Host, address: IpAddr) -> Result<String> {
    let ping = host.run(
        Command::new("ping")
            .args(["-n", "-q", "-c", "20", "-i", "0.1"])
            .arg(address.to_string()),
    );
    // 20 packets transmitted, 20 received, 0% packet loss, time 1924ms
    let sums = ping
        .stdout
        .lines()
        .find(|line| line.contains(" received"))
        .unwrap_or_default();
    let found: Vec<&str> = sums.split(", ").take(2).collect();
    ensure!(sums.contains(" 0% packet loss"), "{sums}{}", ping.stderr);
    Ok(found.join(", "))
}
