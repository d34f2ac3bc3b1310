//! From what rules do with sources to services, sources of addresses, and notes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    rc::Rc,
};

use ipnet::IpNet;
use serde::Serialize;
use sipguard_ebpf::abi::Protocol;

use super::{
    ImportError,
    addresses::Family,
    evaluate::{FUEL, Outcome, Reason, evaluate},
    intervals::Intervals,
    notes::{Kind, Note, named},
    packet::Question,
    prefixes::{Segment, fewest},
    ruleset::{Change, LabelId, Ruleset, Step},
};
use crate::policy::{Action, MAX_PORTS, MAX_SERVICES, Mode, Ports, protocol_name};

/// Ports that sipguard guards where nothing else is said.
pub(super) const SIP: [u16; 3] = [5060, 5061, 50600];
pub(super) const WEB: u16 = 80;
pub(super) const PROTOCOLS: [Protocol; 2] = [Protocol::Udp, Protocol::Tcp];

/// Ports that SIP is found on: its own, those that PBXs have beside them, and those of WebSocket.
fn is_like_sip(port: u16) -> bool {
    matches!(port, 5060..=5099 | 5160..=5169 | 50600..=50609)
}

/// A service of the config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its name in the config.
    pub name: String,
    /// What it guards.
    #[serde(serialize_with = "ports_by_name")]
    pub ports: Ports,
    /// What becomes of those that are not listed.
    pub default: Action,
    /// Whether its verdicts are carried out.
    pub mode: Mode,
    /// Names of sources.
    pub allow: Vec<String>,
    /// Names of sources.
    pub deny: Vec<String>,
}

fn ports_by_name<S: serde::Serializer>(ports: &Ports, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        ports
            .iter()
            .map(|(&protocol, ports)| (protocol_name(protocol), ports)),
    )
}

/// A source of the config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its name in the config.
    pub name: String,
    /// In rising order, IPv4 first.
    pub prefixes: Vec<IpNet>,
}

/// Who may come in at a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `udp`, `tcp`, `sctp` or `udplite`.
    pub protocol: &'static str,
    /// The port.
    pub port: u16,
    /// The service that guards it; null where everybody may come in, and nothing is to be guarded.
    pub service: Option<String>,
    /// How many IPv4 addresses may come in.
    pub ipv4: u64,
    /// In how many IPv6 networks of 64 bits there is somebody who may come in; 2^64-1 where in all of them.
    pub ipv6_networks: u64,
    /// How many IPv4 addresses are dropped though the rules may let them in.
    pub ipv4_not_known: u64,
    /// Whether there are IPv6 addresses that are dropped though the rules may let them in.
    pub ipv6_not_known: bool,
}

/// What is to be known beside the rules.
pub(super) struct World<'w> {
    /// Interfaces that are guarded, where they were named.
    pub(super) interfaces: &'w [String],
    /// This host's addresses, where they are known.
    pub(super) own: &'w [IpAddr],
    /// Whether these are all rules of a host: what they don't speak of passes.
    pub(super) complete: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) services: Vec<Service>,
    pub(super) sources: Vec<Source>,
    pub(super) rows: Vec<Row>,
    pub(super) notes: Vec<Note>,
    /// The interfaces by which packets were taken to come in.
    pub(super) interfaces: Vec<String>,
    /// For the check: a question's port, its service, and who passes.
    pub(super) answers: Vec<Answered>,
}

/// A port of one protocol, and who may come in there.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    pub(super) v4: Rc<Judged>,
    pub(super) v6: Rc<Judged>,
}

/// What one family's addresses are, without gaps and in rising order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) family: Family,
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) first: u128,
    pub(super) last: u128,
    pub(super) is: Is,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Is {
    Allowed(Option<LabelId>),
    Denied(Option<LabelId>),
    NotKnown,
}

