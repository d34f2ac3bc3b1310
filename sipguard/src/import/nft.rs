//! nftables, from either of its forms to the rules that are evaluated.

mod expression;
mod json;
mod text;

use std::{collections::HashMap, rc::Rc};

use self::expression::{Compare, Element, Expression, Statement, Table};
use super::{
    addresses::{self, Addresses, Family, Range},
    intervals::Intervals,
    notes::{Unread, excerpt},
    ruleset::{
        Answer, Base, Bits, ChainId, Change, Condition, Families, Field, Hook, Key, Members, Rule,
        Ruleset, Set, SetId, SetOf, Step, Test, Verdict, number_of, state,
    },
};

/// What `nft list ruleset` prints. `skip` names tables (`ip filter`) that were read elsewhere.
pub(super) fn read_text(text: &str, skip: &[String], rules: &mut Ruleset, unread: &mut Unread) {
    let tables = text::read(text, unread);
    translate(tables, skip, rules, unread);
}

/// What `nft -j list ruleset` prints.
pub(super) fn read_json(
    text: &str,
    skip: &[String],
    rules: &mut Ruleset,
    unread: &mut Unread,
) -> Result<(), String> {
    let tables = json::read(text, unread)?;
    translate(tables, skip, rules, unread);
    Ok(())
}

fn translate(tables: Vec<Table>, skip: &[String], rules: &mut Ruleset, unread: &mut Unread) {
    for table in tables {
        let called = format!("{} {}", table.family, table.name);
        if skip.contains(&called) {
            continue;
        }
        let families = match table.family.as_str() {
            "ip" => Families::V4,
            "ip6" => Families::V6,
            "inet" | "netdev" => Families::Both,
            // Bridges and ARP come before, and know no ports of this host.
            _ => continue,
        };
        let mut place = Place {
            sets: HashMap::new(),
            maps: HashMap::new(),
            chains: HashMap::new(),
        };
        for mut set in table.sets {
            if set.elements.iter().any(|element| element.verdict.is_some()) {
                place
                    .maps
                    .insert(set.name, (set.types, std::mem::take(&mut set.elements)));
                continue;
            }
            let made = named_set(&set, unread);
            place.sets.insert(set.name, rules.add_set(made));
        }
        for chain in &table.chains {
            let number = rules.add_chain();
            place.chains.insert(chain.name.clone(), number);
            let Some(base) = &chain.base else { continue };
            let hook = match base.hook.as_str() {
                "ingress" => Hook::Ingress,
                "prerouting" => Hook::Prerouting,
                "input" => Hook::Input,
                "forward" => Hook::Forward,
                _ => continue,
            };
            rules.bases.push(Base {
                chain: number,
                families,
                hook,
                priority: base.priority,
                policy: Answer::of(!base.drops),
                nat: base.kind == "nat",
                devices: base.devices.clone(),
            });
        }
        for chain in table.chains {
            let number = place.chains[&chain.name];
            let chain_name = chain.base.is_none().then_some(chain.name.as_str());
            for rule in chain.rules {
                let steps = place.steps(&rule);
                let made = Rule {
                    line: rule.line,
                    text: excerpt(&rule.text).into(),
                    label: None,
                    steps,
                };
                rules.add_rule(number, made, rule.comment.as_deref(), chain_name);
            }
        }
    }
}

/// What stands on the right side of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Address(Option<Family>),
    Port,
    Protocol,
    Interface,
    Mark,
    State,
    TcpFlags,
    /// `meta nfproto` and `meta protocol`.
    Family,
}

impl Kind {
    /// Of a type, or of a key that `typeof` names.
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "ipv4_addr" => Self::Address(Some(Family::V4)),
            "ipv6_addr" => Self::Address(Some(Family::V6)),
            "inet_service" => Self::Port,
            "inet_proto" => Self::Protocol,
            "ifname" | "iface_index" => Self::Interface,
            "mark" => Self::Mark,
            "ct_state" => Self::State,
            "tcp_flag" => Self::TcpFlags,
            "nf_proto" | "ether_type" => Self::Family,
            key => match Asked::of(key)? {
                Asked::Key(_, kind, _) => kind,
                _ => return None,
            },
        })
    }
}

