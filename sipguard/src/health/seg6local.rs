//! Routes that take packets out of others, behind the filter: segment routing's, which unpack with `seg6_enabled` off.

use std::fmt::Write as _;

use crate::device::{self, Unpacks};

use super::{Evidence, Finding, Kind};

pub(super) const FINDS: &[Kind] = &[Kind::RouteUnpacks];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let guards = evidence.policy.as_ref();
    if guards.is_ok_and(|policy| policy.interfaces.is_empty()) {
        return Vec::new();
    }
    let routes = device::unpacking().unwrap_or_default();
    let found = routes.iter().map(|route| finding(route, evidence));
    found.collect()
}

fn finding(route: &Unpacks, evidence: &Evidence) -> Finding {
    let Unpacks {
        to,
        action,
        index,
        table,
        metric,
    } = route;
    let mut mend = format!("ip -6 route del {to}");
    // What is written to a string is written.
    if let Some(device) = evidence.devices.iter().find(|it| it.index == *index) {
        let _ = write!(mend, " dev {}", device.name);
    }
    for (word, number) in [("table", table), ("metric", metric)] {
        if let Some(number) = number {
            let _ = write!(mend, " {word} {number}");
        }
    }
    Kind::RouteUnpacks.open(
        format!(
            "the route to {to} unpacks what comes in ({action}) behind the filter: what is inside reaches guarded ports unjudged"
        ),
        mend,
    )
}
