//! In which order sources give way: those that were told of in fewest minutes first, and of these the one that was told of longest ago.

use std::{collections::BTreeMap, net::IpAddr, ops::RangeBounds};

/// Where a source is kept in the order, until it leaves.
pub(super) type Place = u32;

/// See the module. All but a walk through it is done in as much time for a million sources as for one.
#[derive(Debug, Default)]
pub(super) struct Order {
    places: Vec<Link>,
    /// Places that nobody has.
    free: Vec<Place>,
    /// The first and the last of those that were told of in so many minutes.
    ends: BTreeMap<u32, (Place, Place)>,
}

#[derive(Debug)]
struct Link {
    source: IpAddr,
    minutes: u32,
    before: Option<Place>,
    behind: Option<Place>,
}

impl Order {
    /// One that is told of now, in so many minutes by now.
    pub(super) fn enter(&mut self, source: IpAddr, minutes: u32) -> Place {
        let link = Link {
            source,
            minutes,
            before: None,
            behind: None,
        };
        let place = if let Some(place) = self.free.pop() {
            *self.at(place) = link;
            place
        } else {
            self.places.push(link);
            // Each source that is kept has one, and there is no memory for so many.
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 sources")
        };
        self.join(place);
        place
    }

    /// It is told of again.
    pub(super) fn told(&mut self, place: Place, minutes: u32) {
        self.part(place);
        self.at(place).minutes = minutes;
        self.join(place);
    }

    pub(super) fn leave(&mut self, place: Place) {
        self.part(place);
        self.free.push(place);
    }

    /// Those that were told of in so many minutes, in order.
    pub(super) fn of(&self, minutes: impl RangeBounds<u32>) -> impl Iterator<Item = IpAddr> {
        self.ends.range(minutes).flat_map(|(_, (first, _))| {
            let behind = |place: &Place| self.places[*place as usize].behind;
            let places = std::iter::successors(Some(*first), behind);
            places.map(|place| self.places[place as usize].source)
        })
    }

    fn at(&mut self, place: Place) -> &mut Link {
        &mut self.places[place as usize]
    }

    /// Goes behind all that were told of in as many minutes.
    fn join(&mut self, place: Place) {
        let minutes = self.at(place).minutes;
        let before = self.ends.get(&minutes).map(|(_, last)| *last);
        let link = self.at(place);
        link.before = before;
        link.behind = None;
        if let Some(before) = before {
            self.at(before).behind = Some(place);
        }
        let ends = self.ends.entry(minutes).or_insert((place, place));
        ends.1 = place;
    }

    /// Lets those before and behind it follow each other.
    fn part(&mut self, place: Place) {
        let Link {
            minutes,
            before,
            behind,
            ..
        } = *self.at(place);
        if let Some(before) = before {
            self.at(before).behind = behind;
        }
        if let Some(behind) = behind {
            self.at(behind).before = before;
        }
        let Some(ends) = self.ends.get_mut(&minutes) else {
            return;
        };
        match (before, behind) {
            (None, None) => {
                self.ends.remove(&minutes);
            }
            (None, Some(first)) => ends.0 = first,
            (Some(last), None) => ends.1 = last,
            (Some(_), Some(_)) => {}
        }
    }
}
