//! The packet that the rules are asked about: the first one of a new connection, from outside, from every source at once.

use std::net::IpAddr;

use super::{
    addresses::Family,
    intervals::Intervals,
    ruleset::{
        Answer, Bits, Change, Condition, Field, Key, Members, Ruleset, SetId, SetOf, Test,
        number_of, state,
    },
};

/// What is asked: may this packet come in?
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'q> {
    pub(super) family: Family,
    /// UDP (17) or TCP (6).
    pub(super) protocol: u8,
    pub(super) port: u16,
    /// By which interface it comes in; `None` is one that no rule names.
    pub(super) interface: Option<&'q str>,
    /// This host's addresses, where they are known.
    pub(super) own: &'q [IpAddr],
    /// Which of several chains of one priority is asked first: the one that was read last, as the kernel does where they were made in that
    /// order, or the one that was read first.
    pub(super) last_first: bool,
}

/// What becomes different about it on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Packet {
    mark: Mark,
    connection_mark: Mark,
    pub(super) tracking: Tracking,
    port: u16,
    pub(super) changed: bool,
    /// Whether it goes on to another host: no, yes, or not known.
    pub(super) leaves: Leaves,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leaves {
    No,
    Yes,
    Unknown,
}

/// What connection tracking says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tracking {
    /// It was not there yet.
    Before,
    New,
    /// It was told to leave it alone.
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    value: u32,
    known: u32,
}

const NO_MARK: Mark = Mark {
    value: 0,
    known: u32::MAX,
};
const UNKNOWN_MARK: Mark = Mark { value: 0, known: 0 };

impl Mark {
    const fn changed(self, Bits { and, xor }: Bits) -> Self {
        let known = self.known | !and;
        Self {
            value: ((self.value & and) ^ xor) & known,
            known,
        }
    }
}

impl Packet {
    pub(super) const fn new(question: &Question<'_>) -> Self {
        Self {
            mark: NO_MARK,
            connection_mark: NO_MARK,
            tracking: Tracking::Before,
            port: question.port,
            changed: false,
            leaves: Leaves::No,
        }
    }

    /// The same with marks of which nothing is known.
    pub(super) const fn blurred(self) -> Self {
        Self {
            mark: UNKNOWN_MARK,
            connection_mark: UNKNOWN_MARK,
            ..self
        }
    }

    pub(super) fn after(mut self, change: Change) -> Self {
        match change {
            // Before connection tracking, and without it, there is no connection that could have a mark.
            Change::ConnectionMark(_)
            | Change::SaveMark
            | Change::RestoreMark
            | Change::ConnectionMarkUnknown
                if self.tracking != Tracking::New => {}
            Change::Mark(bits) => self.mark = self.mark.changed(bits),
            Change::ConnectionMark(bits) => {
                self.connection_mark = self.connection_mark.changed(bits);
            }
            Change::SaveMark => self.connection_mark = self.mark,
            Change::RestoreMark => self.mark = self.connection_mark,
            Change::MarkUnknown => self.mark = UNKNOWN_MARK,
            Change::ConnectionMarkUnknown => self.connection_mark = UNKNOWN_MARK,
            // Too late where connection tracking has seen it.
            Change::Untrack if self.tracking == Tracking::Before => self.tracking = Tracking::Not,
            Change::Untrack | Change::Add(_) => {}
            Change::Destination { local, port } => {
                self.changed = true;
                self.port = port.unwrap_or(self.port);
                self.leaves = match local {
                    Answer::Yes => Leaves::No,
                    Answer::No => Leaves::Yes,
                    Answer::Unknown => Leaves::Unknown,
                };
            }
        }
        self
    }
}

/// For which sources a condition holds.
pub(super) enum Holds<'s> {
    /// For all of them, for none, or nobody knows.
    All(Answer),
    /// For those of a set, or, negated, for all others.
    For {
        sources: &'s Intervals,
        negated: bool,
    },
    /// For these surely, and for those perhaps, which has these in it.
    Between {
        surely: Intervals,
        perhaps: Intervals,
    },
}

/// Sets that rules on the way add the source to.
pub(super) type Added = Vec<(SetId, Intervals)>;

