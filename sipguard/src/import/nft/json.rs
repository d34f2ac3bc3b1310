//! `nft -j list ruleset`.

use serde_json::{Map, Value};

use super::{
    super::notes::{Unread, excerpt},
    expression::{
        Base, Chain, Compare, Element, Expression, Rule, SetOf, Statement, Table, Verdict,
    },
    text,
};

/// How deep expressions are followed: the parser of JSON has its own limit, which is higher.
const DEEPEST: usize = 40;

pub(super) fn read(text: &str, unread: &mut Unread) -> Result<Vec<Table>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let all = value
        .get("nftables")
        .and_then(Value::as_array)
        .ok_or("there is no \"nftables\" in it")?;
    let mut tables: Vec<Table> = Vec::new();
    for object in all {
        let Some((kind, body)) = only(object) else {
            continue;
        };
        let word = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        if kind == "table" {
            tables.push(Table {
                family: word("family").to_owned(),
                name: word("name").to_owned(),
                ..Table::default()
            });
            continue;
        }
        let (family, name) = (word("family"), word("table"));
        let found = tables
            .iter_mut()
            .find(|table| table.family == family && table.name == name);
        let Some(table) = found else {
            continue;
        };
        match kind {
            "chain" => table.chains.push(Chain {
                name: word("name").to_owned(),
                base: body.get("hook").map(|_| Base {
                    kind: word("type").to_owned(),
                    hook: word("hook").to_owned(),
                    priority: match body.get("prio") {
                        Some(Value::String(name)) => text::priority(name),
                        number => number
                            .and_then(Value::as_i64)
                            .and_then(|number| i32::try_from(number).ok())
                            .unwrap_or_default(),
                    },
                    devices: strings(body.get("dev")),
                    drops: word("policy") == "drop",
                }),
                rules: Vec::new(),
            }),
            "set" | "map" => table.sets.push(SetOf {
                name: word("name").to_owned(),
                types: types(body.get("type")),
                elements: body
                    .get("elem")
                    .and_then(Value::as_array)
                    .map(|elements| elements.iter().map(|it| element(it, 0)).collect())
                    .unwrap_or_default(),
            }),
            "rule" => {
                let chain = word("chain");
                let handle = body
                    .get("handle")
                    .and_then(Value::as_u64)
                    .unwrap_or_default();
                let Some(found) = table.chains.iter_mut().find(|known| known.name == chain) else {
                    continue;
                };
                let expressions = body.get("expr").and_then(Value::as_array);
                let mut statements = Vec::new();
                let mut shown = Vec::new();
                for value in expressions.into_iter().flatten() {
                    shown.push(value.to_string());
                    statement(value, &mut statements);
                }
                found.rules.push(Rule {
                    line: 0,
                    text: excerpt(&format!("{chain}, handle {handle}: {}", shown.join(" "))),
                    comment: body
                        .get("comment")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                    statements,
                });
            }
            // Objects that rules name.
            "counter" | "quota" | "limit" | "ct helper" | "ct timeout" | "ct expectation"
            | "flowtable" | "secmark" | "synproxy" | "element" => {}
            other => unread.refuse(0, other),
        }
    }
    Ok(tables)
}

/// The one key of an object with what it leads to.
fn only(value: &Value) -> Option<(&str, &Value)> {
    let (key, body) = value.as_object()?.iter().next()?;
    Some((key.as_str(), body))
}

fn strings(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => several
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

/// Names of types, or what `typeof` says.
fn types(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Object(object)) => {
            // Newer versions: {"typeof": …}.
            let inner = object.get("typeof").or_else(|| object.get("concat"));
            match inner {
                Some(Value::Array(parts)) => parts.iter().map(type_of).collect(),
                Some(Value::Object(inner)) if inner.contains_key("concat") => inner["concat"]
                    .as_array()
                    .map(|parts| parts.iter().map(type_of).collect())
                    .unwrap_or_default(),
                Some(one) => vec![type_of(one)],
                None => vec![type_of(value.unwrap_or(&Value::Null))],
            }
        }
        other => strings(other),
    }
}

