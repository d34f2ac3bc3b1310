//! `nft list ruleset`.

use super::{
    super::notes::Unread,
    expression::{
        Base, Chain, Compare, Element, Expression, Rule, SetOf, Statement, Table, Verdict,
    },
};

/// A word, a sign, or the end of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token<'t> {
    line: usize,
    text: &'t str,
    quoted: bool,
}

const END: &str = "\n";

pub(super) fn read(text: &str, unread: &mut Unread) -> Vec<Table> {
    let tokens = tokens(text);
    let mut rest = Tokens {
        all: &tokens,
        at: 0,
        sets: 0,
    };
    let mut tables: Vec<Table> = Vec::new();
    while let Some(token) = rest.next() {
        match token.text {
            END | ";" => {}
            "table" if !token.quoted => {
                let words = rest.up_to_brace();
                let (family, name) = match words.as_slice() {
                    [name] => ("ip", *name),
                    [family, name, ..] => (*family, *name),
                    [] => continue,
                };
                let mut table = Table {
                    family: family.to_owned(),
                    name: name.to_owned(),
                    ..Table::default()
                };
                read_table(&mut rest, &mut table, unread);
                tables.push(table);
            }
            // They make room for what follows.
            "flush" | "delete" | "destroy" => {
                rest.skip_statement();
            }
            other => {
                unread.refuse(token.line, other);
                rest.skip_statement();
            }
        }
    }
    tables
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    const SIGNS: &str = "{},;()";
    let mut tokens = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let mut rest = content.trim_start();
        let mut goes_on = false;
        while !rest.is_empty() && !rest.starts_with('#') {
            let (token, quoted, behind) = if let Some(inside) = rest.strip_prefix('"') {
                let end = inside.find('"').unwrap_or(inside.len());
                let behind = inside.get(end + 1..).unwrap_or_default();
                (&inside[..end], true, behind)
            } else if rest.starts_with(|c| SIGNS.contains(c)) {
                (&rest[..1], false, &rest[1..])
            } else {
                let stop = |c: char| c.is_whitespace() || c == '"' || SIGNS.contains(c);
                let end = rest.find(stop).unwrap_or(rest.len());
                (&rest[..end], false, &rest[end..])
            };
            rest = behind.trim_start();
            if token == "\\" && !quoted && rest.is_empty() {
                goes_on = true;
                break;
            }
            tokens.push(Token {
                line,
                text: token,
                quoted,
            });
        }
        if !goes_on {
            tokens.push(Token {
                line,
                text: END,
                quoted: false,
            });
        }
    }
    tokens
}

struct Tokens<'s, 't> {
    all: &'s [Token<'t>],
    at: usize,
    /// In how many sets this is, where a comma separates elements.
    sets: usize,
}

impl<'t> Tokens<'_, 't> {
    fn next(&mut self) -> Option<Token<'t>> {
        let token = self.all.get(self.at).copied();
        self.at += 1;
        token
    }

    fn peek(&self) -> Option<Token<'t>> {
        self.all.get(self.at).copied()
    }

    /// What stands next, or nothing at the end of a statement.
    fn text(&self) -> &'t str {
        match self.peek() {
            Some(Token { quoted: true, .. }) => "\"",
            Some(token) if token.text != END && token.text != ";" => token.text,
            _ => "",
        }
    }

    fn take(&mut self, wanted: &str) -> bool {
        let found = self.text() == wanted && !wanted.is_empty();
        if found {
            self.at += 1;
        }
        found
    }

    /// The next word, quoted or not, unless the statement ends.
    fn word(&mut self) -> Option<&'t str> {
        let token = self.peek()?;
        if !token.quoted && [END, ";", "{", "}", ","].contains(&token.text) {
            return None;
        }
        self.at += 1;
        Some(token.text)
    }

    fn skip_ends(&mut self) {
        while self
            .peek()
            .is_some_and(|token| !token.quoted && [END, ";"].contains(&token.text))
        {
            self.at += 1;
        }
    }

    fn up_to_brace(&mut self) -> Vec<&'t str> {
        let mut words = Vec::new();
        while let Some(token) = self.next() {
            if !token.quoted && token.text == "{" {
                break;
            }
            if !token.quoted && token.text == END {
                // A table without a block is only declared; the brace may also stand on the next line.
                if self.text() == "{" {
                    continue;
                }
                self.at = self.at.saturating_sub(1);
                break;
            }
            words.push(token.text);
        }
        words
    }

    /// Past the end of a statement with all blocks in it.
    fn skip_statement(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.peek() {
            if !token.quoted {
                match token.text {
                    "{" => depth += 1,
                    "}" if depth == 0 => break,
                    "}" => depth -= 1,
                    END | ";" if depth == 0 => {
                        self.at += 1;
                        break;
                    }
                    _ => {}
                }
            }
            self.at += 1;
        }
    }
}

