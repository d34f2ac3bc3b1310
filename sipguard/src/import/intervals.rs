//! Sets of numbers as disjoint intervals: the addresses of one family (IPv4 addresses are 0 to 2³²−1), or ports.
//!
//! Every operation costs what the smaller of two sets costs, times a logarithm: rule sets take a few addresses out of a large set again and
//! again.

use std::{collections::BTreeMap, iter::FromIterator, mem};

/// A set of numbers. Its intervals neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Intervals(BTreeMap<u128, u128>);

impl Intervals {
    pub(super) fn one(first: u128, last: u128) -> Self {
        Self(BTreeMap::from([(first, last)]))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The intervals in rising order, first and last number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.0.iter().map(|(&first, &last)| (first, last))
    }

    pub(super) fn contains(&self, number: u128) -> bool {
        self.0
            .range(..=number)
            .next_back()
            .is_some_and(|(_, &last)| number <= last)
    }

    /// Whether every number of `other` is in this one.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(first, last)| {
            self.0
                .range(..=first)
                .next_back()
                .is_some_and(|(_, &own)| last <= own)
        })
    }

    /// The parts of `first` to `last` that are in the set.
    fn within(&self, first: u128, last: u128) -> impl Iterator<Item = (u128, u128)> + '_ {
        let before = self
            .0
            .range(..first)
            .next_back()
            .filter(move |&(_, &end)| end >= first);
        before
            .into_iter()
            .chain(self.0.range(first..=last))
            .map(move |(&start, &end)| (start.max(first), end.min(last)))
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (small, large) = by_size(self, other);
        small
            .iter()
            .any(|(first, last)| large.within(first, last).next().is_some())
    }

    pub(super) fn insert(&mut self, mut first: u128, mut last: u128) {
        if let Some((&start, &end)) = self.0.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            if end >= last {
                return;
            }
            first = start;
        }
        let reach = last.saturating_add(1);
        while let Some((&start, &end)) = self.0.range(first..=reach).next() {
            self.0.remove(&start);
            last = last.max(end);
            if end > reach {
                break;
            }
        }
        self.0.insert(first, last);
    }

    pub(super) fn remove(&mut self, first: u128, last: u128) {
        if let Some((&start, &end)) = self.0.range(..first).next_back()
            && end >= first
        {
            // `start` is less than `first`, which is thus more than 0.
            self.0.insert(start, first - 1);
            if end > last {
                self.0.insert(last + 1, end);
                return;
            }
        }
        while let Some((&start, &end)) = self.0.range(first..=last).next() {
            self.0.remove(&start);
            if end > last {
                self.0.insert(last + 1, end);
                return;
            }
        }
    }

    /// Adds all of `other`.
    pub(super) fn add(&mut self, mut other: Self) {
        if other.0.len() > self.0.len() {
            mem::swap(self, &mut other);
        }
        for (first, last) in other.iter() {
            self.insert(first, last);
        }
    }

    /// Takes all of `other` away.
    pub(super) fn subtract(&mut self, other: &Self) {
        if other.0.len() <= self.0.len() {
            for (first, last) in other.iter() {
                self.remove(first, last);
            }
            return;
        }
        let mut left = Self::default();
        for (first, last) in self.iter() {
            let mut next = Some(first);
            for (start, end) in other.within(first, last) {
                if let Some(begin) = next
                    && begin < start
                {
                    left.0.insert(begin, start - 1);
                }
                next = end.checked_add(1);
            }
            if let Some(begin) = next
                && begin <= last
            {
                left.0.insert(begin, last);
            }
        }
        *self = left;
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let (small, large) = by_size(self, other);
        small
            .iter()
            .flat_map(|(first, last)| large.within(first, last))
            .collect()
    }

    pub(super) fn difference(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.subtract(other);
        left
    }

    /// How many numbers are in the set; at most 2¹²⁸−1.
    pub(super) fn count(&self) -> u128 {
        self.iter().fold(0, |sum: u128, (first, last)| {
            sum.saturating_add((last - first).saturating_add(1))
        })
    }

    /// How many intervals there are.
    pub(super) fn pieces(&self) -> usize {
        self.0.len()
    }
}

