//! What stands in for a config file that is not to be applied, or can't be: the last policy that was in force for good, in a file of its own
//! that is read only when it is needed.
//!
//! It is written after a policy has come in force, or is confirmed. At boot `sipguard apply` reads the config file and the lists that it
//! names, any of which may be wrong by then, or gone. And the config file holds what was applied with `--confirm`, confirmed or not: so from
//! before the moment at which such an apply takes force there stands its text, as a mark in the state, until it is confirmed or another
//! config is applied.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::Error as _};

use sipguard_lists::{notify::Notify, task::Dns};

use crate::policy::{Action, Entry, Hide, Interface, LiveSource, Mode, Origin, Policy, Service};

/// The form in which the policy is written; changes when older programs would misread it.
const VERSION: u32 = 1;

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
    /// When it was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<Timestamp>,
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

/// What the state says of the confirmed policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its generation's [`digest`](crate::datapath::Description::digest).
    pub digest: String,
    /// How many bytes its file has.
    pub bytes: u64,
    /// How many prefixes each of its sources has.
    pub sources: BTreeMap<String, usize>,
}

/// The last policy that was in force for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Its generation's [`digest`](crate::datapath::Description::digest); empty where nothing was in force.
    pub digest: String,
    /// The config file it was made of; empty where a version wrote it that did not say.
    pub config: PathBuf,
    /// What was in force, without the command line's entries; one without interfaces where nothing was.
    pub policy: Arc<Policy>,
}

impl Default for Confirmed {
    fn default() -> Self {
        Self {
            digest: String::new(),
            config: PathBuf::new(),
            policy: Arc::new(Policy {
                services: Vec::new(),
                ..Policy::default()
            }),
        }
    }
}

/// As it is on disk: entries that have all but the prefix in common stand together.
#[derive(Serialize, Deserialize)]
struct Written {
    /// Versions of before wrote none.
    #[serde(default)]
    version: u32,
    digest: String,
    #[serde(default)]
    config: PathBuf,
    interfaces: Vec<Interface>,
    mode: Mode,
    services: Vec<Service>,
    origins: Vec<Origin>,
    entries: Vec<Group>,
    /// Versions of before had none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    live: Vec<LiveSource>,
    #[serde(default, skip_serializing_if = "is_default")]
    dns: Dns,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notify: Option<Notify>,
    #[serde(default, skip_serializing_if = "is_default")]
    hide: Hide,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
            version: VERSION,
            digest: self.digest.clone(),
            config: self.config.clone(),
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
            live: self.policy.live.clone(),
            dns: self.policy.dns.clone(),
            notify: self.policy.notify.clone(),
            hide: self.policy.hide,
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Confirmed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        if written.version > VERSION {
            return Err(D::Error::custom(format!(
                "it has version {}, which only a newer sipguard reads",
                written.version
            )));
        }
        let refers = |group: &Group| {
            usize::from(group.service) < written.services.len()
                && usize::from(group.origin) < written.origins.len()
        };
        let uses_refer = |live: &LiveSource| {
            let mut uses = live.uses.iter();
            usize::from(live.origin) < written.origins.len()
                && uses.all(|it| usize::from(it.service) < written.services.len())
        };
        if !written.entries.iter().all(refers) || !written.live.iter().all(uses_refer) {
            return Err(D::Error::custom(
                "an entry is of a service or a source that is not there",
            ));
        }
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
            config: written.config,
            policy: Arc::new(Policy {
                interfaces: written.interfaces,
                mode: written.mode,
                services: written.services,
                origins: written.origins,
                entries: entries.collect(),
                live: written.live,
                dns: written.dns,
                notify: written.notify,
                hide: written.hide,
            }),
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
            prefixes: Some(2),
        };
        let confirmed = Confirmed {
            digest: "00c0ffee".to_owned(),
            config: PathBuf::from("/etc/sipguard/sipguard.toml"),
            policy: Arc::new(Policy {
                services: vec![Policy::default().services[0].clone(); 2],
                origins: vec![origin("admins"), origin("blocked")],
                entries: vec![
                    entry("203.0.113.0/24", Action::Allow, 0),
                    entry("2001:db8::/32", Action::Allow, 0),
                    entry("203.0.113.66/32", Action::Deny, 1),
                ],
                ..Policy::default()
            }),
        };
        let json = serde_json::to_string(&confirmed).unwrap();
        assert!(
            json.contains(r#""prefixes":["203.0.113.0/24","2001:db8::/32"]"#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Confirmed>(&json).unwrap(), confirmed);

        // As versions of before wrote it.
        let before = json.replace(r#""version":1,"#, "");
        let before = before.replace(r#""config":"/etc/sipguard/sipguard.toml","#, "");
        let read: Confirmed = serde_json::from_str(&before).unwrap();
        assert_eq!(read.config, PathBuf::new());
        assert_eq!(read.policy, confirmed.policy);
    }

    #[test]
    fn what_does_not_hang_together_is_refused() {
        let json = serde_json::to_string(&Confirmed::default()).unwrap();
        let entry = r#""entries":[{"service":0,"action":"allow","origin":0,"prefixes":["203.0.113.0/24"]}]"#;
        for (wrong, why) in [
            (json.replace(r#""version":1"#, r#""version":2"#), "newer"),
            (json.replace(r#""entries":[]"#, entry), "not there"),
        ] {
            let error = serde_json::from_str::<Confirmed>(&wrong).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn where_nothing_was_in_force_nothing_is_guarded() {
        let Confirmed { digest, policy, .. } = Confirmed::default();
        assert_eq!(digest, "");
        assert!(policy.interfaces.is_empty() && policy.services.is_empty());
    }
}
