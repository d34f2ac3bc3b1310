//! Rules as the readers hand them to the evaluator: whatever format they came in, as the kernel keeps them.
//!
//! A rule is a row of steps that are taken one after the other until a condition does not hold. Conditions ask one or several things of a
//! packet, and whether the answers are members of a set.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use super::{
    addresses::{Addresses, Family, Range},
    intervals::Intervals,
};

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    pub(super) chains: Vec<Chain>,
    /// Chains where packets come in from the kernel, in the order in which they were read.
    pub(super) bases: Vec<Base>,
    pub(super) sets: Vec<Set>,
    /// What the rule set calls those it lets in and those it does not: sets, comments, chains.
    pub(super) labels: Vec<String>,
    known_labels: HashMap<String, u16>,
    /// Destination ports that a rule names, not those of wide ranges.
    pub(super) ports: Intervals,
    /// Protocols that rules name one by one, besides UDP and TCP.
    pub(super) protocols: BTreeSet<u8>,
    /// Whether rules change what later ones ask, such as marks.
    pub(super) changes: bool,
    /// Interfaces by which rules say that packets come in.
    pub(super) interfaces: BTreeMap<String, usize>,
}

pub(super) type ChainId = usize;
pub(super) type SetId = usize;
pub(super) type LabelId = u16;

/// A named row of rules.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) rules: Vec<Rule>,
}

/// Where the kernel hands packets to a chain.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) chain: ChainId,
    pub(super) families: Families,
    pub(super) hook: Hook,
    pub(super) priority: i32,
    /// Whether packets pass that no rule decided.
    pub(super) policy: Answer,
    /// Whether only the first packet of a connection comes here, to be given another address.
    pub(super) nat: bool,
    /// Only packets of these interfaces come here; of all where there are none.
    pub(super) devices: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Families {
    V4,
    V6,
    Both,
}

impl Families {
    pub(super) fn has(self, family: Family) -> bool {
        match self {
            Self::V4 => family == Family::V4,
            Self::V6 => family == Family::V6,
            Self::Both => true,
        }
    }
}

/// Places in the kernel, in the order in which a packet meets them. A packet that goes on to another host meets `Forward`, one that has
/// arrived `Input`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hook {
    Ingress,
    Prerouting,
    Input,
    Forward,
}

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// Of the input, counted from 1.
    pub(super) line: usize,
    pub(super) text: Rc<str>,
    /// What its sources are called, where it names any.
    pub(super) label: Option<LabelId>,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Go on only where it holds.
    If(Condition),
    /// Something about the packet changes.
    Change(Change),
    Verdict(Verdict),
    /// The verdict of the first case whose conditions hold; go on where none does.
    Cases(Vec<(Vec<Condition>, Verdict)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(ChainId),
    Goto(ChainId),
    /// What becomes of the packet can't be told: a program decides, for example.
    Unknown,
    /// No verdict: the next rule is asked.
    Continue,
}

/// Yes, no, or not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    Unknown,
}

impl Answer {
    pub(super) const fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }

    pub(super) const fn negated(self, negated: bool) -> Self {
        match (self, negated) {
            (Self::Yes, true) => Self::No,
            (Self::No, true) => Self::Yes,
            _ => self,
        }
    }

    pub(super) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Yes, Self::Yes) => Self::Yes,
            _ => Self::Unknown,
        }
    }
}

/// A condition and, where a person should know of it, how the rule set writes it.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) test: Test,
    pub(super) text: Option<Rc<str>>,
}

#[derive(Clone, Debug)]
pub(super) enum Test {
    /// The same for every packet that is asked about.
    Is(Answer),
    /// A rate: whoever has sent nothing yet is below it. It is not kept.
    Meter(Answer),
    /// All of these surely, and perhaps only one of them: nft compares neighbouring fields that are to differ at once, so that it is enough
    /// that one does.
    Neighbours(Vec<Condition>),
    /// Whether what the packet has under these keys is in the set.
    In {
        keys: Vec<Key>,
        set: SetOf,
        negated: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) enum SetOf {
    Named(SetId),
    Inline(Rc<Members>),
}

/// Something of a packet, or of what the kernel knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Family,
    Source,
    Destination,
    Protocol,
    SourcePort,
    DestinationPort,
    /// Of the whole packet, in bytes.
    Length,
    /// The destination port as it was before it was changed on the way.
    OriginalPort,
    /// By which interface the packet came in.
    Interface,
    /// By which interface the packet goes on.
    OutInterface,
    /// The bits of the mask.
    Mark(u32),
    /// Of the connection.
    ConnectionMark(u32),
    ConnectionState,
    /// Whether the connection's destination was changed: 1, or 0.
    DestinationChanged,
    /// The bits of the mask, for TCP.
    TcpFlags(u8),
}