fn by_size<'i>(one: &'i Intervals, other: &'i Intervals) -> (&'i Intervals, &'i Intervals) {
    if one.0.len() <= other.0.len() {
        (one, other)
    } else {
        (other, one)
    }
}

impl FromIterator<(u128, u128)> for Intervals {
    fn from_iter<T: IntoIterator<Item = (u128, u128)>>(intervals: T) -> Self {
        let mut all = Self::default();
        for (first, last) in intervals {
            all.insert(first, last);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, test_runner::Config};

    use super::*;

    /// The naive model: a number a bit. The highest number stands for the end of all numbers.
    const NUMBERS: u128 = 64;

    fn number(place: u128) -> u128 {
        if place < NUMBERS / 2 {
            place
        } else {
            u128::MAX - (NUMBERS - 1 - place)
        }
    }

    fn model(set: &Intervals) -> Vec<bool> {
        (0..NUMBERS)
            .map(|place| set.contains(number(place)))
            .collect()
    }

    fn is_well_formed(set: &Intervals) -> bool {
        let all: Vec<_> = set.iter().collect();
        all.iter().all(|(first, last)| first <= last)
            && all
                .windows(2)
                .all(|pair| pair[0].1 < u128::MAX && pair[0].1 + 1 < pair[1].0)
    }

    #[derive(Clone, Copy, Debug)]
    enum Change {
        Insert(u128, u128),
        Remove(u128, u128),
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = (any::<bool>(), 0..NUMBERS, 0..NUMBERS).prop_map(|(insert, one, other)| {
            let (first, last) = (number(one.min(other)), number(one.max(other)));
            if insert {
                Change::Insert(first, last)
            } else {
                Change::Remove(first, last)
            }
        });
        vec(change, 0..12)
    }

    fn made(changes: &[Change]) -> (Intervals, Vec<bool>) {
        let (mut set, mut bits) = (Intervals::default(), vec![false; 64]);
        for change in changes {
            let (first, last, value) = match *change {
                Change::Insert(first, last) => (first, last, true),
                Change::Remove(first, last) => (first, last, false),
            };
            if value {
                set.insert(first, last);
            } else {
                set.remove(first, last);
            }
            for (place, bit) in (0..).zip(&mut bits) {
                if (first..=last).contains(&number(place)) {
                    *bit = value;
                }
            }
        }
        (set, bits)
    }

    proptest! {
        #![proptest_config(Config::with_cases(2000))]

        #[test]
        fn every_operation_is_that_of_the_model(one in changes(), other in changes()) {
            let ((one, ones), (other, others)) = (made(&one), made(&other));
            prop_assert!(is_well_formed(&one), "{one:?}");
            prop_assert_eq!(&model(&one), &ones);
            let pairs = || ones.iter().zip(&others);
            let mut union = one.clone();
            union.add(other.clone());
            let intersection = one.intersection(&other);
            let difference = one.difference(&other);
            let mut subtracted = one.clone();
            subtracted.subtract(&other);
            prop_assert_eq!(&subtracted, &difference);
            for set in [&union, &intersection, &difference] {
                prop_assert!(is_well_formed(set), "{set:?}");
            }
            prop_assert_eq!(model(&union), pairs().map(|(a, b)| *a || *b).collect::<Vec<_>>());
            prop_assert_eq!(model(&intersection), pairs().map(|(a, b)| *a && *b).collect::<Vec<_>>());
            prop_assert_eq!(model(&difference), pairs().map(|(a, b)| *a && !*b).collect::<Vec<_>>());
            // The numbers between the two ends are in a set or not as its pieces say, which the model does not have.
            prop_assert_eq!(one.overlaps(&other), !intersection.is_empty());
            prop_assert_eq!(one.covers(&other), other.difference(&one).is_empty());
            let all = Intervals::one(0, u128::MAX);
            let complement = all.difference(&one);
            prop_assert_eq!(model(&complement), ones.iter().map(|bit| !bit).collect::<Vec<_>>());
            prop_assert_eq!(all.difference(&complement), one);
        }
    }
}
