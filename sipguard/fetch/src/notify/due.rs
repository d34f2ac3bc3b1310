//! What is to be sent, and when. It has no clock of its own.
//!
//! The first notice of a kind is sent at once. What comes behind it within ten minutes waits for their end, and is sent together. Where nothing
//! could be sent for a while, all that waits of a kind is sent together, too: nobody who comes back finds a hundred messages.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use sipguard_lists::notice::{Delivery, Notice, Spool};

use super::message::Message;

/// How long notices of a kind are gathered after one was sent.
pub(super) const GATHER: SignedDuration = SignedDuration::from_mins(10);
/// The first pause behind a failure. It is doubled with each.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_mins(10);

/// What is to be done.
pub(super) enum Due<'s> {
    /// Send this.
    Now(Message<'s>),
    /// Send this when the pause is over: its kind could not be sent before.
    Again(Message<'s>),
    /// Nothing yet.
    Later,
}

/// What was longer ago is told with its time.
const LATE: SignedDuration = SignedDuration::from_secs(30);

/// What is to be sent now: of the kind of which the oldest notice waits that may be sent. One that is refused for good holds up no other: kinds that
/// `failed`, the longest ago first, come behind all others.
pub(super) fn due<'s>(
    spool: &'s Spool,
    delivery: &Delivery,
    failed: &[String],
    now: Timestamp,
) -> Due<'s> {
    let mut kinds = BTreeMap::<&str, Vec<&Notice>>::new();
    for notice in spool.notices.iter().filter(|notice| delivery.waits(notice)) {
        kinds.entry(&notice.kind).or_default().push(notice);
    }
    let may_be_sent = |kind: &str| {
        delivery.kinds.get(kind).is_none_or(|sent| {
            // The clock may have been set back.
            !(SignedDuration::ZERO..GATHER).contains(&now.duration_since(sent.time))
        })
    };
    let sendable = kinds.into_iter().filter(|(kind, _)| may_be_sent(kind));
    let place = |kind: &str| failed.iter().position(|failed| failed == kind);
    let next = sendable.min_by_key(|(kind, notices)| {
        let oldest = notices.first().map(|notice| notice.number);
        (place(kind), oldest)
    });
    next.map_or(Due::Later, |(kind, notices)| {
        let last = notices.last().map_or(now, |last| last.time);
        let message = Message {
            spool,
            kind,
            notices,
            is_late: now.duration_since(last) > LATE,
            lost: delivery.gone(spool).saturating_sub(delivery.told),
        };
        match place(kind) {
            None => Due::Now(message),
            Some(_) => Due::Again(message),
        }
    })
}

/// Where a receiver begins: one that is new does not want to hear what happened before it was there. What it was to get when it was written, it gets
/// however late it is: whoever sends may not have run. That does not go for what was written before the receiver was `unwanted` for a while.
pub(super) fn begun(
    spool: &Spool,
    receiver: &str,
    is_new: bool,
    unwanted: Option<Timestamp>,
    now: Timestamp,
) -> Delivery {
    let is_old = |notice: &&Notice| {
        let was_wanted = notice.wanted_by.iter().any(|it| it == receiver)
            && unwanted.is_none_or(|last| notice.time > last);
        !was_wanted && now.duration_since(notice.time) > GATHER
    };
    let old = spool.notices.iter().rev().find(is_old);
    let before = old.filter(|_| is_new).map_or(0, |notice| notice.number);
    Delivery::new(&spool.name, before)
}

