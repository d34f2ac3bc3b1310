//! What is kept of an apply with `--confirm`: the config that is not confirmed, and the policy that was in force before it.
//!
//! The config file holds what was applied, confirmed or not, and at boot `sipguard apply` reads the config file. So from before the moment
//! at which such an apply takes force there stand here the config's text, as a mark in the state, and the policy before it, in a file of
//! its own that is read only when it is needed. While the config file says what was not confirmed, that policy is what a plain apply
//! takes instead. The mark goes with `confirm` and with the apply of another config.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::policy::{Action, Entry, Interface, Mode, Origin, Policy, Service};

/// How far an apply with `--confirm` has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmStage {
    /// It waits, or its time is over and nobody has noticed yet.
    Pending,
    /// It was confirmed, and what is left to do the next command does.
    Confirmed,
    /// It was rolled back, or its time ended.
    TakenBack,
}

/// The mark in the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unconfirmed {
    /// How far it has come.
    pub outcome: ConfirmStage,
    /// The text of the config file that was applied.
    pub config: String,
    /// The digest of the policy before it, where that was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

impl Unconfirmed {
    /// Whether this is the policy that was in force before it.
    pub fn is_before(&self, confirmed: &Confirmed) -> bool {
        let before = self.before.as_ref();
        before.is_none_or(|digest| *digest == confirmed.digest)
    }
}

/// The policy that was in force before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Its generation's [`digest`](crate::datapath::Description::digest); empty where nothing was in force.
    pub digest: String,
    /// What was in force, without the command line's entries; one without interfaces where nothing was.
    pub policy: Policy,
}

impl Default for Confirmed {
    fn default() -> Self {
        Self {
            digest: String::new(),
            policy: Policy {
                services: Vec::new(),
                ..Policy::default()
            },
        }
    }
}

/// As it is on disk: entries that have all but the prefix in common stand together.
#[derive(Serialize, Deserialize)]
struct Written {
    digest: String,
    interfaces: Vec<Interface>,
    mode: Mode,
    services: Vec<Service>,
    origins: Vec<Origin>,
    entries: Vec<Group>,
}

#[derive(Serialize, Deserialize)]
struct Group {
    service: u8,
    action: Action,
    origin: u16,
    prefixes: Vec<IpNet>,
}

impl Serialize for Confirmed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut groups = BTreeMap::<_, Vec<IpNet>>::new();
        for entry in &self.policy.entries {
            groups
                .entry((entry.service, entry.action, entry.origin))
                .or_default()
                .push(entry.prefix);
        }
        let groups = groups.into_iter();
        let written = Written {
            digest: self.digest.clone(),
            interfaces: self.policy.interfaces.clone(),
            mode: self.policy.mode,
            services: self.policy.services.clone(),
            origins: self.policy.origins.clone(),
            entries: groups
                .map(|((service, action, origin), prefixes)| Group {
                    service,
                    action,
                    origin,
                    prefixes,
                })
                .collect(),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Confirmed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let entries = written.entries.into_iter().flat_map(|group| {
            group.prefixes.into_iter().map(move |prefix| Entry {
                prefix,
                service: group.service,
                action: group.action,
                origin: group.origin,
            })
        });
        Ok(Self {
            digest: written.digest,
            policy: Policy {
                interfaces: written.interfaces,
                mode: written.mode,
                services: written.services,
                origins: written.origins,
                entries: entries.collect(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_comes_back_as_it_was() {
        let entry = |prefix: &str, action, origin| Entry {
            prefix: prefix.parse().unwrap(),
            service: 1,
            action,
            origin,
        };
        let origin = |source: &str| Origin {
            source: source.to_owned(),
            file: None,
        };
        let confirmed = Confirmed {
            digest: "00c0ffee".to_owned(),
            policy: Policy {
                origins: vec![origin("admins"), origin("blocked")],
                entries: vec![
                    entry("203.0.113.0/24", Action::Allow, 0),
                    entry("2001:db8::/32", Action::Allow, 0),
                    entry("203.0.113.66/32", Action::Deny, 1),
                ],
                ..Policy::default()
            },
        };
        let json = serde_json::to_string(&confirmed).unwrap();
        assert!(
            json.contains(r#""prefixes":["203.0.113.0/24","2001:db8::/32"]"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Confirmed>(&json).unwrap(), confirmed);
    }

    #[test]
    fn where_nothing_was_in_force_nothing_is_guarded() {
        let Confirmed { digest, policy } = Confirmed::default();
        assert_eq!(digest, "");
        assert!(policy.interfaces.is_empty() && policy.services.is_empty());
    }
}