/// What the left side of a condition asks.
enum Asked {
    Key(Key, Kind, Vec<Condition>),
    /// The type of an address: that of the destination, or of the source.
    DestinationType,
    SourceType,
    /// Whether the source is reached by the way it came.
    WayBack,
    PacketType,
    Direction,
    Status,
}

const TCP: u8 = 6;
const UDP: u8 = 17;

impl Asked {
    #[expect(clippy::match_same_arms, reason = "one row a key")]
    fn of(key: &str) -> Option<Self> {
        let v4 = || vec![Condition::family(Family::V4)];
        let v6 = || vec![Condition::family(Family::V6)];
        let address = |family| Kind::Address(Some(family));
        Some(match key {
            "ip saddr" => Self::Key(Key::Source, address(Family::V4), v4()),
            "ip6 saddr" => Self::Key(Key::Source, address(Family::V6), v6()),
            "ip daddr" => Self::Key(Key::Destination, address(Family::V4), v4()),
            "ip6 daddr" => Self::Key(Key::Destination, address(Family::V6), v6()),
            "ct original saddr" | "ct original ip saddr" => {
                Self::Key(Key::Source, address(Family::V4), v4())
            }
            "ct original ip6 saddr" => Self::Key(Key::Source, address(Family::V6), v6()),
            "ct original proto-dst" => Self::Key(Key::OriginalPort, Kind::Port, Vec::new()),
            "ip protocol" => Self::Key(Key::Protocol, Kind::Protocol, v4()),
            "ip6 nexthdr" => Self::Key(Key::Protocol, Kind::Protocol, v6()),
            "meta l4proto" => Self::Key(Key::Protocol, Kind::Protocol, Vec::new()),
            "th dport" | "@th,16,16" => Self::Key(Key::DestinationPort, Kind::Port, Vec::new()),
            "th sport" | "@th,0,16" => Self::Key(Key::SourcePort, Kind::Port, Vec::new()),
            "meta iifname" | "meta iif" => Self::Key(Key::Interface, Kind::Interface, Vec::new()),
            "meta oifname" | "meta oif" => {
                Self::Key(Key::OutInterface, Kind::Interface, Vec::new())
            }
            "meta nfproto" | "meta protocol" | "ether type" => {
                Self::Key(Key::Family, Kind::Family, Vec::new())
            }
            "meta length" => Self::Key(Key::Length, Kind::Port, Vec::new()),
            "meta mark" => Self::Key(Key::Mark(u32::MAX), Kind::Mark, Vec::new()),
            "ct mark" => Self::Key(Key::ConnectionMark(u32::MAX), Kind::Mark, Vec::new()),
            "ct state" => Self::Key(Key::ConnectionState, Kind::State, Vec::new()),
            "tcp flags" => Self::Key(
                Key::TcpFlags(u8::MAX),
                Kind::TcpFlags,
                vec![Condition::protocol(TCP)],
            ),
            "ct status" => Self::Status,
            "ct direction" => Self::Direction,
            "meta pkttype" => Self::PacketType,
            _ => {
                if let Some(fib) = key.strip_prefix("fib ") {
                    return if fib.starts_with("daddr") && fib.ends_with(" type") {
                        Some(Self::DestinationType)
                    } else if fib.starts_with("saddr") && fib.ends_with(" type") {
                        Some(Self::SourceType)
                    } else if fib.starts_with("saddr")
                        && [" oif", " oifname", " check"]
                            .iter()
                            .any(|end| fib.ends_with(end))
                    {
                        Some(Self::WayBack)
                    } else {
                        None
                    };
                }
                let (protocol, field) = key.split_once(' ')?;
                let number = match protocol {
                    "udp" => UDP,
                    "tcp" => TCP,
                    "sctp" => 132,
                    "udplite" => 136,
                    "dccp" => 33,
                    _ => return None,
                };
                let key = match field {
                    "dport" => Key::DestinationPort,
                    "sport" => Key::SourcePort,
                    _ => return None,
                };
                Self::Key(key, Kind::Port, vec![Condition::protocol(number)])
            }
        })
    }

