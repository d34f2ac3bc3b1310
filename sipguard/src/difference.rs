//! What a change of the policy comes to: where what is in force and what would be differ.

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use sipguard_ebpf::abi::{ALLOW_CONFIG, ALLOW_OWN, DENY_CONFIG, DENY_OWN, Layer, SERVICES, Value};
use sipguard_lists::task::Task;

use crate::{
    datapath::{self, Description},
    policy::{Action, AttachMode, Interface, LiveSource, Mode, Policy, Service},
    prefix,
    state::Slots,
    tables::{Entries, Family, PrefixKey, Tables},
};

/// How many of the entries that come or go are named; of a million nobody reads more.
const NAMED: usize = 5;

/// Where two policies differ. As JSON it is part of what `apply` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What becomes of frames that no service judges.
    pub mode: Option<Change<Mode>>,
    /// Interfaces that come, go, or are attached to in another way.
    pub interfaces: Vec<Change<AttachMode>>,
    /// Services that come, go, or are not what they were.
    pub services: Vec<Change<Service>>,
    /// Live sources that come, go, or are asked for or used in another way. What they have is theirs, and not among the entries.
    pub sources: Vec<Change<SourceLine>>,
    /// Tables of the config that say something else and are none of the above: `dns`, `notify`, `events`.
    pub tables: Vec<&'static str>,
    /// Entries that come and go.
    pub entries: EntryChanges,
}

/// A live source, and what is done with its entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceLine {
    /// `names`, `url`, `countries`, `crowdsec` or `etcd`.
    pub kind: &'static str,
    /// The services that it lets in to.
    pub allow: Vec<String>,
    /// The services that it keeps out of.
    pub deny: Vec<String>,
    #[serde(skip)]
    task: Task,
}

impl SourceLine {
    fn of<'s>(source: &LiveSource, service: impl Fn(usize) -> Option<&'s Service>) -> Self {
        let of = |action| {
            let uses = source.uses.iter().filter(|it| it.action == action);
            let named = uses.filter_map(|it| service(usize::from(it.service)));
            named.map(|service| service.name.clone()).collect()
        };
        Self {
            kind: source.task.kind.name(),
            allow: of(Action::Allow),
            deny: of(Action::Deny),
            task: source.task.clone(),
        }
    }
}

/// Something that is not the same before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change<T> {
    /// The interface or service; `mode` for the mode.
    pub name: String,
    /// What it was; `None` where it was not there.
    pub from: Option<T>,
    /// What it becomes; `None` where it goes.
    pub to: Option<T>,
}

/// What is said of prefixes afterwards and was not before, and the other way round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EntryChanges {
    /// What comes.
    pub added: EntrySummary,
    /// What goes.
    pub removed: EntrySummary,
}

/// How much is said, and the first of it by address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EntrySummary {
    /// How many entries.
    pub count: usize,
    /// At most five of them.
    pub first: Vec<EntryLine>,
}

/// One word on one prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct EntryLine {
    /// The prefix.
    #[serde(serialize_with = "as_people_write_it")]
    pub prefix: IpNet,
    /// The service's name.
    pub service: String,
    /// Allow or deny.
    pub action: Action,
    /// Whether it ends by itself.
    pub timed: bool,
}

fn as_people_write_it<S: Serializer>(prefix: &IpNet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&prefix::format(*prefix))
}

/// What is in force.
#[derive(Clone, Copy, Debug)]
pub struct Before<'b> {
    /// What the newest generation says of itself.
    pub description: &'b Description,
    /// The interfaces that are filtered.
    pub interfaces: &'b [Interface],
}

/// What would be.
#[derive(Clone, Copy, Debug)]
pub struct After<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Its services' numbers.
    pub slots: &'a Slots,
    /// What it becomes.
    pub tables: &'a Tables,
    /// The interfaces that exist.
    pub interfaces: &'a [Interface],
}