fn read_table(rest: &mut Tokens<'_, '_>, table: &mut Table, unread: &mut Unread) {
    loop {
        rest.skip_ends();
        let Some(token) = rest.next() else { return };
        match token.text {
            "}" => return,
            "chain" => {
                let name = rest.word().unwrap_or_default().to_owned();
                rest.up_to_brace();
                let chain = read_chain(rest, name);
                table.chains.push(chain);
            }
            "set" | "map" => {
                let name = rest.word().unwrap_or_default().to_owned();
                rest.up_to_brace();
                table.sets.push(read_set(rest, name));
            }
            // Objects that rules name, and what is only for people.
            "counter" | "quota" | "limit" | "ct" | "flowtable" | "secmark" | "synproxy"
            | "comment" | "flags" => {
                rest.skip_statement();
            }
            other => {
                unread.refuse(token.line, other);
                rest.skip_statement();
            }
        }
    }
}

fn read_set(rest: &mut Tokens<'_, '_>, name: String) -> SetOf {
    let mut set = SetOf {
        name,
        ..SetOf::default()
    };
    loop {
        rest.skip_ends();
        let Some(token) = rest.next() else { break };
        match token.text {
            "}" => break,
            "type" | "typeof" => {
                let mut words: Vec<&str> = Vec::new();
                while let Some(word) = rest.word() {
                    // Behind the colon is what a map leads to.
                    if word == ":" {
                        rest.skip_statement();
                        break;
                    }
                    words.push(word);
                }
                set.types = words
                    .split(|word| *word == ".")
                    .map(|words| words.join(" "))
                    .collect();
            }
            "elements" => {
                rest.take("=");
                if rest.take("{") {
                    set.elements = read_elements(rest);
                }
            }
            _ => {
                rest.skip_statement();
            }
        }
    }
    set
}

/// Elements up to the brace that ends them, which is taken.
fn read_elements(rest: &mut Tokens<'_, '_>) -> Vec<Element> {
    let mut elements = Vec::new();
    rest.sets += 1;
    loop {
        rest.skip_ends();
        let Some(token) = rest.peek() else { break };
        if !token.quoted && token.text == "}" {
            rest.at += 1;
            break;
        }
        if !token.quoted && token.text == "," {
            rest.at += 1;
            continue;
        }
        let before = rest.at;
        let key = value(rest);
        let mut element = Element {
            key,
            verdict: None,
            timed: false,
        };
        // Attributes, and where a map leads to.
        let mut depth = 0_usize;
        loop {
            rest.skip_ends();
            let Some(token) = rest.peek() else { break };
            if !token.quoted {
                match token.text {
                    "{" => depth += 1,
                    "}" | "," if depth == 0 => break,
                    "}" => depth -= 1,
                    "timeout" | "expires" => element.timed = true,
                    ":" => {
                        rest.at += 1;
                        element.verdict = Some(verdict(rest).unwrap_or(Verdict::Other));
                        continue;
                    }
                    _ => {}
                }
            }
            rest.at += 1;
        }
        if rest.at == before {
            rest.at += 1;
        }
        elements.push(element);
    }
    rest.sets -= 1;
    elements
}

