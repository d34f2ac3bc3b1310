//! Of which country a number is, by what it begins with.

mod calling_codes;
mod north_america;

use self::{
    calling_codes::{CALLING_CODES, WITHOUT_COUNTRY},
    north_america::AREA_CODES,
};

/// The country of a number that begins with its country's code; none for codes that are no country's, or nobody's.
pub(super) fn of(digits: &str) -> Option<&'static str> {
    if let Some(national) = digits.strip_prefix('1') {
        let area = national.get(..3)?;
        let row = AREA_CODES
            .iter()
            .find(|(_, areas)| areas.binary_search(&area).is_ok());
        return row.map(|&(country, _)| country);
    }
    calling_code(digits).map(|(_, country)| country)
}

/// Whether a number begins with a code that is in use.
pub(super) fn is_code(digits: &str) -> bool {
    let is_of_none = |code: &&str| digits.starts_with(code);
    digits.starts_with('1')
        || calling_code(digits).is_some()
        || WITHOUT_COUNTRY.iter().any(is_of_none)
}

/// The longest row that the number begins with.
fn calling_code(digits: &str) -> Option<(&'static str, &'static str)> {
    const LONGEST: usize = 3;
    (1..=LONGEST).rev().find_map(|length| {
        let code = digits.get(..length)?;
        let found = CALLING_CODES.binary_search_by_key(&code, |&(code, _)| code);
        found.ok().map(|at| CALLING_CODES[at])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_can_be_searched() {
        assert!(CALLING_CODES.is_sorted_by(|(one, _), (other, _)| one < other));
        for (country, areas) in AREA_CODES {
            assert!(areas.is_sorted_by(|one, other| one < other), "{country}");
        }
        let countries = CALLING_CODES.iter().map(|&(_, country)| country);
        for country in countries.chain(AREA_CODES.iter().map(|&(country, _)| country)) {
            let known = country.parse::<sipguard_lists::country::Country>();
            assert!(known.is_ok(), "{country}");
        }
    }

    #[test]
    fn no_code_is_there_twice() {
        let codes = CALLING_CODES.iter().map(|&(code, _)| code);
        let mut codes: Vec<_> = codes.chain(WITHOUT_COUNTRY).collect();
        let mut areas: Vec<_> = AREA_CODES
            .iter()
            .flat_map(|(_, areas)| areas.iter().copied())
            .collect();
        for list in [&mut codes, &mut areas] {
            let length = list.len();
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), length);
        }
        // No code is the beginning of another one but in +7, which two countries share.
        for (one, other) in codes.iter().zip(&codes[1..]) {
            assert!(!other.starts_with(one) || *one == "7", "{one} {other}");
        }
    }
}
