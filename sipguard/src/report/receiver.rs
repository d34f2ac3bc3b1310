//! Who wants notices, and how far he is, as `status` and `notify` tell it.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use sipguard_lists::{
    notice::{Delivery, FILE, FOLDER, Spool},
    notify::Notify,
    said::Message,
};

use crate::{host::Host, sources};

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
    /// Since when nothing can be sent.
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
        let deliveries = deliveries();
        let delivery = |receiver| {
            let found = deliveries.iter().find(|(of, _)| *of == receiver);
            found.map(|(_, delivery)| delivery)
        };
        let reports = notify
            .receivers()
            .map(|receiver| Self::of(receiver, spool.as_ref(), delivery(receiver)));
        reports.collect()
    }

    fn of(receiver: &'static str, spool: Option<&Spool>, delivery: Option<&Delivery>) -> Self {
        let waiting = spool.map_or(0, |spool| {
            let delivery = delivery.filter(|it| it.spool == spool.name);
            let waits = |notice| delivery.is_none_or(|delivery| delivery.waits(notice));
            spool.notices.iter().filter(|notice| waits(notice)).count()
        });
        Self {
            receiver,
            sent: delivery.map_or(0, |it| it.sent),
            waiting: waiting as u64,
            lost: delivery.map_or(0, |it| it.lost),
            tried: delivery.and_then(|it| it.tried),
            failing: delivery.and_then(|it| it.failing),
            error: delivery.and_then(|it| Some(Message(it.error.as_ref()?).to_string())),
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
