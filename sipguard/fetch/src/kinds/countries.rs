//! Countries, in a database on this host: it is read at first, and whenever it is another one.

use std::time::Duration;

use jiff::Timestamp;
use sipguard_lists::task::{Countries, Kind as Question};

use super::{Answer, Before, Entries, Kind, is_told};
use crate::countries::{Database, Networks};

/// How often it is looked whether there is another one.
const LOOK: Duration = Duration::from_secs(10);
/// How long nothing is said of it while there is none.
const SILENT: Duration = Duration::from_hours(1);

/// Countries, and where they are looked up.
pub(super) struct InDatabase {
    some: Countries,
    url: Option<String>,
    database: Database,
}

impl InDatabase {
    pub(super) fn new(some: &Countries) -> Self {
        let question = Question::Countries(some.clone());
        Self {
            some: some.clone(),
            url: question.url().map(Into::into),
            database: Database::new(&some.database),
        }
    }

    fn entries(&self, networks: Networks) -> Result<Entries, String> {
        let mut missing = self.some.countries.iter();
        if let Some(country) = missing.find(|country| !networks.contains_key(country)) {
            return Err(self.database.missing(*country));
        }
        let mut all: Vec<_> = networks.into_values().flatten().collect();
        all.sort_unstable();
        all.dedup();
        Ok(Entries::List(all))
    }
}

impl Kind for InDatabase {
    fn ask(&mut self, before: &Before, now: Timestamp) -> Answer {
        let head = before.glance().filter(|head| head.url == self.url);
        let looked = self.database.look(&self.some.countries);
        let looked = looked.map(|found| found.and_then(|networks| self.entries(networks)));
        let as_before = |error: Option<&str>| match &head {
            Some(head) if is_told(head, error, SILENT, now) => Entries::Written,
            Some(_) => Entries::AsBefore,
            None => Entries::All(Vec::new()),
        };
        let (entries, error) = match looked {
            Some(Ok(entries)) => (entries, None),
            Some(Err(error)) => (as_before(Some(&error)), Some(error)),
            None => {
                let error = head.as_ref().and_then(|head| head.error.clone());
                (as_before(error.as_deref()), error)
            }
        };
        Answer {
            entries,
            answered: error.is_none(),
            url: self.url.clone(),
            error,
            soonest: LOOK,
            silent: SILENT,
            ..Answer::good_for(LOOK)
        }
    }
}
