//! Names, in DNS. Each name is looked up for A and for AAAA records apart: one family may fail alone, and what failed changes nothing.

mod find;
mod merge;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use sipguard_lists::{
    address,
    found::{Family, Lookup},
    name::Name,
    said::Said,
    task::{Dns, Names, Tasks},
};

use self::find::Found;
use super::{Answer, Before, Entries, Kind};
use crate::dns::{self, Anchors, Resolver};

/// No answer is good for longer, whatever it says of itself, in seconds.
const MAX_TTL: u32 = 60 * 60;
/// How long all names of a source may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// The names of a source, and whom to ask.
pub(super) struct InDns {
    names: Names,
    dns: Dns,
    guarded: Arc<BTreeSet<u16>>,
}

impl InDns {
    pub(super) fn new(names: &Names, tasks: &Tasks) -> Self {
        Self {
            names: names.clone(),
            dns: tasks.dns.clone(),
            guarded: Arc::new(tasks.guarded_ports.clone()),
        }
    }

    async fn find(&self, anchors: Option<&Anchors>) -> Vec<Found> {
        let servers = if self.dns.servers.is_empty() {
            dns::of_the_system()
        } else {
            self.dns.servers.clone()
        };
        let resolver = Resolver::new(&servers, &self.guarded, anchors);
        let mut all = Vec::new();
        for name in &self.names.names {
            all.extend(find::find(&resolver, name).await);
        }
        all
    }
}

impl Kind for InDns {
    fn ask(&mut self, before: &Before, now: Timestamp) -> Answer {
        let found = || -> Result<Vec<Found>, String> {
            let anchors = || Anchors::read(self.dns.trust_anchor.as_deref());
            let anchors = self.dns.dnssec.then(anchors).transpose()?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            runtime.block_on(async {
                tokio::time::timeout(PATIENCE, self.find(anchors.as_ref()))
                    .await
                    .map_err(|_| format!("not done within {} s", PATIENCE.as_secs()))
            })
        };
        let mut found = found().unwrap_or_else(|error| {
            let both =
                |name: &Name| find::BOTH.map(|family| Found::failed(name, family, error.clone()));
            self.names.names.iter().flat_map(both).collect()
        });
        for found in &mut found {
            found.leave_out(self.names.private);
        }
        let ttls = found.iter().map(|found| found.ttl);
        let good = ttls.min().unwrap_or_default().min(MAX_TTL);
        let lookups = found
            .iter()
            .map(|found| lookup(found, before, now))
            .collect();
        // It was read a moment ago.
        let known = before.entries().unwrap_or_default();
        Answer {
            answered: found.iter().any(Found::is_answer),
            lookups,
            error: error(&found),
            entries: Entries::All(merge::merge(&self.names, &known, &found, now)),
            ..Answer::good_for(Duration::from_secs(good.into()))
        }
    }
}

impl Found {
    /// Leaves out addresses that no name may have, and says so.
    fn leave_out(&mut self, private: bool) {
        let wrong = |address: &IpAddr| {
            let own = || is_own(*address).then_some("an address of this host");
            address::refused(*address, private).or_else(own)
        };
        for address in self.addresses.clone() {
            if let Some(what) = wrong(&address) {
                self.addresses.remove(&address);
                self.said
                    .get_or_insert_with(|| format!("{address} is left out, {what}"));
            }
        }
    }

    /// Whether the other side said anything.
    fn is_answer(&self) -> bool {
        self.failed.is_none() || !self.addresses.is_empty()
    }
}

/// Whether this host has an address: it is its own neighbour then. Nothing is sent.
fn is_own(address: IpAddr) -> bool {
    let local = || {
        let any: IpAddr = match address {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        // The discard port; any would do.
        socket.connect((address, 9))?;
        socket.local_addr()
    };
    local().is_ok_and(|local: SocketAddr| local.ip() == address)
}

fn lookup(found: &Found, before: &Before, now: Timestamp) -> Lookup {
    let known = before.head().into_iter().flat_map(|head| &head.lookups);
    let before = known
        .filter(|lookup| lookup.name == found.name && lookup.family == found.family)
        .find_map(|lookup| lookup.answered);
    Lookup {
        name: found.name.clone(),
        family: found.family,
        answered: match found.failed {
            None => Some(now),
            // The clock may have been set back.
            Some(_) => before.map(|before| before.min(now)),
        },
        said: found.failed.clone().or_else(|| found.said.clone()),
    }
}

/// The first failure, and how many more there are.
fn error(found: &[Found]) -> Option<String> {
    let mut failed = found.iter().filter(|found| found.failed.is_some());
    let first = failed.next()?;
    let records = match first.family {
        Family::Ipv4 => "A",
        Family::Ipv6 => "AAAA",
    };
    let more = match failed.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let why = first.failed.as_deref().unwrap_or_default();
    let name = first.name.to_string();
    Some(format!("{} {records}: {why}{more}", Said(&name)))
}
