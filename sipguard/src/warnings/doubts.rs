//! Lists that may not be what they are meant to be: a download that came back empty, or cut, lets nobody in.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    policy::{Action, MAX_SERVICES, Mode, Policy, Service},
    prose::{Grouped, count},
    state::State,
};

/// What makes one doubt whether lists are what they are meant to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "doubt", rename_all = "snake_case")]
pub enum Doubt {
    /// A service drops whoever is not listed, and nobody is.
    NobodyAllowed {
        /// The service.
        service: String,
    },
    /// A source lets everybody in to a service that is for listed sources.
    EverybodyAllowed {
        /// The service.
        service: String,
        /// The source.
        source: String,
        /// `0.0.0.0/0` or `::/0`.
        prefix: IpNet,
    },
    /// A source that some service names has no entry.
    EmptySource {
        /// The source.
        source: String,
        /// The list file, where it is one.
        file: Option<PathBuf>,
    },
    /// A source has less than half of what it had in what was in force for good before.
    ShrunkSource {
        /// The source.
        source: String,
        /// The list file, where it is one.
        file: Option<PathBuf>,
        /// How many prefixes it had.
        from: usize,
        /// How many it has.
        to: usize,
    },
}

/// What makes one doubt a policy that is to come in force with the command line's entries of `state`, after what the state says was in force
/// before.
pub fn doubts(policy: &Policy, state: &State, now: Timestamp) -> Vec<Doubt> {
    if policy.interfaces.is_empty() {
        return Vec::new();
    }
    let nobody = nobody_allowed(policy, state, now).map(|service| Doubt::NobodyAllowed {
        service: service.name.clone(),
    });
    let mut doubts: Vec<_> = nobody.collect();
    let somebody_everywhere = doubts.is_empty();
    doubts.extend(everybody_allowed(policy));
    for origin in &policy.origins {
        let source = origin.source.clone();
        let file = origin.file.clone();
        let before = state
            .kept
            .as_ref()
            .and_then(|kept| kept.sources.get(&source));
        match (origin.prefixes, before) {
            // Where nobody is let in, it is plain to see in the config why.
            (Some(0), None | Some(0)) if file.is_some() || somebody_everywhere => {
                doubts.push(Doubt::EmptySource { source, file });
            }
            (Some(to), Some(&from)) if to < from.div_ceil(2) => {
                doubts.push(Doubt::ShrunkSource {
                    source,
                    file,
                    from,
                    to,
                });
            }
            _ => {}
        }
    }
    doubts
}

fn everybody_allowed(policy: &Policy) -> Vec<Doubt> {
    policy
        .entries
        .iter()
        .filter(|entry| entry.prefix.prefix_len() == 0 && entry.action == Action::Allow)
        .filter_map(|entry| {
            let service = policy.services.get(usize::from(entry.service))?;
            let origin = policy.origins.get(usize::from(entry.origin))?;
            let for_listed = service.default == Action::Deny && service.mode == Mode::Enforce;
            for_listed.then(|| Doubt::EverybodyAllowed {
                service: service.name.clone(),
                source: origin.source.clone(),
                prefix: entry.prefix,
            })
        })
        .collect()
}

/// The services that drop whoever is not listed, and list nobody: in the policy, or by the command line.
pub(crate) fn nobody_allowed<'p>(
    policy: &'p Policy,
    state: &State,
    now: Timestamp,
) -> impl Iterator<Item = &'p Service> {
    let mut allowed = [false; MAX_SERVICES];
    let entries = policy.entries.iter();
    let entries = entries.map(|entry| (entry.action, entry.service));
    // Whom live sources let in is found out by others.
    let uses = policy.live.iter().flat_map(|source| &source.uses);
    let uses = uses.map(|it| (it.action, it.service));
    for (action, service) in entries.chain(uses) {
        if action == Action::Allow {
            allowed[usize::from(service)] = true;
        }
    }
    let by_hand: BTreeSet<_> = state
        .entries
        .iter()
        .filter(|entry| entry.action == Action::Allow && !entry.ended(now))
        .map(|entry| entry.service.clone())
        .collect();
    let services = policy.services.iter().enumerate();
    services
        .filter(move |(index, service)| {
            service.default == Action::Deny
                && service.mode == Mode::Enforce
                && !allowed[*index]
                && !by_hand.contains(&service.name)
        })
        .map(|(_, service)| service)
}

impl Doubt {
    /// The source whose list it is about.
    pub fn source(&self) -> Option<&str> {
        match self {
            Self::EmptySource { source, .. } | Self::ShrunkSource { source, .. } => Some(source),
            Self::NobodyAllowed { .. } | Self::EverybodyAllowed { .. } => None,
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |source: &str, file: &Option<PathBuf>| match file {
            Some(file) => format!("source {source} ({})", file.display()),
            None => format!("source {source}"),
        };
        match self {
            Self::NobodyAllowed { service } => write!(
                f,
                "nobody is let in to {service}: no source or `sipguard allow` names anybody for it"
            ),
            Self::EverybodyAllowed {
                service,
                source,
                prefix,
            } => write!(
                f,
                "{service} is open to everybody: source {source} has {prefix}"
            ),
            Self::EmptySource { source, file } => {
                write!(f, "{} has no entry", place(source, file))
            }
            Self::ShrunkSource {
                source,
                file,
                from,
                to,
            } => write!(
                f,
                "{} has {} of the {} that it had before",
                place(source, file),
                Grouped(*to as u64),
                count(*from, "entry", "entries")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        config,
        state::{Kept, OwnEntry},
    };

    fn found(sources: &str, before: &[(&str, usize)], own: &[&str]) -> Vec<String> {
        let text = format!(
            "interfaces = [\"eth0\"]\n[sources]\n{sources}\n[services.sip]\nudp = [5060]\nallow = [\"providers\"]\n"
        );
        let policy = config::parse(&text, "sipguard.toml".as_ref()).unwrap();
        let sources = before.iter().map(|&(name, many)| (name.to_owned(), many));
        let state = State {
            kept: Some(Kept {
                digest: String::new(),
                bytes: 0,
                sources: sources.collect::<BTreeMap<_, _>>(),
            }),
            entries: own
                .iter()
                .map(|prefix| OwnEntry {
                    prefix: prefix.parse().unwrap(),
                    service: "sip".to_owned(),
                    action: Action::Allow,
                    until: None,
                    lasts_in: None,
                    comment: None,
                    added: Timestamp::UNIX_EPOCH,
                })
                .collect(),
            ..State::default()
        };
        doubts(&policy, &state, Timestamp::UNIX_EPOCH)
            .iter()
            .map(Doubt::to_string)
            .collect()
    }

    #[test]
    fn lists_that_were_cut() {
        let three = "providers = [\"192.0.2.1\", \"192.0.2.2\", \"192.0.2.3\"]";
        let none: [&str; 0] = [];
        assert_eq!(found(three, &[], &[]), none);
        assert_eq!(found(three, &[("providers", 6), ("old", 9)], &[]), none);
        assert_eq!(
            found(three, &[("providers", 7)], &[]),
            ["source providers has 3 of the 7 entries that it had before"]
        );
        let nobody = "nobody is let in to sip: no source or `sipguard allow` names anybody for it";
        let empty = "source providers has no entry";
        assert_eq!(found("providers = []", &[], &[]), [nobody]);
        assert_eq!(found("providers = []", &[], &["192.0.2.9/32"]), [empty]);
        assert_eq!(
            found("providers = []", &[("providers", 1)], &["192.0.2.9/32"]),
            ["source providers has 0 of the 1 entry that it had before"]
        );
    }
}
