//! One rule of iptables: `-A CHAIN`, matches, and what is done.

use std::{collections::HashMap, rc::Rc};

use super::super::{
    addresses::{self, Addresses, Family, Range},
    ipset,
    notes::excerpt,
    ruleset::{
        Answer, Bits, ChainId, Change, Condition, Field, Key, Members, Rule, Ruleset, SetId, SetOf,
        Step, Test, Verdict, state,
    },
};

/// What the rules of a table may name.
pub(super) struct Reader<'r> {
    pub(super) family: Family,
    pub(super) chains: &'r HashMap<String, ChainId>,
    pub(super) sets: &'r HashMap<String, SetId>,
}

/// An option with what belongs to it.
struct Opt<'l> {
    negated: bool,
    name: &'l str,
    values: Vec<&'l str>,
}

impl Opt<'_> {
    fn value(&self) -> &str {
        self.values.first().copied().unwrap_or_default()
    }

    fn text(&self) -> String {
        let not = if self.negated { "! " } else { "" };
        excerpt(&format!("{not}{} {}", self.name, self.values.join(" ")))
    }
}

/// What `-m recent` was told, which takes several options.
#[derive(Default)]
struct Recent {
    text: String,
    negated: bool,
    sets: bool,
    asks: bool,
    hits: u32,
}

/// A rule under construction.
struct Draft {
    conditions: Vec<Condition>,
    recent: Option<Recent>,
    comment: Option<String>,
    content: Option<Content>,
}

/// What `-m string` was told.
#[derive(Default)]
struct Content {
    text: String,
    negated: bool,
}