fn read_chain(rest: &mut Tokens<'_, '_>, name: String) -> Chain {
    let mut chain = Chain {
        name,
        ..Chain::default()
    };
    loop {
        rest.skip_ends();
        let Some(token) = rest.peek() else { break };
        match token.text {
            "}" if !token.quoted => {
                rest.at += 1;
                break;
            }
            "type" => {
                rest.at += 1;
                chain.base = Some(read_base(rest));
            }
            "policy" => {
                rest.at += 1;
                let drops = rest.word() == Some("drop");
                if let Some(base) = &mut chain.base {
                    base.drops = drops;
                }
            }
            // Of the chain; a rule's stands behind it.
            "comment" | "flags" => {
                rest.skip_statement();
            }
            _ => {
                let rule = read_rule(rest);
                chain.rules.push(rule);
            }
        }
    }
    chain
}

fn read_base(rest: &mut Tokens<'_, '_>) -> Base {
    let mut base = Base {
        kind: rest.word().unwrap_or_default().to_owned(),
        ..Base::default()
    };
    while let Some(word) = rest.word() {
        match word {
            "hook" => rest.word().unwrap_or_default().clone_into(&mut base.hook),
            "device" => base.devices.extend(rest.word().map(str::to_owned)),
            "devices" => {
                rest.take("=");
                if rest.take("{") {
                    while let Some(token) = rest.next() {
                        match token.text {
                            "}" => break,
                            "," => {}
                            name => base.devices.push(name.to_owned()),
                        }
                    }
                }
            }
            "priority" => {
                let first = rest.word().unwrap_or_default();
                base.priority = priority(first);
                if let Some(sign @ ("+" | "-")) = Some(rest.text()) {
                    rest.at += 1;
                    let number: i32 = rest.word().and_then(|it| it.parse().ok()).unwrap_or(0);
                    base.priority += if sign == "+" { number } else { -number };
                }
            }
            _ => {}
        }
    }
    base
}

pub(super) fn priority(text: &str) -> i32 {
    match text {
        "raw" => -300,
        "mangle" => -150,
        "dstnat" => -100,
        "filter" => 0,
        "security" => 50,
        "srcnat" => 100,
        // `filter-10` is written so, too, by hand.
        text => match text.split_once(['+', '-']) {
            Some((name, number)) if !name.is_empty() => {
                let number: i32 = number.parse().unwrap_or(0);
                let sign = if text.contains('+') { 1 } else { -1 };
                priority(name) + sign * number
            }
            _ => text.parse().unwrap_or(0),
        },
    }
}

fn read_rule(rest: &mut Tokens<'_, '_>) -> Rule {
    let begin = rest.at;
    let mut rule = Rule {
        line: rest.peek().map_or(0, |token| token.line),
        ..Rule::default()
    };
    loop {
        let text = rest.text();
        if text.is_empty() || text == "}" {
            break;
        }
        let before = rest.at;
        statement(rest, &mut rule);
        if rest.at == before {
            rest.at += 1;
        }
    }
    let words: Vec<&str> = rest.all[begin..rest.at.min(rest.all.len())]
        .iter()
        .map(|token| token.text)
        .filter(|text| *text != END)
        .take(60)
        .collect();
    rule.text = words.join(" ");
    rule
}

