//! What was said on the command line and has ended by itself, for a while: whoever takes it back then hears that it had ended, and not that
//! it never was. A script that allows for ten minutes and takes that back at its end may take eleven.

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::OwnEntry;
use crate::policy::Action;

/// How long it is known.
const LASTS: SignedDuration = SignedDuration::from_hours(24);

/// How many are known; the newest.
const MOST: usize = 1000;

/// One entry that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedEntry {
    /// Its host bits are zero.
    pub prefix: IpNet,
    /// The service's name.
    pub service: String,
    /// What was done with frames from there.
    pub action: Action,
    /// When it ended.
    pub until: Timestamp,
}

/// Those that ended last, in the order in which that was noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended(Vec<EndedEntry>);

impl Ended {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are known.
    pub fn iter(&self) -> impl Iterator<Item = &EndedEntry> {
        self.0.iter()
    }

    /// Adds entries that have just ended, and forgets what is too long ago.
    pub(super) fn note(&mut self, entries: &[OwnEntry], now: Timestamp) {
        for entry in entries {
            let Some(until) = entry.until else { continue };
            self.forget(|known| known.prefix == entry.prefix && known.service == entry.service);
            self.0.push(EndedEntry {
                prefix: entry.prefix,
                service: entry.service.clone(),
                action: entry.action,
                until,
            });
        }
        self.forget(|known| now.duration_since(known.until) > LASTS);
        let surplus = self.0.len().saturating_sub(MOST);
        self.0.drain(..surplus);
    }

    /// Forgets some, because there is a newer word.
    pub(super) fn forget(&mut self, which: impl Fn(&EndedEntry) -> bool) {
        self.0.retain(|known| !which(known));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host: usize, until: i64) -> OwnEntry {
        let prefix = format!("10.0.{}.{}/32", host / 256, host % 256);
        OwnEntry {
            prefix: prefix.parse().unwrap(),
            service: "sip".to_owned(),
            action: Action::Allow,
            until: Some(Timestamp::from_second(until).unwrap()),
            lasts_in: None,
            comment: None,
            added: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_newest_of_a_day_are_known() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut ended = Ended::default();
        ended.note(&[entry(0, 100), entry(1, 200)], at(200));
        ended.note(&[entry(0, 300)], at(300));
        let known: Vec<_> = ended.iter().map(|entry| entry.until).collect();
        assert_eq!(known, [at(200), at(300)], "the newer end of each");
        ended.note(&[], at(200 + 86_400));
        assert_eq!(ended.iter().count(), 2);
        ended.note(&[], at(201 + 86_400));
        assert_eq!(ended.iter().count(), 1);
        let many: Vec<_> = (0..MOST).map(|host| entry(host + 1, 400)).collect();
        ended.note(&many, at(400));
        assert_eq!(ended.iter().count(), MOST);
        assert!(ended.iter().all(|entry| entry.until == at(400)));
    }
}
