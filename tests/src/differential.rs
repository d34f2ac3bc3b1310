//! The Linux stack as oracle: what a stack without the filter delivers is what a stack with it must deliver, except to guarded ports
//! from unlisted sources, where nothing may be.
//!
//! Two worlds get the same frames. Each is a receiver with open and closed ports and the cable to it; only one of them is guarded. A
//! datagram counts as delivered when a socket has it, a TCP segment when the receiver answers it.

mod case;
mod change;
mod mutation;
mod world;

use std::{net::IpAddr, path::Path};

use ipnet::IpNet;
use sipguard::config;

pub use self::{
    case::Case,
    mutation::Mutation,
    world::{Delivery, FRAMES, Transport, World},
};
use crate::compiled::Compiled;

/// The config of the guarded world.
pub const CONFIG: &str = r#"
interfaces = ["eth0"]

[sources]
listed = ["100.64.0.0/10", "2001:db8:100::/48"]

[services.sip]
udp = [5060, 5061]
tcp = [5060, 5061]
allow = ["listed"]

[services.web]
udp = [80]
tcp = [80]
"#;

/// Guarded ports; `listed` may reach those of the first service only.
pub const GUARDED: [u16; 3] = [5060, 5061, 80];
/// Ports that nobody guards.
pub const OTHERS: [u16; 2] = [6000, 6001];
/// The ones of both that something listens on.
pub const OPEN: [u16; 3] = [5060, 80, 6000];

/// Whether [`CONFIG`] forbids this source to reach this port; from its text, by hand.
#[must_use]
pub fn forbidden(source: IpAddr, port: u16) -> bool {
    let listed = ["100.64.0.0/10", "2001:db8:100::/48"].iter().any(|prefix| {
        let prefix: IpNet = prefix.parse().expect("a prefix");
        prefix.contains(&source)
    });
    match port {
        5060 | 5061 => !listed,
        80 => true,
        _ => false,
    }
}

/// [`CONFIG`] on this host.
#[must_use]
pub fn compiled() -> Compiled {
    let policy = config::parse(CONFIG, Path::new("differential.toml"));
    Compiled::new(policy.unwrap_or_else(|problems| panic!("{problems}")), &[])
}
