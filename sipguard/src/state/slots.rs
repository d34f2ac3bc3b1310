//! Which service has which counters. A service keeps its slot while it is gone from the config file, so that its counts are
//! there when it comes back; only where no slot is left is one taken from a service that is gone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sipguard_ebpf::abi::{NO_SERVICE, SERVICES};
use thiserror::Error;

/// Why slots can't be assigned, or a record of them can't be right.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum SlotsError {
    /// There are more services than slots.
    #[error("there are {0} services; at most {SERVICES} are possible")]
    TooMany(usize),
    /// No slot has such a number.
    #[error("the service {0} has the counter slot {1}, which does not exist")]
    Unknown(String, u8),
    /// Two services would count in the same place.
    #[error("two services have the counter slot {0}")]
    Shared(u8),
}

/// Services' slots by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, u8>", into = "BTreeMap<String, u8>")]
pub struct Slots(BTreeMap<String, u8>);

impl Slots {
    /// The slot of a service.
    pub fn get(&self, service: &str) -> Option<u8> {
        self.0.get(service).copied()
    }

    /// The service that has a slot, or had it last.
    pub fn service(&self, slot: u8) -> Option<&str> {
        let found = self.0.iter().find(|&(_, &taken)| taken == slot);
        found.map(|(name, _)| name.as_str())
    }

    /// Gives a service the slot that it has in the kernel.
    pub(crate) fn set(&mut self, service: &str, slot: u8) {
        self.0.insert(service.to_owned(), slot);
    }

    /// Services and their slots.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u8)> {
        self.0.iter().map(|(name, &slot)| (name.as_str(), slot))
    }

    /// Gives each service a slot. Returns the slots that were taken from services that are gone: their counters hold the old service's
    /// counts and must be zeroed.
    pub fn assign<'n>(
        &mut self,
        services: impl IntoIterator<Item = &'n str>,
    ) -> Result<Vec<u8>, SlotsError> {
        let services: BTreeSet<_> = services.into_iter().collect();
        if services.len() > SERVICES {
            return Err(SlotsError::TooMany(services.len()));
        }
        let mut taken_away = Vec::new();
        for &name in &services {
            if self.0.contains_key(name) {
                continue;
            }
            let slot = if let Some(slot) = self.free() {
                slot
            } else {
                let slot = self.take(&services);
                taken_away.push(slot);
                slot
            };
            self.0.insert(name.to_owned(), slot);
        }
        Ok(taken_away)
    }

    fn free(&self) -> Option<u8> {
        (0..NO_SERVICE).find(|&slot| self.service(slot).is_none())
    }

    /// Takes the lowest slot of a service that is not among those that stay.
    fn take(&mut self, stay: &BTreeSet<&str>) -> u8 {
        let gone = self
            .0
            .iter()
            .filter(|(name, _)| !stay.contains(name.as_str()))
            .map(|(name, &slot)| (slot, name.clone()))
            .min();
        // All slots are taken and at most as many services as there are slots stay, one of which has none yet.
        let (slot, name) = gone.expect("some slot's service is gone");
        self.0.remove(&name);
        slot
    }
}

impl TryFrom<BTreeMap<String, u8>> for Slots {
    type Error = SlotsError;

    fn try_from(slots: BTreeMap<String, u8>) -> Result<Self, SlotsError> {
        let mut seen = BTreeSet::new();
        for (name, &slot) in &slots {
            if usize::from(slot) >= SERVICES {
                return Err(SlotsError::Unknown(name.clone(), slot));
            }
            if !seen.insert(slot) {
                return Err(SlotsError::Shared(slot));
            }
        }
        Ok(Self(slots))
    }
}

impl From<Slots> for BTreeMap<String, u8> {
    fn from(Slots(slots): Slots) -> Self {
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_keep_their_slots() {
        let mut slots = Slots::default();
        assert_eq!(slots.assign(["sip", "web"]), Ok(vec![]));
        assert_eq!((slots.get("sip"), slots.get("web")), (Some(0), Some(1)));
        assert_eq!(slots.assign(["web", "admin"]), Ok(vec![]));
        assert_eq!(slots.get("admin"), Some(2), "sip's counts are kept");
        assert_eq!(slots.assign(["sip"]), Ok(vec![]));
        assert_eq!(slots.get("sip"), Some(0));
        assert_eq!(slots.service(1), Some("web"));
        assert_eq!(slots.iter().count(), 3);
    }

    #[test]
    fn slots_of_gone_services_are_taken_when_none_is_left() {
        let names: Vec<_> = (0..SERVICES)
            .map(|number| format!("s{number:02}"))
            .collect();
        let mut slots = Slots::default();
        assert_eq!(slots.assign(names.iter().map(String::as_str)), Ok(vec![]));
        assert_eq!(slots.assign(["s00", "s02", "new", "newer"]), Ok(vec![1, 3]));
        assert_eq!((slots.get("new"), slots.get("newer")), (Some(1), Some(3)));
        assert_eq!((slots.get("s01"), slots.get("s03")), (None, None));
        assert_eq!((slots.get("s00"), slots.get("s04")), (Some(0), Some(4)));
        let others: Vec<_> = (0..SERVICES).map(|number| format!("t{number}")).collect();
        assert_eq!(
            slots.assign(others.iter().map(String::as_str)),
            Ok((0..16).collect())
        );
    }

    #[test]
    fn more_services_than_slots() {
        let names: Vec<_> = (0..=SERVICES).map(|number| format!("s{number}")).collect();
        let error = Slots::default()
            .assign(names.iter().map(String::as_str))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "there are 17 services; at most 16 are possible"
        );
    }

    #[test]
    fn records_that_cannot_be_right() {
        for (json, wanted) in [
            (
                r#"{"a":16}"#,
                "the service a has the counter slot 16, which does not exist",
            ),
            (r#"{"a":3,"b":3}"#, "two services have the counter slot 3"),
        ] {
            let error = serde_json::from_str::<Slots>(json).unwrap_err();
            assert!(error.to_string().starts_with(wanted), "{error}");
        }
    }
}