impl Is {
    pub(super) const fn passes(self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

impl Judged {
    /// Of sets that don't overlap; whoever is in none is denied.
    pub(super) fn new(family: Family, sets: &[(Is, Intervals)]) -> Self {
        let mut pieces: Vec<Part> = sets
            .iter()
            .flat_map(|(is, set)| {
                set.iter().map(|(first, last)| Part {
                    first,
                    last,
                    is: *is,
                })
            })
            .collect();
        pieces.sort_unstable_by_key(|part| part.first);
        let mut parts: Vec<Part> = Vec::with_capacity(pieces.len() * 2 + 1);
        let mut push = |part: Part| match parts.last_mut() {
            Some(last) if last.is == part.is => last.last = part.last,
            _ => parts.push(part),
        };
        let mut next = Some(0);
        for piece in pieces {
            if let Some(first) = next
                && first < piece.first
            {
                push(Part {
                    first,
                    last: piece.first - 1,
                    is: Is::Denied(None),
                });
            }
            next = piece
                .last
                .checked_add(1)
                .filter(|next| *next <= family.last());
            push(piece);
        }
        if let Some(first) = next {
            push(Part {
                first,
                last: family.last(),
                is: Is::Denied(None),
            });
        }
        Self { family, parts }
    }

    fn everybody(&self) -> bool {
        self.parts.iter().all(|part| part.is.passes())
    }

    fn nobody(&self) -> bool {
        self.parts.iter().all(|part| !part.is.passes())
    }

    fn count(&self, wanted: impl Fn(Is) -> bool) -> u128 {
        self.parts
            .iter()
            .filter(|part| wanted(part.is))
            .fold(0, |sum: u128, part| {
                sum.saturating_add((part.last - part.first).saturating_add(1))
            })
    }

    /// In how many networks of 64 bits somebody passes.
    fn networks(&self) -> u64 {
        let mut count = 0_u64;
        let mut counted = None;
        for (first, last) in passing(self) {
            let (first, last) = (first >> 64, last >> 64);
            let begin = if counted == Some(first) {
                first + 1
            } else {
                first
            };
            // At most 2⁶⁴ in all.
            count = count.saturating_add(
                u64::try_from((last + 1).saturating_sub(begin)).unwrap_or(u64::MAX),
            );
            counted = Some(last);
        }
        count
    }

    /// Whether the same addresses pass.
    fn passes_as(&self, other: &Self) -> bool {
        passing(self).eq(passing(other))
    }

    /// What an address is.
    fn at(&self, number: u128) -> Is {
        let place = self.parts.partition_point(|part| part.last < number);
        self.parts
            .get(place)
            .map_or(Is::Denied(None), |part| part.is)
    }
}

/// The intervals of those who pass, joined where they touch.
fn passing(judged: &Judged) -> impl Iterator<Item = (u128, u128)> + '_ {
    let mut parts = judged
        .parts
        .iter()
        .filter(|part| part.is.passes())
        .peekable();
    std::iter::from_fn(move || {
        let first = parts.next()?;
        let mut last = first.last;
        while let Some(next) = parts.next_if(|next| last.checked_add(1) == Some(next.first)) {
            last = next.last;
        }
        Some((first.first, last))
    })
}

/// Asks the rules about each guarded port, and makes of the answers what the config says.
pub(super) fn make(rules: &Ruleset, world: &World<'_>) -> Result<Made, ImportError> {
    let mut made = Made::default();
    let mut asked = Asked {
        rules,
        world,
        fuel: FUEL,
        lost: Vec::new(),
        harmless: BTreeSet::new(),
        meters: BTreeMap::new(),
        silent: BTreeMap::new(),
        known: Vec::new(),
    };
    let ways = asked.ways_in(&mut made.notes);
    made.interfaces = ways.iter().flatten().cloned().collect();
    for (port, protocol) in guarded(rules, &mut made.notes) {
        let [v4, v6] = Family::BOTH.map(|family| asked.judge(protocol, port, family, &ways));
        made.answers.push(Answered {
            protocol,
            port,
            v4,
            v6,
        });
    }
    let everybody = |answer: &Answered| answer.v4.everybody() && answer.v6.everybody();
    if made.answers.iter().all(everybody) {
        return Err(ImportError::Open);
    }
    asked.tell(&mut made.notes);
    growing(rules, &mut made.notes);
    if rules.bases.is_empty() {
        return Err(ImportError::NoInput(Vec::new()));
    }
    let nobody = |answer: &Answered| answer.v4.nobody() && answer.v6.nobody();
    if made.answers.iter().all(nobody) {
        made.notes.sort_by_key(|note| (note.kind, note.line));
        return Err(ImportError::Closed(made.notes));
    }
    into_services(rules, &mut made)?;
    Ok(made)
}

/// The ports that are asked about.
fn guarded(rules: &Ruleset, notes: &mut Vec<Note>) -> Vec<(u16, Protocol)> {
    let mut ports: Vec<u16> = SIP.into_iter().chain([WEB]).collect();
    for (first, last) in rules.ports.iter() {
        for port in first..=last {
            if let Ok(port) = u16::try_from(port)
                && is_like_sip(port)
                && !ports.contains(&port)
            {
                ports.push(port);
            }
        }
    }
    if ports.len() > MAX_PORTS {
        let more: Vec<String> = ports[MAX_PORTS..].iter().map(u16::to_string).collect();
        notes.push(Note::new(
            Kind::NotKept,
            0,
            format!(
                "the rules name more ports than the {MAX_PORTS} that can be guarded; not guarded: {}",
                more.join(", ")
            ),
        ));
        ports.truncate(MAX_PORTS);
    }
    let mut guarded: Vec<_> = ports
        .iter()
        .flat_map(|&port| PROTOCOLS.map(|protocol| (port, protocol)))
        .collect();
    // SIP over these is rare: it is guarded where rules speak of them.
    for (number, protocol) in [(132, Protocol::Sctp), (136, Protocol::UdpLite)] {
        if rules.protocols.contains(&number) {
            let sip = ports.iter().filter(|port| **port != WEB);
            guarded.extend(sip.map(|port| (*port, protocol)));
        }
    }
    guarded
}

struct Asked<'a> {
    rules: &'a Ruleset,
    world: &'a World<'a>,
    fuel: u64,
    /// Who may lose something, why, and at which ports.
    lost: Vec<Lost>,
    /// What could not be evaluated.
    harmless: BTreeSet<Reason>,
    /// Rates, and the ports they are about.
    meters: BTreeMap<Reason, BTreeSet<String>>,
    /// Families that no rule speaks of.
    silent: BTreeMap<Family, bool>,
    known: Vec<Rc<Judged>>,
}