fn type_of(value: &Value) -> String {
    match (value, expression(value, 0)) {
        (Value::String(name), _) => name.clone(),
        (_, Expression::Key(key)) => key,
        _ => String::new(),
    }
}

fn element(value: &Value, depth: usize) -> Element {
    match value {
        // An element of a map.
        Value::Array(pair) if pair.len() == 2 => Element {
            verdict: Some(verdict(&pair[1]).unwrap_or(Verdict::Other)),
            ..element(&pair[0], depth + 1)
        },
        Value::Object(object) if object.contains_key("elem") => {
            let inner = &object["elem"];
            let timed = ["timeout", "expires"]
                .iter()
                .any(|key| inner.get(key).is_some());
            Element {
                key: expression(inner.get("val").unwrap_or(&Value::Null), depth + 1),
                verdict: None,
                timed,
            }
        }
        value => Element {
            key: expression(value, depth + 1),
            verdict: None,
            timed: false,
        },
    }
}

fn expression(value: &Value, depth: usize) -> Expression {
    if depth > DEEPEST {
        return Expression::Other(String::new());
    }
    let inner = |value: &Value| Box::new(expression(value, depth + 1));
    match value {
        Value::String(text) => match text.strip_prefix('@') {
            Some(name) => Expression::Named(name.to_owned()),
            None => Expression::Word(text.clone()),
        },
        Value::Number(number) => Expression::Word(number.to_string()),
        // `fib … oif` is asked for existence.
        Value::Bool(is) => Expression::Word(if *is { "exists" } else { "missing" }.to_owned()),
        // Several flags, one of which is enough.
        Value::Array(several) => Expression::Flags(
            several
                .iter()
                .map(|value| expression(value, depth + 1))
                .collect(),
        ),
        Value::Object(object) => object_expression(object).unwrap_or_else(|| {
            let Some((key, body)) = only(value) else {
                return Expression::Other(String::new());
            };
            match (key, body) {
                ("range", Value::Array(pair)) if pair.len() == 2 => {
                    Expression::Range(inner(&pair[0]), inner(&pair[1]))
                }
                ("&" | "|" | "^", Value::Array(parts)) if parts.len() >= 2 => {
                    let sign = key.chars().next().unwrap_or('&');
                    let mut all = parts.iter().map(|part| expression(part, depth + 1));
                    let first = all.next().unwrap_or(Expression::Other(String::new()));
                    all.fold(first, |left, right| {
                        Expression::Bits(sign, Box::new(left), Box::new(right))
                    })
                }
                ("set", Value::Array(elements)) => Expression::Set(
                    elements
                        .iter()
                        .map(|value| element(value, depth + 1))
                        .collect(),
                ),
                ("set", one) => Expression::Set(vec![element(one, depth + 1)]),
                ("concat", Value::Array(parts)) => Expression::Row(
                    parts
                        .iter()
                        .map(|part| expression(part, depth + 1))
                        .collect(),
                ),
                ("elem", _) => element(value, depth + 1).key,
                _ => Expression::Other(excerpt(&value.to_string())),
            }
        }),
        Value::Null => Expression::Other(String::new()),
    }
}

/// Those that are named by several keys.
fn object_expression(object: &Map<String, Value>) -> Option<Expression> {
    let (kind, body) = object.iter().next()?;
    let word = |key: &str| body.get(key).and_then(Value::as_str);
    match kind.as_str() {
        "prefix" => {
            let address = word("addr")?.to_owned();
            let length = body.get("len")?.as_u64()?;
            Some(Expression::Prefix(address, u8::try_from(length).ok()?))
        }
        "payload" => {
            let key = if let (Some(protocol), Some(field)) = (word("protocol"), word("field")) {
                format!("{protocol} {field}")
            } else {
                let number = |key: &str| body.get(key).and_then(Value::as_u64);
                format!(
                    "@{},{},{}",
                    word("base")?,
                    number("offset")?,
                    number("len")?
                )
            };
            Some(Expression::Key(key))
        }
        "meta" => Some(Expression::Key(format!("meta {}", word("key")?))),
        "ct" => Some(Expression::Key(match word("dir") {
            Some(direction) => format!("ct {direction} {}", word("key")?),
            None => format!("ct {}", word("key")?),
        })),
        "fib" => {
            let flags = strings(body.get("flags")).join(" . ");
            Some(Expression::Key(format!("fib {flags} {}", word("result")?)))
        }
        _ => None,
    }
}

