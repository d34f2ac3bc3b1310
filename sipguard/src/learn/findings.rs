//! What follows from the evidence: whom to let in, and whom not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::Serialize;
use sipguard_lists::{name::Name, said::Said};

use super::{
    evidence::{Few, Learner, Requests, Side},
    own,
};
use crate::{prose::count, sip::number::Number};

/// What scanners call themselves where they do not take a phone's name.
const SCANNERS: [&str; 8] = [
    "friendly-scanner",
    "iwar",
    "pplsip",
    "sip-scan",
    "sipcli",
    "sipvicious",
    "sundayddr",
    "vaxsipuseragent",
];
/// From so many addresses on a network is proposed instead.
const SEVERAL: usize = 3;
/// No wider than that, for IPv4 and IPv6.
const WIDEST: [u8; 2] = [24, 64];
/// So many wrong users are no mistyped password.
const MISTAKES: usize = 3;

/// The list that somebody would be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Who is called by this gateway or calls it.
    Providers,
    /// Who registers here.
    Phones,
}

/// Somebody to let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// Where to.
    pub source: Source,
    /// An address, a prefix, or a name as the config has it.
    pub entry: String,
    /// The addresses that this is about.
    pub addresses: Vec<IpAddr>,
    /// Why, a sentence each, fit to be printed.
    pub why: Vec<String>,
}

/// Somebody not to let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Who.
    pub address: IpAddr,
    /// Why, a sentence each, fit to be printed.
    pub why: Vec<String>,
    /// Requests that came from there.
    pub requests: usize,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// UDP datagrams and TCP segments that were looked at.
    pub packets: usize,
    /// SIP messages among them.
    pub messages: usize,
    /// Pairs of addresses that were forgotten to make room for others: nothing spoke for them, or for too many.
    pub left_out: usize,
    /// This gateway's addresses.
    pub own: Vec<IpAddr>,
    /// Pairs of which nothing tells which one is this gateway.
    pub unclear: Vec<(IpAddr, IpAddr)>,
    /// Whom to let in, by source and address.
    pub proposals: Vec<Proposal>,
    /// Whom not, those that sent most first.
    pub refused: Vec<Refused>,
}

/// What this gateway wanted of somebody, and he of it.
#[derive(Default)]
struct Far {
    out: Side,
    came: Side,
}

impl Learner {
    /// Draws the conclusions.
    pub fn findings(self) -> Findings {
        let pairs: Vec<_> = self.pairs.keys().copied().collect();
        let own = own::find(&self.own, &pairs);
        let mut all = BTreeMap::<IpAddr, Far>::new();
        for ((one, other), pair) in self.pairs {
            let is_own = [one, other].map(|address| own.addresses.contains(&address));
            let [first, second] = pair.sides;
            let (there, out, came) = match is_own {
                [true, false] => (other, first, second),
                [false, true] => (one, second, first),
                _ => continue,
            };
            let far = all.entry(there).or_default();
            far.out.merge(out);
            far.came.merge(came);
        }
        let mut let_in = BTreeMap::new();
        for (&address, far) in &all {
            if let Some(source) = far.source() {
                let_in.insert(address, source);
            }
        }
        // Who answers what was sent on for somebody counts as much as that one.
        let first: BTreeSet<_> = let_in.keys().copied().collect();
        for (&address, far) in &all {
            let relayed = far.out.relayed_for.kept.iter();
            if !let_in.contains_key(&address) && relayed.clone().any(|from| first.contains(from)) {
                let_in.insert(address, Source::Providers);
            }
        }
        let mut refused: Vec<_> = all
            .iter()
            .filter(|(address, _)| !let_in.contains_key(address))
            .map(|(&address, far)| far.refused(address))
            .collect();
        refused.sort_by_key(|refused| (usize::MAX - refused.requests, refused.address));
        let mut unclear = own.unclear;
        unclear.sort_unstable();
        Findings {
            packets: self.packets,
            messages: self.messages,
            left_out: self.left_out,
            own: own.addresses.into_iter().collect(),
            unclear,
            proposals: proposals(&all, &let_in),
            refused,
        }
    }
}