pub(super) fn holds<'s>(
    condition: &'s Condition,
    question: &Question<'_>,
    packet: Packet,
    rules: &'s Ruleset,
    added: &Added,
) -> Holds<'s> {
    let (keys, set, negated) = match &condition.test {
        Test::Is(answer) | Test::Meter(answer) => return Holds::All(*answer),
        Test::Neighbours(conditions) => {
            let all = question.family.all();
            let (mut surely, mut perhaps) = (all.clone(), Intervals::default());
            for condition in conditions {
                let holds = holds(condition, question, packet, rules, added);
                let (own, possible) = bounds(holds, &all);
                surely = surely.intersection(&own);
                perhaps.add(possible);
            }
            return Holds::Between { surely, perhaps };
        }
        Test::In { keys, set, negated } => (keys.as_slice(), set, *negated),
    };
    if let SetOf::Named(number) = set
        && rules.sets[*number].unreadable
    {
        return Holds::All(Answer::Unknown);
    }
    let members = rules.members(set);
    if let ([Key::Source], Members::Addresses(addresses)) = (keys, members) {
        let sources = addresses.of(question.family);
        let also = match set {
            SetOf::Named(number) => added.iter().find(|(known, _)| known == number),
            SetOf::Inline(_) => None,
        };
        return match also {
            Some((_, also)) => {
                let mut perhaps = sources.clone();
                perhaps.add(also.clone());
                between(sources.clone(), perhaps, negated, question.family)
            }
            None => Holds::For { sources, negated },
        };
    }
    match members {
        Members::Rows(rows) => {
            let (mut surely, mut perhaps) = (Intervals::default(), Intervals::default());
            for row in rows {
                let mut whole = Answer::Yes;
                let mut sources = None;
                for (&key, field) in keys.iter().zip(row) {
                    match (key, field) {
                        (_, Field::Any) => {}
                        (Key::Source, Field::Addresses(range)) => {
                            if range.family == question.family {
                                sources = Some((range.first, range.last));
                            } else {
                                whole = Answer::No;
                            }
                        }
                        (key, field) => whole = whole.and(is_field(key, field, question, packet)),
                    }
                }
                if keys.len() != row.len() {
                    whole = whole.and(Answer::Unknown);
                }
                let (first, last) = sources.unwrap_or((0, question.family.last()));
                if whole == Answer::Yes {
                    surely.insert(first, last);
                }
                if whole != Answer::No {
                    perhaps.insert(first, last);
                }
            }
            if let SetOf::Named(number) = set
                && let Some((_, also)) = added.iter().find(|(known, _)| known == number)
            {
                perhaps.add(also.clone());
            }
            between(surely, perhaps, negated, question.family)
        }
        members => {
            let answer = match keys {
                [key] => is_member(*key, members, question, packet),
                _ => Answer::Unknown,
            };
            Holds::All(answer.negated(negated))
        }
    }
}

/// For whom a condition surely holds, and for whom it may.
fn bounds(holds: Holds<'_>, all: &Intervals) -> (Intervals, Intervals) {
    match holds {
        Holds::All(Answer::Yes) => (all.clone(), all.clone()),
        Holds::All(Answer::No) => (Intervals::default(), Intervals::default()),
        Holds::All(Answer::Unknown) => (Intervals::default(), all.clone()),
        Holds::For { sources, negated } => {
            let these = if negated {
                all.difference(sources)
            } else {
                sources.clone()
            };
            (these.clone(), these)
        }
        Holds::Between { surely, perhaps } => (surely, perhaps),
    }
}

fn between(surely: Intervals, perhaps: Intervals, negated: bool, family: Family) -> Holds<'static> {
    if negated {
        let all = family.all();
        Holds::Between {
            surely: all.difference(&perhaps),
            perhaps: all.difference(&surely),
        }
    } else {
        Holds::Between { surely, perhaps }
    }
}

/// Whether what the packet has under a key is in a set.
fn is_member(key: Key, members: &Members, question: &Question<'_>, packet: Packet) -> Answer {
    match (key, members) {
        (Key::Destination, Members::Addresses(addresses)) => {
            is_destination(addresses.of(question.family), question, packet)
        }
        (Key::Interface, Members::Names(names)) => any(names
            .iter()
            .map(|name| is_interface(name, question.interface))),
        (key @ (Key::SourcePort | Key::Length), Members::Numbers(numbers)) => {
            // Ports that senders choose from, and packets with something in them.
            let usual = match key {
                Key::SourcePort => Intervals::one(1024, 65_535),
                _ => Intervals::one(29, 1500),
            };
            if numbers.covers(&usual) {
                Answer::Yes
            } else if numbers.overlaps(&usual) {
                Answer::Unknown
            } else {
                Answer::No
            }
        }
        (key, Members::Numbers(numbers)) => match number(key, question, packet) {
            Some(number) => Answer::of(numbers.contains(number)),
            None => Answer::Unknown,
        },
        // An empty set is one of addresses until something says otherwise.
        (_, Members::Addresses(addresses)) if addresses.is_empty() => Answer::No,
        _ => Answer::Unknown,
    }
}

