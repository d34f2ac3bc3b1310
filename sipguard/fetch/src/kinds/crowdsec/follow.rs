//! What is listed now beside what was listed before: since when each ban is known, and whether anything is different.

use jiff::Timestamp;

use super::{Before, Ending};

/// How far an end has to be from what it was before that counts, in seconds: it is said as the time that is left, and so a little different
/// each time.
const MOVED: u64 = 60;

/// Beside what stands in a file that somebody wrote, as far as it is of this LAPI.
pub(super) fn file(entries: &mut [Ending], before: &Before, url: &str) -> bool {
    let is_of = before
        .head()
        .is_some_and(|head| head.url.as_deref() == Some(url));
    // It was read to its end a moment ago.
    let mut reader = before.reader().ok().flatten().filter(|_| is_of);
    let mut known = std::iter::from_fn(|| reader.as_mut()?.next_entry().ok()?).peekable();
    let mut is_changed = false;
    for entry in entries {
        while known.next_if(|known| known.prefix < entry.prefix).is_some() {
            is_changed = true;
        }
        let same = known.next_if(|known| known.prefix == entry.prefix);
        is_changed |= same.is_none_or(|known| {
            let (end, is_moved) = end(known.end.map(Timestamp::as_second), entry.end);
            entry.first = entry.first.min(known.first.as_second());
            entry.end = end;
            is_moved
        });
    }
    is_changed || known.next().is_some()
}

/// The same beside a list, which becomes what is listed now: another one beside it would take as much memory again.
pub(super) fn list(known: &mut Vec<Ending>, now: impl Iterator<Item = Ending>) -> bool {
    let (mut came, mut gone) = (Vec::new(), Vec::new());
    let (mut place, mut is_changed) = (0, false);
    for entry in now {
        while known.get(place).is_some_and(|it| it.prefix < entry.prefix) {
            gone.push(known[place].prefix);
            place += 1;
        }
        match known.get_mut(place) {
            Some(same) if same.prefix == entry.prefix => {
                place += 1;
                let (end, is_moved) = end(Some(same.end), entry.end);
                is_changed |= is_moved;
                *same = Ending {
                    first: entry.first.min(same.first),
                    end,
                    ..entry
                };
            }
            _ => came.push(entry),
        }
    }
    gone.extend(known[place..].iter().map(|ending| ending.prefix));
    is_changed |= !came.is_empty() || !gone.is_empty();
    let mut gone = gone.into_iter().peekable();
    if gone.peek().is_some() {
        known.retain(|ending| gone.next_if_eq(&ending.prefix).is_none());
    }
    if !came.is_empty() {
        known.append(&mut came);
        // It passes over what is in order already.
        known.sort_by_key(|ending| ending.prefix);
    }
    is_changed
}

/// When a ban ends, by what was said of it before and is said now, and whether that is something else.
fn end(before: Option<i64>, now: i64) -> (i64, bool) {
    match before {
        Some(end) if end.abs_diff(now) < MOVED => (end, false),
        _ => (now, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_stays_as_it_was() {
        let ending = |&(prefix, first, end): &(&str, i64, i64)| Ending {
            prefix: prefix.parse().unwrap(),
            first,
            end,
            comment: "".into(),
        };
        let before = [("192.0.2.1/32", 5, 100), ("192.0.2.3/32", 6, 200)];
        let before: Vec<_> = before.iter().map(ending).collect();
        for (now, wanted, is_changed) in [
            (
                &[("192.0.2.1/32", 9, 101), ("192.0.2.3/32", 9, 141)][..],
                &[(5, 100), (6, 200)][..],
                false,
            ),
            (
                &[("192.0.2.1/32", 9, 160), ("192.0.2.3/32", 9, 200)],
                &[(5, 160), (6, 200)],
                true,
            ),
            (
                &[
                    ("192.0.2.1/32", 9, 100),
                    ("192.0.2.2/32", 9, 100),
                    ("192.0.2.3/32", 9, 200),
                ],
                &[(5, 100), (9, 100), (6, 200)],
                true,
            ),
            (&[("192.0.2.3/32", 9, 200)], &[(6, 200)], true),
            (&[("192.0.2.1/32", 9, 100)], &[(5, 100)], true),
            (&[], &[], true),
        ] {
            let mut known = before.clone();
            assert_eq!(list(&mut known, now.iter().map(ending)), is_changed);
            let prefixes = known.iter().map(|ending| ending.prefix);
            assert!(prefixes.eq(now.iter().map(|now| ending(now).prefix)));
            let known = known.iter().map(|ending| (ending.first, ending.end));
            assert_eq!(known.collect::<Vec<_>>(), wanted);
        }
    }
}
