//! Numbers, times and lists, as sentences for people have them.

use std::fmt::{self, Display};

use jiff::{SignedDuration, Timestamp};

use crate::zone;

/// `1,234,567`
pub struct Grouped(pub u64);

impl Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut grouped = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        f.pad(&grouped)
    }
}

/// `1.23 GB`, with powers of ten.
pub struct Scaled(pub u64, pub &'static str);

impl Display for Scaled {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unit) = *self;
        let mut shown = value as f64;
        let mut prefix = "";
        for next in ["k", "M", "G", "T", "P", "E"] {
            // What would be rounded up to a thousand is one of the next unit.
            if shown < 999.5 {
                break;
            }
            prefix = next;
            shown /= 1000.0;
        }
        let decimals = match shown {
            _ if prefix.is_empty() => 0,
            shown if shown < 9.995 => 2,
            shown if shown < 99.95 => 1,
            _ => 0,
        };
        f.pad(&format!("{shown:.decimals$} {prefix}{unit}"))
    }
}

/// A duration in its two largest units: `2d 3h`, `59s`.
pub fn rough(seconds: i64) -> String {
    let round = match seconds.unsigned_abs() {
        0..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    let duration = SignedDuration::from_secs(seconds / round * round);
    let (days, rest) = (duration.as_hours() / 24, duration.as_secs() % 86_400);
    match (days, rest) {
        (0, _) => format!("{duration:#}"),
        (_, 0) => format!("{days}d"),
        _ => format!("{days}d {:#}", SignedDuration::from_secs(rest)),
    }
}

/// A moment as the clock on the wall shows it.
pub fn local(moment: Timestamp) -> String {
    moment
        .to_zoned(zone::local())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// `one`, `one and two`, `one, two and three`
pub fn joined(words: impl IntoIterator<Item = impl Display>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| word.to_string()).collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// `1 entry`, `2 entries`
pub fn count(number: usize, one: &str, many: &str) -> String {
    let word = if number == 1 { one } else { many };
    format!("{} {word}", Grouped(number as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (number, wanted) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(Grouped(number).to_string(), wanted);
        }
        for (number, wanted) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_996, "10.0 kB"),
            (99_960, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(Scaled(number, "B").to_string(), wanted);
        }
    }

    #[test]
    fn times() {
        for (seconds, wanted) in [
            (0, "0s"),
            (59, "59s"),
            (90, "1m 30s"),
            (7_259, "2h"),
            (7_300, "2h 1m"),
            (86_400, "1d"),
            (90_061, "1d 1h"),
            (7 * 86_400, "7d"),
        ] {
            assert_eq!(rough(seconds), wanted);
        }
    }

    #[test]
    fn words() {
        assert_eq!(joined(["a"; 0]), "");
        assert_eq!(joined(["a"]), "a");
        assert_eq!(joined(["a", "b"]), "a and b");
        assert_eq!(joined(["a", "b", "c"]), "a, b and c");
        assert_eq!(count(1, "entry", "entries"), "1 entry");
        assert_eq!(count(1000, "entry", "entries"), "1,000 entries");
    }
}