/// Reads one statement of a rule.
#[expect(clippy::too_many_lines, reason = "one row a statement")]
fn statement(rest: &mut Tokens<'_, '_>, rule: &mut Rule) {
    let text = rest.text();
    match text {
        "counter" => {
            rest.at += 1;
            if rest.take("packets") {
                rest.word();
                rest.take("bytes");
                rest.word();
            } else if rest.take("name") || rest.text() == "\"" {
                rest.word();
            }
        }
        "log" => {
            rest.at += 1;
            while [
                "prefix",
                "level",
                "flags",
                "group",
                "snaplen",
                "queue-threshold",
            ]
            .contains(&rest.text())
            {
                rest.at += 1;
                if rest.text() == "tcp" || rest.text() == "ip" {
                    rest.at += 1;
                }
                rest.word();
                while rest.take(",") {
                    rest.word();
                }
            }
        }
        "comment" => {
            rest.at += 1;
            rule.comment = rest.word().map(str::to_owned);
        }
        "reject" => {
            rest.at += 1;
            if rest.take("with") {
                rule.statements.extend(Statement::rejected(rest.text()));
            }
            rule.statements.push(Statement::Verdict(Verdict::Drop));
            while !["", "}", "comment"].contains(&rest.text()) {
                rest.at += 1;
            }
        }
        "accept" | "drop" | "return" | "continue" | "jump" | "goto" | "queue" => {
            let verdict = verdict(rest).unwrap_or(Verdict::Other);
            rule.statements.push(Statement::Verdict(verdict));
            if text == "queue" {
                // How, which is nothing to sources; a comment may follow.
                while !["", "}", "comment"].contains(&rest.text()) {
                    rest.at += 1;
                }
            }
        }
        "limit" => {
            rest.at += 1;
            let mut over = false;
            if rest.take("name") {
                // What the object says is not looked up: a rate that is named is one that is not exceeded.
                rest.word();
            } else {
                rest.take("rate");
                over = rest.take("over");
                rest.word();
                // `5 / second`, `10 mbytes/second`.
                while ["/", "kbytes/second", "mbytes/second", "bytes/second"].contains(&rest.text())
                    || rest.text().contains("bytes/")
                {
                    let slash = rest.text() == "/";
                    rest.at += 1;
                    if slash {
                        rest.word();
                    }
                }
                if rest.take("burst") {
                    rest.word();
                    rest.word();
                }
            }
            rule.statements.push(Statement::Meter { over });
        }
        "notrack" => {
            rest.at += 1;
            rule.statements.push(Statement::Notrack);
        }
        "masquerade" | "snat" => {
            rest.skip_rule();
        }
        "redirect" => {
            rest.at += 1;
            let port = if rest.take("to") {
                let word = rest.word().unwrap_or_default();
                Some(Expression::Word(word.trim_start_matches(':').to_owned()))
            } else {
                None
            };
            rule.statements.push(Statement::Redirect(port));
            rest.skip_rule();
        }
        "dnat" => {
            rest.at += 1;
            while ["ip", "ip6", "to"].contains(&rest.text()) {
                rest.at += 1;
            }
            let to = rest.word().unwrap_or_default();
            let port = match to.rsplit_once(':') {
                Some((address, port)) if !address.contains(':') || address.ends_with(']') => {
                    Some(Expression::Word(port.to_owned()))
                }
                _ => None,
            };
            rule.statements.push(Statement::Dnat(port));
            rest.skip_rule();
        }
        "add" | "update" | "delete" | "set" if !rest.is_key() => add_to_set(rest, rule),
        "meter" | "flow" => add_to_set(rest, rule),
        "ct" if rest.second() == "count" => {
            rest.at += 2;
            let over = rest.take("over");
            rest.word();
            rule.statements.push(Statement::Meter { over });
        }
        _ => matching(rest, rule),
    }
}

impl Tokens<'_, '_> {
    fn second(&self) -> &str {
        self.all.get(self.at + 1).map_or("", |token| token.text)
    }

    fn is_key(&self) -> bool {
        !self.second().starts_with('@')
    }

    fn skip_rule(&mut self) {
        while !["", "}", "comment"].contains(&self.text()) {
            self.at += 1;
        }
    }
}

