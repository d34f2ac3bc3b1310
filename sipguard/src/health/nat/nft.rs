//! Rules of nftables: what they are is read from `nft -j list ruleset`; how a person writes them, from `nft -a list chain`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Effect, KeepIn, Out, Ports, Rule, printed};

/// Family, table and name.
type Chain<'a> = [&'a str; 3];

pub(super) fn rules() -> Vec<Rule> {
    let Some(listed) = printed("nft", &["-j", "list", "ruleset"]) else {
        return Vec::new();
    };
    read(&listed, |[family, table, name]| {
        printed("nft", &["-a", "list", "chain", family, table, name])
    })
}

/// What is not read is left out: what comes first in a chain only makes a finding go away.
pub(super) fn read(listed: &str, with_handles: impl Fn(Chain<'_>) -> Option<String>) -> Vec<Rule> {
    let listed: Value = serde_json::from_str(listed).unwrap_or_default();
    let objects = listed["nftables"].as_array();
    objects
        .into_iter()
        .flatten()
        .filter_map(|object| rule(object.get("rule")?, &with_handles))
        .collect()
}

fn rule(told: &Value, with_handles: &impl Fn(Chain<'_>) -> Option<String>) -> Option<Rule> {
    let chain = [
        told["family"].as_str()?,
        told["table"].as_str()?,
        told["chain"].as_str()?,
    ];
    let mut rule = Rule {
        chain: format!("nft's chain {}", chain.join(" ")),
        out: Out::Any,
        protocols: None,
        conditions: BTreeSet::new(),
        effect: Effect::Ends,
    };
    for statement in told["expr"].as_array()? {
        let (name, about) = statement.as_object()?.iter().next()?;
        match name.as_str() {
            "match" => condition(&mut rule, about),
            "counter" | "log" => {}
            "accept" | "drop" | "return" => return Some(rule),
            "masquerade" | "snat" => {
                let text = with_handles(chain)?;
                let handle = told["handle"].as_u64()?;
                rule.effect = Effect::Translates {
                    ports: ports(&about["port"]),
                    keep_in: keep_in(chain, handle, &text, name, rule.protocols.is_some())?,
                };
                return Some(rule);
            }
            // Among others `xt`: iptables' own, which iptables-save prints.
            _ => return None,
        }
    }
    None
}

fn condition(rule: &mut Rule, about: &Value) {
    let (left, right) = (&about["left"], &about["right"]);
    let is = about["op"] == "==";
    let key = left["meta"]["key"].as_str();
    let protocol = left["payload"]["protocol"].as_str();
    let names = || -> Option<Vec<String>> {
        let set = right["set"].as_array();
        let all = set.map_or(std::slice::from_ref(right), Vec::as_slice);
        let names = all.iter().map(|name| name.as_str().map(str::to_owned));
        names.collect()
    };
    let field = left["payload"]["field"].as_str();
    match (key, protocol, field, names()) {
        (Some("oifname" | "oif"), _, _, Some(names)) if is => rule.out = Out::Among(names),
        (Some("oifname" | "oif"), _, _, Some(names)) => rule.out = Out::Except(names),
        (Some("l4proto"), _, _, Some(names))
        | (_, Some("ip"), Some("protocol"), Some(names))
        | (_, Some("ip6"), Some("nexthdr"), Some(names))
            if is =>
        {
            rule.protocols = Some(names.into_iter().collect());
        }
        // Only what is forwarded matters here.
        _ if left["fib"]["result"] == "type" && !is && right == "local" => {}
        _ => {
            // `udp dport 53` is about UDP.
            if let Some(protocol @ ("udp" | "tcp" | "sctp")) = protocol {
                rule.protocols = Some(BTreeSet::from([protocol.to_owned()]));
            }
            rule.conditions.insert(about.to_string());
        }
    }
}

fn ports(told: &Value) -> Option<Ports> {
    let number = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    match told["range"].as_array() {
        Some(range) => Some(number(range.first()?)?..=number(range.get(1)?)?),
        None => number(told).map(|port| port..=port),
    }
}

/// The rule again, with two conditions more and a range. `None` where it is written in a way that nobody expected.
fn keep_in(
    [family, table, name]: Chain<'_>,
    handle: u64,
    listed: &str,
    statement: &str,
    has_protocol: bool,
) -> Option<KeepIn> {
    let end = format!(" # handle {handle}");
    let line = listed.lines().find_map(|line| line.strip_suffix(&end))?;
    let (matches, rest) = at_word(line.trim(), statement)?;
    let (told, comment) = match at_word(rest, "comment") {
        Some((told, comment)) => (told, format!(" comment{comment}")),
        None => (rest, String::new()),
    };
    // `to ADDRESS:PORTS FLAGS`, all of which may be missing.
    let mut words = told.split_whitespace().peekable();
    let family_word = words.next_if(|word| ["ip", "ip6"].contains(word));
    let to = words.next_if_eq(&"to").and_then(|_| words.next());
    let flags: String = words.flat_map(|flag| [" ", flag]).collect();
    let address = match to {
        None => String::new(),
        Some(to) if to.starts_with('[') => format!("{}]", to.split(']').next()?),
        Some(to) if to.matches(':').count() > 1 => format!("[{to}]"),
        Some(to) => to.split(':').next()?.to_owned(),
    };
    let matches = matches.trim().to_owned();
    let family_word = family_word.map_or(String::new(), |word| format!(" {word}"));
    let before = format!("insert rule {family} {table} {name} handle {handle} {matches}");
    let statement = statement.to_owned();
    Some(Box::new(move |protocols, ports| {
        let before = before.trim_end();
        let protocol = match (has_protocol, protocols) {
            (true, _) => String::new(),
            (false, [one]) => format!(" meta l4proto {one}"),
            (false, all) => format!(" meta l4proto {{ {} }}", all.join(", ")),
        };
        let (first, last) = (ports.start(), ports.end());
        let rule = format!(
            "{before}{protocol} fib saddr type != local {statement}{family_word} to {address}:{first}-{last}{flags}{comment}"
        );
        format!("nft '{}'", rule.replace('\'', r"'\''"))
    }))
}

/// What is before and behind a word that is not between quotes.
fn at_word<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    text.match_indices(word).find_map(|(at, _)| {
        let (before, behind) = (&text[..at], &text[at + word.len()..]);
        let whole = (before.is_empty() || before.ends_with(' '))
            && (behind.is_empty() || behind.starts_with(' '));
        let quoted = before.matches('"').count() % 2 == 1;
        (whole && !quoted).then_some((before, behind))
    })
}
