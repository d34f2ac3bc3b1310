//! The command line's words on a prefix: permanent or with an end, which becomes a time of the boot clock.

use jiff::Timestamp;
use sipguard_ebpf::abi::{ALLOW_OWN, DENY_OWN, Value};

use super::{Now, entries::merge};
use crate::{policy::Action, state::OwnEntry};

/// The value of an entry alone; none where it has ended.
pub(super) fn alone(entry: &OwnEntry, now: Now) -> Option<Value> {
    let until = match entry.until {
        Some(until) => Some(until_on_the_boot_clock(until, now)?),
        None => None,
    };
    let mut value = Value::default();
    match (entry.action, until) {
        (Action::Allow, None) => value.permanent = ALLOW_OWN,
        (Action::Deny, None) => value.permanent = DENY_OWN,
        (Action::Allow, Some(until)) => value.allow_until = until,
        (Action::Deny, Some(until)) => value.deny_until = until,
    }
    Some(value)
}

/// When that is by the boot clock, in nanoseconds; none where it is over.
pub(super) fn until_on_the_boot_clock(until: Timestamp, now: Now) -> Option<u64> {
    let remaining = until.as_nanosecond() - now.wall.as_nanosecond();
    if remaining <= 0 {
        return None;
    }
    // What is longer than the clock lasts (584 years) never ends.
    let remaining = u64::try_from(remaining).unwrap_or(u64::MAX);
    Some(now.boot_ns.saturating_add(remaining))
}

/// What a prefix's value becomes when `own` is all that the command line says of it: the config file's part of the value in force stays.
/// `None` where nothing is left to say, so that the key is to be removed.
pub fn with_own<'e>(
    value: Option<Value>,
    own: impl IntoIterator<Item = &'e OwnEntry>,
    now: Now,
) -> Option<Value> {
    let config = value
        .filter(|value| value.config() != 0)
        .map(|value| Value {
            permanent: value.config(),
            origin: value.origin,
            ..Value::default()
        });
    own.into_iter()
        .filter_map(|entry| alone(entry, now))
        .chain(config)
        .reduce(merge)
}
