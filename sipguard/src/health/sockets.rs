//! The sockets of this network namespace: which ports programs wait on, and whom they talk to.

use std::{collections::BTreeSet, fs, net::IpAddr};

use sipguard_ebpf::abi::Protocol;

use crate::device;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// What is waited on, for more than this host.
    waiting: BTreeSet<(Protocol, u16)>,
    /// UDP sockets that talk to one peer alone.
    pub(super) talks: BTreeSet<Talk>,
}

/// Somebody whom this host talks to, and from which port of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Talk {
    pub(super) with: IpAddr,
    pub(super) protocol: Protocol,
    pub(super) from: u16,
}

/// A line of the kernel's tables of sockets.
struct Line {
    own: (IpAddr, u16),
    other: (IpAddr, u16),
    state: String,
}

impl Sockets {
    /// Asks the kernel. SCTP has no such table.
    pub(super) fn look() -> Self {
        let mut sockets = Self::default();
        for line in lines(["udp", "udp6"]) {
            let ((own, from), (with, port)) = (line.own, line.other);
            // A socket that talks to one peer waits for nobody.
            if port == 0 {
                sockets.wait_on(Protocol::Udp, own, from);
            } else if !with.is_unspecified() {
                sockets.talks.insert(Talk {
                    with: with.to_canonical(),
                    protocol: Protocol::Udp,
                    from,
                });
            }
        }
        // The table of TCP has all connections in it, and takes a millisecond where there are none: the kernel goes through as much memory as it
        // has set aside for them.
        if let Ok(listening) = device::listening() {
            for (address, port) in listening {
                sockets.wait_on(Protocol::Tcp, address, port);
            }
        } else {
            // A kernel without `INET_DIAG`.
            const LISTEN: &str = "0A";
            for line in lines(["tcp", "tcp6"]).filter(|line| line.state == LISTEN) {
                sockets.wait_on(Protocol::Tcp, line.own.0, line.own.1);
            }
        }
        sockets
    }

    fn wait_on(&mut self, protocol: Protocol, address: IpAddr, port: u16) {
        if !address.is_loopback() {
            self.waiting.insert((protocol, port));
        }
    }

    /// Whether a program waits on a port.
    pub(super) fn is_waited_on(&self, protocol: Protocol, port: u16) -> bool {
        self.waiting.contains(&(protocol, port))
    }
}

fn lines(tables: [&str; 2]) -> impl Iterator<Item = Line> {
    let tables = tables.map(|table| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}"));
        text.unwrap_or_default()
            .lines()
            .skip(1)
            .filter_map(line)
            .collect::<Vec<_>>()
    });
    tables.into_iter().flatten()
}

/// One socket: number, local address, remote address, state (net/ipv4/udp.c, net/ipv6/udp.c, net/ipv4/tcp_ipv4.c).
fn line(text: &str) -> Option<Line> {
    let mut columns = text.split_whitespace().skip(1);
    Some(Line {
        own: end(columns.next()?)?,
        other: end(columns.next()?)?,
        state: columns.next()?.to_owned(),
    })
}

/// An address and port as those tables have them: words of four bytes, each as the machine reads it, then the port.
fn end(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for place in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(place..place + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some((address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        // The table is written as this machine reads words.
        if cfg!(target_endian = "little") {
            let found = line("  12: 0100000A:13C4 057100CB:13C4 01 …").unwrap();
            assert_eq!(found.own, (IpAddr::from([10, 0, 0, 1]), 5060));
            assert_eq!(found.other, (IpAddr::from([203, 0, 113, 5]), 5060));
            assert_eq!(found.state, "01");
            let one = "00000000000000000000000001000000:0050";
            assert!(end(one).unwrap().0.is_loopback());
        }
        assert!(line("broken").is_none());
        assert!(line("  0: 00000000:0050 0000:00 0A").is_none());
    }

    #[test]
    fn only_what_waits_for_others_counts() {
        let mut sockets = Sockets::default();
        sockets.wait_on(Protocol::Udp, IpAddr::from([0, 0, 0, 0]), 5060);
        sockets.wait_on(Protocol::Tcp, IpAddr::from([127, 0, 0, 1]), 80);
        assert!(sockets.is_waited_on(Protocol::Udp, 5060));
        assert!(!sockets.is_waited_on(Protocol::Tcp, 5060));
        assert!(!sockets.is_waited_on(Protocol::Tcp, 80));
    }
}
