//! What nftables writes, as both of its forms say it: the text, and the JSON.

/// Something that has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// A number, an address, a name.
    Word(String),
    Prefix(String, u8),
    Range(Box<Expression>, Box<Expression>),
    /// `{ … }`.
    Set(Vec<Element>),
    /// `@NAME`.
    Named(String),
    /// `a . b`.
    Row(Vec<Expression>),
    /// Several words that are ORed, such as `established,related`.
    Flags(Vec<Expression>),
    /// Something of the packet, as the text form calls it: `ip saddr`, `meta mark`, `ct state`.
    Key(String),
    /// `a & b`, `a | b`, `a ^ b`.
    Bits(char, Box<Expression>, Box<Expression>),
    /// Something that is not read here.
    Other(String),
}

/// One element of a set or of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Expression,
    pub(super) verdict: Option<Verdict>,
    /// Whether it ends by itself.
    pub(super) timed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Return,
    Continue,
    Jump(String),
    Goto(String),
    /// `queue`, and what no version had when this was written.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Is,
    IsNot,
    Less,
    LessOrIs,
    More,
    MoreOrIs,
}

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    Match(Expression, Compare, Expression),
    Verdict(Verdict),
    /// `vmap`.
    Cases(Expression, Expression),
    /// `KEY set VALUE`.
    Set(Expression, Expression),
    /// A rate or a number of connections: over it, or not.
    Meter {
        over: bool,
    },
    /// The source is put into a set, or something else is.
    Add {
        set: String,
        source: bool,
    },
    Notrack,
    /// The port that is redirected to, where it is one.
    Redirect(Option<Expression>),
    /// It goes to another address, and to this port where that changes, too.
    Dnat(Option<Expression>),
    /// A condition that can't be read.
    Unknown(String),
}

impl Statement {
    /// Whom a `reject` with such an answer is for: what says so before it is not written. None where it is for everybody.
    pub(super) fn rejected(with: &str) -> Option<Self> {
        let (key, value) = match with {
            "icmp" => ("meta nfproto", "ipv4"),
            "icmpv6" => ("meta nfproto", "ipv6"),
            "tcp" | "tcp reset" => ("meta l4proto", "tcp"),
            _ => return None,
        };
        let key = Expression::Key(key.to_owned());
        Some(Self::Match(
            key,
            Compare::Is,
            Expression::Word(value.to_owned()),
        ))
    }
}

/// A table, its sets and its chains.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) family: String,
    pub(super) name: String,
    pub(super) sets: Vec<SetOf>,
    pub(super) chains: Vec<Chain>,
}

/// A set, or a map.
#[derive(Debug, Default)]
pub(super) struct SetOf {
    pub(super) name: String,
    /// Names of types (`ipv4_addr`), or what `typeof` names (`ip saddr`).
    pub(super) types: Vec<String>,
    pub(super) elements: Vec<Element>,
}

#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) base: Option<Base>,
    pub(super) rules: Vec<Rule>,
}

/// Where the kernel hands packets to a chain.
#[derive(Debug, Default)]
pub(super) struct Base {
    pub(super) kind: String,
    pub(super) hook: String,
    pub(super) priority: i32,
    pub(super) devices: Vec<String>,
    pub(super) drops: bool,
}

#[derive(Debug, Default)]
pub(super) struct Rule {
    /// Counted from 1; 0 where the form has no lines.
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) comment: Option<String>,
    pub(super) statements: Vec<Statement>,
}