impl Difference {
    /// Between what is in force, if anything, and what would be, at a time of the boot clock. `each` hands over every entry in
    /// force; they are never all in memory.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn between<E>(
        before: Option<Before<'_>>,
        after: After<'_>,
        boot_ns: u64,
        each: impl FnOnce(&mut dyn FnMut(datapath::Entry)) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut entries = Comparison::new(after, boot_ns);
        if let Some(before) = before {
            each(&mut |entry| entries.before(before.description, entry))?;
        }
        let mode = before.map(|before| before.description.mode);
        let services = before.map_or(&[][..], |before| &before.description.services);
        Ok(Self {
            mode: (mode != Some(after.policy.mode)).then(|| Change {
                name: "mode".to_owned(),
                from: mode,
                to: Some(after.policy.mode),
            }),
            interfaces: changes(
                before
                    .map_or(&[][..], |before| before.interfaces)
                    .iter()
                    .map(|interface| (&*interface.name, &interface.mode)),
                after
                    .interfaces
                    .iter()
                    .map(|interface| (&*interface.name, &interface.mode)),
            ),
            services: changes(
                services
                    .iter()
                    .map(|found| (&*found.service.name, &found.service)),
                after
                    .policy
                    .services
                    .iter()
                    .map(|service| (&*service.name, service)),
            ),
            sources: {
                let before = before.map_or(Vec::new(), |before| {
                    let services = &before.description.services;
                    let service = |index: usize| Some(&services.get(index)?.service);
                    let live = before.description.live.iter();
                    live.map(|source| SourceLine::of(source, service)).collect()
                });
                let services = &after.policy.services;
                let live = after.policy.live.iter();
                let now: Vec<_> = live
                    .map(|source| SourceLine::of(source, |index| services.get(index)))
                    .collect();
                changes(
                    before.iter().map(|line| (&*line.task.source, line)),
                    now.iter().map(|line| (&*line.task.source, line)),
                )
            },
            tables: tables(before.map(|before| before.description), after.policy),
            entries: entries.finish(),
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whoever had none of them had them as they are where nothing is said.
fn tables(before: Option<&Description>, after: &Policy) -> Vec<&'static str> {
    let dns = before.map(|before| before.dns.clone()).unwrap_or_default();
    let notify = before.and_then(|before| before.notify.as_ref());
    let hide = before.map(|before| before.hide).unwrap_or_default();
    let all = [
        ("dns", dns != after.dns),
        ("notify", notify != after.notify.as_ref()),
        ("events", hide != after.hide),
    ];
    let changed = all.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(name, _)| name).collect()
}

/// What is in one and not so in the other, in the order of the first and then of the second.
fn changes<'n, T: Clone + PartialEq + 'n>(
    before: impl Iterator<Item = (&'n str, &'n T)>,
    after: impl Iterator<Item = (&'n str, &'n T)>,
) -> Vec<Change<T>> {
    let mut changes: Vec<_> = before
        .map(|(name, it)| Change {
            name: name.to_owned(),
            from: Some(it.clone()),
            to: None,
        })
        .collect();
    for (name, it) in after {
        match changes.iter_mut().find(|change| change.name == name) {
            Some(change) => change.to = Some(it.clone()),
            None => changes.push(Change {
                name: name.to_owned(),
                from: None,
                to: Some(it.clone()),
            }),
        }
    }
    changes.retain(|change| change.from != change.to);
    changes
}

/// Entries, as they are told apart: what is said of a prefix in a service by how many.
struct Comparison<'a> {
    after: After<'a>,
    boot_ns: u64,
    /// By the service's number.
    names: [Option<&'a str>; SERVICES],
    /// Which keys of the tables were there before, in their order.
    known4: Vec<bool>,
    known6: Vec<bool>,
    changes: EntryChanges,
}

impl<'a> Comparison<'a> {
    fn new(after: After<'a>, boot_ns: u64) -> Self {
        let mut names = [None; SERVICES];
        for service in &after.policy.services {
            if let Some(slot) = after.slots.get(&service.name) {
                names[usize::from(slot)] = Some(&*service.name);
            }
        }
        Self {
            after,
            boot_ns,
            names,
            known4: vec![false; after.tables.entries4.said.len()],
            known6: vec![false; after.tables.entries6.said.len()],
            changes: EntryChanges::default(),
        }
    }

