//! Rules of iptables, of both back ends, as `iptables-save` prints them. Without `-t` it prints the tables that are there and makes none.

use std::collections::{BTreeMap, BTreeSet};

use super::{Effect, Out, Ports, Rule, printed};

pub(super) fn rules() -> Vec<Rule> {
    let of = |program: &str| Some(read(program, &printed(&format!("{program}-save"), &[])?));
    let mut rules = Vec::new();
    for family in ["iptables", "ip6tables"] {
        let backends = ["nft", "legacy"].map(|backend| of(&format!("{family}-{backend}")));
        // Where there are no two, there may be one.
        if backends.iter().all(Option::is_none) {
            rules.extend(of(family).unwrap_or_default());
        }
        rules.extend(backends.into_iter().flatten().flatten());
    }
    rules
}

/// The rules of the table `nat`.
pub(super) fn read(program: &str, saved: &str) -> Vec<Rule> {
    let in_nat = saved
        .lines()
        .skip_while(|line| *line != "*nat")
        .take_while(|line| *line != "COMMIT");
    let mut numbers = BTreeMap::new();
    in_nat
        .filter_map(|line| {
            let words = words(line.strip_prefix("-A ")?);
            let (chain, words) = words.split_first()?;
            let number = numbers.entry(chain.clone()).or_insert(0);
            *number += 1;
            Some(rule(program, chain, *number, words))
        })
        .collect()
}

fn rule(program: &str, chain: &str, number: usize, words: &[String]) -> Rule {
    let mut rule = Rule {
        chain: format!("{program}'s chain {chain}"),
        out: Out::Any,
        protocols: None,
        conditions: BTreeSet::new(),
        effect: Effect::Ends,
    };
    let target = words.iter().position(|word| word == "-j" || word == "-g");
    let (matches, target) = words.split_at(target.unwrap_or(words.len()));
    let same = conditions(&mut rule, matches);
    let Some((name, values)) = target.get(1..).and_then(<[_]>::split_first) else {
        return rule;
    };
    match name.as_str() {
        "MASQUERADE" | "SNAT" => {
            let before = format!("{program} -t nat -I {chain} {number}{same}");
            rule.effect = translation(name, values, before, rule.protocols.is_some());
        }
        "ACCEPT" | "DROP" | "RETURN" => {}
        // It goes on, or comes back: nothing can be said of what is behind it.
        _ => {
            rule.conditions.insert(format!("goes to {name}"));
        }
    }
    rule
}

/// Takes note of what a rule asks of a packet; returns what one in front of it has to say as well.
fn conditions(rule: &mut Rule, matches: &[String]) -> String {
    let mut same = String::new();
    for option in options(matches) {
        let (denied, words) = match option.split_first() {
            Some((first, rest)) if first == "!" => (true, rest),
            _ => (false, option),
        };
        let value = || words.get(1).cloned().unwrap_or_default();
        match words.first().map_or("", String::as_str) {
            "-o" if denied => rule.out = Out::Except(vec![value()]),
            "-o" => rule.out = Out::Among(vec![value()]),
            // One of the protocols that it is about is said instead.
            "-p" if denied => continue,
            "-p" => rule.protocols = Some(BTreeSet::from([value()])),
            // Only what is forwarded matters here.
            "--src-type" if denied && value() == "LOCAL" => {}
            "-m" | "--comment" => {}
            _ => {
                rule.conditions.insert(option.join(" "));
            }
        }
        same.extend([" ", &quoted(option)]);
    }
    same
}

/// What `-j MASQUERADE` and `-j SNAT` do; `before` is the command that puts a rule in front of this one, as far as its conditions.
fn translation(target: &str, values: &[String], before: String, has_protocol: bool) -> Effect {
    let value = |option: &str| {
        let at = values.iter().position(|word| word == option)?;
        values.get(at + 1)
    };
    let (to, ports) = if target == "SNAT" {
        let (address, told) = split(value("--to-source").map_or("", String::as_str));
        let bare = address.contains(':') && !address.starts_with('[');
        let address = if bare {
            format!("[{address}]")
        } else {
            address.to_owned()
        };
        (format!("--to-source {address}:"), told.and_then(ports))
    } else {
        let told = value("--to-ports").and_then(|told| ports(told));
        ("--to-ports ".to_owned(), told)
    };
    let kept = ["--random", "--random-fully", "--persistent"];
    let kept = values.iter().filter(|word| kept.contains(&word.as_str()));
    let flags: String = kept.flat_map(|flag| [" ", flag.as_str()]).collect();
    let target = target.to_owned();
    Effect::Translates {
        ports,
        keep_in: Box::new(move |protocols, ports| {
            let (first, last) = (ports.start(), ports.end());
            let commands = protocols.iter().map(|protocol| {
                let protocol = if has_protocol {
                    String::new()
                } else {
                    format!(" -p {protocol}")
                };
                format!("{before}{protocol} -m addrtype ! --src-type LOCAL -j {target} {to}{first}-{last}{flags}")
            });
            commands.collect::<Vec<_>>().join(" && ")
        }),
    }
}

/// Each option with its values, and with a `!` that is before it.
fn options(words: &[String]) -> Vec<&[String]> {
    let begins = |index: &usize| {
        let word = &words[*index];
        let denied = *index > 0 && words[*index - 1] == "!";
        word == "!"
            && words
                .get(*index + 1)
                .is_some_and(|next| next.starts_with('-'))
            || word.starts_with('-') && !denied
    };
    let begins: Vec<_> = (0..words.len()).filter(begins).collect();
    let ends = begins.iter().skip(1).copied().chain([words.len()]);
    begins
        .iter()
        .zip(ends)
        .map(|(&begin, end)| &words[begin..end])
        .collect()
}

/// Words for a shell.
fn quoted(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:,+=%!".contains(letter);
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Between blanks; what has blanks in it is between double quotes, in which a backslash takes the next letter as it is.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let word = words.last_mut();
        match (letter, word) {
            ('"', _) => quoted = !quoted,
            (' ', _) if !quoted => words.push(String::new()),
            ('\\', Some(word)) if quoted => word.extend(letters.next()),
            (letter, Some(word)) => word.push(letter),
            (_, None) => {}
        }
    }
    words
}

/// Address and ports of `--to-source`: `192.0.2.1:1024-2000`, `[2001:db8::1]:1024-2000`, or without ports.
fn split(to: &str) -> (&str, Option<&str>) {
    match to.rsplit_once(':') {
        Some((address, ports)) if address.ends_with(']') || !address.contains(':') => {
            (address, Some(ports))
        }
        _ => (to, None),
    }
}

fn ports(text: &str) -> Option<Ports> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}