    /// Whether this is asked of a header that no packet has which is asked about: the condition never holds.
    fn of_another(key: &str) -> bool {
        [
            "icmp ", "icmpv6 ", "esp ", "ah ", "arp ", "igmp ", "comp ", "rt ", "frag ", "hbh ",
            "dst ", "mh ",
        ]
        .iter()
        .any(|protocol| key.starts_with(protocol))
    }
}

/// A table's names.
struct Place {
    sets: HashMap<String, SetId>,
    /// Maps that lead to verdicts.
    maps: HashMap<String, (Vec<String>, Vec<Element>)>,
    chains: HashMap<String, ChainId>,
}

impl Place {
    fn steps(&self, rule: &expression::Rule) -> Vec<Step> {
        let mut steps = Vec::new();
        // Fields that are to differ from single values, with the places of their steps.
        let mut differing: Vec<(&Expression, usize)> = Vec::new();
        for statement in &rule.statements {
            match statement {
                Statement::Match(left, Compare::IsNot, right) if is_single(right) => {
                    let text = || excerpt(&rule.text);
                    let Some(mut own) = self.conditions(left, Compare::IsNot, right) else {
                        steps.push(Step::If(Condition::unknown(text())));
                        continue;
                    };
                    let beside = differing
                        .iter()
                        .find(|(before, _)| are_neighbours(before, left))
                        .map(|(_, place)| *place);
                    // The comparison comes last; what stands in front of it both need.
                    let comparison = own.pop();
                    steps.extend(own.into_iter().map(Step::If));
                    match (comparison, beside.and_then(|place| steps.get_mut(place))) {
                        (Some(second), Some(Step::If(first))) => {
                            let both = vec![first.clone(), second];
                            *first = Condition {
                                test: Test::Neighbours(both),
                                text: Some(text().into()),
                            };
                        }
                        (Some(one), _) => {
                            differing.push((left, steps.len()));
                            steps.push(Step::If(one.with_text(text())));
                        }
                        (None, _) => {}
                    }
                }
                Statement::Match(left, compare, right) => {
                    let text = || excerpt(&rule.text);
                    match self.conditions(left, *compare, right) {
                        Some(conditions) => steps.extend(conditions.into_iter().map(|condition| {
                            Step::If(match condition.text {
                                Some(_) => condition,
                                None => condition.with_text(text()),
                            })
                        })),
                        None => steps.push(Step::If(Condition::unknown(text()))),
                    }
                }
                Statement::Verdict(verdict) => steps.push(Step::Verdict(self.verdict(verdict))),
                Statement::Cases(key, map) => self.cases(key, map, rule, &mut steps),
                Statement::Set(key, value) => steps.extend(set(key, value)),
                Statement::Meter { over } => {
                    steps.push(Step::If(Condition::meter(!over, excerpt(&rule.text))));
                }
                Statement::Add { set, source } => {
                    if *source && let Some(&number) = self.sets.get(set) {
                        steps.push(Step::Change(Change::Add(number)));
                    }
                }
                Statement::Notrack => steps.push(Step::Change(Change::Untrack)),
                Statement::Redirect(port) => {
                    let number = port.as_ref().and_then(port_of);
                    steps.push(Step::Change(Change::Destination {
                        local: match (port, number) {
                            (Some(_), None) => Answer::Unknown,
                            _ => Answer::Yes,
                        },
                        port: number,
                    }));
                    steps.push(Step::Verdict(Verdict::Accept));
                }
                Statement::Dnat(port) => {
                    // Whose address that is can't be told.
                    steps.push(Step::Change(Change::Destination {
                        local: Answer::Unknown,
                        port: port.as_ref().and_then(port_of),
                    }));
                    steps.push(Step::Verdict(Verdict::Accept));
                }
                Statement::Unknown(text) => {
                    steps.push(Step::If(Condition::unknown(excerpt(text))));
                }
            }
        }
        steps
    }

