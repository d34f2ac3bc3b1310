//! `nft list ruleset`.

use std::{iter::Peekable, slice::Iter};

use ipnet::IpNet;

use super::{
    Note, Sets, addresses, note,
    rule::{Families, Rule, Target, protocols},
    ruleset::{Base, Ruleset},
};
use crate::policy::Action;

/// A word, a sign, or the end of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

const END_OF_LINE: &str = "\n";

pub(super) fn read(text: &str, rules: &mut Ruleset) {
    let tokens = tokens(text);
    // Rules may name sets that stand behind them.
    let mut sets = Sets::new();
    for chain_turn in [false, true] {
        let mut rest = tokens.as_slice();
        let mut families = Families::Both;
        let mut table = String::new();
        while let Some(statement) = statement(&mut rest) {
            let words: Vec<&str> = statement.iter().map(|token| token.text.as_str()).collect();
            let line = statement[0].line;
            match words.as_slice() {
                ["table", family, name, "{"] => {
                    families = match *family {
                        "ip" => Families::V4,
                        "ip6" => Families::V6,
                        _ => Families::Both,
                    };
                    table = format!("{family} {name}");
                }
                ["set", name, "{"] => {
                    let block = block(&mut rest);
                    if !chain_turn {
                        let name = format!("{table} @{name}");
                        read_set(block, sets.entry(name).or_default(), &mut rules.notes);
                    }
                }
                ["chain", name, "{"] => {
                    let block = block(&mut rest);
                    if chain_turn {
                        let place = Place {
                            table: &table,
                            families,
                        };
                        place.chain(name, block, &sets, rules);
                    }
                }
                ["}"] => {}
                [.., "{"] => {
                    block(&mut rest);
                    if !chain_turn {
                        note(&mut rules.notes, line, &words.join(" "), "not understood");
                    }
                }
                _ if chain_turn => {}
                _ => note(&mut rules.notes, line, &words.join(" "), "not understood"),
            }
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let mut push = |text: &str| {
            tokens.push(Token {
                line,
                text: text.to_owned(),
            });
        };
        let mut rest = content.trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let end = if let Some(quoted) = rest.strip_prefix('"') {
                quoted.find('"').map_or(rest.len(), |end| end + 2)
            } else if rest.starts_with(['{', '}', ',', ';']) {
                1
            } else {
                let stop = |c: char| c.is_whitespace() || "{},;\"".contains(c);
                rest.find(stop).unwrap_or(rest.len())
            };
            let (token, behind) = rest.split_at(end);
            push(token);
            rest = behind.trim_start();
        }
        push(END_OF_LINE);
    }
    tokens
}

/// Up to the end of a line or the brace of a block, over the lines of a set that is written out.
fn statement<'t>(rest: &mut &'t [Token]) -> Option<Vec<&'t Token>> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    while let Some((token, behind)) = rest.split_first() {
        if depth == 0 && token.text == "}" && !found.is_empty() {
            return Some(found);
        }
        *rest = behind;
        match token.text.as_str() {
            END_OF_LINE if depth > 0 => {}
            END_OF_LINE | ";" => {
                if !found.is_empty() {
                    return Some(found);
                }
            }
            "{" => {
                found.push(token);
                // A block's brace ends its line; a set's doesn't, or has something in front that wants one.
                let wants =
                    |token: &&Token| ["=", "dport", "saddr", "vmap"].contains(&token.text.as_str());
                let after = found.len().checked_sub(2).map(|at| found[at]);
                let ends = behind.first().is_none_or(|next| next.text == END_OF_LINE);
                if depth == 0 && ends && !after.as_ref().is_some_and(wants) {
                    return Some(found);
                }
                depth += 1;
            }
            "}" => {
                found.push(token);
                if depth == 0 {
                    return Some(found);
                }
                depth -= 1;
            }
            _ => found.push(token),
        }
    }
    (!found.is_empty()).then_some(found)
}