impl Reader<'_> {
    /// Reads one rule and adds it to its chain. `built_in` says whether that is one of the kernel's.
    pub(super) fn read(&self, number: usize, line: &str, built_in: bool, rules: &mut Ruleset) {
        let words = words(line);
        let options = options(&words);
        let Some((chain_name, chain)) = options.iter().find_map(|option| {
            let name = option.value();
            let chain = self.chains.get(name)?;
            (option.name == "-A").then_some((name.to_owned(), *chain))
        }) else {
            return;
        };
        let mut draft = Draft {
            conditions: Vec::new(),
            recent: None,
            comment: None,
            content: None,
        };
        let mut module = String::new();
        let mut target = None;
        for (place, option) in options.iter().enumerate() {
            match option.name {
                "-A" => {}
                "-m" | "--match" => option.value().clone_into(&mut module),
                "-j" | "--jump" | "-g" | "--goto" => {
                    target = Some((option, &options[place + 1..]));
                    break;
                }
                _ => self.condition(&module, option, &mut draft, rules),
            }
        }
        if let Some(recent) = draft.recent.take() {
            draft.conditions.push(recent.condition());
        }
        if let Some(content) = draft.content.take() {
            let drops = target
                .is_some_and(|(option, _)| matches!(option.value(), "DROP" | "REJECT" | "TARPIT"));
            draft.conditions.push(content.condition(drops));
        }
        let mut steps: Vec<Step> = draft.conditions.into_iter().map(Step::If).collect();
        if let Some((option, rest)) = target {
            self.target(option, rest, &mut steps);
        }
        let rule = Rule {
            line: number,
            text: excerpt(line).into(),
            label: None,
            steps,
        };
        let chain_name = (!built_in).then_some(chain_name.as_str());
        rules.add_rule(chain, rule, draft.comment.as_deref(), chain_name);
    }

    #[expect(
        clippy::too_many_lines,
        clippy::match_same_arms,
        reason = "one row an option"
    )]
    fn condition(&self, module: &str, option: &Opt<'_>, draft: &mut Draft, rules: &Ruleset) {
        let negated = option.negated;
        let value = option.value();
        let unknown = || Condition::unknown(option.text());
        let condition = match (option.name, module) {
            ("-s" | "--source" | "--src", _) => self.addresses(Key::Source, value, option),
            ("-d" | "--destination" | "--dst", _) => {
                self.addresses(Key::Destination, value, option)
            }
            ("--src-range", _) => self.addresses(Key::Source, value, option),
            ("--dst-range", _) => self.addresses(Key::Destination, value, option),
            ("-i" | "--in-interface", _) => interface(Key::Interface, value, negated),
            ("-o" | "--out-interface", _) => {
                interface(Key::OutInterface, value, negated).with_text(option.text())
            }
            ("-p" | "--protocol", _) => match protocol(value) {
                Some(0) => Condition::is(Answer::of(!negated)),
                Some(number) => Condition::number(Key::Protocol, number, negated),
                None => unknown(),
            },
            // What is asked about is no fragment, and no broken packet.
            ("-f" | "--fragment", _) => Condition::is(Answer::of(negated)),
            ("--dport" | "--destination-port" | "--dports" | "--destination-ports", _) => {
                ports(Key::DestinationPort, value, negated).unwrap_or_else(unknown)
            }
            ("--sport" | "--source-port" | "--sports" | "--source-ports", _) => {
                match ports(Key::SourcePort, value, negated) {
                    Some(condition) => condition.with_text(option.text()),
                    None => unknown(),
                }
            }
            ("--ports", _) => either_port(value, negated, option),
            ("--state" | "--ctstate", _) => states(value, negated).unwrap_or_else(unknown),
            ("--ctstatus", _) => {
                // Nothing has come back yet, and nobody expected it.
                let is = value
                    .split(',')
                    .any(|status| status.eq_ignore_ascii_case("none"));
                Condition::is(Answer::of(is != negated))
            }
            ("--ctdir", _) => Condition::is(Answer::of(
                value.eq_ignore_ascii_case("original") != negated,
            )),
            ("--ctproto", _) => protocol(value).map_or_else(unknown, |number| {
                Condition::number(Key::Protocol, number, negated)
            }),
            ("--ctorigsrc", _) => self.addresses(Key::Source, value, option),
            ("--ctorigdstport", _) => {
                ports(Key::OriginalPort, value, negated).unwrap_or_else(unknown)
            }
            ("--mark", module) => {
                let key: fn(u32) -> Key = match module {
                    "connmark" => Key::ConnectionMark,
                    _ => Key::Mark,
                };
                match mark_and_mask(value) {
                    Some((value, mask)) => {
                        Condition::number(key(mask), value, negated).with_text(option.text())
                    }
                    None => unknown(),
                }
            }
            ("--match-set", _) => self.match_set(option, rules),
            ("--return-nomatch", _) => unknown(),
            ("--update-counters" | "--update-subcounters", _) => return,
            ("--tcp-flags", _) => match (
                tcp_flags(value),
                option.values.get(1).and_then(|flags| tcp_flags(flags)),
            ) {
                (Some(mask), Some(set)) => Condition::number(Key::TcpFlags(mask), set, negated),
                _ => unknown(),
            },
            ("--syn", _) => Condition::number(Key::TcpFlags(0x17), 2_u8, negated),
            ("--dst-type", _) => {
                let local = value.split(',').any(|kind| kind == "LOCAL");
                Condition::is(Answer::of(local != negated))
            }
            ("--src-type", _) => {
                let unicast = value.split(',').any(|kind| kind == "UNICAST");
                Condition::is(Answer::of(unicast != negated))
            }
            ("--limit-iface-in" | "--limit-iface-out", _) => return,
            ("--pkt-type", _) => Condition::is(Answer::of(
                (value == "unicast" || value == "host") != negated,
            )),
            ("--comment", _) => {
                draft.comment = Some(value.to_owned());
                return;
            }
            ("--limit", "limit") => Condition::meter(!negated, option.text()),
            ("--limit-burst", _) => return,
            (name, "hashlimit") => match name {
                "--hashlimit" | "--hashlimit-upto" => Condition::meter(!negated, option.text()),
                "--hashlimit-above" => Condition::meter(negated, option.text()),
                _ => return,
            },
            ("--connlimit-above", _) => Condition::meter(negated, option.text()),
            ("--connlimit-upto", _) => Condition::meter(!negated, option.text()),
            (_, "connlimit") => return,
            (name, "recent") => {
                let recent = draft.recent.get_or_insert_default();
                recent.text = format!("{} {}", recent.text, option.text());
                recent.negated |= negated && !matches!(name, "--name" | "--seconds");
                match name {
                    "--set" => recent.sets = true,
                    "--rcheck" | "--update" => recent.asks = true,
                    "--hitcount" => recent.hits = value.parse().unwrap_or_default(),
                    _ => {}
                }
                return;
            }
            // Whoever is asked about can be answered by the way he came.
            ("--invert", "rpfilter") => Condition::meter(false, "-m rpfilter --invert"),
            (_, "rpfilter") => return,
            (name, _) if name.starts_with("--icmp") => Condition::is(Answer::No),
            // What is asked about has no headers between those of IP and of UDP or TCP.
            (name, "rt" | "frag" | "hbh" | "dst" | "ah" | "esp" | "mh")
                if name.starts_with("--") =>
            {
                Condition::is(Answer::No)
            }
            // It came in the clear: XDP does not see what IPsec hides, nor does it pass there.
            ("--pol", _) => Condition::is(Answer::of((value == "none") != negated)),
            ("--dir" | "--strict", "policy") => return,
            (_, "policy") => Condition::is(Answer::of(negated)),
            ("--length", "length") => match port_numbers(value) {
                Some(lengths) => {
                    Condition::numbers(Key::Length, lengths, negated).with_text(option.text())
                }
                None => unknown(),
            },
            (_, "string") => {
                let content = draft.content.get_or_insert_default();
                content.text = format!("{} {}", content.text, option.text());
                content.negated |= negated;
                return;
            }
            _ => unknown(),
        };
        draft.conditions.push(condition);
    }

    fn addresses(&self, key: Key, value: &str, option: &Opt<'_>) -> Condition {
        let mut set = Addresses::default();
        for word in value.split(',') {
            match addresses::parse(word).or_else(|error| lenient(word).ok_or(error)) {
                Ok(range) if range.family == self.family => set.insert(range),
                _ => return Condition::unknown(option.text()),
            }
        }
        Condition::inline(key, Members::Addresses(set), option.negated).with_text(option.text())
    }

    fn match_set(&self, option: &Opt<'_>, rules: &Ruleset) -> Condition {
        let [name, directions] = option.values[..] else {
            return Condition::unknown(option.text());
        };
        let Some(&number) = self.sets.get(name) else {
            return Condition::unknown(format!(
                "{}: the set is not in the input; put what `ipset save` prints in front of it",
                option.text()
            ));
        };
        match ipset::condition(&rules.sets[number], number, directions, option.negated) {
            Some(condition) => condition.with_text(option.text()),
            None => Condition::unknown(option.text()),
        }
    }

    fn target(&self, option: &Opt<'_>, rest: &[Opt<'_>], steps: &mut Vec<Step>) {
        let name = option.value();
        if let Some(&chain) = self.chains.get(name) {
            let goes = matches!(option.name, "-g" | "--goto");
            steps.push(Step::Verdict(if goes {
                Verdict::Goto(chain)
            } else {
                Verdict::Jump(chain)
            }));
            return;
        }
        let has = |wanted: &str| rest.iter().any(|option| option.name == wanted);
        let value = |wanted: &str| {
            let option = rest.iter().find(|option| option.name == wanted);
            option.map(Opt::value)
        };
        let verdict = match name {
            "ACCEPT" => Verdict::Accept,
            "DROP" | "REJECT" | "TARPIT" | "STEAL" | "DELUDE" => Verdict::Drop,
            "RETURN" => Verdict::Return,
            "MARK" => {
                steps.push(Step::Change(
                    mark(rest).map_or(Change::MarkUnknown, Change::Mark),
                ));
                return;
            }
            "CONNMARK" => {
                let masked = has("--mask") || has("--nfmask") || has("--ctmask");
                let whole = !masked
                    || rest
                        .iter()
                        .filter(|option| option.name.ends_with("mask"))
                        .all(|option| number(option.value()) == Some(u32::MAX));
                steps.push(Step::Change(if has("--save-mark") {
                    if whole {
                        Change::SaveMark
                    } else {
                        Change::ConnectionMarkUnknown
                    }
                } else if has("--restore-mark") {
                    if whole {
                        Change::RestoreMark
                    } else {
                        Change::MarkUnknown
                    }
                } else {
                    mark(rest).map_or(Change::ConnectionMarkUnknown, Change::ConnectionMark)
                }));
                return;
            }
            "NOTRACK" => {
                steps.push(Step::Change(Change::Untrack));
                return;
            }
            "CT" => {
                if has("--notrack") {
                    steps.push(Step::Change(Change::Untrack));
                }
                return;
            }
            "SET" => {
                let added = value("--add-set").and_then(|set| self.sets.get(set));
                if let Some(&number) = added {
                    steps.push(Step::Change(Change::Add(number)));
                }
                return;
            }
            "REDIRECT" => {
                let port = value("--to-ports").unwrap_or_default();
                let port = port.parse().ok();
                steps.push(Step::Change(Change::Destination {
                    local: if port.is_some() || !has("--to-ports") {
                        Answer::Yes
                    } else {
                        Answer::Unknown
                    },
                    port,
                }));
                Verdict::Accept
            }
            "DNAT" => {
                let to = value("--to-destination").unwrap_or_default();
                // Whose address that is can't be told.
                steps.push(Step::Change(Change::Destination {
                    local: Answer::Unknown,
                    port: destination_port(to, self.family),
                }));
                Verdict::Accept
            }
            // These only tell of the packet, or change what no rule here asks about.
            "LOG" | "NFLOG" | "ULOG" | "AUDIT" | "TRACE" | "CLASSIFY" | "DSCP" | "TOS" | "TTL"
            | "HL" | "TCPMSS" | "TCPOPTSTRIP" | "TEE" | "SECMARK" | "CONNSECMARK" | "IDLETIMER"
            | "RATEEST" | "CHECKSUM" | "LED" | "ECN" | "HMARK" => {
                if name == "HMARK" {
                    steps.push(Step::Change(Change::MarkUnknown));
                }
                return;
            }
            "MASQUERADE" | "SNAT" | "NETMAP" => return,
            _ => Verdict::Unknown,
        };
        steps.push(Step::Verdict(verdict));
    }
}