    fn verdict(&self, verdict: &expression::Verdict) -> Verdict {
        let chain = |name: &String| self.chains.get(name).copied();
        match verdict {
            expression::Verdict::Accept => Verdict::Accept,
            expression::Verdict::Drop => Verdict::Drop,
            expression::Verdict::Return => Verdict::Return,
            expression::Verdict::Continue => Verdict::Continue,
            expression::Verdict::Jump(name) => chain(name).map_or(Verdict::Unknown, Verdict::Jump),
            expression::Verdict::Goto(name) => chain(name).map_or(Verdict::Unknown, Verdict::Goto),
            expression::Verdict::Other => Verdict::Unknown,
        }
    }

    /// `KEY vmap { … }`.
    fn cases(
        &self,
        key: &Expression,
        map: &Expression,
        rule: &expression::Rule,
        steps: &mut Vec<Step>,
    ) {
        let elements = match map {
            Expression::Set(elements) => elements.as_slice(),
            Expression::Named(name) => match self.maps.get(name) {
                Some((_, elements)) => elements.as_slice(),
                // A map that is empty is written like a set.
                None => &[],
            },
            _ => &[],
        };
        let unreadable = match map {
            Expression::Set(_) => false,
            Expression::Named(name) => {
                !self.maps.contains_key(name) && !self.sets.contains_key(name)
            }
            _ => true,
        };
        if unreadable {
            steps.push(Step::Verdict(Verdict::Unknown));
            return;
        }
        // Elements with the same verdict are one case. Those of one map don't overlap.
        let mut verdicts: Vec<(&expression::Verdict, Vec<Element>)> = Vec::new();
        let mut rest = None;
        for element in elements {
            let Some(verdict) = &element.verdict else {
                continue;
            };
            if matches!(&element.key, Expression::Word(word) if word == "*") {
                rest = Some(verdict);
                continue;
            }
            let bare = Element {
                verdict: None,
                ..element.clone()
            };
            match verdicts.iter_mut().find(|(known, _)| *known == verdict) {
                Some((_, several)) => several.push(bare),
                None => verdicts.push((verdict, vec![bare])),
            }
        }
        let mut cases = Vec::new();
        for (verdict, elements) in verdicts {
            let set = Expression::Set(elements);
            let conditions = self
                .conditions(key, Compare::Is, &set)
                .unwrap_or_else(|| vec![Condition::unknown(excerpt(&rule.text))]);
            let conditions = conditions
                .into_iter()
                .map(|condition| match condition.text {
                    Some(_) => condition,
                    None => condition.with_text(excerpt(&rule.text)),
                })
                .collect();
            cases.push((conditions, self.verdict(verdict)));
        }
        if let Some(verdict) = rest {
            // What a key needs to be there at all, it needs here, too.
            let needs = Self::needs(key);
            cases.push((needs, self.verdict(verdict)));
        }
        steps.push(Step::Cases(cases));
    }

    fn needs(key: &Expression) -> Vec<Condition> {
        match key {
            Expression::Key(name) => match Asked::of(name) {
                Some(Asked::Key(_, _, needs)) => needs,
                _ => Vec::new(),
            },
            Expression::Row(parts) => parts.iter().flat_map(Self::needs).collect(),
            _ => Vec::new(),
        }
    }

