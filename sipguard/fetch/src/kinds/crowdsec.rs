//! Decisions of CrowdSec, as a bouncer asks the local API (LAPI) for them: all of them at first, and from then on what was added and what ended
//! since the last question.
//!
//! What is said of changes is not the whole truth: the LAPI keeps its place in the stream by key and moves it though the answer was never
//! read, forgets what is too much for it, and misses what is written while it looks. So all is asked for again after whatever failed, after a
//! gap, where somebody else asked with the same key, and every hour. Decisions are told apart by their numbers (`dedup=false`): a network is
//! banned as long as one of its decisions is there, however that one spells it.

mod answer;
mod decisions;
mod follow;
mod usage;

use std::{path::Path, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use sipguard_lists::task::{CrowdSec, Tasks};
use ureq::{Agent, http::StatusCode};

use self::{decisions::Decisions, usage::Usage};
use super::{Answer, Before, Ending, Entries, Kind, is_told, prefixes::Limited};
use crate::{
    countries::{Database, Networks},
    credential,
    http::{self, PATIENCE, Resolver},
};

/// How often all is asked for.
const WHOLE: SignedDuration = SignedDuration::from_hours(1);
/// Whoever was not asked for as long is asked for all.
const GAP: SignedDuration = SignedDuration::from_mins(5);
/// How long the file may stay as it is while nothing changes.
const SILENT: Duration = Duration::from_mins(5);
/// How many times as long one waits who got no answer.
const FAILED: u32 = 3;

/// A bouncer, and what it knows.
pub(super) struct Bouncer {
    resolver: Resolver,
    lapi: CrowdSec,
    /// As long as nothing failed.
    known: Option<Known>,
    countries: Option<Countries>,
    usage: Usage,
}

/// The networks of countries that are banned.
struct Countries {
    database: Database,
    networks: Networks,
    /// Why there are none.
    error: Option<String>,
}

/// What the LAPI said since all was asked for.
struct Known {
    agent: Agent,
    decisions: Decisions,
    /// What they come to, as it stands in the file.
    entries: Arc<Vec<Ending>>,
    /// When all was asked for.
    whole: Timestamp,
    /// When it was asked last.
    asked: Timestamp,
    /// When it was asked for what the file says.
    written: Timestamp,
}

impl Countries {
    fn new(file: &Path) -> Self {
        Self {
            database: Database::new(file),
            networks: Networks::new(),
            error: None,
        }
    }
}

impl Bouncer {
    pub(super) fn new(lapi: &CrowdSec, tasks: &Tasks) -> Self {
        Self {
            resolver: Resolver::new(tasks),
            lapi: lapi.clone(),
            known: None,
            countries: lapi.database.as_deref().map(Countries::new),
            usage: Usage::default(),
        }
    }

    fn pull(&mut self, before: &Before, now: Timestamp) -> Result<(Entries, String), String> {
        let key = credential::read(&self.lapi.key_file)?;
        // Whatever fails from here on, what was known is forgotten.
        let known = self.known.take();
        let known = known.filter(|known| known.goes_on(before, now));
        let mut known = if let Some(mut known) = known {
            self.usage.send(&known.agent, &self.lapi, &key, now);
            let is_changed = self.read(&mut known.decisions, &known.agent, &key, false, now)?;
            let is_changed = self.look(&known.decisions) || is_changed;
            known.asked = now;
            let is_old = now.duration_since(known.written) >= SILENT.try_into().unwrap_or_default();
            if !is_changed && !is_old {
                let said = known.decisions.said();
                self.known = Some(known);
                return Ok((Entries::Written, said));
            }
            known
        } else {
            let agent = self.agent()?;
            let mut decisions = Decisions::new(self.lapi.widest, self.countries.is_some());
            self.read(&mut decisions, &agent, &key, true, now)?;
            self.look(&decisions);
            self.usage.count(&decisions, now);
            Known {
                agent,
                decisions,
                entries: Arc::default(),
                whole: now,
                asked: now,
                written: now,
            }
        };
        let none = Networks::new();
        let networks = self.countries.as_ref().map_or(&none, |some| &some.networks);
        let listed = known.decisions.entries(networks, now)?;
        let entries = Arc::make_mut(&mut known.entries);
        let is_changed = if entries.is_empty() {
            entries.reserve_exact(known.decisions.len());
            entries.extend(listed);
            follow::file(entries, before, &self.lapi.url)
        } else {
            follow::list(entries, listed)
        };
        let (list, said) = (Arc::clone(&known.entries), known.decisions.said());
        known.written = now;
        self.known = Some(known);
        Ok((Entries::Ending { list, is_changed }, said))
    }

    /// Looks for countries that are banned, and tells whether anything changed.
    fn look(&mut self, decisions: &Decisions) -> bool {
        let Some(countries) = &mut self.countries else {
            return false;
        };
        let banned = decisions.countries();
        if let (true, Some(file)) = (banned.is_empty(), &self.lapi.database) {
            let is_changed = countries.error.is_some() || !countries.networks.is_empty();
            *countries = Countries::new(file);
            return is_changed;
        }
        let Some(looked) = countries.database.look(&banned) else {
            return false;
        };
        let error = match looked {
            Ok(networks) => {
                countries.networks = networks;
                let mut missing = banned.iter();
                let missing = missing.find(|country| !countries.networks.contains_key(country));
                missing.map(|country| countries.database.missing(*country))
            }
            // Those that are known may be as they were.
            Err(error) if countries.error.as_ref() == Some(&error) => return false,
            Err(error) => Some(error),
        };
        countries.error = error;
        true
    }

    /// Asks for all, or for what changed, and tells whether anything did.
    fn read(
        &self,
        decisions: &mut Decisions,
        agent: &Agent,
        key: &str,
        all: bool,
        now: Timestamp,
    ) -> Result<bool, String> {
        let url = self.lapi.url.trim_end_matches('/');
        let scopes = match &self.countries {
            None => "ip,range",
            Some(_) => "ip,range,country",
        };
        let url = format!("{url}/v1/decisions/stream?startup={all}&dedup=false&scopes={scopes}");
        let request = agent.get(url).header("X-Api-Key", key);
        let response = request.call().map_err(|error| http::told(&error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let file = self.lapi.key_file.display();
                return Err(format!(
                    "the LAPI refuses the key in {file}; `cscli bouncers add NAME` makes one"
                ));
            }
            status => return Err(format!("the LAPI answers {}", status.as_u16())),
        }
        let mut body = Limited::new(response.into_body().into_reader());
        let mut ended = (!all).then(Vec::new);
        let take = |told| decisions.take(&told, now);
        let read = answer::read(&mut body, take, ended.as_mut());
        body.all()?;
        read?;
        Ok(decisions.settle(ended.unwrap_or_default()))
    }

    fn agent(&self) -> Result<Agent, String> {
        let may_be_plain = self.lapi.may_be_plain();
        let config = http::config(self.lapi.ca_file.as_deref(), may_be_plain)?
            .https_only(!may_be_plain)
            .timeout_global(Some(PATIENCE))
            // The key is for nobody else.
            .max_redirects(0)
            // One that the LAPI closed meanwhile would look like a failure.
            .max_idle_connections(0);
        Ok(http::agent(config, &self.resolver))
    }

    /// There was no answer: what stands in the file stays there.
    fn failed(&self, error: String, before: &Before, now: Timestamp) -> Answer {
        let head = before.glance();
        let head = head.filter(|head| head.url.as_ref() == Some(&self.lapi.url));
        Answer {
            entries: match &head {
                Some(head) if is_told(head, Some(&error), SILENT, now) => Entries::Written,
                Some(_) => Entries::AsBefore,
                None => Entries::All(Vec::new()),
            },
            said: head.and_then(|head| head.said),
            error: Some(error),
            ..self.answer(FAILED)
        }
    }

    fn answer(&self, times: u32) -> Answer {
        let every = Duration::from_secs(self.lapi.every.into());
        Answer {
            url: Some(self.lapi.url.clone()),
            soonest: Duration::from_secs(1),
            silent: SILENT,
            ..Answer::good_for(every * times)
        }
    }
}

impl Kind for Bouncer {
    fn ask(&mut self, before: &Before, now: Timestamp) -> Answer {
        match self.pull(before, now) {
            Ok((entries, said)) => Answer {
                entries,
                answered: true,
                said: Some(said),
                error: self.countries.as_ref().and_then(|some| some.error.clone()),
                ..self.answer(1)
            },
            Err(error) => self.failed(error, before, now),
        }
    }
}

impl Known {
    /// Whether it is enough to ask for what changed. The clock may have been set, and the file may be somebody else's: whoever asks with this
    /// key, as `sipguard refresh` does, is told changes that are not told here then.
    fn goes_on(&self, before: &Before, now: Timestamp) -> bool {
        let file = before.glance().filter(|head| head.asked == self.written);
        let goes_on = (SignedDuration::ZERO..GAP).contains(&now.duration_since(self.asked))
            && (SignedDuration::ZERO..WHOLE).contains(&now.duration_since(self.whole));
        match file {
            Some(head) if goes_on => {
                before.trust(head);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