/// States of connections, as bits of the kernel.
pub(super) mod state {
    pub(in super::super) const INVALID: u128 = 1;
    pub(in super::super) const ESTABLISHED: u128 = 2;
    pub(in super::super) const RELATED: u128 = 4;
    pub(in super::super) const NEW: u128 = 8;
    pub(in super::super) const UNTRACKED: u128 = 64;

    pub(in super::super) fn named(name: &str) -> Option<u128> {
        match name.to_ascii_lowercase().as_str() {
            "invalid" => Some(INVALID),
            "established" => Some(ESTABLISHED),
            "related" => Some(RELATED),
            "new" => Some(NEW),
            "untracked" => Some(UNTRACKED),
            _ => None,
        }
    }
}

/// A named set.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) name: String,
    pub(super) members: Members,
    /// How many of them end by themselves.
    pub(super) timed: usize,
    /// Where it holds something else than can be read.
    pub(super) unreadable: bool,
    /// Sets that this one is a member of. None of them is a member of another.
    pub(super) lists: Vec<SetId>,
}

/// What is in a set.
#[derive(Clone, Debug)]
pub(super) enum Members {
    /// For one key that is an address.
    Addresses(Addresses),
    /// For one key that is a number: ports, protocols, marks, states.
    Numbers(Intervals),
    /// For one key that is an interface.
    Names(Vec<String>),
    /// For several keys, a field for each.
    Rows(Vec<Vec<Field>>),
}

impl Default for Members {
    fn default() -> Self {
        Self::Addresses(Addresses::default())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Any,
    Addresses(Range),
    Numbers(u128, u128),
    /// With `*` at its end: all that begin so.
    Name(String),
}

/// What a rule changes about a packet without deciding about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Mark(Bits),
    ConnectionMark(Bits),
    /// The packet's mark becomes the connection's.
    SaveMark,
    /// The connection's mark becomes the packet's.
    RestoreMark,
    /// What the mark is from here on can't be told.
    MarkUnknown,
    ConnectionMarkUnknown,
    Untrack,
    /// The source is added to this set.
    Add(SetId),
    /// It goes to another host, or to another port of this one (`None`: the port stays).
    Destination {
        local: Answer,
        port: Option<u16>,
    },
}

/// `(mark & and) ^ xor`, which is what every way to set a mark amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    pub(super) and: u32,
    pub(super) xor: u32,
}

impl Condition {
    pub(super) fn is(answer: Answer) -> Self {
        Self {
            test: Test::Is(answer),
            text: None,
        }
    }

    /// One that can't be evaluated.
    pub(super) fn unknown(text: impl Into<Rc<str>>) -> Self {
        Self {
            test: Test::Is(Answer::Unknown),
            text: Some(text.into()),
        }
    }

    pub(super) fn meter(under: bool, text: impl Into<Rc<str>>) -> Self {
        Self {
            test: Test::Meter(Answer::of(under)),
            text: Some(text.into()),
        }
    }

    pub(super) fn inline(key: Key, members: Members, negated: bool) -> Self {
        Self {
            test: Test::In {
                keys: vec![key],
                set: SetOf::Inline(Rc::new(members)),
                negated,
            },
            text: None,
        }
    }

    pub(super) fn numbers(
        key: Key,
        numbers: impl IntoIterator<Item = (u128, u128)>,
        negated: bool,
    ) -> Self {
        Self::inline(
            key,
            Members::Numbers(numbers.into_iter().collect()),
            negated,
        )
    }

    pub(super) fn number(key: Key, number: impl Into<u128>, negated: bool) -> Self {
        let number = number.into();
        Self::numbers(key, [(number, number)], negated)
    }

    pub(super) fn family(family: Family) -> Self {
        Self::number(Key::Family, number_of(family), false)
    }

    pub(super) fn protocol(number: u8) -> Self {
        Self::number(Key::Protocol, number, false)
    }

    pub(super) fn with_text(mut self, text: impl Into<Rc<str>>) -> Self {
        self.text = Some(text.into());
        self
    }

    fn keys(&self) -> &[Key] {
        match &self.test {
            Test::In { keys, .. } => keys,
            _ => &[],
        }
    }
}

/// What stands for a family among numbers: `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(super) const fn number_of(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

impl Ruleset {
    pub(super) fn label(&mut self, name: &str) -> Option<LabelId> {
        /// Beyond this nobody reads names any more.
        const MOST: usize = 1000;
        if let Some(&known) = self.known_labels.get(name) {
            return Some(known);
        }
        if self.labels.len() >= MOST {
            return None;
        }
        // At most a thousand.
        let number = LabelId::try_from(self.labels.len()).ok()?;
        self.labels.push(name.to_owned());
        self.known_labels.insert(name.to_owned(), number);
        Some(number)
    }

    pub(super) fn add_chain(&mut self) -> ChainId {
        self.chains.push(Chain::default());
        self.chains.len() - 1
    }