    /// What must hold for `left compare right` to hold; nothing where that can't be read.
    fn conditions(
        &self,
        left: &Expression,
        compare: Compare,
        right: &Expression,
    ) -> Option<Vec<Condition>> {
        if let Expression::Row(parts) = left {
            return self.row(parts, compare, right);
        }
        let (name, mask) = match left {
            Expression::Key(name) => (name.as_str(), None),
            Expression::Bits('&', inner, mask) => match inner.as_ref() {
                Expression::Key(name) => (name.as_str(), Some(mask.as_ref())),
                _ => return None,
            },
            _ => return None,
        };
        if Asked::of_another(name) {
            return Some(vec![Condition::is(Answer::No)]);
        }
        let negated = match compare {
            Compare::Is => false,
            Compare::IsNot => true,
            _ => return Self::ordered(name, mask, compare, right),
        };
        let words = words(right);
        let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(&word.as_str()));
        let one = |answer: bool| Some(vec![Condition::is(Answer::of(answer != negated))]);
        match Asked::of(name)? {
            Asked::DestinationType => one(has(&["local", "2"])),
            Asked::SourceType => one(has(&["unicast", "1"])),
            // Whoever is asked about can be answered by the way he came.
            Asked::WayBack => {
                let gone = has(&["missing", "0", "false"]);
                let answer = Answer::of(gone == negated);
                Some(vec![Condition {
                    test: Test::Meter(answer),
                    text: Some("the check of the way back to the source".into()),
                }])
            }
            Asked::PacketType => one(has(&["host", "unicast", "0"])),
            Asked::Direction => one(has(&["original", "0"])),
            // Nothing has come back yet, and nobody expected it.
            Asked::Status => {
                if has(&["dnat"]) {
                    Some(vec![Condition::number(
                        Key::DestinationChanged,
                        1_u8,
                        negated,
                    )])
                } else {
                    one(false)
                }
            }
            Asked::Key(key, kind, needs) => {
                let key = masked(key, mask)?;
                let mut conditions = needs;
                conditions.push(self.compared(key, kind, mask.is_some(), negated, right)?);
                Some(conditions)
            }
        }
    }

    fn compared(
        &self,
        key: Key,
        kind: Kind,
        masked: bool,
        negated: bool,
        right: &Expression,
    ) -> Option<Condition> {
        if let Expression::Named(name) = right {
            let &set = self.sets.get(name)?;
            return Some(Condition {
                test: Test::In {
                    keys: vec![key],
                    set: SetOf::Named(set),
                    negated,
                },
                text: None,
            });
        }
        // Flags without a mask: one of them is enough.
        if kind == Kind::TcpFlags && !masked {
            let flags = u8::try_from(bits_of(right, kind)?).ok()?;
            return Some(match right {
                Expression::Set(_) => Condition::inline(key, members(right, kind)?, negated),
                _ => Condition::number(Key::TcpFlags(flags), 0_u8, !negated),
            });
        }
        if kind == Kind::TcpFlags {
            let value = match right {
                Expression::Set(_) => {
                    return Some(Condition::inline(key, members(right, kind)?, negated));
                }
                value => bits_of(value, kind)?,
            };
            return Some(Condition::number(key, value, negated));
        }
        Some(Condition::inline(key, members(right, kind)?, negated))
    }

    fn ordered(
        name: &str,
        mask: Option<&Expression>,
        compare: Compare,
        right: &Expression,
    ) -> Option<Vec<Condition>> {
        let Asked::Key(key, kind, needs) = Asked::of(name)? else {
            return None;
        };
        let key = masked(key, mask)?;
        let (least, most) = match kind {
            Kind::Address(family) => (0, family?.last()),
            _ => (0, u128::MAX),
        };
        let number = match field(right, kind)? {
            Field::Numbers(number, _) => number,
            Field::Addresses(range) => range.first,
            _ => return None,
        };
        let (from, to) = match compare {
            Compare::Less => (least, number.checked_sub(1)?),
            Compare::LessOrIs => (least, number),
            Compare::More => (number.checked_add(1)?, most),
            _ => (number, most),
        };
        let members = match kind {
            Kind::Address(family) => {
                let mut set = Addresses::default();
                set.insert(Range {
                    family: family?,
                    first: from,
                    last: to,
                });
                Members::Addresses(set)
            }
            _ => Members::Numbers(Intervals::one(from, to)),
        };
        let mut conditions = needs;
        conditions.push(Condition::inline(key, members, false));
        Some(conditions)
    }

    /// `a . b { x . y, … }`.
    fn row(
        &self,
        parts: &[Expression],
        compare: Compare,
        right: &Expression,
    ) -> Option<Vec<Condition>> {
        let negated = match compare {
            Compare::Is => false,
            Compare::IsNot => true,
            _ => return None,
        };
        let (mut keys, mut kinds, mut needs) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            let Expression::Key(name) = part else {
                return None;
            };
            let Asked::Key(key, kind, need) = Asked::of(name)? else {
                return None;
            };
            keys.push(key);
            kinds.push(kind);
            needs.extend(need);
        }
        let set = match right {
            Expression::Named(name) => SetOf::Named(*self.sets.get(name)?),
            Expression::Set(elements) => {
                SetOf::Inline(Rc::new(Members::Rows(rows(elements, &kinds)?)))
            }
            Expression::Row(fields) => {
                SetOf::Inline(Rc::new(Members::Rows(vec![row(fields, &kinds)?])))
            }
            _ => return None,
        };
        needs.push(Condition {
            test: Test::In { keys, set, negated },
            text: None,
        });
        Some(needs)
    }
}