/// What stands up to the brace that closes a block.
fn block<'t>(rest: &mut &'t [Token]) -> &'t [Token] {
    let all = *rest;
    let mut depth = 1_usize;
    for (at, token) in all.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            *rest = &all[at + 1..];
            return &all[..at];
        }
    }
    *rest = &[];
    all
}

fn read_set(mut rest: &[Token], set: &mut super::Set, notes: &mut Vec<Note>) {
    let mut timed = 0;
    while let Some(found) = statement(&mut rest) {
        let ["elements", "=", "{", ..] = found
            .iter()
            .map(|token| token.text.as_str())
            .collect::<Vec<_>>()[..]
        else {
            continue;
        };
        for element in found[3..].split(|token| token.text == "," || token.text == "}") {
            let Some(first) = element.first() else {
                continue;
            };
            timed += usize::from(element.iter().any(|token| token.text == "timeout"));
            if element.get(1).is_some_and(|token| token.text == ".") {
                note(
                    notes,
                    first.line,
                    &joined(element),
                    "an element with more than a source address",
                );
                continue;
            }
            match addresses(&first.text) {
                Ok(some) => set
                    .prefixes
                    .extend(some.into_iter().map(|prefix| (prefix, first.line))),
                Err(error) => note(notes, first.line, &first.text, error),
            }
        }
    }
    if timed > 0 {
        notes.push(Note {
            line: 0,
            text: super::timed(timed, "nft"),
        });
    }
}

fn joined(tokens: &[&Token]) -> String {
    let words: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    words.join(" ")
}

/// A table.
struct Place<'a> {
    table: &'a str,
    families: Families,
}

