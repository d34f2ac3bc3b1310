//! Countries, by the codes of two letters of ISO 3166-1.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::prefix::Excerpt;

/// The code of a country.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

/// Kosovo has no code there, and this one in every database.
const KOSOVO: &str = "XK";

/// What was written is no code.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{written} is no country's code of two letters (ISO 3166-1), such as \"DE\"{hint}")]
pub struct CountryError {
    written: Excerpt,
    hint: Hint,
}

/// What may have been meant.
#[derive(Debug, PartialEq, Eq)]
enum Hint {
    None,
    Country(&'static str, &'static str),
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Country(code, name) => write!(f, "; {name} is \"{code}\""),
        }
    }
}

impl FromStr for Country {
    type Err = CountryError;

    fn from_str(text: &str) -> Result<Self, CountryError> {
        let is_known = text == KOSOVO || rust_iso3166::from_alpha2(text).is_some();
        match text.as_bytes() {
            &[first, second] if is_known => Ok(Self([first, second])),
            _ => Err(CountryError {
                written: Excerpt::of(text),
                hint: meant(text).map_or(Hint::None, |(code, name)| Hint::Country(code, name)),
            }),
        }
    }
}

/// The country whose name, or whose other code, this may be.
fn meant(text: &str) -> Option<(&'static str, &'static str)> {
    // Those that have other codes nearly everywhere else.
    let code = match &*text.to_ascii_uppercase() {
        "UK" => "GB".to_owned(),
        "EL" => "GR".to_owned(),
        code => code.to_owned(),
    };
    let begins = |name: &str| {
        let begin = name.get(..text.len());
        text.len() >= 3 && begin.is_some_and(|begin| begin.eq_ignore_ascii_case(text))
    };
    let all = || rust_iso3166::ALL.iter();
    let found = all()
        .find(|country| country.alpha2 == code || country.alpha3 == code)
        .or_else(|| all().find(|country| begins(country.name)))?;
    Some((found.alpha2, found.name))
}

impl TryFrom<String> for Country {
    type Error = CountryError;

    fn try_from(text: String) -> Result<Self, CountryError> {
        text.parse()
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.to_string()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|&letter| f.write_char(letter.into()))
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_are_none_say_which_one_may_be_meant() {
        for code in ["DE", "AT", "GB", "US", "XK"] {
            assert_eq!(code.parse::<Country>().unwrap().to_string(), code);
        }
        for (text, wanted) in [
            (
                "UK",
                "; United Kingdom of Great Britain and Northern Ireland is \"GB\"",
            ),
            ("EL", "; Greece is \"GR\""),
            ("de", "; Germany is \"DE\""),
            ("DEU", "; Germany is \"DE\""),
            ("Germany", "; Germany is \"DE\""),
            ("swit", "; Switzerland is \"CH\""),
            ("XX", ""),
            ("", ""),
            ("ö", ""),
            ("Rom\u{1b}", ""),
        ] {
            let error = text.parse::<Country>().unwrap_err().to_string();
            let wanted = format!(
                "{text:?} is no country's code of two letters (ISO 3166-1), such as \"DE\"{wanted}"
            );
            assert_eq!(error, wanted);
        }
    }
}