struct Lost {
    reason: Reason,
    family: Family,
    who: Intervals,
    ports: Vec<String>,
}

impl Asked<'_> {
    /// By which interfaces packets may come in; `None` is one that no rule names.
    fn ways_in(&mut self, notes: &mut Vec<Note>) -> Vec<Option<String>> {
        // Bridges and cables of containers and virtual machines lead inside.
        const INSIDE: [&str; 9] = [
            "docker", "br-", "veth", "virbr", "lxc", "lxd", "cni", "vnet", "cali",
        ];
        if !self.world.interfaces.is_empty() {
            return self.world.interfaces.iter().cloned().map(Some).collect();
        }
        let outside = |name: &&String| {
            *name != "lo" && *name != "*" && !INSIDE.iter().any(|begin| name.starts_with(begin))
        };
        let named: Vec<String> = self
            .rules
            .interfaces
            .keys()
            .filter(outside)
            .cloned()
            .collect();
        // Whoever comes in by an interface that lets everybody in is trusted: the way to the inside.
        let guarded: Vec<Option<String>> = named
            .iter()
            .filter(|name| {
                let mut open = true;
                for port in SIP.into_iter().chain([WEB]) {
                    for protocol in PROTOCOLS {
                        let outcome = self.ask(protocol, port, Family::V4, Some(name), true);
                        open &= outcome.drops.is_empty();
                    }
                }
                !open
            })
            .cloned()
            .map(Some)
            .collect();
        match guarded.as_slice() {
            [] => vec![None],
            [one] => {
                let name = one.clone().unwrap_or_default();
                notes.push(Note::new(
                    Kind::Assumed,
                    0,
                    format!(
                        "the rules tell interfaces apart: the config says what they do with packets that come in by {name}; for another one: --interface NAME"
                    ),
                ));
                guarded
            }
            several => {
                let all: Vec<String> = several.iter().flatten().cloned().collect();
                notes.push(Note::new(
                    Kind::Assumed,
                    0,
                    format!(
                        "the rules tell the interfaces {} apart: the config lets in only who gets in by each of them; name those to be guarded: --interface NAME",
                        all.join(", ")
                    ),
                ));
                guarded
            }
        }
    }

    fn ask(
        &mut self,
        protocol: Protocol,
        port: u16,
        family: Family,
        way: Option<&str>,
        last_first: bool,
    ) -> Outcome {
        let question = Question {
            family,
            protocol: match protocol {
                Protocol::Tcp => 6,
                Protocol::Udp => 17,
                Protocol::Sctp => 132,
                Protocol::UdpLite => 136,
            },
            port,
            interface: way,
            own: self.world.own,
            last_first,
        };
        evaluate(self.rules, &question, &mut self.fuel)
    }

    fn judge(
        &mut self,
        protocol: Protocol,
        port: u16,
        family: Family,
        ways: &[Option<String>],
    ) -> Rc<Judged> {
        let mut all = Outcome::default();
        let mut surely: Option<Intervals> = None;
        let orders: &[bool] = if self.rules.order_matters() {
            &[true, false]
        } else {
            &[true]
        };
        let ways = ways
            .iter()
            .flat_map(|way| orders.iter().map(move |order| (way, *order)));
        for (way, last_first) in ways {
            let outcome = self.ask(protocol, port, family, way.as_deref(), last_first);
            let passes = outcome.passes.difference(&outcome.drops);
            let mut drops = outcome.drops.difference(&outcome.passes);
            drops.add(passes.clone());
            // Who is judged without doubt by every way, though perhaps not alike.
            surely = Some(match surely {
                None => drops,
                Some(known) => known.intersection(&drops),
            });
            all.passes.add(outcome.passes);
            all.drops.add(outcome.drops);
            all.allowed.extend(outcome.allowed);
            all.denied.extend(outcome.denied);
            all.reasons.extend(outcome.reasons);
            all.meters.extend(outcome.meters);
            all.spoken |= outcome.spoken;
        }
        let called = format!("{} {port}", protocol_name(protocol));
        if !all.spoken {
            self.silent.insert(family, self.world.complete);
            if !self.world.complete {
                let everybody = family.all();
                return self.share(Judged::new(family, &[(Is::NotKnown, everybody)]));
            }
        }
        let mut unknown = all.passes.intersection(&all.drops);
        let mut allowed = all.passes;
        allowed.subtract(&unknown);
        let mut denied = all.drops;
        denied.subtract(&unknown);
        let mut sets = vec![(Is::NotKnown, unknown.clone())];
        partition(&mut sets, &mut allowed, all.allowed, Is::Allowed);
        partition(&mut sets, &mut denied, all.denied, Is::Denied);

        // What differs between ways in is the reason where nothing else is.
        let differs = surely.unwrap_or_default().intersection(&unknown);
        let mut reasons = all.reasons;
        reasons.push((
            Reason {
                line: 0,
                text: if self.rules.order_matters() {
                    "which of several chains of one priority is asked first"
                } else {
                    "the interface by which a packet comes in"
                }
                .into(),
            },
            differs,
        ));
        for (reason, who) in reasons {
            if !who.is_empty() {
                self.harmless.insert(reason.clone());
            }
            let who = who.intersection(&unknown);
            unknown.subtract(&who);
            self.lose(reason, family, who, &called);
        }
        for meter in all.meters {
            self.meters.entry(meter).or_default().insert(called.clone());
        }
        self.share(Judged::new(family, &sets))
    }

    fn lose(&mut self, reason: Reason, family: Family, who: Intervals, port: &str) {
        if who.is_empty() {
            return;
        }
        let known = self
            .lost
            .iter_mut()
            .find(|lost| lost.reason == reason && lost.family == family && lost.who == who);
        match known {
            Some(lost) => lost.ports.push(port.to_owned()),
            None => self.lost.push(Lost {
                reason,
                family,
                who,
                ports: vec![port.to_owned()],
            }),
        }
    }

    /// One copy of what is the same.
    fn share(&mut self, judged: Judged) -> Rc<Judged> {
        if let Some(known) = self.known.iter().find(|known| ***known == judged) {
            return Rc::clone(known);
        }
        let judged = Rc::new(judged);
        self.known.push(Rc::clone(&judged));
        judged
    }

    fn tell(self, notes: &mut Vec<Note>) {
        for (family, passes) in &self.silent {
            let everybody = named(&family.all(), *family);
            notes.push(if *passes {
                Note::new(
                    Kind::Assumed,
                    0,
                    format!("no rule speaks of {}: everybody may come in by it", family.name()),
                )
            } else {
                let command = match family {
                    Family::V4 => "iptables-save",
                    Family::V6 => "ip6tables-save",
                };
                Note::new(
                    Kind::Lost,
                    0,
                    format!(
                        "nothing is said of {}, so nobody comes in by it: import all there is (`{command}`, or the whole of `nft list ruleset`), or run `sipguard import --from-host`",
                        family.name()
                    ),
                )
                .about(Vec::new(), everybody)
            });
        }
        let mut mattered = BTreeSet::new();
        // The most addresses last: it is single ones that somebody will miss.
        let mut lost = self.lost;
        lost.sort_by_key(|lost| lost.who.count());
        for lost in lost {
            let text = format!(
                "may get in by the rules and is dropped here: what becomes of it depends on what can't be evaluated: {}",
                lost.reason.text
            );
            let note = Note::new(Kind::Lost, lost.reason.line, text);
            notes.push(note.about(lost.ports, named(&lost.who, lost.family)));
            mattered.insert(lost.reason);
        }
        for (meter, ports) in self.meters {
            let note = Note::new(
                Kind::NotKept,
                meter.line,
                format!(
                    "this is not kept, and sources are judged as if they had sent nothing unusual: {}",
                    meter.text
                ),
            );
            notes.push(note.about(ports.into_iter().collect(), Default::default()));
        }
        for reason in self.harmless.difference(&mattered) {
            notes.push(Note::new(
                Kind::Harmless,
                reason.line,
                format!(
                    "can't be evaluated, and makes no difference: {}",
                    reason.text
                ),
            ));
        }
    }
}