fn is_field(key: Key, field: &Field, question: &Question<'_>, packet: Packet) -> Answer {
    match field {
        Field::Any => Answer::Yes,
        Field::Numbers(first, last) => is_member(
            key,
            &Members::Numbers(Intervals::one(*first, *last)),
            question,
            packet,
        ),
        Field::Name(name) if key == Key::Interface => is_interface(name, question.interface),
        Field::Addresses(range) if key == Key::Destination => {
            if range.family == question.family {
                is_destination(&Intervals::one(range.first, range.last), question, packet)
            } else {
                Answer::No
            }
        }
        _ => Answer::Unknown,
    }
}

fn any(answers: impl Iterator<Item = Answer>) -> Answer {
    let mut all = Answer::No;
    for answer in answers {
        match answer {
            Answer::Yes => return Answer::Yes,
            Answer::Unknown => all = Answer::Unknown,
            Answer::No => {}
        }
    }
    all
}

/// Whether an interface is called so; a name may end in `*`, which stands for anything.
fn is_interface(pattern: &str, interface: Option<&str>) -> Answer {
    let Some(interface) = interface else {
        return Answer::of(pattern == "*");
    };
    match (pattern.strip_suffix('*'), interface.strip_suffix('*')) {
        (None, None) => Answer::of(pattern == interface),
        (Some(begin), None) => Answer::of(interface.starts_with(begin)),
        (Some(begin), Some(own)) if own.starts_with(begin) => Answer::Yes,
        (Some(begin), Some(own)) if begin.starts_with(own) => Answer::Unknown,
        (None, Some(own)) if pattern.starts_with(own) => Answer::Unknown,
        _ => Answer::No,
    }
}

/// Whether the packet goes to one of these: it is meant for this host alone, by one of its addresses.
fn is_destination(wanted: &Intervals, question: &Question<'_>, packet: Packet) -> Answer {
    /// Addresses that no packet from outside is sent to when it is meant for this host alone.
    const NOBODYS: [&str; 7] = [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/127",
        "ff00::/8",
        "::ffff:0:0/96",
    ];
    let mut possible = question.family.all();
    for prefix in NOBODYS {
        // The texts above are prefixes.
        if let Ok(prefix) = prefix.parse() {
            let range = super::addresses::Range::of(prefix);
            if range.family == question.family {
                possible.remove(range.first, range.last);
            }
        }
    }
    if wanted.covers(&possible) {
        return Answer::Yes;
    }
    if !wanted.overlaps(&possible) {
        return Answer::No;
    }
    if packet.changed {
        return Answer::Unknown;
    }
    let mut own = question
        .own
        .iter()
        .map(|address| Family::of(*address))
        .filter(|(family, _)| *family == question.family)
        .map(|(_, number)| wanted.contains(number));
    match own.next() {
        Some(first) if own.all(|other| other == first) => Answer::of(first),
        _ => Answer::Unknown,
    }
}

/// What the packet has under a key, where that is a number and known.
fn number(key: Key, question: &Question<'_>, packet: Packet) -> Option<u128> {
    const SYN: u8 = 2;
    const UDP: u8 = 17;
    let bits = |mark: Mark, mask: u32| {
        (mark.known & mask == mask).then_some(u128::from(mark.value & mask))
    };
    match key {
        Key::Family => Some(number_of(question.family).into()),
        Key::Protocol => Some(question.protocol.into()),
        Key::DestinationPort => Some(packet.port.into()),
        Key::OriginalPort => Some(question.port.into()),
        Key::Mark(mask) => bits(packet.mark, mask),
        // Whether a connection that is not tracked has a mark depends on who asks.
        Key::ConnectionMark(mask) if packet.tracking == Tracking::New => {
            bits(packet.connection_mark, mask)
        }
        Key::ConnectionState => Some(match packet.tracking {
            Tracking::Before => state::INVALID,
            Tracking::New => state::NEW,
            Tracking::Not => state::UNTRACKED,
        }),
        Key::DestinationChanged => Some(packet.changed.into()),
        Key::TcpFlags(mask) if question.protocol != UDP => Some((SYN & mask).into()),
        _ => None,
    }
}
