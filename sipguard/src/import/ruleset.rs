//! Chains of rules, whoever wrote them, and the services that mean the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;
use sipguard_ebpf::abi::Protocol;

use super::{
    Note, note,
    rule::{Families, Rule, Target},
};
use crate::policy::{Action, MAX_PORTS, MAX_SERVICES, Policy, Ports};

/// Rules jump into chains; beyond this they go round in circles.
const DEPTH: usize = 16;
/// Nobody has so many, but jumps can multiply.
const MOST: usize = 1 << 16;

/// Where packets to this host come in.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) chain: String,
    pub(super) families: Families,
    /// For what no rule decides.
    pub(super) policy: Action,
}

/// What has come of walking the chains so far.
#[derive(Default)]
struct Walked {
    /// The rules that decide, in the order in which they are asked.
    flat: Vec<Rule>,
    notes: Vec<Note>,
    /// The chains that were come to.
    asked: BTreeSet<String>,
    /// How many rules were looked at.
    steps: usize,
}

/// Rules in their chains.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    pub(super) chains: BTreeMap<String, Vec<Rule>>,
    pub(super) bases: Vec<Base>,
    pub(super) notes: Vec<Note>,
    /// Lists are for the ports that are guarded by default.
    lists: Vec<(Vec<(IpNet, usize)>, Action)>,
}

/// A service as it will be written.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) ports: Ports,
    pub(super) default: Action,
    /// With the lines that say so.
    pub(super) allow: Vec<(IpNet, usize)>,
    pub(super) deny: Vec<(IpNet, usize)>,
}

impl Ruleset {
    /// Adds a list without rules.
    pub(super) fn add_list(&mut self, prefixes: Vec<(IpNet, usize)>, action: Action) {
        if !prefixes.is_empty() {
            self.lists.push((prefixes, action));
        }
    }

    /// What is to be written. Adds notes on what could not be translated.
    pub(super) fn services(&mut self) -> Vec<Service> {
        let mut services = Vec::new();
        if !self.lists.is_empty() {
            for service in Policy::default().services {
                let denies = self.lists.iter().all(|(_, action)| *action == Action::Deny);
                let mut made = Service {
                    name: service.name,
                    ports: service.ports,
                    // Whoever only has a blocklist lets everybody else in.
                    default: if denies { Action::Allow } else { Action::Deny },
                    allow: Vec::new(),
                    deny: Vec::new(),
                };
                for (prefixes, action) in &self.lists {
                    match action {
                        Action::Allow => made.allow.extend(prefixes),
                        Action::Deny => made.deny.extend(prefixes),
                    }
                }
                made.tidy();
                services.push(made);
            }
            return services;
        }
        let flat = self.flat();
        let ports = self.ports(&flat);
        let mut groups: BTreeMap<Vec<usize>, Ports> = BTreeMap::new();
        for (protocol, port) in ports {
            let key = flat
                .iter()
                .enumerate()
                .filter(|(_, rule)| rule.matches(protocol, port))
                .map(|(index, _)| index)
                .collect();
            groups
                .entry(key)
                .or_default()
                .entry(protocol)
                .or_default()
                .insert(port);
        }
        let mut shadowed = BTreeSet::new();
        for (key, ports) in groups {
            if services.len() == MAX_SERVICES {
                let why = format!("there would be more than {MAX_SERVICES} services");
                for index in key {
                    note(&mut self.notes, flat[index].line, &flat[index].text, &why);
                }
                continue;
            }
            let rules: Vec<&Rule> = key.iter().map(|&index| &flat[index]).collect();
            services.push(self.service(ports, &rules, &services, &mut shadowed));
        }
        for (prefix, line, by) in shadowed {
            self.notes.push(Note {
                line,
                text: format!("{prefix} is left out: line {by} decides before"),
            });
        }
        services
    }

