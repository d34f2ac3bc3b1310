//! What is listed of a name: what was found now, and what was found lately. Providers' answers rotate, and calls last longer than answers.

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;
use jiff::Timestamp;
use sipguard_lists::{
    found::{Entry, Family},
    name::Name,
    task::Names,
};

use super::Found;

/// All that is to be listed, in order. Each entry says of which name it is; only a whole answer for that name and family lets one of them end.
pub(super) fn merge(
    names: &Names,
    before: &[Entry],
    found: &[Found],
    now: Timestamp,
) -> Vec<Entry> {
    let mut entries: BTreeMap<IpNet, Entry> = before
        .iter()
        .map(|entry| (entry.prefix, not_after(entry, now)))
        .collect();
    let mut seen = BTreeMap::new();
    for found in found {
        for &address in &found.addresses {
            // Where two names have one address, it is the first one's.
            seen.entry(IpNet::from(address)).or_insert(&found.name);
        }
    }
    for (&prefix, &name) in &seen {
        let first = entries.get(&prefix).map_or(now, |entry| entry.first);
        let entry = Entry {
            prefix,
            first,
            last: now,
            end: None,
            comment: Some(name.to_string()),
        };
        entries.insert(prefix, entry);
    }

    let hold = Duration::from_secs(names.hold.into());
    let mut kept: BTreeMap<(Name, Family), Vec<(Timestamp, IpNet)>> = BTreeMap::new();
    entries.retain(|prefix, entry| {
        let name = entry
            .comment
            .as_deref()
            .and_then(|name| name.parse::<Name>().ok());
        let Some(name) = name.filter(|name| names.names.contains(name)) else {
            return false;
        };
        let family = Family::of(*prefix);
        let is_of = |found: &&Found| found.name == name && found.family == family;
        let is_whole = found
            .iter()
            .find(is_of)
            .is_some_and(|found| found.failed.is_none());
        let unseen = now.duration_since(entry.last).unsigned_abs();
        if is_whole && unseen > hold {
            return false;
        }
        kept.entry((name, family))
            .or_default()
            .push((entry.last, *prefix));
        true
    });
    for kept in kept.values_mut() {
        kept.sort_unstable_by(|one, other| other.cmp(one));
        for (_, longest_unseen) in kept.iter().skip(Names::MAX_HELD) {
            entries.remove(longest_unseen);
        }
    }
    entries.into_values().collect()
}

/// Nothing was seen in the future: the clock may have been set back.
fn not_after(entry: &Entry, now: Timestamp) -> Entry {
    Entry {
        first: entry.first.min(now),
        last: entry.last.min(now),
        ..entry.clone()
    }
}

#[cfg(test)]
mod tests;
