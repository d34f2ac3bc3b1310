//! Routes that take packets out of others, behind the filter: segment routing's, which unpack with `seg6_enabled` off.

use super::{Evidence, Finding, Kind, printed::printed};

pub(super) const FINDS: &[Kind] = &[Kind::RouteUnpacks];

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let guards = evidence.policy.as_ref();
    if guards.is_ok_and(|policy| policy.interfaces.is_empty()) {
        return Vec::new();
    }
    // Not `-json`: there a route's table and its action's have one name.
    let listed = printed("ip", &["-6", "route", "show", "table", "all"]).unwrap_or_default();
    listed.lines().filter_map(finding).collect()
}

/// `fc00::3 encap seg6local action End.DT6 table 100 dev eth0 table 77 metric 1024 pref medium`: what is behind the device is the route's.
fn finding(route: &str) -> Option<Finding> {
    let (to, told) = route.split_once(" encap seg6local action ")?;
    let (action, told) = told.split_once(' ')?;
    // Of those in net/ipv6/seg6_local.c the ones that decapsulate; the last one may do anything.
    if !action.starts_with("End.D") && action != "End.BPF" {
        return None;
    }
    let (_, told) = told.rsplit_once("dev ")?;
    let mut mend = format!("ip -6 route del {to} dev");
    let mut words = told.split_whitespace();
    mend.extend([" ", words.next()?]);
    while let Some(word) = words.next() {
        if ["table", "metric"].contains(&word) {
            mend.extend([" ", word, " ", words.next()?]);
        }
    }
    Some(Kind::RouteUnpacks.open(
        format!(
            "the route to {to} unpacks what comes in ({action}) behind the filter: what is inside reaches guarded ports unjudged"
        ),
        mend,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_unpacks_counts() {
        let mend = |route| finding(route).map(|finding| finding.mend);
        let told = "fc00::1 encap seg6local action End.DX4 nh4 10.0.0.1 dev d0 metric 1024 linkdown pref medium";
        let wanted = "ip -6 route del fc00::1 dev d0 metric 1024";
        assert_eq!(mend(told), Some(wanted.to_owned()));
        let told = "fc00::3 encap seg6local action End.DT6 table main dev d0 table 77 metric 1024 pref medium";
        let wanted = "ip -6 route del fc00::3 dev d0 table 77 metric 1024";
        assert_eq!(mend(told), Some(wanted.to_owned()));
        for other in [
            "fc00::4 encap seg6local action End dev d0 metric 1024 pref medium",
            "fc00::5 encap seg6 mode encap segs 1 [ fc00::9 ] dev d0 metric 1024 pref medium",
            "local ::1 dev lo table local proto kernel metric 0 pref medium",
            "",
        ] {
            assert_eq!(mend(other), None, "{other}");
        }
    }
}