/// `add @set { ip saddr timeout 1h limit rate over 5/minute }`, and `meter name { … }`.
fn add_to_set(rest: &mut Tokens<'_, '_>, rule: &mut Rule) {
    let operation = rest.word().unwrap_or_default();
    let mut name = rest.word().unwrap_or_default();
    if name == "table" {
        name = rest.word().unwrap_or_default();
    }
    let name = name.trim_start_matches('@').to_owned();
    if rest.take("size") {
        rest.word();
    }
    if !rest.take("{") {
        rule.statements
            .push(Statement::Unknown(format!("{operation} {name}")));
        return;
    }
    let key = value(rest);
    let mut inner = Rule::default();
    while !["", "}"].contains(&rest.text()) {
        let before = rest.at;
        match rest.text() {
            "timeout" | "expires" => {
                rest.at += 1;
                rest.word();
            }
            _ => statement(rest, &mut inner),
        }
        if rest.at == before {
            rest.at += 1;
        }
    }
    rest.take("}");
    let source = match &key {
        Expression::Key(key) => key.ends_with(" saddr"),
        Expression::Row(keys) => keys
            .iter()
            .any(|key| matches!(key, Expression::Key(key) if key.ends_with(" saddr"))),
        _ => false,
    };
    rule.statements.push(if operation == "delete" {
        Statement::Unknown(format!("delete @{name}"))
    } else {
        Statement::Add { set: name, source }
    });
    rule.statements.extend(inner.statements);
}

/// A condition, a map of verdicts, or something that is set.
fn matching(rest: &mut Tokens<'_, '_>, rule: &mut Rule) {
    const KNOWN: [&str; 13] = [
        "", "}", "accept", "drop", "return", "jump", "goto", "queue", "reject", "comment",
        "counter", "limit", "continue",
    ];
    let begin = rest.at;
    let left = value(rest);
    let compare = match rest.text() {
        "vmap" => {
            rest.at += 1;
            let map = value(rest);
            rule.statements.push(Statement::Cases(left, map));
            return;
        }
        "set" => {
            rest.at += 1;
            let right = value(rest);
            rule.statements.push(Statement::Set(left, right));
            return;
        }
        "==" | "eq" => Some(Compare::Is),
        "!=" | "ne" | "!" => Some(Compare::IsNot),
        "<" | "lt" => Some(Compare::Less),
        "<=" | "le" => Some(Compare::LessOrIs),
        ">" | "gt" => Some(Compare::More),
        ">=" | "ge" => Some(Compare::MoreOrIs),
        _ => None,
    };
    if compare.is_some() {
        rest.at += 1;
    }
    let known = is_known(&left);
    if known && !["", "}", ","].contains(&rest.text()) {
        let right = value(rest);
        // `tcp flags syn / fin,syn,rst,ack`: these of those.
        if rest.take("/") {
            let mask = value(rest);
            let left = Expression::Bits('&', Box::new(left), Box::new(mask));
            let compare = compare.unwrap_or(Compare::Is);
            rule.statements.push(Statement::Match(left, compare, right));
            return;
        }
        let compare = compare.unwrap_or(Compare::Is);
        rule.statements.push(Statement::Match(left, compare, right));
        return;
    }
    // Whatever it is, it ends where something begins that is known.
    let mut cases = false;
    while !KNOWN.contains(&rest.text()) {
        let before = rest.at;
        if rest.at > begin && key(rest).is_some() {
            rest.at = before;
            break;
        }
        rest.at = before;
        if rest.take("{") {
            read_elements(rest);
            continue;
        }
        cases |= rest.text() == "vmap";
        rest.at += 1;
    }
    let words: Vec<&str> = rest.all[begin..rest.at.min(rest.all.len())]
        .iter()
        .map(|token| token.text)
        .take(30)
        .collect();
    rule.statements.push(Statement::Unknown(words.join(" ")));
    if cases {
        rule.statements.push(Statement::Verdict(Verdict::Other));
    }
}

