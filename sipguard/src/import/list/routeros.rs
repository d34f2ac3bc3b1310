//! `/ip firewall address-list export` of RouterOS: `add address=… list=… comment=…`.

use super::Lists;

pub(super) fn read(text: &str, lists: &mut Lists) {
    // A line may go on behind a backslash.
    let mut whole = String::new();
    let mut began = 0;
    let mut relevant = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if whole.is_empty() {
            began = number;
        }
        if let Some(begin) = line.strip_suffix('\\') {
            whole.push_str(begin);
            continue;
        }
        whole.push_str(line);
        let command = std::mem::take(&mut whole);
        let command = command.trim();
        if command.is_empty() || command.starts_with('#') {
            continue;
        }
        let mut rest = command;
        if command.starts_with('/') {
            relevant = command.contains("firewall address-list");
            let Some((_, behind)) = command.split_once("address-list") else {
                continue;
            };
            rest = behind.trim();
        }
        if !relevant || !rest.starts_with("add ") {
            continue;
        }
        let values = values(rest);
        let value = |name: &str| {
            values
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        };
        if value("disabled") == Some("yes") {
            continue;
        }
        lists.timed += usize::from(value("timeout").is_some());
        match value("address") {
            Some(address) => lists.add(value("list").unwrap_or_default(), began, address),
            None => lists.unread.add(began, command, "no address"),
        }
    }
}

/// `name=value` pairs; values between quotes may have blanks in them.
fn values(command: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for letter in command.chars().chain([' ']) {
        match letter {
            '"' => quoted = !quoted,
            ' ' if !quoted => {
                if let Some((name, value)) = word.split_once('=') {
                    pairs.push((name.to_owned(), value.to_owned()));
                }
                word.clear();
            }
            letter => word.push(letter),
        }
    }
    pairs
}
