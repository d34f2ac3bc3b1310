//! What is said of a prefix by what moves by itself: bans of other programs, so far.

use std::collections::BTreeMap;

use ipnet::IpNet;
use sipguard_ebpf::abi::{DENY_OWN, Value};

use super::{Now, own::until_on_the_boot_clock};
use crate::state::Ban;

/// The value of all bans of one prefix; none where they have ended.
pub fn banned<'b>(bans: impl IntoIterator<Item = &'b Ban>, now: Now) -> Option<Value> {
    let mut value = Value::default();
    for ban in bans {
        match ban.until.map(|until| until_on_the_boot_clock(until, now)) {
            None => value.permanent = DENY_OWN,
            Some(Some(until)) => value.deny_until = value.deny_until.max(until),
            Some(None) => {}
        }
    }
    (value != Value::default()).then_some(value)
}

/// The values of all banned prefixes.
pub(super) fn values<'b>(
    bans: impl Iterator<Item = &'b Ban>,
    now: Now,
) -> impl Iterator<Item = (IpNet, Value)> {
    let mut of = BTreeMap::<IpNet, Vec<&Ban>>::new();
    for ban in bans {
        of.entry(ban.prefix).or_default().push(ban);
    }
    of.into_iter()
        .filter_map(move |(prefix, bans)| Some((prefix, banned(bans, now)?)))
}