/// Whether there is a key in it.
fn is_known(expression: &Expression) -> bool {
    match expression {
        Expression::Key(_) => true,
        Expression::Row(parts) => parts.iter().all(is_known),
        Expression::Bits(_, left, _) => is_known(left),
        _ => false,
    }
}

fn verdict(rest: &mut Tokens<'_, '_>) -> Option<Verdict> {
    Some(match rest.word()? {
        "accept" => Verdict::Accept,
        "drop" | "reject" => Verdict::Drop,
        "return" => Verdict::Return,
        "continue" => Verdict::Continue,
        "jump" => Verdict::Jump(rest.word()?.to_owned()),
        "goto" => Verdict::Goto(rest.word()?.to_owned()),
        _ => Verdict::Other,
    })
}

/// A value: a row of operands with signs between them.
fn value(rest: &mut Tokens<'_, '_>) -> Expression {
    let mut parts = vec![operation(rest)];
    while rest.take(".") {
        parts.push(operation(rest));
    }
    match <[Expression; 1]>::try_from(parts) {
        Ok([one]) => one,
        Err(parts) => Expression::Row(parts),
    }
}

fn operation(rest: &mut Tokens<'_, '_>) -> Expression {
    let mut left = operand(rest);
    loop {
        let sign = match rest.text() {
            "&" | "and" => '&',
            "|" | "or" => '|',
            "^" | "xor" => '^',
            "-" => {
                rest.at += 1;
                left = Expression::Range(Box::new(left), Box::new(operand(rest)));
                continue;
            }
            _ => return left,
        };
        rest.at += 1;
        left = Expression::Bits(sign, Box::new(left), Box::new(operand(rest)));
    }
}

fn operand(rest: &mut Tokens<'_, '_>) -> Expression {
    if rest.take("(") {
        let inner = value(rest);
        rest.take(")");
        return inner;
    }
    if rest.take("{") {
        return Expression::Set(read_elements(rest));
    }
    let Some(token) = rest.peek() else {
        return Expression::Other(String::new());
    };
    if token.quoted {
        rest.at += 1;
        return Expression::Word(token.text.to_owned());
    }
    let text = rest.text();
    if let Some(key) = key(rest) {
        return Expression::Key(key);
    }
    if ["", "}", ",", ")", ";"].contains(&text) {
        return Expression::Other(String::new());
    }
    rest.at += 1;
    if let Some(name) = text.strip_prefix('@') {
        return Expression::Named(name.to_owned());
    }
    let word = word(text);
    if rest.text() != "," || rest.sets > 0 {
        return word;
    }
    let mut flags = vec![word];
    while rest.take(",") {
        flags.push(self::word(rest.word().unwrap_or_default()));
    }
    Expression::Flags(flags)
}

/// A prefix, a range, or just a word.
pub(super) fn word(text: &str) -> Expression {
    if let Some((address, length)) = text.split_once('/')
        && let Ok(length) = length.parse()
    {
        return Expression::Prefix(address.to_owned(), length);
    }
    let first = text.as_bytes().first().copied().unwrap_or_default();
    let numeric = first.is_ascii_digit() || (text.contains(':') && first.is_ascii_hexdigit());
    if numeric && let Some((first, last)) = text.split_once('-') {
        return Expression::Range(
            Box::new(Expression::Word(first.to_owned())),
            Box::new(Expression::Word(last.to_owned())),
        );
    }
    Expression::Word(text.to_owned())
}

