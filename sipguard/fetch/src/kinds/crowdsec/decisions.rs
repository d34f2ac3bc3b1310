//! The decisions that are in force, one by one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net};
use jiff::{SignedDuration, Timestamp};
use sipguard_lists::{
    country::Country,
    found::{Family, MAX_COMMENT, MAX_ENTRIES},
    prefix,
    said::Said,
    task::Widest,
};

use super::answer::Told;
use crate::{countries::Networks, kinds::Ending};

/// See the module. Whoever adds to it has to settle it before it is read.
pub(super) struct Decisions {
    widest: Widest,
    /// Whether countries are taken.
    takes_countries: bool,
    /// By prefix, and those of one prefix by number.
    list: Vec<Decision<IpNet>>,
    /// How many were in order when it was settled last.
    settled: usize,
    /// There are not many.
    countries: Vec<Decision<Country>>,
    /// What those have in common, each once.
    reasons: HashSet<Arc<Reason>>,
    /// The numbers of those that are not taken.
    left_out: BTreeSet<u64>,
    /// Why the last one of them is not.
    why: Option<String>,
    is_changed: bool,
}

struct Decision<T> {
    banned: T,
    id: u64,
    /// In seconds since 1970.
    end: i64,
    reason: Arc<Reason>,
}

/// What a decision is about.
enum Banned {
    Prefix(IpNet),
    Country(Country),
}

/// Why something is banned.
#[derive(PartialEq, Eq, Hash)]
struct Reason {
    /// Who says so: `cscli`, `crowdsec`, `CAPI`, `lists:NAME`.
    origin: String,
    scenario: Arc<str>,
}

impl Decisions {
    pub(super) fn new(widest: Widest, takes_countries: bool) -> Self {
        Self {
            widest,
            takes_countries,
            list: Vec::new(),
            settled: 0,
            countries: Vec::new(),
            reasons: HashSet::new(),
            left_out: BTreeSet::new(),
            why: None,
            is_changed: false,
        }
    }

