//! Whom the system asks. Read each time: what a DHCP client writes there changes.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
};

const FILE: &str = "/etc/resolv.conf";
/// As many as the system's own resolver takes; see resolv.conf(5).
const MOST: usize = 3;

/// The servers that `/etc/resolv.conf` names; nothing else in it matters to absolute names.
pub(crate) fn of_the_system() -> Vec<IpAddr> {
    servers(fs::read_to_string(FILE))
}

fn servers(text: io::Result<String>) -> Vec<IpAddr> {
    // Where there is no such file, or it names nobody, a server on this host is meant.
    let text = text.unwrap_or_default();
    let mut servers: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next())?
        })
        .filter_map(|address| address.parse().ok())
        .take(MOST)
        .collect();
    if servers.is_empty() {
        servers.push(Ipv4Addr::LOCALHOST.into());
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_taken_and_nothing_else() {
        let text = "# nameserver 192.0.2.1\nsearch example\nnameserver 192.0.2.53\noptions edns0\n nameserver\t2001:db8::53 # why\nnameserver fe80::1%eth0\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        let found: Vec<_> = servers(Ok(text.to_owned()))
            .iter()
            .map(IpAddr::to_string)
            .collect();
        assert_eq!(found, ["192.0.2.53", "2001:db8::53", "192.0.2.3"]);
        let missing = Err(io::ErrorKind::NotFound.into());
        for text in [missing, Ok("search example\n".to_owned())] {
            assert_eq!(servers(text), [Ipv4Addr::LOCALHOST]);
        }
    }
}
