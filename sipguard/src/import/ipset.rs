//! `ipset save`: `create NAME TYPE …` and `add NAME ELEMENT …`.

use super::{Note, Sets, addresses, note};

pub(super) fn read(text: &str, notes: &mut Vec<Note>) -> Sets {
    let mut sets = Sets::new();
    let mut timed = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("create"), Some(name), Some(_)) => {
                sets.entry(name.to_owned()).or_default();
            }
            (Some("add"), Some(name), Some(element)) => {
                let mut rest = words.peekable();
                let mut usable = true;
                while let Some(word) = rest.next() {
                    match word {
                        "nomatch" => usable = false,
                        "timeout" => timed += usize::from(rest.next() != Some("0")),
                        _ => {}
                    }
                }
                if !usable {
                    note(
                        notes,
                        number,
                        line,
                        "an exception to a set; put it into `deny` by hand",
                    );
                    continue;
                }
                match addresses(element) {
                    Ok(some) => {
                        let set = sets.entry(name.to_owned()).or_default();
                        set.prefixes
                            .extend(some.into_iter().map(|prefix| (prefix, number)));
                    }
                    Err(_) if element.contains(',') => {
                        note(
                            notes,
                            number,
                            line,
                            "an element with more than a source address",
                        );
                    }
                    Err(error) => note(notes, number, line, error),
                }
            }
            (Some("add" | "create"), ..) => note(notes, number, line, "this line is not complete"),
            // The rest of a file that rules follow in is theirs.
            _ => {}
        }
    }
    if timed > 0 {
        notes.push(Note {
            line: 0,
            text: super::timed(timed, "ipset"),
        });
    }
    sets
}
