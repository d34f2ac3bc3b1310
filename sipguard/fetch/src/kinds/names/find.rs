//! The addresses of one name: its own, those of the hosts of its SRV records, or what RFC 3263 finds for a domain of SIP. Who may call is
//! asked for, not whom to call: all hosts of all records count, whatever their priorities, ports and weights.

use std::{collections::BTreeSet, net::IpAddr};

use domain::base::{Name as WireName, Rtype};
use sipguard_lists::{found::Family, name::Name, task::Names};

use crate::dns::{Answer, Data, DomainName, NoAnswer, Pointer, Resolver};

pub(super) const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// The services that a domain of SIP may have where no NAPTR record says it (RFC 3263, section 4.1).
const SERVICES: [&str; 3] = ["_sip._udp", "_sip._tcp", "_sips._tcp"];

/// What was found for one name and family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: Name,
    pub(super) family: Family,
    /// All of them, unless something failed.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// What failed, all or in part.
    pub(super) failed: Option<String>,
    /// What else there is to say of the answer.
    pub(super) said: Option<String>,
    /// How long it is good, in seconds.
    pub(super) ttl: u32,
}

impl Found {
    pub(super) fn failed(name: &Name, family: Family, error: String) -> Self {
        Self {
            name: name.clone(),
            family,
            addresses: BTreeSet::new(),
            failed: Some(error),
            said: None,
            ttl: u32::MAX,
        }
    }
}

/// The hosts whose addresses count.
struct Hosts {
    names: BTreeSet<DomainName>,
    /// How long that is good, in seconds.
    ttl: u32,
    /// Why there are none, where there are none.
    none: &'static str,
}

impl Hosts {
    fn add(&mut self, other: Self) {
        self.names.extend(other.names);
        self.ttl = self.ttl.min(other.ttl);
    }
}

/// Looks a name up, for both families.
pub(super) async fn find(resolver: &Resolver, name: &Name) -> [Found; 2] {
    match hosts(resolver, name).await {
        Ok(hosts) => {
            let [ipv4, ipv6] = BOTH.map(|family| addresses(resolver, name, &hosts, family));
            [ipv4.await, ipv6.await]
        }
        Err(error) => BOTH.map(|family| Found::failed(name, family, error.clone())),
    }
}

async fn hosts(resolver: &Resolver, name: &Name) -> Result<Hosts, String> {
    let domain = wire(name.domain())?;
    match name {
        Name::Host(_) => Ok(itself(domain)),
        Name::Service(_) => services(resolver, &domain).await,
        Name::Sip(_) => sip(resolver, domain).await,
    }
}

/// Names are checked when they are written, and stay within the bounds of the wire.
fn wire(name: &str) -> Result<DomainName, String> {
    WireName::vec_from_str(name).map_err(|error| error.to_string())
}

fn itself(name: DomainName) -> Hosts {
    Hosts {
        names: BTreeSet::from([name]),
        ttl: u32::MAX,
        none: "",
    }
}

/// The hosts of SRV records (RFC 2782).
async fn services(resolver: &Resolver, name: &DomainName) -> Result<Hosts, String> {
    let answer = ask(resolver, name, Rtype::SRV).await?;
    let none = match answer {
        Answer { exists: false, .. } => "there is no such name",
        _ => "it has no SRV records",
    };
    let names = answer.records.into_iter().filter_map(|data| match data {
        Data::Service(host) => host,
        _ => None,
    });
    Ok(Hosts {
        names: names.collect(),
        ttl: answer.ttl,
        none,
    })
}

/// What a domain of SIP has: NAPTR records, or else SRV records, or else addresses.
async fn sip(resolver: &Resolver, domain: DomainName) -> Result<Hosts, String> {
    let pointers = ask(resolver, &domain, Rtype::NAPTR).await?;
    let mut hosts = Hosts {
        names: BTreeSet::new(),
        ttl: pointers.ttl,
        none: "its NAPTR records lead to no host",
    };
    if !pointers.exists {
        hosts.none = "there is no such name";
        return Ok(hosts);
    }
    let mut any = false;
    for data in pointers.records {
        if let Data::Pointer(pointer) = data
            && is_sip(&pointer)
        {
            any = true;
            hosts.add(match pointer.flags[..] {
                [b's' | b'S'] => services(resolver, &pointer.replacement).await?,
                _ => itself(pointer.replacement),
            });
            few(&hosts)?;
        }
    }
    if any {
        return Ok(hosts);
    }
    for service in SERVICES {
        let name = wire(&format!("{service}.{domain}"))?;
        hosts.add(services(resolver, &name).await?);
    }
    if hosts.names.is_empty() {
        hosts.add(itself(domain));
    }
    Ok(hosts)
}

/// Whether a record says where SIP goes, in a way that is followed.
fn is_sip(pointer: &Pointer) -> bool {
    let services = pointer.services.to_ascii_uppercase();
    let is_sip = services.starts_with(b"SIP+") || services.starts_with(b"SIPS+");
    is_sip && !pointer.has_expression && matches!(pointer.flags[..], [b's' | b'S' | b'a' | b'A'])
}

fn few(hosts: &Hosts) -> Result<(), String> {
    if hosts.names.len() > Names::MAX_ANSWER {
        return Err(format!("it leads to more than {} hosts", Names::MAX_ANSWER));
    }
    Ok(())
}

async fn ask(resolver: &Resolver, name: &DomainName, of: Rtype) -> Result<Answer, String> {
    let answer = resolver.ask(name, of).await;
    answer.map_err(|error: NoAnswer| error.to_string())
}

/// The addresses of all hosts. Where one host fails, those of the others count all the same.
async fn addresses(resolver: &Resolver, name: &Name, hosts: &Hosts, family: Family) -> Found {
    let (of, none) = match family {
        Family::Ipv4 => (Rtype::A, "it has no A records"),
        Family::Ipv6 => (Rtype::AAAA, "it has no AAAA records"),
    };
    let mut found = Found {
        failed: few(hosts).err(),
        ttl: hosts.ttl,
        ..Found::failed(name, family, String::new())
    };
    if found.failed.is_some() {
        return found;
    }
    let mut exists = hosts.names.is_empty();
    for host in &hosts.names {
        match ask(resolver, host, of).await {
            Ok(answer) => {
                found.ttl = found.ttl.min(answer.ttl);
                exists |= answer.exists;
                found
                    .addresses
                    .extend(answer.records.iter().filter_map(|data| match data {
                        Data::Address(address) => Some(*address),
                        _ => None,
                    }));
            }
            Err(error) => found.failed = found.failed.or(Some(error)),
        }
    }
    if found.addresses.len() > Names::MAX_ANSWER {
        let error = format!("it has more than {} addresses", Names::MAX_ANSWER);
        return Found::failed(name, family, error);
    }
    if found.addresses.is_empty() {
        found.said = Some(match (hosts.names.is_empty(), exists) {
            (true, _) => hosts.none.to_owned(),
            (false, true) => none.to_owned(),
            (false, false) => "there is no such name".to_owned(),
        });
    }
    found
}
