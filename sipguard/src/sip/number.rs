//! The number that a user part dials, and of which country it is.
//!
//! What a caller dials in front of the country's code depends on his exchange, and those who look for an open one try many: `00`, `000`, `011`, `9011`,
//! `900` and others. So a number is taken for an international one only where that is certain:
//!
//! - behind `+` (RFC 3966);
//! - behind `00` and further zeros, as no country's code begins with one;
//! - behind `011` (North America), `0011` (Australia), and either of them or `00` behind a 9 for an outside line, where ten digits or more follow. National
//!   numbers begin so, too (011 is Turin and Delhi, 900 the premium numbers of North America), and none of these is so long.
//!
//! In each case the digits must begin with a code that is in use, must be at most fifteen (ITU-T E.164, section 6), and behind +1 and +7 exactly ten must
//! follow. A number that was dialled in any other way is shown as it was dialled, of no country.

use std::fmt;

use super::{country, risk};

/// A number, in digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// From the country's code on where `is_international`, else as it was dialled.
    digits: String,
    is_international: bool,
}

/// Longer ones are none: fifteen digits, and what may be dialled in front of them.
const LONGEST: usize = 40;
/// ITU-T E.164, section 6.1.
const MOST_DIGITS: usize = 15;
/// The shortest numbers of the world have four digits, behind a code of three.
const FEWEST_DIGITS: usize = 7;
/// Where a national number could begin in the same way.
const FEWEST_TO_BE_CERTAIN: usize = 10;
/// What stands in front of a country's code, where a national number could begin in the same way.
const AMBIGUOUS: [&str; 6] = ["0011", "011", "90011", "9011", "99011", "900"];

impl Number {
    /// The number in a user part as it was sent: without visual separators (RFC 3966, section 5.1.1) and parameters, escapes resolved. None where
    /// there is anything but digits, and where there are none, or more than any number has.
    pub fn dialled(user: &[u8]) -> Option<Self> {
        let mut digits = String::new();
        let mut has_plus = false;
        let mut rest = user;
        while let Some((letter, behind)) = first(rest) {
            rest = behind;
            match letter {
                b'+' if digits.is_empty() && !has_plus => has_plus = true,
                b'0'..=b'9' if digits.len() < LONGEST => digits.push(letter.into()),
                b'-' | b'.' | b'(' | b')' | b' ' => {}
                b';' | b',' => break,
                _ => return None,
            }
        }
        if digits.is_empty() {
            return None;
        }
        if has_plus {
            return Some(Self {
                digits,
                is_international: true,
            });
        }
        let international = international(&digits).map(str::to_owned);
        Some(Self {
            is_international: international.is_some(),
            digits: international.unwrap_or(digits),
        })
    }

    /// The code of two letters of ISO 3166-1; none where it is not certain, and for codes that are no country's (satellites and others).
    pub fn country(&self) -> Option<&'static str> {
        self.is_whole().then(|| country::of(&self.digits)).flatten()
    }

    /// Whether it is on the list of what fraudsters have called.
    pub fn is_high_risk(&self) -> bool {
        self.is_whole() && risk::is_high(&self.digits)
    }

    /// Whether it leads to a country: behind a `+` there may be anything, also a few digits.
    fn is_whole(&self) -> bool {
        self.is_international && is_plausible(&self.digits)
    }
}

impl fmt::Display for Number {
    /// Digits, behind a `+` where they begin with a country's code.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plus = if self.is_international { "+" } else { "" };
        write!(f, "{plus}{}", self.digits)
    }
}

/// The first letter, an escaped one (`%2B`) resolved, and what follows.
fn first(text: &[u8]) -> Option<(u8, &[u8])> {
    if let &[b'%', high, low, ref rest @ ..] = text {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        if let (Some(high), Some(low)) = (digit(high), digit(low)) {
            let letter = u8::try_from(high * 16 + low).ok()?;
            return Some((letter, rest));
        }
    }
    text.split_first().map(|(&letter, rest)| (letter, rest))
}

/// From the country's code on, where it is certain where that begins.
fn international(digits: &str) -> Option<&str> {
    let ambiguous = AMBIGUOUS
        .iter()
        .filter_map(|prefix| digits.strip_prefix(prefix))
        .map(|rest| rest.trim_start_matches('0'))
        .find(|rest| rest.len() >= FEWEST_TO_BE_CERTAIN && is_certain(rest));
    ambiguous.or_else(|| {
        let rest = digits.strip_prefix("00")?.trim_start_matches('0');
        is_certain(rest).then_some(rest)
    })
}

fn is_certain(digits: &str) -> bool {
    is_plausible(digits) && country::is_code(digits)
}

/// Whether there are as many digits as numbers have.
fn is_plausible(digits: &str) -> bool {
    match digits.as_bytes().first() {
        Some(b'1' | b'7') => digits.len() == 11,
        _ => (FEWEST_DIGITS..=MOST_DIGITS).contains(&digits.len()),
    }
}
