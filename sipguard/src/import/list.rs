//! One prefix a line, comments behind `#` or `;`.

use ipnet::IpNet;

use super::{Note, addresses, note};

pub(super) fn read(text: &str, notes: &mut Vec<Note>) -> Vec<(IpNet, usize)> {
    let mut prefixes = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let entry = line.split(['#', ';']).next().unwrap_or_default().trim();
        let entry = entry.trim_start_matches('\u{feff}');
        if entry.is_empty() {
            continue;
        }
        match addresses(entry) {
            Ok(some) => prefixes.extend(some.into_iter().map(|prefix| (prefix, number))),
            Err(error) => note(notes, number, entry, error),
        }
    }
    prefixes
}
