//! dnsmasq, which answers for single records, and has no others below `example`.

use std::process::Command;

use crate::netns::{Host, Process};

/// Starts it with records, which are its options, as `host-record=sip.provider.example,203.0.113.5,60`.
pub fn dnsmasq(host: &Host, address: &str, records: &[&str]) -> Process {
    let mut command = Command::new("dnsmasq");
    command
        .args(["--keep-in-foreground", "--conf-file=/dev/null"])
        .args(["--no-resolv", "--no-hosts", "--user=root", "--pid-file="])
        .args(["--bind-interfaces", "--local=/example/"])
        .args(["--log-queries=extra", "--log-facility=-"])
        .arg(format!("--listen-address={address}"))
        .args(records.iter().map(|record| format!("--{record}")));
    let server = host.spawn(&mut command);
    host.wait_until_bound("udp", 53);
    server
}