    pub(super) fn add_set(&mut self, set: Set) -> SetId {
        self.sets.push(set);
        self.sets.len() - 1
    }

    /// Whether it matters which of several chains of one priority is asked first.
    pub(super) fn order_matters(&self) -> bool {
        self.changes
            && self.bases.iter().enumerate().any(|(place, base)| {
                self.bases[..place]
                    .iter()
                    .any(|other| (other.hook, other.priority) == (base.hook, base.priority))
            })
    }

    /// The members of a set that a condition names or has in itself.
    pub(super) fn members<'s>(&'s self, set: &'s SetOf) -> &'s Members {
        match set {
            SetOf::Named(number) => &self.sets[*number].members,
            SetOf::Inline(members) => members,
        }
    }

    /// Adds a rule to a chain. Its sources are called as their set is, as the rule's comment says, or as the chain is.
    pub(super) fn add_rule(
        &mut self,
        chain: ChainId,
        mut rule: Rule,
        comment: Option<&str>,
        chain_name: Option<&str>,
    ) {
        let mut name = None;
        let mut has_source = false;
        for step in &rule.steps {
            let conditions: &mut dyn Iterator<Item = &Condition> = match step {
                Step::If(condition) => &mut std::iter::once(condition),
                Step::Cases(cases) => &mut cases.iter().flat_map(|(conditions, _)| conditions),
                _ => continue,
            };
            for condition in conditions {
                if !condition.keys().contains(&Key::Source) {
                    continue;
                }
                has_source = true;
                if let Test::In {
                    set: SetOf::Named(set),
                    negated: false,
                    ..
                } = condition.test
                {
                    name.get_or_insert_with(|| self.sets[set].name.clone());
                }
            }
        }
        self.changes |= rule
            .steps
            .iter()
            .any(|step| matches!(step, Step::Change(_)));
        self.note_ports(&rule);
        self.note_interfaces(&rule);
        if has_source {
            let name = name.or_else(|| comment.or(chain_name).map(str::to_owned));
            rule.label = name.and_then(|name| self.label(&name));
        }
        self.chains[chain].rules.push(rule);
    }

    fn conditions(rule: &Rule) -> impl Iterator<Item = &Condition> {
        rule.steps.iter().flat_map(|step| {
            let (one, cases): (_, &[(Vec<Condition>, Verdict)]) = match step {
                Step::If(condition) => (Some(condition), &[]),
                Step::Cases(cases) => (None, cases),
                _ => (None, &[]),
            };
            one.into_iter()
                .chain(cases.iter().flat_map(|(conditions, _)| conditions))
        })
    }

    fn note_ports(&mut self, rule: &Rule) {
        /// A wider range is media, or everything, and names no port.
        const WIDEST: u128 = 200;
        /// SCTP and UDP-Lite.
        const OTHERS: [u8; 2] = [132, 136];
        let (mut found, mut protocols) = (Vec::new(), BTreeSet::new());
        for condition in Self::conditions(rule) {
            let Test::In { keys, set, .. } = &condition.test else {
                continue;
            };
            if keys.as_slice() == [Key::Protocol]
                && let Members::Numbers(numbers) = self.members(set)
            {
                protocols.extend(OTHERS.iter().filter(|&&number| {
                    // A range is not one that names them.
                    numbers.pieces() < 10 && numbers.count() < 10 && numbers.contains(number.into())
                }));
            }
            let Some(place) = keys
                .iter()
                .position(|key| matches!(key, Key::DestinationPort | Key::OriginalPort))
            else {
                continue;
            };
            match self.members(set) {
                Members::Numbers(numbers) => found.extend(numbers.iter()),
                Members::Rows(rows) => {
                    found.extend(rows.iter().filter_map(|row| match row.get(place) {
                        Some(&Field::Numbers(first, last)) => Some((first, last)),
                        _ => None,
                    }));
                }
                _ => {}
            }
        }
        self.protocols.append(&mut protocols);
        for (first, last) in found {
            if last - first <= WIDEST {
                self.ports.insert(first, last);
            }
        }
    }

    fn note_interfaces(&mut self, rule: &Rule) {
        let mut found = Vec::new();
        for condition in Self::conditions(rule) {
            let Test::In {
                keys,
                set,
                negated: false,
            } = &condition.test
            else {
                continue;
            };
            let Some(place) = keys.iter().position(|key| *key == Key::Interface) else {
                continue;
            };
            match self.members(set) {
                Members::Names(names) => found.extend(names.iter().cloned()),
                Members::Rows(rows) => {
                    found.extend(rows.iter().filter_map(|row| match row.get(place) {
                        Some(Field::Name(name)) => Some(name.clone()),
                        _ => None,
                    }));
                }
                _ => {}
            }
        }
        for name in found {
            *self.interfaces.entry(name).or_default() += 1;
        }
    }
}
