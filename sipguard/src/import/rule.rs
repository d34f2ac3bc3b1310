//! One rule of a chain, whoever wrote it.

use std::{collections::BTreeSet, rc::Rc};

use ipnet::IpNet;
use sipguard_ebpf::abi::Protocol;

use crate::policy::protocol_named;

/// Which addresses a rule is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Families {
    #[default]
    Both,
    V4,
    V6,
}

impl Families {
    pub(super) fn has(self, v6: bool) -> bool {
        match self {
            Self::Both => true,
            Self::V4 => !v6,
            Self::V6 => v6,
        }
    }
}

/// What a rule does with what it matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Target {
    Accept,
    Drop,
    Jump(String),
    Return,
    /// Logs or counts.
    #[default]
    Nothing,
}

/// One rule. What is `None` is not asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) families: Families,
    pub(super) sources: Option<Rc<[IpNet]>>,
    pub(super) protocols: Option<BTreeSet<Protocol>>,
    /// First and last.
    pub(super) ports: Option<Vec<(u16, u16)>>,
    pub(super) target: Target,
    /// Why it can't be translated.
    pub(super) cannot: Option<String>,
}

impl Rule {
    /// Adds a condition on the source.
    pub(super) fn narrow(&mut self, sources: Vec<IpNet>) -> Result<(), String> {
        if self.sources.is_some() {
            return Err("two conditions on the source".to_owned());
        }
        self.sources = Some(sources.into());
        Ok(())
    }

    /// What both this rule and one that jumps to it match; `None` where that can't be told.
    pub(super) fn within(&self, outer: &Self) -> Option<Self> {
        let mut both = self.clone();
        both.families = match (self.families, outer.families) {
            (Families::Both, one) | (one, Families::Both) => one,
            (one, other) if one == other => one,
            _ => return None,
        };
        both.sources = match (&self.sources, &outer.sources) {
            (None, sources) | (sources, None) => sources.clone(),
            (Some(_), Some(_)) => return None,
        };
        both.protocols = match (&self.protocols, &outer.protocols) {
            (None, one) | (one, None) => one.clone(),
            (Some(one), Some(other)) => Some(one & other),
        };
        both.ports = match (&self.ports, &outer.ports) {
            (None, one) | (one, None) => one.clone(),
            (Some(one), Some(other)) => Some(
                one.iter()
                    .flat_map(|a| other.iter().map(move |b| (a.0.max(b.0), a.1.min(b.1))))
                    .filter(|(first, last)| first <= last)
                    .collect(),
            ),
        };
        Some(both)
    }

    pub(super) fn matches(&self, protocol: Protocol, port: u16) -> bool {
        self.protocols
            .as_ref()
            .is_none_or(|some| some.contains(&protocol))
            && self.ports.as_ref().is_none_or(|some| {
                some.iter()
                    .any(|(first, last)| (*first..=*last).contains(&port))
            })
    }
}

/// By name or number; none of ours is told as such.
pub(super) fn protocols(name: &str) -> Result<BTreeSet<Protocol>, String> {
    let name = match name {
        "17" => "udp",
        "6" => "tcp",
        "132" => "sctp",
        "136" => "udplite",
        name => name,
    };
    match protocol_named(name) {
        Some(protocol) => Ok(BTreeSet::from([protocol])),
        None => Err(format!("the protocol {name}")),
    }
}