impl Recent {
    /// A list that the kernel keeps: nothing in the input says who is on it. Who has sent nothing yet has not sent several.
    fn condition(self) -> Condition {
        let text = excerpt(&format!("-m recent{}", self.text));
        if self.sets {
            Condition::is(Answer::of(!self.negated))
        } else if self.asks && self.hits > 1 {
            Condition::meter(self.negated, text)
        } else {
            Condition::unknown(text)
        }
    }
}

impl Content {
    /// Whoever is asked about says nothing that he is dropped for: such a rule stops packets, not sources. One that lets in for it may let in
    /// anybody, and one that drops what does not say it may drop anybody.
    fn condition(self, drops: bool) -> Condition {
        let text = excerpt(&format!("-m string{}", self.text));
        if drops && !self.negated {
            Condition::meter(false, text)
        } else {
            Condition::unknown(text)
        }
    }
}

/// Addresses as only old versions print them: without host bits cleared.
fn lenient(word: &str) -> Option<Range> {
    let prefix: ipnet::IpNet = word.parse().ok()?;
    Some(Range::of(prefix.trunc()))
}

/// Splits at blanks, not at those between quotes. A quoted word begins with the quote that is cut off here, so that it is no option.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut letters = line.chars().peekable();
    while let Some(&letter) = letters.peek() {
        if letter.is_whitespace() {
            letters.next();
            continue;
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(letter) = letters.next() {
            match (letter, quote) {
                ('"' | '\'', None) => {
                    quote = Some(letter);
                    if word.is_empty() {
                        word.push(QUOTED);
                    }
                }
                (letter, Some(open)) if letter == open => quote = None,
                ('\\', Some('"')) => word.extend(letters.next()),
                (letter, None) if letter.is_whitespace() => break,
                (letter, _) => word.push(letter),
            }
        }
        words.push(word);
    }
    words
}

