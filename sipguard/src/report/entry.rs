//! What is said of a prefix, word by word, as `list` and `check` tell it.

use std::{borrow::Cow, collections::HashMap, path::Path};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};
use sipguard_ebpf::abi::{ALLOW_CONFIG, ALLOW_OWN, DENY_CONFIG, DENY_OWN, Value};
use sipguard_lists::said::Said;

use crate::{
    datapath::Description,
    policy::Action,
    prefix,
    state::{Ban, OwnEntry, State},
    tables::Now,
};

/// Who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EntryOrigin {
    /// The config file.
    #[serde(rename = "config")]
    Config,
    /// `allow` and `deny`.
    #[serde(rename = "command line")]
    CommandLine,
    /// Another program, with `ban`.
    #[serde(rename = "ban")]
    Ban,
    /// A live source.
    #[serde(rename = "live")]
    Live,
}

/// One word of the config file or the command line on one prefix, in the JSON of `list` and `check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryReport<'a> {
    /// `203.0.113.0/24`; a single address stands alone.
    #[serde(serialize_with = "as_people_write_it")]
    pub prefix: IpNet,
    /// The service it is about.
    pub service: &'a str,
    /// `allow` or `deny`.
    pub action: Action,
    /// When it ends by itself; null where it is permanent.
    pub until: Option<Timestamp>,
    /// How long that is from now.
    pub seconds_left: Option<i64>,
    /// `config`, `command line`, `ban` or `live`.
    pub origin: EntryOrigin,
    /// The config's source that has it, or the live one; of a ban, who has said it.
    pub source: Option<&'a str>,
    /// The list file that has it.
    pub file: Option<&'a Path>,
    /// What was written with `--comment`; of a live source, what it says: of names, which one it is an address of.
    pub comment: Option<Cow<'a, str>>,
    /// False where it waits for the next apply.
    pub in_force: bool,
    /// Something else counts now, for good or until that ends: another word on the same prefix, or for a ban an entry by hand that covers it.
    /// Only there where it is so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub overruled: bool,
}

fn as_people_write_it<S: Serializer>(prefix: &IpNet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&prefix::format(*prefix))
}

impl<'a> EntryReport<'a> {
    /// One that is not in force yet.
    pub(super) fn waiting(own: &'a OwnEntry, now: Now) -> Self {
        let left = |until: Timestamp| until.duration_since(now.wall).as_secs();
        Self {
            prefix: own.prefix,
            service: &own.service,
            action: own.action,
            until: own.until,
            seconds_left: own.until.map(left),
            origin: EntryOrigin::CommandLine,
            source: None,
            file: None,
            comment: own.comment.as_deref().map(Cow::from),
            in_force: false,
            overruled: false,
        }
    }

    /// A ban in one service.
    pub(super) fn ban(ban: &'a Ban, service: &'a str, now: Now) -> Self {
        let left = |until: Timestamp| until.duration_since(now.wall).as_secs();
        Self {
            prefix: ban.prefix,
            service,
            action: Action::Deny,
            until: ban.until,
            seconds_left: ban.until.map(left),
            origin: EntryOrigin::Ban,
            source: ban.by.as_deref(),
            file: None,
            comment: None,
            in_force: true,
            overruled: false,
        }
    }

    /// `config: providers`, `command line`; with the comment.
    pub fn says_who(&self) -> String {
        let mut text = match (self.origin, self.source, self.file) {
            (EntryOrigin::CommandLine, ..) => "command line".to_owned(),
            (EntryOrigin::Ban, Some(by), _) => format!("banned by {}", Said(by)),
            (EntryOrigin::Ban, None, _) => "banned".to_owned(),
            (EntryOrigin::Live, source, _) => format!("live: {}", source.unwrap_or_default()),
            (EntryOrigin::Config, Some(source), Some(file)) => {
                format!("config: {source} ({})", file.display())
            }
            (EntryOrigin::Config, Some(source), None) => format!("config: {source}"),
            (EntryOrigin::Config, None, _) => "config".to_owned(),
        };
        if let Some(comment) = &self.comment {
            text = format!("{text}: {comment}");
        }
        text
    }
}

/// What the state has to add to what the kernel knows.
pub struct OwnEntries<'a>(HashMap<(IpNet, &'a str), Vec<&'a OwnEntry>>);

impl<'a> OwnEntries<'a> {
    /// Those of a state.
    pub fn new(state: &'a State) -> Self {
        let mut entries = HashMap::<_, Vec<_>>::new();
        for entry in &state.entries {
            entries
                .entry((entry.prefix, entry.service.as_str()))
                .or_default()
                .push(entry);
        }
        Self(entries)
    }

    fn of(&self, entry: &EntryReport<'_>) -> Option<&'a OwnEntry> {
        self.0
            .get(&(entry.prefix, entry.service))?
            .iter()
            .find(|own| own.action == entry.action && own.until.is_some() == entry.until.is_some())
            .copied()
    }
}

/// Everything in force that is said by hand of one prefix in one service; what comes first decides.
pub fn said_of<'a>(
    prefix: IpNet,
    value: Value,
    service: &'a str,
    description: &'a Description,
    own: &OwnEntries<'a>,
    now: Now,
) -> impl Iterator<Item = EntryReport<'a>> {
    let timed = |action, until: u64| {
        let left = until.checked_sub(now.boot_ns).filter(|&left| left > 0)?;
        // A span of boot-clock nanoseconds is at most 584 years.
        let left = SignedDuration::from_nanos(i64::try_from(left).unwrap_or(i64::MAX));
        Some((action, Some(left), EntryOrigin::CommandLine))
    };
    let said = value.permanent | value.config();
    let permanent = |bit, action, origin| (said & bit != 0).then_some((action, None, origin));
    let config = description.origins.get(usize::from(value.origin));
    [
        timed(Action::Deny, value.deny_until),
        timed(Action::Allow, value.allow_until),
        permanent(DENY_OWN, Action::Deny, EntryOrigin::CommandLine),
        permanent(ALLOW_OWN, Action::Allow, EntryOrigin::CommandLine),
        permanent(DENY_CONFIG, Action::Deny, EntryOrigin::Config),
        permanent(ALLOW_CONFIG, Action::Allow, EntryOrigin::Config),
    ]
    .into_iter()
    .flatten()
    .enumerate()
    .map(move |(place, (action, left, origin))| {
        let source = config.filter(|_| origin == EntryOrigin::Config);
        let mut entry = EntryReport {
            prefix,
            service,
            action,
            until: left.and_then(|left| now.wall.checked_add(left).ok()),
            seconds_left: left.map(|left| left.as_secs()),
            origin,
            source: source.map(|origin| origin.source.as_str()),
            file: source.and_then(|origin| origin.file.as_deref()),
            comment: None,
            in_force: true,
            overruled: place > 0 || origin == EntryOrigin::Config && value.overruled != 0,
        };
        if origin == EntryOrigin::CommandLine
            && let Some(known) = own.of(&entry)
        {
            entry.comment = known.comment.as_deref().map(Cow::from);
            // The two clocks are never read at the same moment; what was written down does not waver.
            entry.until = known.until;
        }
        entry
    })
}