fn verdict(value: &Value) -> Option<Verdict> {
    let (kind, body) = only(value)?;
    let target = || {
        body.get("target")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    Some(match kind {
        "accept" => Verdict::Accept,
        "drop" | "reject" => Verdict::Drop,
        "return" => Verdict::Return,
        "continue" => Verdict::Continue,
        "jump" => Verdict::Jump(target()?),
        "goto" => Verdict::Goto(target()?),
        "queue" => Verdict::Other,
        _ => return None,
    })
}

fn statement(value: &Value, statements: &mut Vec<Statement>) {
    if let Some(verdict) = verdict(value) {
        let with = value.pointer("/reject/type").and_then(Value::as_str);
        statements.extend(with.and_then(Statement::rejected));
        statements.push(Statement::Verdict(verdict));
        return;
    }
    let Some((kind, body)) = only(value) else {
        // `"notrack"` may stand alone.
        if value.as_str() == Some("notrack") {
            statements.push(Statement::Notrack);
        }
        return;
    };
    let unknown = || Statement::Unknown(excerpt(&value.to_string()));
    let part = |key: &str| body.get(key).map(|value| expression(value, 0));
    let inverted = || body.get("inv").and_then(Value::as_bool).unwrap_or(false);
    let made = match kind {
        "match" => match (part("left"), part("right")) {
            (Some(left), Some(right)) => {
                let compare = match body.get("op").and_then(Value::as_str) {
                    Some("!=" | "!") => Compare::IsNot,
                    Some("<") => Compare::Less,
                    Some("<=") => Compare::LessOrIs,
                    Some(">") => Compare::More,
                    Some(">=") => Compare::MoreOrIs,
                    _ => Compare::Is,
                };
                Statement::Match(left, compare, right)
            }
            _ => unknown(),
        },
        "vmap" => match (part("key"), part("data")) {
            (Some(key), Some(data)) => Statement::Cases(key, data),
            _ => unknown(),
        },
        "mangle" => match (part("key"), part("value")) {
            (Some(key), Some(value)) => Statement::Set(key, value),
            _ => unknown(),
        },
        // A named rate is a string.
        "limit" | "ct count" => Statement::Meter { over: inverted() },
        "set" | "meter" => {
            let key = body.get("elem").or_else(|| body.get("key"));
            let source = key.is_some_and(|key| key.to_string().contains("\"saddr\""));
            let name = body
                .get("set")
                .or_else(|| body.get("name"))
                .and_then(Value::as_str)
                .unwrap_or_default();
            if body.get("op").and_then(Value::as_str) == Some("delete") {
                statements.push(unknown());
                return;
            }
            statements.push(Statement::Add {
                set: name.trim_start_matches('@').to_owned(),
                source,
            });
            let inner = match body.get("stmt") {
                Some(Value::Array(several)) => several.as_slice(),
                Some(one) => std::slice::from_ref(one),
                None => &[],
            };
            for value in inner {
                statement(value, statements);
            }
            return;
        }
        "notrack" => Statement::Notrack,
        "redirect" => Statement::Redirect(part("port")),
        "dnat" => Statement::Dnat(part("port")),
        // They only tell of the packet, or change what no rule here asks about.
        "counter" | "log" | "snat" | "masquerade" | "ct helper" | "ct timeout"
        | "ct expectation" | "secmark" | "flow" | "dup" => return,
        _ => unknown(),
    };
    statements.push(made);
}