impl Place<'_> {
    fn chain(&self, name: &str, mut rest: &[Token], sets: &Sets, rules: &mut Ruleset) {
        let key = format!("{} {name}", self.table);
        let mut base = None;
        while let Some(found) = statement(&mut rest) {
            let words: Vec<&str> = found.iter().map(|token| token.text.as_str()).collect();
            match words.as_slice() {
                ["type", kind, "hook", hook, ..] => {
                    base = (*kind == "filter" && *hook == "input").then_some(Action::Allow);
                }
                ["policy", policy] => {
                    if *policy == "drop" {
                        base = base.map(|_| Action::Deny);
                    }
                }
                ["comment", _] | ["}"] => {}
                _ => {
                    let mut rule = Rule {
                        line: found[0].line,
                        text: words.join(" "),
                        families: self.families,
                        ..Rule::default()
                    };
                    if let Err(why) = self.rule(&words, sets, &mut rule) {
                        rule.cannot = Some(why);
                    }
                    rules.chains.entry(key.clone()).or_default().push(rule);
                }
            }
        }
        let overlaps = |other: &Base| {
            other.families == self.families
                || other.families == Families::Both
                || self.families == Families::Both
        };
        // What one chain accepts a second one may still drop.
        if let Some(policy) = base
            && !rules.bases.iter().any(overlaps)
        {
            rules.bases.push(Base {
                chain: key,
                families: self.families,
                policy,
            });
        }
    }

    fn rule(&self, words: &[&str], sets: &Sets, rule: &mut Rule) -> Result<(), String> {
        let mut words = words.iter().peekable();
        while let Some(&word) = words.next() {
            match word {
                "ip" | "ip6" => match next(&mut words)? {
                    "saddr" => {
                        let v6 = word == "ip6";
                        rule.families = match (rule.families, v6) {
                            (Families::Both | Families::V4, false) => Families::V4,
                            (Families::Both | Families::V6, true) => Families::V6,
                            _ => return Err("a family that this table has not".to_owned()),
                        };
                        let sources = self.sources(&mut words, sets)?;
                        rule.narrow(sources)?;
                    }
                    "protocol" | "nexthdr" => Self::protocols(&mut words, rule)?,
                    other => return Err(format!("the condition {word} {other}")),
                },
                "meta" => match next(&mut words)? {
                    "l4proto" => Self::protocols(&mut words, rule)?,
                    "nfproto" => {
                        rule.families = match next(&mut words)? {
                            "ipv4" => Families::V4,
                            "ipv6" => Families::V6,
                            other => return Err(format!("the family {other}")),
                        };
                    }
                    other => return Err(format!("the condition meta {other}")),
                },
                "udp" | "tcp" | "th" | "sctp" | "udplite" => {
                    match next(&mut words)? {
                        "dport" => {}
                        other => return Err(format!("the condition {word} {other}")),
                    }
                    if word != "th" {
                        rule.protocols = Some(protocols(word)?);
                    }
                    let some = values(&mut words)?;
                    rule.ports = Some(
                        some.iter()
                            .map(|text| port(text))
                            .collect::<Result<_, _>>()?,
                    );
                }
                "counter" => {
                    if words.next_if(|next| **next == "packets").is_some() {
                        words.nth(2);
                    }
                }
                "log" => {
                    while words
                        .next_if(|next| ["prefix", "level", "flags", "group"].contains(next))
                        .is_some()
                    {
                        words.next();
                    }
                }
                "comment" => {
                    words.next();
                }
                "accept" => rule.target = Target::Accept,
                "drop" => rule.target = Target::Drop,
                "reject" => {
                    rule.target = Target::Drop;
                    // How is told to the sender, who will be told nothing.
                    words.by_ref().for_each(drop);
                }
                "return" => rule.target = Target::Return,
                "jump" => {
                    rule.target = Target::Jump(format!("{} {}", self.table, next(&mut words)?));
                }
                "continue" => {}
                other => return Err(format!("the condition {other}")),
            }
        }
        Ok(())
    }

    fn protocols(words: &mut Peekable<Iter<'_, &str>>, rule: &mut Rule) -> Result<(), String> {
        let mut some = std::collections::BTreeSet::new();
        for name in values(words)? {
            some.extend(protocols(name)?);
        }
        rule.protocols = Some(some);
        Ok(())
    }

    fn sources(
        &self,
        words: &mut Peekable<Iter<'_, &str>>,
        sets: &Sets,
    ) -> Result<Vec<IpNet>, String> {
        let mut prefixes = Vec::new();
        for value in values(words)? {
            if value.starts_with('@') {
                let set = sets.get(&format!("{} {value}", self.table));
                let set = set.ok_or_else(|| format!("the set {value} is not in the input"))?;
                prefixes.extend(set.prefixes.iter().map(|(prefix, _)| *prefix));
            } else {
                prefixes.extend(addresses(value)?);
            }
        }
        Ok(prefixes)
    }
}

fn next<'w>(words: &mut Peekable<Iter<'_, &'w str>>) -> Result<&'w str, String> {
    words
        .next()
        .copied()
        .ok_or_else(|| "a rule that is not complete".to_owned())
}

/// One value, or those between braces.
fn values<'w>(words: &mut Peekable<Iter<'_, &'w str>>) -> Result<Vec<&'w str>, String> {
    let first = next(words)?;
    match first {
        "!=" | "<" | ">" | "<=" | ">=" | "&" => Err(format!("the comparison {first}")),
        "==" => values(words),
        "{" => {
            let mut values = Vec::new();
            for &word in words.by_ref() {
                match word {
                    "}" => return Ok(values),
                    "," => {}
                    ":" => return Err("a map".to_owned()),
                    word => values.push(word),
                }
            }
            Err("a set without an end".to_owned())
        }
        value => Ok(vec![value]),
    }
}

fn port(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| match text {
        "sip" => Ok(5060),
        "sip-tls" => Ok(5061),
        "http" => Ok(80),
        "https" => Ok(443),
        "ssh" => Ok(22),
        text => text.parse().map_err(|_| format!("the port {text}")),
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        // `sip-tls` is no range.
        _ if number(text).is_ok() => number(text).map(|port| (port, port)),
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        (Err(why), _) | (_, Err(why)) => Err(why),
        _ => Err(format!("the ports {text}")),
    }
}