    fn before(&mut self, description: &Description, entry: datapath::Entry) {
        // Bans are as they are, whatever the policy says.
        if entry.layer == Layer::Live {
            return;
        }
        let Some(found) = description.service_at(entry.service) else {
            return;
        };
        let name = &*found.service.name;
        let tables = self.after.tables;
        // The service may be gone, or have come back with another number.
        let number = self.names.iter().position(|known| *known == Some(name));
        let value = number.and_then(|number| {
            // There are 16 services.
            let number = u8::try_from(number).ok()?;
            match PrefixKey::new(entry.prefix, number, Layer::Hand) {
                PrefixKey::V4(key) => known(&tables.entries4, &mut self.known4, &key),
                PrefixKey::V6(key) => known(&tables.entries6, &mut self.known6, &key),
            }
        });
        let value = value.unwrap_or_default();
        self.compare(entry.prefix, name, entry.value, value);
    }

    fn compare(&mut self, prefix: IpNet, service: &str, old: Value, new: Value) {
        let (old, new) = (words(old, self.boot_ns), words(new, self.boot_ns));
        for ((word, old), new) in WORDS.iter().zip(old).zip(new) {
            let said = match (old, new) {
                (false, true) => &mut self.changes.added,
                (true, false) => &mut self.changes.removed,
                _ => continue,
            };
            said.add(prefix, service, *word);
        }
    }

    fn finish(mut self) -> EntryChanges {
        let tables = self.after.tables;
        let known4 = std::mem::take(&mut self.known4);
        let known6 = std::mem::take(&mut self.known6);
        self.new_ones(&tables.entries4, &known4);
        self.new_ones(&tables.entries6, &known6);
        self.changes
    }

    fn new_ones<A: Family>(&mut self, entries: &Entries<A>, known: &[bool]) {
        for ((key, value), known) in entries.said.iter().zip(known) {
            if !known
                && key.layer() == Layer::Hand
                && let Some(name) = self.names[usize::from(key.service())]
            {
                self.compare(A::net(key).into(), name, Value::default(), *value);
            }
        }
    }
}

fn known<A: Family>(
    entries: &Entries<A>,
    known: &mut [bool],
    key: &sipguard_ebpf::abi::Key<A>,
) -> Option<Value> {
    let place = entries.place(key)?;
    known[place] = true;
    Some(entries.said[place].1)
}

/// What can be said of a prefix, each by itself: the action, and whether it ends.
const WORDS: [(Action, bool); 6] = [
    (Action::Allow, false),
    (Action::Deny, false),
    (Action::Allow, false),
    (Action::Deny, false),
    (Action::Allow, true),
    (Action::Deny, true),
];

/// Which of [`WORDS`] are in force.
fn words(value: Value, boot_ns: u64) -> [bool; 6] {
    let permanent = |bit| value.permanent & bit != 0;
    [
        permanent(ALLOW_CONFIG),
        permanent(DENY_CONFIG),
        permanent(ALLOW_OWN),
        permanent(DENY_OWN),
        value.allow_until > boot_ns,
        value.deny_until > boot_ns,
    ]
}

impl EntrySummary {
    fn add(&mut self, prefix: IpNet, service: &str, (action, timed): (Action, bool)) {
        self.count += 1;
        let place = self
            .first
            .partition_point(|said| (said.prefix, &*said.service) < (prefix, service));
        if place < NAMED {
            self.first.truncate(NAMED - 1);
            self.first.insert(
                place.min(self.first.len()),
                EntryLine {
                    prefix,
                    service: service.to_owned(),
                    action,
                    timed,
                },
            );
        }
    }
}

#[cfg(test)]
mod tests;
