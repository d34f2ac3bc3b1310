//! The addresses of a URL's host. The C library is not asked for them: this program is linked statically, and to do so it would load others,
//! of another version perhaps.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use domain::base::{Name as WireName, Rtype};
use sipguard_lists::task::Tasks;
use ureq::{
    Error, Timeout,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{self, ResolvedSocketAddrs},
        transport::NextTimeout,
    },
};

use super::PATIENCE;
use crate::dns::{self, Data, DomainName};

const HOSTS: &str = "/etc/hosts";
/// As many as are tried.
const MOST: usize = 16;

/// Looks hosts up: `localhost` is this one, then comes `/etc/hosts`, then DNS, as names in sources do.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    servers: Vec<IpAddr>,
    guarded: Arc<BTreeSet<u16>>,
}

impl Resolver {
    /// Asks whom names in sources are asked of.
    pub(crate) fn new(tasks: &Tasks) -> Self {
        Self {
            servers: tasks.dns.servers.clone(),
            guarded: Arc::new(tasks.guarded_ports.clone()),
        }
    }

    /// IPv4 first. It waits in a runtime of its own.
    pub(crate) fn addresses(&self, host: &str, patience: Duration) -> Result<Vec<IpAddr>, Error> {
        // An IPv6 address stands in brackets there.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let host = host.trim_end_matches('.');
        // Lists from there may come in the plain, so that nothing may lead it elsewhere.
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        // Where there is no such file, DNS knows.
        let written = written(&fs::read_to_string(HOSTS).unwrap_or_default(), host);
        if !written.is_empty() {
            return Ok(written);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            tokio::time::timeout(patience, self.ask(host))
                .await
                .map_err(|_| Error::Timeout(Timeout::Resolve))?
        })
    }

    /// What either family has is enough, IPv4 first: it is the one that works where one of both does not.
    async fn ask(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        let name: DomainName = WireName::vec_from_str(host).map_err(|_| Error::HostNotFound)?;
        let servers = if self.servers.is_empty() {
            dns::of_the_system()
        } else {
            self.servers.clone()
        };
        let resolver = dns::Resolver::new(&servers, &self.guarded, None);
        let mut addresses = Vec::new();
        let mut failed = None;
        for family in [Rtype::A, Rtype::AAAA] {
            match resolver.ask(&name, family).await {
                Ok(answer) => addresses.extend(answer.records.iter().filter_map(address)),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            _ if !addresses.is_empty() => Ok(addresses),
            Some(error) => Err(Error::Other(format!("{host}: {error}").into())),
            None => Err(Error::HostNotFound),
        }
    }
}

impl resolver::Resolver for Resolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let port = match (uri.port_u16(), uri.scheme_str()) {
            (Some(port), _) => port,
            (None, Some("https")) => 443,
            (None, _) => 80,
        };
        let patience = if timeout.after.is_not_happening() {
            PATIENCE
        } else {
            *timeout.after
        };
        let addresses = self.addresses(host, patience)?;
        let all = addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, port));
        let all: Vec<_> = all.collect();
        let mut wanted = self.empty();
        for address in config.ip_family().keep_wanted(all.into_iter()).take(MOST) {
            wanted.push(address);
        }
        if wanted.is_empty() {
            return Err(Error::HostNotFound);
        }
        Ok(wanted)
    }
}

fn address(data: &Data) -> Option<IpAddr> {
    match data {
        Data::Address(address) => Some(*address),
        _ => None,
    }
}

/// What hosts(5) says of a host.
fn written(text: &str, host: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let said = line.split('#').next()?;
            let mut words = said.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words
                .any(|name| name.eq_ignore_ascii_case(host))
                .then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_the_addresses_that_are_written_down() {
        let text = "# 192.0.2.1 lapi\n127.0.0.1\tlocalhost\n192.0.2.7 lapi.internal LAPI # feeds\n\
                    192.0.2.8 other\n\nnonsense lapi\n2001:db8::7 lapi\nfe80::1%eth0 lapi\n";
        let found = |host: &str| {
            let found = written(text, host);
            found.iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found("lapi"), ["192.0.2.7", "2001:db8::7"]);
        assert_eq!(found("Lapi.Internal"), ["192.0.2.7"]);
        assert!(found("feeds").is_empty() && found("lap").is_empty());
    }

    #[test]
    fn addresses_and_this_host_are_asked_of_nobody() {
        // Nobody answers there.
        let resolver = Resolver {
            servers: vec![Ipv4Addr::new(127, 0, 0, 254).into()],
            guarded: Arc::default(),
        };
        let found = |host: &str| {
            let found = resolver.addresses(host, PATIENCE).unwrap();
            found.iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found("192.0.2.7"), ["192.0.2.7"]);
        assert_eq!(found("[2001:db8::7]"), ["2001:db8::7"]);
        assert_eq!(found("LocalHost."), ["127.0.0.1", "::1"]);
    }
}