/// Whether this is one value; a set of one is the same to nft.
fn is_single(expression: &Expression) -> bool {
    match expression {
        Expression::Word(_) => true,
        Expression::Set(elements) => {
            matches!(elements.as_slice(), [one] if matches!(one.key, Expression::Word(_)))
        }
        _ => false,
    }
}

/// Whether one field of a header stands right behind the other. nft 1.0.6 makes one comparison of two such fields that are to differ from
/// single values (`nft --debug=netlink` shows it), which then holds where either differs.
fn are_neighbours(first: &Expression, second: &Expression) -> bool {
    let (Expression::Key(first), Expression::Key(second)) = (first, second) else {
        return false;
    };
    let pair = (first.split_once(' '), second.split_once(' '));
    let (Some((header, first)), Some((other, second))) = pair else {
        return false;
    };
    header == other && matches!((first, second), ("sport", "dport") | ("saddr", "daddr"))
}

fn masked(key: Key, mask: Option<&Expression>) -> Option<Key> {
    let Some(mask) = mask else { return Some(key) };
    Some(match key {
        Key::Mark(_) => Key::Mark(u32::try_from(bits_of(mask, Kind::Mark)?).ok()?),
        Key::ConnectionMark(_) => {
            Key::ConnectionMark(u32::try_from(bits_of(mask, Kind::Mark)?).ok()?)
        }
        Key::TcpFlags(_) => Key::TcpFlags(u8::try_from(bits_of(mask, Kind::TcpFlags)?).ok()?),
        // `ct state & (established | related) != 0` is written by nobody but old versions.
        _ => return None,
    })
}

/// The words of a value, flags and sets one by one.
fn words(expression: &Expression) -> Vec<String> {
    match expression {
        Expression::Word(word) => vec![word.clone()],
        Expression::Flags(parts) => parts.iter().flat_map(words).collect(),
        Expression::Set(elements) => elements
            .iter()
            .flat_map(|element| words(&element.key))
            .collect(),
        Expression::Bits('|', left, right) => {
            let mut all = words(left);
            all.extend(words(right));
            all
        }
        _ => Vec::new(),
    }
}

/// Flags and masks as one number.
fn bits_of(expression: &Expression, kind: Kind) -> Option<u128> {
    Some(match expression {
        Expression::Word(word) => {
            let mut all = 0;
            // `fin|syn`, as people write it.
            for word in word.split('|') {
                all |= number(word, kind)?;
            }
            all
        }
        Expression::Flags(parts) => parts
            .iter()
            .try_fold(0, |all, part| Some(all | bits_of(part, kind)?))?,
        Expression::Set(elements) => elements
            .iter()
            .try_fold(0, |all, part| Some(all | bits_of(&part.key, kind)?))?,
        Expression::Bits('|', left, right) => bits_of(left, kind)? | bits_of(right, kind)?,
        _ => return None,
    })
}

fn port_of(expression: &Expression) -> Option<u16> {
    match field(expression, Kind::Port)? {
        Field::Numbers(first, last) if first == last => u16::try_from(first).ok(),
        _ => None,
    }
}

