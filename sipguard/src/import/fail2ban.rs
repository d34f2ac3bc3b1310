//! What `fail2ban-client` prints of banned addresses: `banned` (a Python list of jails), `status JAIL` (a tree), `get JAIL banip` (words,
//! or with `--with-time` a line each).

use ipnet::IpNet;

use super::{Note, addresses, note};

pub(super) fn read(text: &str, notes: &mut Vec<Note>) -> Vec<(IpNet, usize)> {
    let mut prefixes = Vec::new();
    let mut take = |word: &str, number: usize| match addresses(word) {
        Ok(some) => prefixes.extend(some.into_iter().map(|prefix| (prefix, number))),
        Err(error) => note(notes, number, word, error),
    };
    let tree = text.contains("Banned IP list:");
    for (number, line) in (1..).zip(text.lines()) {
        if tree {
            if let Some((_, banned)) = line.split_once("Banned IP list:") {
                banned
                    .split_whitespace()
                    .for_each(|word| take(word, number));
            }
        } else if line.trim_start().starts_with(['[', '{']) {
            // Between quotes stand jails, with a colon behind, and addresses.
            let mut rest = line;
            while let Some((_, behind)) = rest.split_once(['\'', '"']) {
                let Some((word, behind)) = behind.split_once(['\'', '"']) else {
                    break;
                };
                if !behind.starts_with(':') {
                    take(word, number);
                }
                rest = behind;
            }
        } else if line.contains(" = ") {
            line.split_whitespace()
                .take(1)
                .for_each(|word| take(word, number));
        } else {
            line.split_whitespace().for_each(|word| take(word, number));
        }
    }
    if !prefixes.is_empty() {
        notes.push(Note {
            line: 0,
            text: "bans end by themselves in fail2ban, here they stay; `sipguard deny --for 1d` adds some that end".to_owned(),
        });
    }
    prefixes
}
