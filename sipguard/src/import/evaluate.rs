//! Walks a rule set as the kernel does, over sets of sources instead of one packet.
//!
//! Every source is in one or more places of the rules at once: in several where something that can't be evaluated stood in its way. What may
//! end in a pass and never in a drop certainly passes, and the other way round; the rest is not known.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    rc::Rc,
};

use super::{
    intervals::Intervals,
    packet::{Added, Holds, Leaves, Packet, Question, Tracking, holds},
    ruleset::{
        Answer, Base, ChainId, Change, Condition, Hook, LabelId, Rule, Ruleset, Step, Test, Verdict,
    },
};

/// What the rules do with the packets of a question.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Sources that may pass.
    pub(super) passes: Intervals,
    /// Sources that may be dropped.
    pub(super) drops: Intervals,
    /// Who was let in under a name, in the order of the rules.
    pub(super) allowed: Vec<(LabelId, Intervals)>,
    /// Who was dropped under a name.
    pub(super) denied: Vec<(LabelId, Intervals)>,
    /// What could not be evaluated, and for whom.
    pub(super) reasons: Vec<(Reason, Intervals)>,
    /// Rates that were passed on the way.
    pub(super) meters: BTreeSet<Reason>,
    /// Whether there is any chain that such packets meet.
    pub(super) spoken: bool,
}

/// A condition or a target of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reason {
    /// 0 where it is about no rule.
    pub(super) line: usize,
    pub(super) text: Rc<str>,
}

/// How deep chains may jump. The kernel has 16 for nftables.
const DEEPEST: usize = 64;
/// How many different packets are told apart before their marks are given up.
const MOST_PACKETS: usize = 256;
/// How many reasons are kept.
const MOST_REASONS: usize = 200;

/// How much may be done for one import, in rules and intervals looked at.
pub(super) const FUEL: u64 = 60_000_000;

type States = BTreeMap<Packet, Intervals>;

pub(super) fn evaluate(rules: &Ruleset, question: &Question<'_>, fuel: &mut u64) -> Outcome {
    let mut bases: Vec<&Base> = rules
        .bases
        .iter()
        .filter(|base| base.families.has(question.family))
        .filter(|base| {
            let device = |name: &String| question.interface.is_none_or(|own| own == name);
            base.devices.is_empty() || base.devices.iter().any(device)
        })
        .collect();
    if question.last_first {
        bases.reverse();
    }
    bases.sort_by_key(|base| (base.hook, base.priority));
    let mut walk = Walk {
        rules,
        question,
        fuel,
        outcome: Outcome {
            spoken: !bases.is_empty(),
            ..Outcome::default()
        },
        accepted: States::new(),
        added: Added::new(),
        path: Vec::new(),
    };
    let mut states = States::from([(Packet::new(question), question.family.all())]);
    for base in bases {
        states = walk.hand_to(base, states);
    }
    for (_, set) in states {
        walk.outcome.passes.add(set);
    }
    walk.outcome
}

/// When connection tracking sees a packet (`NF_IP_PRI_CONNTRACK`).
const CONNECTION_TRACKING: i32 = -200;

struct Walk<'w> {
    rules: &'w Ruleset,
    question: &'w Question<'w>,
    fuel: &'w mut u64,
    outcome: Outcome,
    /// Who passed the base chain that is walked.
    accepted: States,
    added: Added,
    /// The chains that are being walked, each jumped to from the one before it.
    path: Vec<ChainId>,
}

/// A part of a set that a row of conditions leaves.
struct Reach<'r> {
    /// For whom they may hold; all where there is none.
    perhaps: Option<Intervals>,
    surely: Surely,
    /// Conditions that can't be evaluated.
    unknown: Vec<&'r Condition>,
    /// Conditions that are taken to hold, and are not kept.
    not_kept: Vec<&'r Condition>,
}

enum Surely {
    /// Those for whom they may hold.
    Same,
    Nobody,
    These(Intervals),
}

