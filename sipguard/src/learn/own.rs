//! Which addresses are this gateway's. Where nobody says it: whoever talks with the most others, because at a gateway each packet is from it or for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// What was found out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Pairs of which nothing tells which of them is this gateway.
    pub(super) unclear: Vec<(IpAddr, IpAddr)>,
}

/// Finds them among pairs of addresses that talked.
pub(super) fn find(said: &BTreeSet<IpAddr>, pairs: &[(IpAddr, IpAddr)]) -> Own {
    let mut own = Own {
        addresses: said.clone(),
        unclear: Vec::new(),
    };
    if !said.is_empty() {
        return own;
    }
    let mut others: BTreeMap<IpAddr, BTreeSet<IpAddr>> = BTreeMap::new();
    for &(one, other) in pairs {
        others.entry(one).or_default().insert(other);
        others.entry(other).or_default().insert(one);
    }
    let mut far = BTreeSet::new();
    loop {
        // Far ends of this gateway are no address of it; what is left has most far ends of its own.
        let is_left = |address: &&IpAddr| !own.addresses.contains(address);
        let count = |address: &IpAddr, others: &BTreeSet<IpAddr>| {
            let left = others.iter().filter(is_left).count();
            if far.contains(address) { 0 } else { left }
        };
        let counts = others
            .iter()
            .filter(|(address, _)| is_left(address))
            .map(|(&address, others)| (count(&address, others), address));
        let mut counts: Vec<_> = counts.collect();
        counts.sort_unstable();
        let Some(&(most, address)) = counts.last() else {
            return own;
        };
        let next = counts.len().checked_sub(2).map_or(0, |at| counts[at].0);
        // One of two that talked with nobody else is the gateway only if the other one is known for a far end.
        let is_clear = most > next || own.addresses.is_empty() && most > 1;
        if most == 0 {
            return own;
        }
        if !is_clear {
            own.unclear = pairs
                .iter()
                .copied()
                .filter(|(one, other)| is_left(&one) && is_left(&other))
                .collect();
            return own;
        }
        own.addresses.insert(address);
        far.extend(others[&address].iter().copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(u8, u8)]) -> Vec<(IpAddr, IpAddr)> {
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let all = pairs.iter();
        all.map(|&(one, other)| (address(one), address(other)))
            .collect()
    }

    #[test]
    fn whoever_talks_with_most_is_the_gateway() {
        for (talked, wanted, unclear) in [
            (&[][..], &[][..], 0),
            (&[(1, 2), (1, 3), (1, 4)], &[1], 0),
            // A scanner talks with both addresses of the gateway.
            (&[(1, 2), (1, 3), (1, 4), (5, 4)], &[1, 5], 0),
            // Two addresses of it, which have nobody in common.
            (&[(1, 2), (1, 3), (1, 4), (5, 6), (5, 7)], &[1, 5], 0),
            (&[(1, 2)], &[], 1),
            (&[(1, 2), (1, 3), (5, 6)], &[1], 1),
        ] {
            let found = find(&BTreeSet::new(), &pairs(talked));
            let wanted: BTreeSet<_> = wanted
                .iter()
                .map(|&last| IpAddr::from([192, 0, 2, last]))
                .collect();
            assert_eq!(found.addresses, wanted, "{talked:?}");
            assert_eq!(found.unclear.len(), unclear, "{talked:?}");
        }
        let said = BTreeSet::from([IpAddr::from([192, 0, 2, 2])]);
        assert_eq!(find(&said, &pairs(&[(1, 2), (1, 3)])).addresses, said);
    }
}