/// Sets that rules go on adding to.
fn growing(rules: &Ruleset, notes: &mut Vec<Note>) {
    let mut told = BTreeSet::new();
    for rule in rules.chains.iter().flat_map(|chain| &chain.rules) {
        for step in &rule.steps {
            if let Step::Change(Change::Add(set)) = step
                && told.insert(*set)
            {
                notes.push(Note::new(
                    Kind::NotKept,
                    rule.line,
                    format!(
                        "rules add sources to the set {}: the config has those that are in it now",
                        rules.sets[*set].name
                    ),
                ));
            }
        }
    }
}

/// Of numbers that are at most 2³².
fn in_64_bits(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn partition(
    sets: &mut Vec<(Is, Intervals)>,
    rest: &mut Intervals,
    labelled: Vec<(LabelId, Intervals)>,
    is: impl Fn(Option<LabelId>) -> Is,
) {
    for (label, set) in labelled {
        let own = set.intersection(rest);
        rest.subtract(&own);
        sets.push((is(Some(label)), own));
    }
    sets.push((is(None), std::mem::take(rest)));
}

/// Ports that are treated alike become one service.
pub(super) fn into_services(rules: &Ruleset, made: &mut Made) -> Result<(), ImportError> {
    let mut groups: Vec<(bool, Vec<Answered>)> = Vec::new();
    let mut open = Vec::new();
    for answer in &made.answers {
        let is_sip = answer.port != WEB;
        if answer.v4.everybody() && answer.v6.everybody() {
            let named = rules.ports.contains(answer.port.into());
            if !(is_sip && named) {
                open.push((answer.protocol, answer.port));
                continue;
            }
        }
        let same = groups.iter_mut().find(|(sip, group)| {
            let first = &group[0];
            *sip == is_sip && first.v4.passes_as(&answer.v4) && first.v6.passes_as(&answer.v6)
        });
        match same {
            Some((_, group)) => group.push(answer.clone()),
            None => groups.push((is_sip, vec![answer.clone()])),
        }
    }
    if groups.len() > MAX_SERVICES {
        return Err(ImportError::TooManyServices(groups.len()));
    }
    let mut names = Names::default();
    for (is_sip, group) in &groups {
        let name = names.service(*is_sip, group);
        let service = service(rules, &name, group, &mut names, &mut made.sources);
        made.services.push(service);
    }
    for answer in &made.answers {
        let guards = |service: &&Service| {
            service
                .ports
                .get(&answer.protocol)
                .is_some_and(|ports| ports.contains(&answer.port))
        };
        let service = made.services.iter().find(guards);
        made.rows.push(Row {
            protocol: protocol_name(answer.protocol),
            port: answer.port,
            service: service.map(|service| service.name.clone()),
            ipv4: in_64_bits(answer.v4.count(Is::passes)),
            ipv6_networks: answer.v6.networks(),
            ipv4_not_known: in_64_bits(answer.v4.count(|is| is == Is::NotKnown)),
            ipv6_not_known: answer.v6.count(|is| is == Is::NotKnown) > 0,
        });
    }
    if !open.is_empty() {
        let ports = open
            .iter()
            .map(|(protocol, port)| format!("{} {port}", protocol_name(*protocol)))
            .collect();
        let note = Note::new(
            Kind::Assumed,
            0,
            "everybody may come in there, so it is not guarded",
        );
        made.notes.push(note.about(ports, Default::default()));
    }
    Ok(())
}

/// Names that are taken.
#[derive(Default)]
struct Names {
    services: BTreeSet<String>,
    sources: BTreeMap<String, Vec<IpNet>>,
}

impl Names {
    fn service(&mut self, is_sip: bool, group: &[Answered]) -> String {
        let usual = if is_sip { "sip" } else { "web" };
        let nobody = group[0].v4.nobody() && group[0].v6.nobody();
        let first = &group[0];
        let protocol = group
            .iter()
            .all(|other| other.protocol == first.protocol)
            .then(|| protocol_name(first.protocol));
        let port = group
            .iter()
            .all(|other| other.port == first.port)
            .then_some(first.port);
        let mut tried = Vec::new();
        if nobody {
            tried.push(format!("{usual}-closed"));
        } else {
            tried.push(usual.to_owned());
            match (protocol, port) {
                (Some(protocol), None) => tried.push(format!("{usual}-{protocol}")),
                (None, Some(port)) => tried.push(format!("{usual}-{port}")),
                (Some(protocol), Some(port)) => {
                    tried.push(format!("{usual}-{protocol}"));
                    tried.push(format!("{usual}-{protocol}-{port}"));
                }
                (None, None) => tried.push(format!("{usual}-others")),
            }
        }
        tried.extend((2..=MAX_SERVICES + 1).map(|number| format!("{usual}-{number}")));
        // There are at most as many services as numbers.
        let name = tried
            .into_iter()
            .find(|name| !self.services.contains(name))
            .unwrap_or_default();
        self.services.insert(name.clone());
        name
    }

    /// A name for a list: the same list has the same name, another list another one.
    fn source(&mut self, wanted: &str, service: &str, prefixes: &[IpNet]) -> (String, bool) {
        let wanted = match everybody(prefixes) {
            Some(name) => name.to_owned(),
            None => sanitised(wanted),
        };
        // A list that the rules have no name for has that of another service's.
        let without = wanted.starts_with(service);
        if without
            && let Some((name, _)) = self
                .sources
                .iter()
                .find(|(_, known)| known.as_slice() == prefixes)
        {
            return (name.clone(), false);
        }
        let mut tried = vec![wanted.clone(), format!("{wanted}-{service}")];
        tried.extend((2..).take(1000).map(|number| format!("{wanted}-{number}")));
        for name in tried {
            match self.sources.get(&name) {
                Some(known) if known == prefixes => return (name, false),
                Some(_) => {}
                None => {
                    self.sources.insert(name.clone(), prefixes.to_vec());
                    return (name, true);
                }
            }
        }
        // There are at most 64 lists in each of 16 services with two actions: some name was free.
        (wanted, false)
    }
}

/// What a list is called that has everybody on it.
fn everybody(prefixes: &[IpNet]) -> Option<&'static str> {
    match prefixes {
        [IpNet::V4(all)] if all.prefix_len() == 0 => Some("everybody-by-ipv4"),
        [IpNet::V6(all)] if all.prefix_len() == 0 => Some("everybody-by-ipv6"),
        [one, other] if one.prefix_len() == 0 && other.prefix_len() == 0 => Some("everybody"),
        _ => None,
    }
}

