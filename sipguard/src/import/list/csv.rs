//! Tables with a title for each column, as `cscli decisions list -o csv` and many feeds have them.

use super::Lists;

/// The column with addresses, where this is a line of titles.
pub(super) fn column(line: &str) -> Option<usize> {
    const TITLES: [&str; 14] = [
        "ip",
        "address",
        "ip_address",
        "ipaddress",
        "cidr",
        "value",
        "range",
        "network",
        "prefix",
        "source_ip",
        "src_ip",
        "src",
        "ip address",
        "ip_prefix",
    ];
    let fields = fields(line);
    if fields.len() < 2 {
        return None;
    }
    TITLES.iter().find_map(|title| {
        fields
            .iter()
            .position(|field| field.trim().eq_ignore_ascii_case(title))
    })
}

pub(super) fn read(text: &str, column: usize, lists: &mut Lists) {
    let mut titles = true;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if std::mem::take(&mut titles) {
            continue;
        }
        let fields = fields(line);
        let Some(value) = fields.get(column) else {
            lists.unread.add(number, line, "a line with fewer columns");
            continue;
        };
        let value = value.trim();
        // CrowdSec: `Ip:192.0.2.66`, `Range:192.0.2.0/24`; its other scopes are no addresses.
        let address = match value.split_once(':') {
            Some((scope, address)) if scope.eq_ignore_ascii_case("ip") => address,
            Some((scope, address)) if scope.eq_ignore_ascii_case("range") => address,
            _ => value,
        };
        lists.add("", number, address);
    }
}

/// The fields of a line; those between quotes may have commas in them.
fn fields(line: &str) -> Vec<String> {
    let separator = if line.contains(',') {
        ','
    } else if line.contains(';') {
        ';'
    } else {
        '\t'
    };
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            letter if letter == separator && !quoted => fields.push(String::new()),
            letter => {
                if let Some(last) = fields.last_mut() {
                    last.push(letter);
                }
            }
        }
    }
    fields
}