/// What a set of one key has in it.
fn members(expression: &Expression, kind: Kind) -> Option<Members> {
    let values: Vec<&Expression> = match expression {
        Expression::Set(elements) => elements.iter().map(|element| &element.key).collect(),
        Expression::Flags(parts) => parts.iter().collect(),
        one => vec![one],
    };
    members_of(&values, kind)
}

fn members_of(values: &[&Expression], kind: Kind) -> Option<Members> {
    let mut addresses = Addresses::default();
    let (mut numbers, mut names) = (Intervals::default(), Vec::new());
    for value in values {
        if matches!(value, Expression::Bits('|', ..)) {
            let number = bits_of(value, kind)?;
            numbers.insert(number, number);
            continue;
        }
        match field(value, kind)? {
            Field::Addresses(range) => addresses.insert(range),
            Field::Numbers(first, last) => numbers.insert(first, last),
            Field::Name(name) => names.push(name),
            Field::Any => return None,
        }
    }
    Some(match kind {
        Kind::Address(_) => Members::Addresses(addresses),
        Kind::Interface => Members::Names(names),
        _ => Members::Numbers(numbers),
    })
}

fn rows(elements: &[Element], kinds: &[Kind]) -> Option<Vec<Vec<Field>>> {
    elements
        .iter()
        .map(|element| match &element.key {
            Expression::Row(parts) => row(parts, kinds),
            _ => None,
        })
        .collect()
}

fn row(parts: &[Expression], kinds: &[Kind]) -> Option<Vec<Field>> {
    (parts.len() == kinds.len()).then_some(())?;
    parts
        .iter()
        .zip(kinds)
        .map(|(part, kind)| field(part, *kind))
        .collect()
}

/// One value.
fn field(expression: &Expression, kind: Kind) -> Option<Field> {
    if let Kind::Address(_) = kind {
        return Some(Field::Addresses(match expression {
            Expression::Word(word) => addresses::parse(word).ok()?,
            Expression::Prefix(address, length) => {
                addresses::parse(&format!("{address}/{length}")).ok()?
            }
            Expression::Range(first, last) => match (first.as_ref(), last.as_ref()) {
                (Expression::Word(first), Expression::Word(last)) => {
                    addresses::parse(&format!("{first}-{last}")).ok()?
                }
                _ => return None,
            },
            _ => return None,
        }));
    }
    match expression {
        Expression::Word(word) if kind == Kind::Interface => {
            // A number is one that the kernel gave.
            if word.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            Some(Field::Name(word.clone()))
        }
        Expression::Word(word) => {
            let number = number(word, kind)?;
            Some(Field::Numbers(number, number))
        }
        Expression::Range(first, last) => match (field(first, kind)?, field(last, kind)?) {
            (Field::Numbers(first, _), Field::Numbers(last, _)) if first <= last => {
                Some(Field::Numbers(first, last))
            }
            _ => None,
        },
        _ => None,
    }
}

/// A number, by its name where it has one.
fn number(word: &str, kind: Kind) -> Option<u128> {
    let plain = match word.strip_prefix("0x") {
        Some(digits) => u128::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    };
    if kind == Kind::Family {
        return Some(match (word, plain) {
            ("ipv4" | "ip", _) | (_, Some(0x800)) => number_of(Family::V4).into(),
            ("ipv6" | "ip6", _) | (_, Some(0x86dd)) => number_of(Family::V6).into(),
            (_, Some(number)) => number,
            // Others, such as `arp` and `8021q`.
            _ => u128::MAX,
        });
    }
    if plain.is_some() {
        return plain;
    }
    match kind {
        Kind::Port => match word {
            "sip" => Some(5060),
            "sip-tls" | "sips" => Some(5061),
            "http" => Some(80),
            "https" => Some(443),
            "ssh" => Some(22),
            "domain" => Some(53),
            "http-alt" => Some(8080),
            // No other name is one of a guarded port.
            name => name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                .then_some(u128::MAX),
        },
        Kind::Protocol => Some(match word {
            "tcp" => 6,
            "udp" => 17,
            "icmp" => 1,
            "icmpv6" | "ipv6-icmp" => 58,
            "sctp" => 132,
            "udplite" => 136,
            "dccp" => 33,
            "esp" => 50,
            "ah" => 51,
            "gre" => 47,
            "igmp" => 2,
            "comp" | "ipcomp" => 108,
            "vrrp" => 112,
            "ospf" => 89,
            "ipv6" => 41,
            "ipip" | "ipencap" => 4,
            // All with ports are above.
            _ => u128::MAX,
        }),
        Kind::State => state::named(word),
        Kind::TcpFlags => Some(match word {
            "fin" => 1,
            "syn" => 2,
            "rst" => 4,
            "psh" => 8,
            "ack" => 16,
            "urg" => 32,
            "ecn" => 64,
            "cwr" => 128,
            _ => return None,
        }),
        _ => None,
    }
}