impl Walk<'_> {
    /// Who gets past a base chain.
    fn hand_to(&mut self, base: &Base, states: States) -> States {
        let mut past = States::new();
        let mut here = States::new();
        for (mut packet, set) in states {
            let early = base.hook == Hook::Ingress
                || (base.hook == Hook::Prerouting && base.priority < CONNECTION_TRACKING);
            if !early && packet.tracking == Tracking::Before {
                packet.tracking = Tracking::New;
            }
            let meets = match (base.hook, packet.leaves) {
                (Hook::Input, Leaves::Yes) | (Hook::Forward, Leaves::No) => Answer::No,
                (Hook::Input | Hook::Forward, Leaves::Unknown) => Answer::Unknown,
                // Only what is tracked is given another address.
                _ if base.nat && packet.tracking != Tracking::New => Answer::No,
                _ => Answer::Yes,
            };
            if meets != Answer::Yes {
                add(&mut past, packet, set.clone());
            }
            if meets != Answer::No {
                add(&mut here, packet, set);
            }
        }
        let left = self.walk(base.chain, here, None, 0);
        for (packet, set) in left {
            match base.policy {
                Answer::Yes => add(&mut self.accepted, packet, set),
                Answer::No => self.outcome.drops.add(set),
                Answer::Unknown => {
                    self.give_up(0, "the policy of a chain that is not declared", packet, set);
                }
            }
        }
        for (packet, set) in mem::take(&mut self.accepted) {
            add(&mut past, packet, set);
        }
        past
    }

    /// Who comes out of a chain again.
    fn walk(
        &mut self,
        chain: ChainId,
        mut states: States,
        label: Option<LabelId>,
        depth: usize,
    ) -> States {
        let mut returned = States::new();
        let rules = self.rules;
        // The kernel takes no rules that jump in circles.
        if depth > DEEPEST || self.path.contains(&chain) {
            for (packet, set) in states {
                self.give_up(
                    0,
                    "chains that jump in circles, or deeper than the kernel goes",
                    packet,
                    set,
                );
            }
            return returned;
        }
        self.path.push(chain);
        for rule in &rules.chains[chain].rules {
            if states.is_empty() {
                break;
            }
            let mut behind = States::new();
            for (&packet, set) in &mut states {
                let cost = 1 + set.pieces().min(16) as u64;
                *self.fuel = self.fuel.saturating_sub(cost);
                if *self.fuel == 0 {
                    let set = mem::take(set);
                    self.give_up(0, "a rule set that takes too long", packet, set);
                    continue;
                }
                let mut place = Place {
                    rule,
                    label: rule.label.or(label),
                    depth,
                    behind: &mut behind,
                    returned: &mut returned,
                };
                self.steps(&rule.steps, packet, set, &mut place);
            }
            states.retain(|_, set| !set.is_empty());
            for (packet, set) in behind {
                add(&mut states, packet, set);
            }
            if states.len() > MOST_PACKETS {
                let mut blurred = States::new();
                for (packet, set) in states {
                    add(&mut blurred, packet.blurred(), set);
                }
                states = blurred;
            }
        }
        self.path.pop();
        for (packet, set) in states {
            add(&mut returned, packet, set);
        }
        returned
    }

    /// Takes the steps of a rule. What is left in `set` goes on to the next rule as it came.
    fn steps(
        &mut self,
        steps: &[Step],
        packet: Packet,
        set: &mut Intervals,
        place: &mut Place<'_>,
    ) {
        let mut reach = Reach::all();
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::If(condition) => {
                    if !self.narrow(&mut reach, condition, packet, set, place.rule.line) {
                        return;
                    }
                }
                Step::Change(change) => {
                    let mut moved = self.take(reach, set, place.rule.line);
                    if let Change::Add(number) = change {
                        self.add_to(*number, &moved);
                    }
                    let packet = packet.after(*change);
                    self.steps(&steps[number + 1..], packet, &mut moved, place);
                    add(place.behind, packet, moved);
                    return;
                }
                Step::Verdict(verdict) => {
                    let moved = self.take(reach, set, place.rule.line);
                    self.give(*verdict, packet, moved, place);
                    return;
                }
                Step::Cases(cases) => {
                    let mut moved = self.take(reach, set, place.rule.line);
                    for (conditions, verdict) in cases {
                        let mut reach = Reach::all();
                        let mut narrow = |condition| {
                            self.narrow(&mut reach, condition, packet, &moved, place.rule.line)
                        };
                        if conditions.iter().all(&mut narrow) {
                            let part = self.take(reach, &mut moved, place.rule.line);
                            self.give(*verdict, packet, part, place);
                        }
                    }
                    self.steps(&steps[number + 1..], packet, &mut moved, place);
                    add(place.behind, packet, moved);
                    return;
                }
            }
        }
    }

    fn give(&mut self, verdict: Verdict, packet: Packet, set: Intervals, place: &mut Place<'_>) {
        if set.is_empty() {
            return;
        }
        let named = place.label;
        match verdict {
            Verdict::Accept => {
                if let Some(label) = named {
                    self.outcome.allowed.push((label, set.clone()));
                }
                add(&mut self.accepted, packet, set);
            }
            Verdict::Drop => {
                if let Some(label) = named {
                    self.outcome.denied.push((label, set.clone()));
                }
                self.outcome.drops.add(set);
            }
            Verdict::Return => add(place.returned, packet, set),
            Verdict::Continue => add(place.behind, packet, set),
            Verdict::Unknown => {
                let text = Rc::clone(&place.rule.text);
                self.give_up(place.rule.line, text, packet, set);
            }
            Verdict::Jump(chain) | Verdict::Goto(chain) => {
                let states = States::from([(packet, set)]);
                let back = self.walk(chain, states, named, place.depth + 1);
                let onto = match verdict {
                    Verdict::Jump(_) => &mut *place.behind,
                    _ => &mut *place.returned,
                };
                for (packet, set) in back {
                    add(onto, packet, set);
                }
            }
        }
    }

    /// Either may happen to these.
    fn give_up(&mut self, line: usize, why: impl Into<Rc<str>>, packet: Packet, set: Intervals) {
        let reason = Reason {
            line,
            text: why.into(),
        };
        self.because(reason, &set);
        self.outcome.drops.add(set.clone());
        add(&mut self.accepted, packet, set);
    }

    fn because(&mut self, reason: Reason, set: &Intervals) {
        let reasons = &mut self.outcome.reasons;
        let count = reasons.len();
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, known)) => known.add(set.clone()),
            // Nobody reads so many.
            None if count < MOST_REASONS => reasons.push((reason, set.clone())),
            None => {}
        }
    }

    fn not_kept(&mut self, condition: &Condition, line: usize) {
        if let (Test::Meter(_), Some(text)) = (&condition.test, &condition.text) {
            let text = Rc::clone(text);
            self.outcome.meters.insert(Reason { line, text });
        }
    }

    fn add_to(&mut self, number: usize, sources: &Intervals) {
        for &list in &self.rules.sets[number].lists {
            self.add_to(list, sources);
        }
        match self.added.iter_mut().find(|(known, _)| *known == number) {
            Some((_, known)) => known.add(sources.clone()),
            None => self.added.push((number, sources.clone())),
        }
    }

    /// Whether a condition leaves anybody.
    fn narrow<'c>(
        &mut self,
        reach: &mut Reach<'c>,
        condition: &'c Condition,
        packet: Packet,
        set: &Intervals,
        line: usize,
    ) -> bool {
        let holds = holds(condition, self.question, packet, self.rules, &self.added);
        match holds {
            Holds::All(Answer::No) => {
                // Somebody else it would have stopped.
                self.not_kept(condition, line);
                return false;
            }
            Holds::All(Answer::Yes) => {
                if matches!(condition.test, Test::Meter(_)) {
                    reach.not_kept.push(condition);
                }
            }
            Holds::All(Answer::Unknown) => {
                reach.surely = Surely::Nobody;
                reach.unknown.push(condition);
            }
            Holds::For { sources, negated } => {
                let cut = |set: &Intervals| {
                    if negated {
                        set.difference(sources)
                    } else {
                        set.intersection(sources)
                    }
                };
                let perhaps = cut(reach.perhaps.as_ref().unwrap_or(set));
                if let Surely::These(surely) = &mut reach.surely {
                    *surely = cut(surely);
                }
                reach.perhaps = Some(perhaps);
            }
            Holds::Between { surely, perhaps } => {
                let before = reach.perhaps.as_ref().unwrap_or(set);
                let certain = match &reach.surely {
                    Surely::Same => before.intersection(&surely),
                    Surely::Nobody => Intervals::default(),
                    Surely::These(these) => these.intersection(&surely),
                };
                let possible = before.intersection(&perhaps);
                if certain != possible {
                    reach.unknown.push(condition);
                    reach.surely = Surely::These(certain);
                }
                reach.perhaps = Some(possible);
            }
        }
        !reach.perhaps.as_ref().unwrap_or(set).is_empty()
    }

    /// Those for whom the conditions may hold; those for whom they surely do are in the set no more.
    fn take(&mut self, reach: Reach<'_>, set: &mut Intervals, line: usize) -> Intervals {
        *self.fuel = self.fuel.saturating_sub(
            reach
                .perhaps
                .as_ref()
                .map_or(0, |perhaps| perhaps.pieces() as u64),
        );
        let taken = match (reach.perhaps, reach.surely) {
            (None, Surely::Same) => mem::take(set),
            (Some(perhaps), Surely::Same) => {
                set.subtract(&perhaps);
                perhaps
            }
            (perhaps, Surely::Nobody) => perhaps.unwrap_or_else(|| set.clone()),
            (perhaps, Surely::These(surely)) => {
                let perhaps = perhaps.unwrap_or_else(|| set.clone());
                set.subtract(&surely);
                perhaps
            }
        };
        for condition in reach.not_kept {
            self.not_kept(condition, line);
        }
        for condition in reach.unknown {
            let text = condition
                .text
                .clone()
                .unwrap_or_else(|| "a condition".into());
            self.because(Reason { line, text }, &taken);
        }
        taken
    }
}

/// Where a rule stands, and where its packets go.
struct Place<'p> {
    rule: &'p Rule,
    label: Option<LabelId>,
    depth: usize,
    /// To the next rule.
    behind: &'p mut States,
    /// Back to the chain that jumped here.
    returned: &'p mut States,
}

impl Reach<'_> {
    fn all() -> Self {
        Self {
            perhaps: None,
            surely: Surely::Same,
            unknown: Vec::new(),
            not_kept: Vec::new(),
        }
    }
}

fn add(states: &mut States, packet: Packet, set: Intervals) {
    if !set.is_empty() {
        states.entry(packet).or_default().add(set);
    }
}