/// A name as sources may have one.
fn sanitised(name: &str) -> String {
    const LONGEST: usize = 40;
    let mut clean = String::new();
    for c in name.chars().take(LONGEST) {
        if c.is_ascii_alphanumeric() || c == '_' {
            clean.push(c);
        } else if !clean.ends_with('-') && !clean.is_empty() {
            clean.push('-');
        }
    }
    let clean = clean.trim_end_matches('-');
    if clean.is_empty() {
        "listed".to_owned()
    } else {
        clean.to_owned()
    }
}

fn service(
    rules: &Ruleset,
    name: &str,
    group: &[Answered],
    names: &mut Names,
    sources: &mut Vec<Source>,
) -> Service {
    let first = &group[0];
    let mut ports = Ports::new();
    for answer in group {
        ports
            .entry(answer.protocol)
            .or_default()
            .insert(answer.port);
    }
    let mostly = |judged: &Judged| judged.count(Is::passes) > judged.family.last() / 2;
    let default = if mostly(&first.v4) && mostly(&first.v6) {
        Action::Allow
    } else {
        Action::Deny
    };
    // Prefixes by what they do and what the rules call them.
    let mut lists: BTreeMap<(Action, String), Vec<IpNet>> = BTreeMap::new();
    for judged in [&first.v4, &first.v6] {
        for (prefix, action, label) in entries(judged, default) {
            let called = match label {
                Called::Label(label) => rules.labels[usize::from(label)].clone(),
                Called::NotKnown => "not-known".to_owned(),
                Called::Nothing => format!("{name}-{action}"),
            };
            lists.entry((action, called)).or_default().push(prefix);
        }
    }
    let mut service = Service {
        name: name.to_owned(),
        ports,
        default,
        mode: Mode::Enforce,
        allow: Vec::new(),
        deny: Vec::new(),
    };
    for ((action, called), prefixes) in lists {
        let (called, new) = names.source(&called, name, &prefixes);
        if new {
            sources.push(Source {
                name: called.clone(),
                prefixes,
            });
        }
        match action {
            Action::Allow => service.allow.push(called),
            Action::Deny => service.deny.push(called),
        }
    }
    service
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Called {
    Label(LabelId),
    NotKnown,
    Nothing,
}

/// The entries of one family.
fn entries(judged: &Judged, default: Action) -> Vec<(IpNet, Action, Called)> {
    /// Beyond this, names are given up: the classes of `fewest` are bits of a word.
    const NAMES: usize = 60;
    let listed = |is: Is| match (default, is) {
        (Action::Deny, Is::Allowed(label)) | (Action::Allow, Is::Denied(label)) => {
            Some(label.map_or(Called::Nothing, Called::Label))
        }
        (Action::Allow, Is::NotKnown) => Some(Called::NotKnown),
        _ => None,
    };
    let mut classes = vec![Called::Nothing];
    let mut segments: Vec<Segment> = Vec::with_capacity(judged.parts.len());
    for part in &judged.parts {
        let class = match listed(part.is) {
            None => 0,
            Some(called) => {
                let called = if classes.len() < NAMES || classes.contains(&called) {
                    called
                } else {
                    Called::Nothing
                };
                if let Some(known) = classes.iter().position(|known| *known == called) {
                    known + 1
                } else {
                    classes.push(called);
                    classes.len()
                }
            }
        };
        // At most 61.
        let class = u8::try_from(class).unwrap_or(u8::MAX);
        match segments.last_mut() {
            Some(last) if last.class == class => last.last = part.last,
            _ => segments.push(Segment {
                first: part.first,
                last: part.last,
                class,
            }),
        }
    }
    let (listed, other) = match default {
        Action::Deny => (Action::Allow, Action::Deny),
        Action::Allow => (Action::Deny, Action::Allow),
    };
    let mut entries: Vec<(IpNet, Action, Called)> = Vec::new();
    // Prefixes around the one that is looked at.
    let mut around: Vec<(IpNet, Action)> = Vec::new();
    for said in fewest(&segments, judged.family.bits()) {
        let prefix = judged.family.prefix(said.first, said.length);
        let (action, called) = match said.class {
            0 => (
                other,
                match judged.at(said.first) {
                    Is::Allowed(Some(label)) | Is::Denied(Some(label)) => Called::Label(label),
                    Is::NotKnown => Called::NotKnown,
                    _ => Called::Nothing,
                },
            ),
            class => (listed, classes[usize::from(class) - 1]),
        };
        while around
            .last()
            .is_some_and(|(outer, _)| !outer.contains(&prefix))
        {
            around.pop();
        }
        // What differs in name only needs no entry of its own.
        let known = around.last().map_or(default, |(_, action)| *action);
        if known != action {
            around.push((prefix, action));
            entries.push((prefix, action, called));
        }
    }
    entries
}