/// Stands in front of a word that was quoted. No text has it: control characters are no part of a rule.
const QUOTED: char = '\u{1}';

fn options(words: &[String]) -> Vec<Opt<'_>> {
    let mut options: Vec<Opt<'_>> = Vec::new();
    let mut negated = false;
    for word in words {
        if word == "!" {
            // In front of an option, or, as it was written long ago, behind it.
            match options.last_mut() {
                Some(last) if last.values.is_empty() && last.name.starts_with('-') => {
                    last.negated = true;
                }
                _ => {}
            }
            negated = true;
            continue;
        }
        let begins =
            word.len() > 1 && word.starts_with('-') && !word.as_bytes()[1].is_ascii_digit();
        if begins {
            options.push(Opt {
                negated,
                name: word,
                values: Vec::new(),
            });
        } else if let Some(last) = options.last_mut() {
            last.values.push(word.strip_prefix(QUOTED).unwrap_or(word));
        }
        negated = false;
    }
    options
}

fn interface(key: Key, name: &str, negated: bool) -> Condition {
    let name = match name.strip_suffix('+') {
        Some(begin) => format!("{begin}*"),
        None => name.to_owned(),
    };
    Condition::inline(key, Members::Names(vec![name]), negated)
}

/// The number of a protocol; 0 is all of them.
fn protocol(name: &str) -> Option<u8> {
    Some(match name.to_ascii_lowercase().as_str() {
        "all" | "ip" => 0,
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
        "ipv6" => 41,
        "ospf" => 89,
        "vrrp" => 112,
        "pim" => 103,
        "ipencap" => 4,
        "l2tp" => 115,
        number => return number.parse().ok(),
    })
}