    /// All rules that decide, in the order in which they are asked.
    fn flat(&mut self) -> Vec<Rule> {
        let mut walked = Walked {
            notes: std::mem::take(&mut self.notes),
            ..Walked::default()
        };
        for base in &self.bases {
            let all = Rule {
                families: base.families,
                ..Rule::default()
            };
            self.walk(&base.chain, &all, 0, &mut walked);
        }
        let Walked {
            flat,
            mut notes,
            asked,
            ..
        } = walked;
        for (chain, rules) in &self.chains {
            if !asked.contains(chain) {
                for rule in rules {
                    note(
                        &mut notes,
                        rule.line,
                        &rule.text,
                        "this chain is not read: only the first one for packets to this host is",
                    );
                }
            }
        }
        self.notes = notes;
        flat
    }

    fn walk(&self, chain: &str, outer: &Rule, depth: usize, walked: &mut Walked) {
        walked.asked.insert(chain.to_owned());
        for rule in self.chains.get(chain).into_iter().flatten() {
            // Chains that jump to each other twice are walked twice as often at every step.
            walked.steps += 1;
            if walked.steps > MOST {
                let why = "there are too many rules, or chains that jump in circles";
                note(&mut walked.notes, rule.line, &rule.text, why);
                return;
            }
            let notes = &mut walked.notes;
            if let Some(why) = &rule.cannot {
                note(notes, rule.line, &rule.text, why);
                continue;
            }
            let unconditional =
                rule.sources.is_none() && rule.ports.is_none() && rule.protocols.is_none();
            if rule.target == Target::Return && unconditional {
                return;
            }
            let Some(both) = rule.within(outer) else {
                note(
                    notes,
                    rule.line,
                    &rule.text,
                    "its conditions and those of a rule that jumps to it",
                );
                continue;
            };
            match &rule.target {
                Target::Nothing => note(notes, rule.line, &rule.text, "it decides nothing"),
                Target::Return => note(notes, rule.line, &rule.text, "a return under conditions"),
                Target::Jump(next) if depth < DEPTH && self.chains.contains_key(next) => {
                    self.walk(next, &both, depth + 1, walked);
                }
                // An empty chain comes back at once; an unknown one is an extension.
                Target::Jump(_) => note(
                    notes,
                    rule.line,
                    &rule.text,
                    "what it jumps to has no rules here",
                ),
                Target::Accept | Target::Drop => walked.flat.push(both),
            }
        }
    }

    /// The ports that rules name together with a source. Others are open or closed to everybody, which needs no list.
    fn ports(&mut self, flat: &[Rule]) -> BTreeSet<(Protocol, u16)> {
        const SSH: (Protocol, u16) = (Protocol::Tcp, 22);
        let mut ports = BTreeSet::new();
        for rule in flat {
            let Some(ranges) = &rule.ports else {
                continue;
            };
            let many: usize = ranges
                .iter()
                .map(|(first, last)| usize::from(last - first) + 1)
                .sum();
            let distinct: BTreeSet<u16> = ports.iter().map(|(_, port)| *port).collect();
            if rule.sources.is_none() {
                continue;
            }
            if distinct.len() + many > MAX_PORTS {
                let why = format!("at most {MAX_PORTS} ports can be guarded");
                note(&mut self.notes, rule.line, &rule.text, why);
                continue;
            }
            let all = Protocol::ALL.into();
            for &protocol in rule.protocols.as_ref().unwrap_or(&all) {
                let some = ranges.iter().flat_map(|(first, last)| *first..=*last);
                ports.extend(some.filter(|port| *port != 0).map(|port| (protocol, port)));
            }
            if ports.remove(&SSH) {
                let why = "sipguard leaves SSH alone; guard it by adding tcp port 22 to a service";
                note(&mut self.notes, rule.line, &rule.text, why);
            }
        }
        let everywhere = |rule: &Rule| rule.sources.is_some() && rule.ports.is_none();
        if ports.is_empty() && flat.iter().any(everywhere) {
            for service in Policy::default().services {
                for (protocol, some) in service.ports {
                    ports.extend(some.into_iter().map(|port| (protocol, port)));
                }
            }
        }
        let told: BTreeSet<usize> = self.notes.iter().map(|note| note.line).collect();
        for rule in flat.iter().filter(|rule| !told.contains(&rule.line)) {
            if everywhere(rule) {
                let why = "it holds for all ports; here only for the guarded ones";
                note(&mut self.notes, rule.line, &rule.text, why);
            } else if !ports
                .iter()
                .any(|(protocol, port)| rule.matches(*protocol, *port))
            {
                let why = "it concerns no port that is guarded for a source";
                note(&mut self.notes, rule.line, &rule.text, why);
            }
        }
        ports
    }

