//! Who wants notices, and how far he is, as `status` and `notify` tell it.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sipguard_lists::{
    notice::{Delivery, FILE, FOLDER, Notice, Spool},
    notify::Notify,
    said::Message,
};

use crate::{host::Host, sources};

/// Whoever sends tries at least so often what waits: ten minutes for others of its kind, or as long until it is tried again, and a while more.
const PATIENCE: SignedDuration = SignedDuration::from_mins(30);
/// What is wrong where nobody does.
const NOBODY: &str = "nobody tries: sipguard-fetch.service does not run";

/// How a receiver of notices fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReceiverReport {
    /// `webhook` or `mail`.
    pub receiver: &'static str,
    /// How many notices were sent to it, since the spool was begun.
    pub sent: u64,
    /// How many wait: to be tried again, or to be sent together with others of their kind.
    pub waiting: u64,
    /// How many had to make room for others before they could be sent.
    pub lost: u64,
    /// When something was to be sent last, with or without success.
    pub tried: Option<Timestamp>,
    /// Since when something waits that can't be sent.
    pub failing: Option<Timestamp>,
    /// Why; anybody's words, made harmless.
    pub error: Option<String>,
}

impl ReceiverReport {
    /// Of everybody who wants notices.
    pub fn all(host: &Host, notify: Option<&Notify>) -> Vec<Self> {
        let Some(notify) = notify else {
            return Vec::new();
        };
        // What can't be read is the agent's business, who begins it anew.
        let spool = Spool::read(&host.store.folder().join(FILE)).ok().flatten();
        let (deliveries, now) = (deliveries(), host.now().wall);
        let delivery = |receiver| {
            let found = deliveries.iter().find(|(of, _)| *of == receiver);
            found.map(|(_, delivery)| delivery)
        };
        let reports = notify
            .receivers()
            .map(|receiver| Self::of(receiver, spool.as_ref(), delivery(receiver), now));
        reports.collect()
    }

    fn of(
        receiver: &'static str,
        spool: Option<&Spool>,
        delivery: Option<&Delivery>,
        now: Timestamp,
    ) -> Self {
        let known = delivery.filter(|it| spool.is_some_and(|spool| it.spool == spool.name));
        let waits = |notice: &&Notice| match known {
            Some(delivery) => delivery.waits(notice),
            // Nobody has begun to send. What was there before the receiver is not for it; older ones do not say.
            None => notice.wanted_by.is_empty() || notice.wanted_by.iter().any(|it| it == receiver),
        };
        let notices = spool.into_iter().flat_map(|spool| &spool.notices);
        let waiting: Vec<_> = notices.filter(waits).collect();
        let is_long_ago = |time| now.duration_since(time) > PATIENCE;
        let tried = known.and_then(|delivery| delivery.tried);
        let first = waiting.first().map(|first| first.time);
        let forgotten = first.filter(|&first| is_long_ago(first) && tried.is_none_or(is_long_ago));
        let error = delivery.and_then(|it| it.error.as_deref());
        Self {
            receiver,
            sent: delivery.map_or(0, |it| it.sent),
            waiting: waiting.len() as u64,
            lost: delivery.map_or(0, |it| it.lost),
            tried: delivery.and_then(|it| it.tried),
            failing: delivery.and_then(|it| it.failing).or(forgotten),
            error: match forgotten {
                Some(_) => Some(NOBODY.to_owned()),
                None => error.map(|error| Message(error).to_string()),
            },
        }
    }
}

/// What the fetcher says of how far each receiver is, read as a stranger's. What can't be taken says nothing.
pub(crate) fn deliveries() -> Vec<(&'static str, Delivery)> {
    let folder = Path::new(sources::FOLDER).join(FOLDER);
    let read = |receiver| {
        let file = sources::open(&folder, receiver).ok()??;
        Some((receiver, Delivery::read(file).ok()?))
    };
    [Notify::WEBHOOK, Notify::MAIL]
        .into_iter()
        .filter_map(read)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_sends_it_fails_too() {
        let begin = Timestamp::from_second(1_780_000_000).unwrap();
        let minute = |minute| begin + SignedDuration::from_mins(minute);
        let mut spool = Spool::new("1".to_owned());
        spool.notices.push_back(Notice {
            number: 1,
            time: begin,
            kind: "failed".to_owned(),
            severity: "warning".to_owned(),
            text: "x".to_owned(),
            fields: [].into(),
            wanted_by: vec![Notify::MAIL.to_owned()],
        });
        let mut delivery = Delivery::new("1", 0);
        let report = |receiver, delivery: Option<&Delivery>, now| {
            let report = ReceiverReport::of(receiver, Some(&spool), delivery, now);
            (report.failing, report.error)
        };
        let of = |delivery: &Delivery, now| report(Notify::MAIL, Some(delivery), now);
        let nobody = (Some(begin), Some(NOBODY.to_owned()));
        assert_eq!(of(&delivery, minute(30)), (None, None));
        assert_eq!(of(&delivery, minute(31)), nobody);
        // Somebody tries, and then nobody does any more.
        delivery.tried = Some(minute(20));
        assert_eq!(of(&delivery, minute(31)), (None, None));
        assert_eq!(of(&delivery, minute(51)), nobody);
        // What has been sent does not wait.
        delivery.before = 1;
        assert_eq!(of(&delivery, minute(51)), (None, None));
        // Whoever sends has never run, or never with this spool.
        let delivery = Delivery::new("another", 0);
        for delivery in [None, Some(&delivery)] {
            assert_eq!(report(Notify::MAIL, delivery, minute(30)), (None, None));
            assert_eq!(report(Notify::MAIL, delivery, minute(31)), nobody);
            // It was not for this one, who is new.
            assert_eq!(report(Notify::WEBHOOK, delivery, minute(31)), (None, None));
        }
    }
}
