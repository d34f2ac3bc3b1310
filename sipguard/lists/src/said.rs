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
            if is_plain(letter) {
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

/// A message about something that failed, which came from elsewhere and may quote a stranger, who was escaped there already: that is not done a second
/// time, brackets and apostrophes of words are left, and more of it is shown.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a>(pub &'a str);

/// How many characters of a message are shown.
const SHOWN_OF_MESSAGE: usize = 256;

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        for _ in 0..SHOWN_OF_MESSAGE {
            let Some(letter) = rest.chars().next() else {
                return Ok(());
            };
            let escaped = escaped(rest);
            let (first, other) = rest.split_at(escaped.unwrap_or(letter.len_utf8()));
            if escaped.is_some() || is_plain(letter) || "()'".contains(letter) {
                f.write_str(first)?;
            } else {
                write!(f, "{}", letter.escape_unicode())?;
            }
            rest = other;
        }
        if !rest.is_empty() {
            f.write_str("...")?;
        }
        Ok(())
    }
}

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || " .,:;_@+/-".contains(letter)
}

/// How many bytes the escaped letter takes that a text begins with, if it begins with one.
fn escaped(text: &str) -> Option<usize> {
    let digits = text.strip_prefix("\\u{")?;
    let end = digits.find('}')?;
    let is_number =
        (1..=6).contains(&end) && digits[..end].bytes().all(|it| it.is_ascii_hexdigit());
    is_number.then_some("\\u{".len() + end + 1)
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

    #[test]
    fn a_message_is_escaped_once() {
        let stranger = Said("<b>\u{1b}").to_string();
        assert_eq!(Message(&stranger).to_string(), stranger);
        for (text, wanted) in [
            ("refused (os error 111)", "refused (os error 111)"),
            ("it isn't there\n", "it isn't there\\u{a}"),
            (
                "<a> `rm` {{x}}",
                "\\u{3c}a\\u{3e} \\u{60}rm\\u{60} \\u{7b}\\u{7b}x\\u{7d}\\u{7d}",
            ),
            (
                "\\u{} \\u{1234567} \\u{x}",
                "\\u{5c}u\\u{7b}\\u{7d} \\u{5c}u\\u{7b}1234567\\u{7d} \\u{5c}u\\u{7b}x\\u{7d}",
            ),
            (&"x".repeat(257), &format!("{}...", "x".repeat(256))),
        ] {
            assert_eq!(Message(text).to_string(), wanted);
        }
    }
}
