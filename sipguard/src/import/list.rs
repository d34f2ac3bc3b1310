//! Lists of addresses without rules: who is on them is said, what is done with them is not.

mod crowdsec;
mod csv;
mod fail2ban;
mod routeros;

use std::collections::BTreeMap;

use super::{
    addresses::{self, Addresses},
    notes::Unread,
};

/// Addresses by the name that their list has; an empty one where it has none.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) named: BTreeMap<String, Addresses>,
    /// How many of the addresses end by themselves.
    pub(super) timed: usize,
    pub(super) unread: Unread,
    /// What is not an address but may lead to one.
    pub(super) names: Vec<(usize, String)>,
}

impl Lists {
    fn add(&mut self, list: &str, line: usize, word: &str) {
        match addresses::parse(word) {
            Ok(range) => {
                // Of a million addresses, few are in a list that is new.
                if !self.named.contains_key(list) {
                    self.named.insert(list.to_owned(), Addresses::default());
                }
                if let Some(known) = self.named.get_mut(list) {
                    known.insert(range);
                }
            }
            Err(_) if is_host_name(word) => self.names.push((line, word.to_owned())),
            Err(why) => self.unread.add(line, word, why),
        }
    }
}

/// Whether it looks like `sip.provider.example`.
fn is_host_name(word: &str) -> bool {
    let labels: Vec<&str> = word.trim_end_matches('.').split('.').collect();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    labels.len() > 1
        && labels
            .iter()
            .all(|label| !label.is_empty() && label.bytes().all(allowed))
        && labels
            .last()
            .is_some_and(|last| last.bytes().any(|byte| byte.is_ascii_alphabetic()))
}

/// Reads whatever list it is.
pub(super) fn read(text: &str) -> Lists {
    let mut lists = Lists::default();
    let first = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        .unwrap_or_default();
    if first.starts_with(['[', '{']) && crowdsec::read(text, &mut lists) {
        // It was JSON.
    } else if text
        .lines()
        .any(|line| line.trim() == "/ip firewall address-list")
        || first.starts_with("/ip firewall address-list")
        || first.starts_with("/ipv6 firewall address-list")
    {
        routeros::read(text, &mut lists);
    } else if let Some(column) = csv::column(first) {
        csv::read(text, column, &mut lists);
    } else {
        plain(text, &mut lists);
    }
    lists
}

/// What `fail2ban-client` prints of banned addresses.
pub(super) fn read_fail2ban(text: &str) -> Lists {
    let mut lists = Lists::default();
    fail2ban::read(text, &mut lists);
    lists
}

/// One prefix, address or range a line, or several between commas; comments behind `#`, `;` or `//`.
fn plain(text: &str, lists: &mut Lists) {
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let line = line.split("//").next().unwrap_or_default();
        let line = line.trim_start_matches('\u{feff}').trim();
        for entry in line.split(',') {
            let entry = entry.trim().trim_matches('"');
            if entry.is_empty() {
                continue;
            }
            if !entry.contains(char::is_whitespace) || entry.contains(" - ") {
                let joined: String = entry.split_whitespace().collect();
                lists.add("", number, &joined);
                continue;
            }
            // Addresses beside each other, or an address with words behind it.
            let words: Vec<&str> = entry.split_whitespace().collect();
            let all = words.iter().all(|word| addresses::parse(word).is_ok());
            if all {
                for word in words {
                    lists.add("", number, word);
                }
            } else {
                lists.unread.add(
                    number,
                    entry,
                    "this is more than an address; write one a line, and comments behind #",
                );
            }
        }
    }
}
