//! The Linux stack as oracle: what a stack without the filter delivers is what a stack with it must deliver, except to guarded ports
//! from unlisted sources, where nothing may be.
//!
//! Two worlds get the same frames. Each is a receiver with open and closed ports and the cable to it; only one of them is guarded. A
//! datagram counts as delivered when a socket has it, a TCP segment when the receiver answers it.

mod answer;
mod carrier;
mod case;
mod change;
mod delivery;
mod exempt;
mod line;
mod minimise;
mod mutation;
mod packet;
mod pieces;
pub mod ways;
mod world;

use std::path::Path;

use ipnet::IpNet;
use sipguard::config;

pub use self::{
    carrier::Carrier,
    case::Case,
    delivery::{Delivery, Transport},
    exempt::Exemption,
    minimise::{minimised, rows},
    mutation::{Mutation, Recipe},
    ways::{Way, Ways},
    world::{FRAMES, World},
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
sctp = [5060, 5061]
udplite = [5060, 5061]
allow = ["listed"]

[services.web]
udp = [80]
tcp = [80]
"#;

/// The numbers of the VLAN devices on the carrier, where the kernel has such, and of those on them.
const OUTER_VLAN: u16 = 7;
const INNER_VLAN: u16 = 8;

/// Guarded ports; `listed` may reach those of the first service only.
pub const GUARDED: [u16; 3] = [5060, 5061, 80];
/// Ports that nobody guards.
pub const OTHERS: [u16; 2] = [6000, 6001];
/// The ones of both that something listens on.
pub const OPEN: [u16; 3] = [5060, 80, 6000];

/// Whether [`CONFIG`] forbids this; from its text, by hand.
#[must_use]
pub fn forbidden(delivery: &Delivery) -> bool {
    let listed = ["100.64.0.0/10", "2001:db8:100::/48"].iter().any(|prefix| {
        let prefix: IpNet = prefix.parse().expect("a prefix");
        prefix.contains(&delivery.source)
    });
    match (delivery.transport, delivery.port) {
        (_, 5060 | 5061) => !listed,
        (Transport::Udp | Transport::Tcp, 80) => true,
        _ => false,
    }
}

/// [`CONFIG`] on this host.
#[must_use]
pub fn compiled() -> Compiled {
    let policy = config::parse(CONFIG, Path::new("differential.toml"));
    Compiled::new(policy.unwrap_or_else(|problems| panic!("{problems}")), &[])
}