fn proposals(all: &BTreeMap<IpAddr, Far>, let_in: &BTreeMap<IpAddr, Source>) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    let mut named = BTreeMap::<String, Vec<IpAddr>>::new();
    let mut alone = BTreeSet::new();
    for (&address, &source) in let_in {
        let far = &all[&address];
        if source == Source::Providers && far.is_answering() {
            for (name, has_port) in &far.out.names.kept {
                let text = match name {
                    Name::Host(name) | Name::Service(name) | Name::Sip(name) => name,
                };
                // RFC 3263, section 4.2: with a port, it is the host itself that is asked for.
                let entry = if *has_port {
                    text.clone()
                } else {
                    format!("sip:{text}")
                };
                named.entry(entry).or_default().push(address);
            }
        }
        if source == Source::Providers {
            alone.insert(address);
        } else {
            proposals.push(far.proposal(source, address));
        }
    }
    for (entry, addresses) in named {
        let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let why = vec![format!(
            "what this gateway sends to {} has this name in it; with sipguard-fetch it is followed",
            list.join(", ")
        )];
        proposals.push(Proposal {
            source: Source::Providers,
            entry,
            addresses,
            why,
        });
    }
    for (network, addresses) in networks(&alone) {
        let spoiled = all.keys().any(|address| {
            network.contains(address) && let_in.get(address) != Some(&Source::Providers)
        });
        if addresses.len() < SEVERAL || spoiled {
            proposals.extend(
                addresses
                    .iter()
                    .map(|address| all[address].proposal(Source::Providers, *address)),
            );
            continue;
        }
        let mut why = vec![format!(
            "{} addresses of it spoke, and nobody there was refused",
            addresses.len()
        )];
        for address in &addresses {
            let facts = all[address].proposal(Source::Providers, *address).why;
            why.extend(facts.iter().map(|fact| format!("{address}: {fact}")));
        }
        proposals.push(Proposal {
            source: Source::Providers,
            entry: network.to_string(),
            addresses,
            why,
        });
    }
    proposals
        .sort_by(|one, other| (one.source, &one.addresses).cmp(&(other.source, &other.addresses)));
    proposals
}

/// Neighbours, each with the smallest network that has them all.
fn networks(addresses: &BTreeSet<IpAddr>) -> Vec<(IpNet, Vec<IpAddr>)> {
    let mut neighbours = BTreeMap::<IpNet, Vec<IpAddr>>::new();
    for &address in addresses {
        let widest = WIDEST[usize::from(address.is_ipv6())];
        // Lengths that both families have.
        if let Ok(network) = IpNet::new(address, widest) {
            neighbours.entry(network.trunc()).or_default().push(address);
        }
    }
    let smallest = |addresses: &[IpAddr]| {
        let first = IpNet::from(addresses[0]);
        let mut network = first;
        while !addresses.iter().all(|address| network.contains(address)) {
            network = network.supernet().unwrap_or(network).trunc();
        }
        network
    };
    neighbours
        .into_values()
        .map(|addresses| (smallest(&addresses), addresses))
        .collect()
}

impl Far {
    fn is_answering(&self) -> bool {
        self.out.registers.done > 0 || self.out.calls.done > 0
    }

    fn scanner(&self) -> Option<&str> {
        let mut agents = self.came.agents.kept.iter();
        let is_one = |agent: &&String| {
            let agent = agent.to_ascii_lowercase();
            SCANNERS.iter().any(|scanner| agent.contains(scanner))
        };
        agents.find(is_one).map(String::as_str)
    }

    /// Users for whom it came in vain.
    fn mistakes(&self) -> usize {
        self.came
            .tried
            .kept
            .len()
            .saturating_sub(self.came.registered.kept.len())
    }

    fn is_guessing(&self) -> bool {
        let mistakes = self.mistakes();
        mistakes > MISTAKES && mistakes > self.came.registered.kept.len()
    }

    /// None where nothing speaks for it, or too much against it. What comes in may be forged, and so does not count against who answers.
    fn source(&self) -> Option<Source> {
        if self.is_answering() {
            return Some(Source::Providers);
        }
        if self.scanner().is_some() || self.is_guessing() {
            return None;
        }
        if self.came.registers.done > 0 {
            return Some(Source::Phones);
        }
        let Requests { done, refused, .. } = self.came.calls;
        (done > refused).then_some(Source::Providers)
    }