    fn service(
        &self,
        ports: Ports,
        rules: &[&Rule],
        others: &[Service],
        shadowed: &mut BTreeSet<(IpNet, usize, usize)>,
    ) -> Service {
        let any: [IpNet; 2] = crate::prefix::ANY;
        let mut decided: HashMap<IpNet, (Action, usize)> = HashMap::new();
        let mut order = Vec::new();
        let mut ends = [None, None];
        for rule in rules {
            let action = if rule.target == Target::Drop {
                Action::Deny
            } else {
                Action::Allow
            };
            let sources: &[IpNet] = rule.sources.as_deref().unwrap_or(&any);
            for &prefix in sources {
                let v6 = matches!(prefix, IpNet::V6(_));
                if !rule.families.has(v6) {
                    continue;
                }
                if let Some(&(_, by)) = covers(&decided, prefix) {
                    // That everything is decided already needs no saying.
                    if prefix.prefix_len() > 0 && by != rule.line {
                        shadowed.insert((prefix, rule.line, by));
                    }
                    continue;
                }
                decided.insert(prefix, (action, rule.line));
                if prefix.prefix_len() == 0 {
                    ends[usize::from(v6)] = Some(action);
                } else {
                    order.push((prefix, rule.line, action));
                }
            }
        }
        for base in &self.bases {
            for (v6, end) in [false, true].into_iter().zip(&mut ends) {
                if base.families.has(v6) {
                    end.get_or_insert(base.policy);
                }
            }
        }
        let default = match ends {
            [Some(one), Some(other)] if one != other => Action::Deny,
            [Some(one), _] | [None, Some(one)] => one,
            [None, None] => Action::Deny,
        };
        let mut service = Service {
            name: name(&ports, others),
            ports,
            default,
            allow: Vec::new(),
            deny: Vec::new(),
        };
        for (prefix, end) in any.into_iter().zip(ends) {
            if end == Some(Action::Allow) && default == Action::Deny {
                service.allow.push((prefix, 0));
            }
        }
        for (prefix, line, action) in order {
            match action {
                Action::Allow => service.allow.push((prefix, line)),
                Action::Deny => service.deny.push((prefix, line)),
            }
        }
        service.tidy();
        service
    }
}

impl Service {
    /// Sorted by address, each once.
    fn tidy(&mut self) {
        for list in [&mut self.allow, &mut self.deny] {
            list.sort_unstable();
            list.dedup_by_key(|(prefix, _)| *prefix);
        }
    }
}

/// The entry that decides for all of a prefix, if there is one.
fn covers(decided: &HashMap<IpNet, (Action, usize)>, prefix: IpNet) -> Option<&(Action, usize)> {
    (0..=prefix.prefix_len()).find_map(|length| {
        let wider = IpNet::new(prefix.addr(), length).ok()?.trunc();
        decided.get(&wider)
    })
}

fn name(ports: &Ports, others: &[Service]) -> String {
    let has = |wanted: &[u16]| ports.values().flatten().any(|port| wanted.contains(port));
    let first = ports.values().flatten().min().copied().unwrap_or_default();
    let usual = if has(&[5060, 5061, 50600]) {
        "sip"
    } else if has(&[80, 443, 8080]) {
        "web"
    } else {
        "port"
    };
    let taken = |name: &str| others.iter().any(|other| other.name == name);
    if usual != "port" && !taken(usual) {
        return usual.to_owned();
    }
    let protocol = ports
        .keys()
        .next()
        .map_or("", |protocol| crate::policy::protocol_name(*protocol));
    [format!("{usual}{first}"), format!("{protocol}{first}")]
        .into_iter()
        .find(|name| !taken(name))
        // A protocol's port is in one group only, and its number in its name.
        .unwrap_or_else(|| format!("{usual}-{}", others.len()))
}
