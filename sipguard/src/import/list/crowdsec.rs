//! JSON: CrowdSec's decisions (`cscli decisions list -o json`: alerts with their decisions inside, or decisions alone), Spamhaus' lines, and
//! plain lists of strings or of objects with an address in them.

use serde_json::{Deserializer, Value};

use super::Lists;

/// Names of fields that hold an address.
const FIELDS: [&str; 7] = [
    "value",
    "cidr",
    "ip",
    "address",
    "prefix",
    "ip_prefix",
    "ipv6_prefix",
];

/// Whether it was JSON.
pub(super) fn read(text: &str, lists: &mut Lists) -> bool {
    let mut values = Vec::new();
    let mut stream = Deserializer::from_str(text).into_iter::<Value>();
    let mut line = 1;
    let mut before = 0;
    loop {
        let value = match stream.next() {
            None => break,
            Some(Ok(value)) => value,
            Some(Err(_)) => return false,
        };
        // Where it ends is near enough: one a line, or all on one.
        let end = stream.byte_offset();
        line += text
            .get(before..end)
            .unwrap_or_default()
            .trim_start()
            .matches('\n')
            .count();
        let leading = text.get(before..end).unwrap_or_default();
        line += leading.len() - leading.trim_start_matches('\n').len();
        before = end;
        values.push((line, value));
    }
    // What is no list of CrowdSec's may be one of fail2ban's.
    for (line, value) in &values {
        take(value, *line, lists);
    }
    true
}

fn take(value: &Value, line: usize, lists: &mut Lists) {
    match value {
        Value::String(word) => lists.add("", line, word),
        Value::Array(several) => several.iter().for_each(|value| take(value, line, lists)),
        Value::Object(object) => {
            if let Some(decisions) = object.get("decisions") {
                // The range that an alert names is not what was decided about.
                take(decisions, line, lists);
                return;
            }
            if let Some(list) = object.get("new") {
                // The stream of decisions: what is deleted is not banned.
                take(list, line, lists);
                return;
            }
            if object.get("simulated") == Some(&Value::Bool(true)) {
                return;
            }
            if let Some(kind) = object.get("type").and_then(Value::as_str)
                && kind == "metadata"
            {
                return;
            }
            lists.timed += usize::from(object.contains_key("duration"));
            let scope = object.get("scope").and_then(Value::as_str);
            if let Some(scope) = scope
                && !scope.eq_ignore_ascii_case("ip")
                && !scope.eq_ignore_ascii_case("range")
            {
                let value = object.get("value").map(ToString::to_string);
                lists.unread.add(
                    line,
                    &value.unwrap_or_default(),
                    format!("a decision about a {scope}, which is no address"),
                );
                return;
            }
            let found = FIELDS
                .iter()
                .find_map(|field| object.get(*field).and_then(Value::as_str));
            if let Some(word) = found {
                lists.add("", line, word);
                return;
            }
            for inner in object.values() {
                if inner.is_array() || inner.is_object() {
                    take(inner, line, lists);
                }
            }
        }
        _ => {}
    }
}
