//! What others say, fit to be printed anywhere: on a terminal, in JSON, in a journal.

use std::fmt::{self, Write as _};

/// A stranger's text. Everything but plain letters, digits and `` .,:;_@+/-`` is escaped, and only its beginning is shown.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a>(pub &'a str);

/// How many characters are shown.
const SHOWN: usize = 64;

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars().take(SHOWN) {
            if letter.is_ascii_alphanumeric() || " .,:;_@+/-".contains(letter) {
                f.write_char(letter)?;
            } else {
                write!(f, "{}", letter.escape_unicode())?;
            }
        }
        if self.0.chars().nth(SHOWN).is_some() {
            f.write_str("...")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_letters_come_through() {
        for (text, wanted) in [
            ("SERVFAIL from 192.0.2.53", "SERVFAIL from 192.0.2.53"),
            ("\u{1b}[31m\"\n", "\\u{1b}\\u{5b}31m\\u{22}\\u{a}"),
            ("größe", "gr\\u{f6}\\u{df}e"),
            (&"x".repeat(64), &"x".repeat(64)),
            (&"x".repeat(65), &format!("{}...", "x".repeat(64))),
        ] {
            assert_eq!(Said(text).to_string(), wanted);
        }
    }
}