/// `KEY set VALUE`.
fn set(key: &Expression, value: &Expression) -> Option<Step> {
    let Expression::Key(name) = key else {
        return Some(Step::Verdict(Verdict::Unknown));
    };
    let own = match name.as_str() {
        "meta mark" => true,
        "ct mark" => false,
        // The packet goes elsewhere.
        "ip daddr" | "ip6 daddr" | "udp dport" | "tcp dport" | "th dport" | "ip saddr"
        | "ip6 saddr" => return Some(Step::Verdict(Verdict::Unknown)),
        _ => return None,
    };
    let (this, other) = if own {
        ("meta mark", "ct mark")
    } else {
        ("ct mark", "meta mark")
    };
    Some(Step::Change(match (value, bits(value, this)) {
        (Expression::Key(from), _) if from == other => {
            if own {
                Change::RestoreMark
            } else {
                Change::SaveMark
            }
        }
        (_, Some(bits)) if own => Change::Mark(bits),
        (_, Some(bits)) => Change::ConnectionMark(bits),
        (_, None) if own => Change::MarkUnknown,
        (_, None) => Change::ConnectionMarkUnknown,
    }))
}

/// What becomes of a mark that is set to this.
fn bits(expression: &Expression, this: &str) -> Option<Bits> {
    match expression {
        Expression::Word(_) => Some(Bits {
            and: 0,
            xor: u32::try_from(bits_of(expression, Kind::Mark)?).ok()?,
        }),
        Expression::Key(name) if name == this => Some(Bits {
            and: u32::MAX,
            xor: 0,
        }),
        Expression::Bits(sign, left, right) => {
            let Bits { and, xor } = bits(left, this)?;
            let number = u32::try_from(bits_of(right, Kind::Mark)?).ok()?;
            Some(match sign {
                '&' => Bits {
                    and: and & number,
                    xor: xor & number,
                },
                '|' => Bits {
                    and: and & !number,
                    xor: (xor & !number) ^ number,
                },
                _ => Bits {
                    and,
                    xor: xor ^ number,
                },
            })
        }
        _ => None,
    }
}

fn named_set(set: &expression::SetOf, unread: &mut Unread) -> Set {
    let kinds: Option<Vec<Kind>> = set.types.iter().map(|name| Kind::of(name)).collect();
    let members = match kinds.as_deref() {
        Some([kind]) => {
            let values: Vec<&Expression> =
                set.elements.iter().map(|element| &element.key).collect();
            members_of(&values, *kind)
        }
        Some(kinds) if !kinds.is_empty() => rows(&set.elements, kinds).map(Members::Rows),
        _ => None,
    };
    // What holds nothing can't be misread.
    let unreadable = members.is_none() && !set.elements.is_empty();
    if unreadable {
        unread.add(
            0,
            &format!("the set {}", set.name),
            "its elements are not understood",
        );
    }
    Set {
        name: set.name.clone(),
        members: members.unwrap_or_default(),
        timed: set.elements.iter().filter(|element| element.timed).count(),
        unreadable,
        lists: Vec::new(),
    }
}