    fn proposal(&self, source: Source, address: IpAddr) -> Proposal {
        let mut why = Vec::new();
        let (out, came) = (&self.out, &self.came);
        if out.registers.done > 0 {
            let users = quoted(&out.users);
            why.push(format!(
                "this gateway registered there{users}, {}",
                times(out.registers.done)
            ));
        }
        if out.calls.done > 0 {
            why.push(format!(
                "it answered calls of this gateway ({} of {})",
                out.calls.done,
                count(out.calls.sent, "INVITE", "INVITEs")
            ));
        }
        for from in &out.relayed_for.kept {
            why.push(format!(
                "it answered calls that this gateway sent on for {from}"
            ));
        }
        if came.registers.done > 0 {
            why.push(format!(
                "it registered here{}, {}",
                quoted(&came.users),
                times(came.registers.done)
            ));
        }
        if came.calls.done > 0 {
            why.push(format!(
                "this gateway answered its calls ({} of {})",
                came.calls.done,
                count(came.calls.sent, "INVITE", "INVITEs")
            ));
        }
        if let Some(agent) = self.scanner() {
            why.push(format!(
                "but somebody scans with its address (User-Agent {})",
                Said(agent)
            ));
        }
        Proposal {
            source,
            entry: address.to_string(),
            addresses: vec![address],
            why,
        }
    }

    fn refused(&self, address: IpAddr) -> Refused {
        let (out, came) = (&self.out, &self.came);
        let mut why = Vec::new();
        if let Some(agent) = self.scanner() {
            why.push(format!(
                "it says that it is a scanner (User-Agent {})",
                Said(agent)
            ));
        }
        if came.registers.sent > 0 {
            let more = if came.tried.more { "more than " } else { "" };
            why.push(format!(
                "it came with {} for {more}{}, {}",
                count(came.registers.sent, "REGISTER", "REGISTERs"),
                count(came.tried.kept.len(), "user", "users"),
                match came.registered.kept.len() {
                    0 => "and never registered".to_owned(),
                    registered => format!("of which {registered} registered"),
                }
            ));
        }
        if came.calls.sent > 0 {
            why.push(format!(
                "of its calls ({}) this gateway answered {}{}",
                count(came.calls.sent, "INVITE", "INVITEs"),
                match came.calls.done {
                    0 => "none".to_owned(),
                    done => done.to_string(),
                },
                dialled(&came.numbers)
            ));
        }
        if came.others.sent > 0 {
            why.push(format!(
                "it came with {} of other kinds, such as OPTIONS",
                count(came.others.sent, "request", "requests")
            ));
        }
        if out.registers.sent + out.calls.sent > 0 {
            why.push(format!(
                "of this gateway's requests there ({}) none was answered well",
                count(
                    out.registers.sent + out.calls.sent,
                    "REGISTER or INVITE",
                    "REGISTERs and INVITEs"
                )
            ));
        } else if out.others.sent > 0 {
            why.push("this gateway asked it nothing but OPTIONS and the like".to_owned());
        }
        for from in &out.relayed_for.kept {
            why.push(format!(
                "it answered what this gateway sent on for {from}, who is not let in either"
            ));
        }
        Refused {
            address,
            why,
            requests: came.registers.sent + came.calls.sent + came.others.sent,
        }
    }
}

fn times(number: usize) -> String {
    count(number, "time", "times")
}

fn quoted(users: &Few<String>) -> String {
    if users.kept.is_empty() {
        return String::new();
    }
    let all: Vec<_> = users
        .kept
        .iter()
        .map(|user| Said(user).to_string())
        .collect();
    let more = if users.more { " and others" } else { "" };
    format!(" as {}{more}", all.join(", "))
}

fn dialled(numbers: &Few<Number>) -> String {
    if numbers.kept.is_empty() {
        return String::new();
    }
    let shown = |number: &Number| {
        let country = number.country().map(|country| format!(" ({country})"));
        let risk = if number.is_high_risk() {
            " (high risk)"
        } else {
            ""
        };
        format!("{number}{}{risk}", country.unwrap_or_default())
    };
    let all: Vec<_> = numbers.kept.iter().map(shown).collect();
    let more = if numbers.more { " and others" } else { "" };
    format!("; it dialled {}{more}", all.join(", "))
}
