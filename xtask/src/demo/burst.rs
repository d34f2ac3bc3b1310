//! A scanner in a hurry, that knows how much it sent.

use std::{net::UdpSocket, thread, time::Duration};

use anyhow::Result;

use super::network::Network;

/// Tells these datagrams from the other tools', in tcpdump's words.
pub(super) const FILTER: &str = "udp and src port 40000";
const SOURCE_PORT: u16 = 40_000;

const PORTS: [u16; 4] = [5060, 5061, 50600, 80];
const ROUNDS: u64 = 250;
/// After each round, because no cable holds more than 256 packets.
const PAUSE: Duration = Duration::from_millis(1);

/// Sends datagrams to every guarded port over IPv4 and IPv6, and says how many.
pub(super) fn send(network: &Network) -> Result<u64> {
    let scanner = &network.scanner;
    let mut sent = 0;
    for (from, to) in scanner.to(&network.gateway) {
        let socket = scanner
            .host
            .enter(|| UdpSocket::bind((from, SOURCE_PORT)))?;
        for _ in 0..ROUNDS {
            for port in PORTS {
                socket.send_to(b"\r\n\r\n", (to, port))?;
                sent += 1;
            }
            thread::sleep(PAUSE);
        }
    }
    Ok(sent)
}