/// What is asked of a packet, where the next words name that.
#[expect(clippy::too_many_lines, reason = "one row a header")]
fn key(rest: &mut Tokens<'_, '_>) -> Option<String> {
    let first = rest.text();
    let second = rest.second();
    let is_field = match first {
        "ip" => matches!(
            second,
            "saddr"
                | "daddr"
                | "protocol"
                | "version"
                | "hdrlength"
                | "dscp"
                | "ecn"
                | "length"
                | "id"
                | "frag-off"
                | "ttl"
                | "checksum"
                | "option"
        ),
        "ip6" => matches!(
            second,
            "saddr"
                | "daddr"
                | "nexthdr"
                | "version"
                | "dscp"
                | "ecn"
                | "flowlabel"
                | "length"
                | "hoplimit"
        ),
        "udp" | "tcp" | "th" | "sctp" | "udplite" | "dccp" => matches!(
            second,
            "sport"
                | "dport"
                | "length"
                | "checksum"
                | "sequence"
                | "ackseq"
                | "doff"
                | "reserved"
                | "flags"
                | "window"
                | "urgptr"
                | "option"
                | "type"
                | "vtag"
                | "csumcov"
                | "chunk"
        ),
        "icmp" | "icmpv6" => matches!(
            second,
            "type"
                | "code"
                | "id"
                | "sequence"
                | "mtu"
                | "gateway"
                | "checksum"
                | "parameter-problem"
                | "packet-too-big"
                | "max-delay"
                | "taddr"
                | "daddr"
        ),
        "ether" | "vlan" | "arp" => matches!(
            second,
            "type"
                | "saddr"
                | "daddr"
                | "id"
                | "cfi"
                | "dei"
                | "pcp"
                | "operation"
                | "htype"
                | "ptype"
                | "hlen"
                | "plen"
        ),
        "meta" | "ct" | "rt" | "exthdr" | "socket" | "esp" | "ah" | "comp" | "igmp" | "frag"
        | "hbh" | "dst" | "mh" => {
            second.starts_with(|c: char| c.is_ascii_lowercase())
                && !matches!(
                    second,
                    "accept" | "drop" | "jump" | "goto" | "return" | "vmap"
                )
        }
        "iif" | "oif" | "iifname" | "oifname" | "mark" | "pkttype" | "iiftype" | "oiftype"
        | "iifgroup" | "oifgroup" | "l4proto" | "nfproto" | "skuid" | "skgid" | "nftrace"
        | "cgroup" | "rtclassid" => {
            rest.at += 1;
            return Some(format!("meta {first}"));
        }
        "fib" => return fib(rest),
        text if text.starts_with("@th") || text.starts_with("@nh") || text.starts_with("@ll") => {
            // `@th,16,16` is cut at its commas.
            rest.at += 1;
            let mut name = text.to_owned();
            while rest.take(",") {
                name = format!("{name},{}", rest.word().unwrap_or_default());
            }
            return Some(name);
        }
        _ => return None,
    };
    let directed = first == "ct" && ["original", "reply"].contains(&second);
    // `ip` is also a value: of `meta protocol`.
    if !is_field {
        return None;
    }
    let mut name = format!("{first} {second}");
    rest.at += 2;
    if directed {
        while let "ip" | "ip6" | "saddr" | "daddr" | "proto-src" | "proto-dst" | "protocol"
        | "l3proto" | "bytes" | "packets" = rest.text()
        {
            name = format!("{name} {}", rest.text());
            rest.at += 1;
        }
    }
    if name == "tcp option" || first == "rt" || first == "exthdr" || first == "socket" {
        while ![
            "", "}", "==", "!=", "accept", "drop", "jump", "goto", "return",
        ]
        .contains(&rest.text())
            && rest
                .text()
                .chars()
                .all(|c| c.is_ascii_alphabetic() || c == '-')
        {
            name = format!("{name} {}", rest.text());
            rest.at += 1;
        }
    }
    Some(name)
}

/// `fib saddr . iif oif missing`: flags with dots between them, then what is asked.
fn fib(rest: &mut Tokens<'_, '_>) -> Option<String> {
    rest.at += 1;
    let mut name = format!("fib {}", rest.word()?);
    while rest.take(".") {
        name = format!("{name} . {}", rest.word()?);
    }
    Some(format!("{name} {}", rest.word()?))
}