/// How long to wait until something is sent again that could not be sent for the `failures`th time, counted from 1.
pub(super) fn after_failure(failures: u32) -> Duration {
    let doubled = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    FIRST.saturating_mul(doubled).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use sipguard_lists::notice::{MOST, Sent};

    use super::*;

    /// A gateway's spool and one receiver, minute by minute.
    struct World {
        spool: Spool,
        delivery: Delivery,
        wanted_by: Vec<String>,
        now: Timestamp,
    }

    impl World {
        fn new() -> Self {
            Self {
                spool: Spool::new("18b".to_owned()),
                delivery: Delivery::new("18b", 0),
                wanted_by: Vec::new(),
                now: "2026-03-01T12:00:00Z".parse().unwrap(),
            }
        }

        fn happens(&mut self, kind: &str) {
            let number = self.spool.notices.back().map_or(1, |last| last.number + 1);
            self.spool.notices.push_back(Notice {
                number,
                time: self.now,
                kind: kind.to_owned(),
                severity: "warning".to_owned(),
                text: "it happened".to_owned(),
                fields: BTreeMap::new(),
                wanted_by: self.wanted_by.clone(),
            });
            if self.spool.notices.len() > MOST {
                self.spool.notices.pop_front();
            }
        }

        fn passes(&mut self, minutes: i64) {
            self.now += SignedDuration::from_mins(minutes);
        }

        /// All that is sent now: kind, numbers, and how many are said to be lost.
        fn sent(&mut self) -> Vec<(String, Vec<u64>, u64)> {
            let mut all = Vec::new();
            while let Due::Now(message) = due(&self.spool, &self.delivery, &[], self.now) {
                let numbers: Vec<_> = message.notices.iter().map(|it| it.number).collect();
                let kind = message.kind.to_owned();
                all.push((kind.clone(), numbers.clone(), message.lost));
                self.delivery.lost = self.delivery.gone(&self.spool);
                self.delivery.told = self.delivery.lost;
                self.delivery.sent += numbers.len() as u64;
                let (number, time) = (*numbers.last().unwrap(), self.now);
                self.delivery.kinds.insert(kind, Sent { number, time });
            }
            all
        }
    }

    fn one(
        kind: &str,
        numbers: impl IntoIterator<Item = u64>,
        lost: u64,
    ) -> (String, Vec<u64>, u64) {
        (kind.to_owned(), numbers.into_iter().collect(), lost)
    }

    #[test]
    fn the_first_comes_at_once_and_then_what_came_in_ten_minutes_together() {
        let mut world = World::new();
        assert_eq!(world.sent(), []);
        world.happens("flood_began");
        assert_eq!(world.sent(), [one("flood_began", [1], 0)]);
        world.passes(1);
        world.happens("flood_began");
        world.happens("provider_moved");
        world.happens("flood_began");
        assert_eq!(world.sent(), [one("provider_moved", [3], 0)]);
        world.passes(8);
        assert_eq!(world.sent(), []);
        world.passes(1);
        assert_eq!(world.sent(), [one("flood_began", [2, 4], 0)]);
        world.happens("flood_began");
        assert_eq!(world.sent(), []);
        world.passes(10);
        assert_eq!(world.sent(), [one("flood_began", [5], 0)]);
        world.passes(10);
        world.happens("flood_began");
        assert_eq!(world.sent(), [one("flood_began", [6], 0)]);
    }

    #[test]
    fn after_a_day_without_the_receiver_each_kind_comes_once_and_what_is_lost_is_said() {
        let mut world = World::new();
        world.happens("flood_began");
        assert_eq!(world.sent().len(), 1);
        for _ in 0..24 * 60 {
            world.passes(1);
            world.happens("flood_began");
        }
        world.happens("provider_moved");
        // 1,442 in all: the first was sent, and 500 are there still.
        let wanted = [
            one("flood_began", 943..=1_441, 941),
            one("provider_moved", [1_442], 0),
        ];
        assert_eq!(world.sent(), wanted);
        assert_eq!((world.delivery.sent, world.delivery.lost), (501, 941));
        world.passes(10);
        world.happens("flood_began");
        assert_eq!(world.sent(), [one("flood_began", [1_443], 0)]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_up() {
        let mut world = World::new();
        world.happens("flood_began");
        assert_eq!(world.sent().len(), 1);
        world.passes(-600);
        world.happens("flood_began");
        assert_eq!(world.sent(), [one("flood_began", [2], 0)]);
    }

    #[test]
    fn a_new_receiver_hears_what_is_new_and_a_new_spool_is_new() {
        let mut world = World::new();
        world.happens("flood_began");
        world.passes(60);
        world.happens("flood_began");
        assert_eq!(begun(&world.spool, "mail", true, None, world.now).before, 1);
        // It had another spool before, of which this is what came then.
        assert_eq!(
            begun(&world.spool, "mail", false, None, world.now).before,
            0
        );
        world.delivery = begun(&world.spool, "mail", true, None, world.now);
        assert_eq!(world.sent(), [one("flood_began", [2], 0)]);
    }

    #[test]
    fn what_was_wanted_when_it_was_written_is_sent_however_late() {
        let mut world = World::new();
        world.happens("flood_began");
        world.wanted_by = vec!["webhook".to_owned()];
        world.happens("provider_moved");
        world.passes(15);
        let before = |receiver| begun(&world.spool, receiver, true, None, world.now).before;
        assert_eq!([before("webhook"), before("mail")], [1, 2]);
    }

    #[test]
    fn pauses_grow_to_ten_minutes() {
        let pauses = [1, 2, 3, 7, 8, 1_000].map(|failures| after_failure(failures).as_secs());
        assert_eq!(pauses, [10, 20, 40, 600, 600, 600]);
    }
}
