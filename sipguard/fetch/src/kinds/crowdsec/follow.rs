//! What is listed now beside what was listed before: since when each ban is known, and whether anything is different.

use ipnet::IpNet;
use jiff::Timestamp;

use super::{Before, Ending};

/// How far an end has to be from what it was before that counts, in seconds: it is said as the time that is left, and so a little different
/// each time.
const MOVED: u64 = 60;

/// A ban that is known.
struct Known {
    prefix: IpNet,
    first: i64,
    end: Option<i64>,
}

/// Beside what stands in a file that somebody wrote, as far as it is of this LAPI.
pub(super) fn file(entries: &mut [Ending], before: &Before, url: &str) -> bool {
    let is_of = before
        .head()
        .is_some_and(|head| head.url.as_deref() == Some(url));
    // It was read to its end a moment ago.
    let mut reader = before.reader().ok().flatten().filter(|_| is_of);
    let known = std::iter::from_fn(|| {
        let entry = reader.as_mut()?.next_entry().ok()??;
        Some(Known {
            prefix: entry.prefix,
            first: entry.first.as_second(),
            end: entry.end.map(Timestamp::as_second),
        })
    });
    follow(entries, known)
}

/// Beside a list.
pub(super) fn list(entries: &mut [Ending], before: &[Ending]) -> bool {
    let known = before.iter().map(|ending| Known {
        prefix: ending.prefix,
        first: ending.first,
        end: Some(ending.end),
    });
    follow(entries, known)
}

fn follow(entries: &mut [Ending], known: impl Iterator<Item = Known>) -> bool {
    let mut known = known.peekable();
    let mut is_changed = false;
    for entry in entries {
        while known.next_if(|known| known.prefix < entry.prefix).is_some() {
            is_changed = true;
        }
        let same = known.next_if(|known| known.prefix == entry.prefix);
        is_changed |= match same {
            None => true,
            Some(known) => {
                entry.first = entry.first.min(known.first);
                match known.end {
                    Some(end) if end.abs_diff(entry.end) < MOVED => {
                        entry.end = end;
                        false
                    }
                    _ => true,
                }
            }
        };
    }
    is_changed || known.next().is_some()
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
            let mut now: Vec<_> = now.iter().map(ending).collect();
            assert_eq!(list(&mut now, &before), is_changed);
            let now: Vec<_> = now
                .iter()
                .map(|ending| (ending.first, ending.end))
                .collect();
            assert_eq!(now, wanted);
        }
    }
}