fn port_numbers(value: &str) -> Option<Vec<(u128, u128)>> {
    let number = |text: &str| -> Option<u128> {
        match text {
            "sip" => Some(5060),
            "sip-tls" | "sips" => Some(5061),
            "http" => Some(80),
            "https" => Some(443),
            "ssh" => Some(22),
            text => text.parse::<u16>().ok().map(u128::from),
        }
    };
    value
        .split(',')
        .map(|part| {
            let (first, last) = part.split_once(':').unwrap_or((part, part));
            let first = if first.is_empty() {
                Some(0)
            } else {
                number(first)
            };
            let last = if last.is_empty() {
                Some(65_535)
            } else {
                number(last)
            };
            match (first?, last?) {
                (first, last) if first <= last => Some((first, last)),
                _ => None,
            }
        })
        .collect()
}

fn ports(key: Key, value: &str, negated: bool) -> Option<Condition> {
    Some(Condition::numbers(key, port_numbers(value)?, negated))
}

/// `--ports`: the source's, or the destination's.
fn either_port(value: &str, negated: bool, option: &Opt<'_>) -> Condition {
    let Some(numbers) = port_numbers(value) else {
        return Condition::unknown(option.text());
    };
    // Who comes from such a port is not known, who goes to one is.
    let mut rows = Vec::new();
    for (first, last) in numbers {
        rows.push(vec![Field::Any, Field::Numbers(first, last)]);
        rows.push(vec![Field::Numbers(first, last), Field::Any]);
    }
    Condition {
        test: Test::In {
            keys: vec![Key::SourcePort, Key::DestinationPort],
            set: SetOf::Inline(Rc::new(Members::Rows(rows))),
            negated,
        },
        text: Some(option.text().into()),
    }
}

fn states(value: &str, negated: bool) -> Option<Condition> {
    let mut rows = Vec::new();
    for name in value.split(',') {
        match name.to_ascii_uppercase().as_str() {
            // That of a connection whose destination was changed.
            "DNAT" => rows.push(vec![Field::Any, Field::Numbers(1, 1)]),
            "SNAT" => {}
            name => {
                let bit = state::named(name)?;
                rows.push(vec![Field::Numbers(bit, bit), Field::Any]);
            }
        }
    }
    Some(Condition {
        test: Test::In {
            keys: vec![Key::ConnectionState, Key::DestinationChanged],
            set: SetOf::Inline(Rc::new(Members::Rows(rows))),
            negated,
        },
        text: None,
    })
}

fn tcp_flags(value: &str) -> Option<u8> {
    let mut flags = 0;
    for name in value.split(',') {
        flags |= match name {
            "FIN" => 1,
            "SYN" => 2,
            "RST" => 4,
            "PSH" => 8,
            "ACK" => 16,
            "URG" => 32,
            "ALL" => 63,
            "NONE" => 0,
            _ => return None,
        };
    }
    Some(flags)
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn mark_and_mask(text: &str) -> Option<(u32, u32)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}

/// What MARK and CONNMARK do to a mark.
fn mark(rest: &[Opt<'_>]) -> Option<Bits> {
    let option = rest.iter().find(|option| {
        matches!(
            option.name,
            "--set-xmark" | "--set-mark" | "--and-mark" | "--or-mark" | "--xor-mark"
        )
    })?;
    let (value, mask) = mark_and_mask(option.value())?;
    Some(match option.name {
        "--set-xmark" => Bits {
            and: !mask,
            xor: value,
        },
        "--set-mark" => Bits {
            and: !(value | mask),
            xor: value,
        },
        "--and-mark" => Bits { and: value, xor: 0 },
        "--or-mark" => Bits {
            and: !value,
            xor: value,
        },
        _ => Bits {
            and: u32::MAX,
            xor: value,
        },
    })
}

/// The port that `--to-destination` names, where it is one.
fn destination_port(to: &str, family: Family) -> Option<u16> {
    let (_, port) = match family {
        Family::V4 => to.split_once(':')?,
        Family::V6 => to.rsplit_once("]:")?,
    };
    port.parse().ok()
}