    /// Adds one that was told now. One that can't be meant is left out: one wrong decision must not keep all others out of force.
    pub(super) fn take(&mut self, told: &Told, now: Timestamp) -> Result<(), String> {
        if self.len() == MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} decisions"));
        }
        self.is_changed = true;
        match self.read(told) {
            Ok((what, duration)) => {
                // One that ends behind the end of time does not end.
                let end = now.checked_add(duration).unwrap_or(Timestamp::MAX);
                let (id, end, reason) = (told.id, end.as_second(), self.reason(told));
                match what {
                    Banned::Prefix(banned) => self.list.push(Decision {
                        banned,
                        id,
                        end,
                        reason,
                    }),
                    Banned::Country(banned) => self.countries.push(Decision {
                        banned,
                        id,
                        end,
                        reason,
                    }),
                }
            }
            Err(why) => {
                self.left_out.insert(told.id);
                self.why = Some(why);
            }
        }
        Ok(())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len() + self.countries.len() + self.left_out.len()
    }

    fn read(&self, told: &Told) -> Result<(Banned, SignedDuration), String> {
        let value = Said(&told.value);
        if !told.what.eq_ignore_ascii_case("ban") {
            return Err(format!("{value} is no ban but {}", Said(&told.what)));
        }
        let banned = if self.takes_countries && told.scope.eq_ignore_ascii_case("country") {
            let country = told.value.parse();
            Banned::Country(country.map_err(|_| format!("{value} is no country"))?)
        } else {
            let prefix = parse(&told.value).ok_or_else(|| format!("{value} is no prefix"))?;
            if self.widest.is_beyond(prefix) {
                let prefix = prefix::format(prefix);
                return Err(format!("{prefix} is wider than this source may be"));
            }
            Banned::Prefix(prefix)
        };
        let duration: Result<SignedDuration, _> = told.duration.parse();
        let Ok(duration) = duration else {
            let duration = Said(&told.duration);
            return Err(format!(
                "{value} is banned for {duration}, which is no time"
            ));
        };
        Ok((banned, duration))
    }

    fn reason(&mut self, told: &Told) -> Arc<Reason> {
        let cut = |text: &str| text.chars().take(MAX_COMMENT).collect::<String>();
        let scenario = cut(&told.scenario);
        let reason = Reason {
            origin: match &*told.origin {
                "lists" => format!("lists:{scenario}"),
                origin => cut(origin),
            },
            scenario: scenario.into(),
        };
        if let Some(known) = self.reasons.get(&reason) {
            return Arc::clone(known);
        }
        let reason = Arc::new(reason);
        self.reasons.insert(Arc::clone(&reason));
        reason
    }

    /// Takes away those that ended, and tells whether anything changed since the last time.
    pub(super) fn settle(&mut self, mut ended: Vec<u64>) -> bool {
        let before = self.len();
        if !ended.is_empty() {
            ended.sort_unstable();
            let stays = |id: u64| ended.binary_search(&id).is_err();
            self.list.retain(|decision| stays(decision.id));
            self.countries.retain(|decision| stays(decision.id));
            self.left_out.retain(|id| stays(*id));
        }
        self.is_changed |= self.len() != before;
        if self.is_changed {
            let place = |decision: &Decision<IpNet>| (decision.banned, decision.id);
            if 2 * self.settled < self.list.len() {
                self.list.sort_unstable_by_key(place);
            } else {
                // It takes memory beside, and passes over what is in order already: all but what came now.
                self.list.sort_by_key(place);
            }
            // One may be told twice.
            self.list
                .dedup_by_key(|decision| (decision.banned, decision.id));
            self.countries
                .sort_unstable_by_key(|decision| (decision.banned, decision.id));
            self.countries
                .dedup_by_key(|decision| (decision.banned, decision.id));
            self.settled = self.list.len();
            // Those that nobody has any more.
            self.reasons.retain(|reason| Arc::strong_count(reason) > 1);
        }
        std::mem::take(&mut self.is_changed)
    }

    /// The countries that are banned.
    pub(super) fn countries(&self) -> BTreeSet<Country> {
        let all = self.countries.iter();
        all.map(|decision| decision.banned).collect()
    }

    /// What is banned, in order, each until the last of its decisions ends; countries have these networks.
    pub(super) fn entries(
        &self,
        networks: &Networks,
        now: Timestamp,
    ) -> Result<Box<dyn Iterator<Item = Ending> + '_>, String> {
        let ending = move |decision: &Decision<IpNet>| decision.ending(decision.banned, now);
        let entries = last(&self.list).map(ending);
        if self.countries.is_empty() {
            return Ok(Box::new(entries));
        }
        let mut entries: Vec<_> = entries.collect();
        for decision in last(&self.countries) {
            let networks = networks.get(&decision.banned).into_iter().flatten();
            entries.extend(networks.map(|&network| decision.ending(network, now)));
        }
        if entries.len() > MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} networks"));
        }
        entries.sort_unstable_by_key(|ending| (ending.prefix, Reverse(ending.end)));
        entries.dedup_by_key(|ending| ending.prefix);
        Ok(Box::new(entries.into_iter()))
    }

    /// What there is to say of them.
    pub(super) fn said(&self) -> String {
        let all = match self.len() {
            1 => "1 decision".to_owned(),
            all => format!("{all} decisions"),
        };
        match &self.why {
            Some(why) if !self.left_out.is_empty() => {
                let left_out = self.left_out.len();
                format!("{all}, {left_out} of them left out: {why}")
            }
            _ => all,
        }
    }

    /// How many there are of each origin and family.
    pub(super) fn count(&self) -> BTreeMap<(String, Family), usize> {
        let mut count = BTreeMap::new();
        for decision in &self.list {
            let of = (decision.reason.origin.clone(), Family::of(decision.banned));
            *count.entry(of).or_default() += 1;
        }
        count
    }
}

impl<T> Decision<T> {
    fn ending(&self, prefix: IpNet, now: Timestamp) -> Ending {
        Ending {
            prefix,
            first: now.as_second(),
            end: self.end,
            comment: Arc::clone(&self.reason.scenario),
        }
    }
}

/// Of those of each, the one that ends last; they are in order.
fn last<T: PartialEq>(all: &[Decision<T>]) -> impl Iterator<Item = &Decision<T>> {
    let of_one = all.chunk_by(|one, next| one.banned == next.banned);
    of_one.filter_map(|of_one| of_one.iter().max_by_key(|decision| decision.end))
}

/// A prefix or an address. CrowdSec takes what it is given: host bits may be set, and IPv4 may be in IPv6 form.
fn parse(value: &str) -> Option<IpNet> {
    let (address, length) = match value.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (value, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(max), |length| length.parse().ok())?;
    let prefix = IpNet::new(address, length).ok()?.trunc();
    let IpNet::V6(v6) = prefix else {
        return Some(prefix);
    };
    match v6.addr().to_ipv4_mapped() {
        Some(v4) if length >= 96 => Ipv4Net::new(v4, length - 96).ok().map(IpNet::V4),
        _ => Some(prefix),
    }
}

#[cfg(test)]
mod tests;
