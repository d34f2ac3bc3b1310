//! A config file's text while it is read: where things stand in it, and the problems found so far.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::problems::Problems;
use crate::{
    policy::Policy,
    prefix::{self, Excerpt},
};

pub(super) type Key<'i> = Spanned<DeString<'i>>;
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

pub(super) struct Document<'t> {
    file: &'t Path,
    text: &'t str,
    problems: Problems,
}

impl<'t> Document<'t> {
    pub(super) fn new(file: &'t Path, text: &'t str) -> Self {
        Self {
            file,
            text: text.strip_prefix('\u{feff}').unwrap_or(text),
            problems: Problems::default(),
        }
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// Where a path that the config file names leads.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// The line of a place in the text, counted from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.place(span).0
    }

    fn place(&self, span: &Range<usize>) -> (usize, usize) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.rfind('\n').map_or(0, |end| end + 1);
        (
            before.bytes().filter(|&byte| byte == b'\n').count() + 1,
            before[line..].chars().count() + 1,
        )
    }

    /// The address without quotes that is, or was begun, at a place in the text, which TOML takes for a number.
    pub(super) fn bare_address(&self, span: &Range<usize>) -> Option<Range<usize>> {
        let is_part = |letter: char| letter.is_ascii_hexdigit() || ".:/".contains(letter);
        let (before, behind) = self.text.split_at_checked(span.start)?;
        let start = before.trim_end_matches(is_part).len();
        let end = span.start
            + behind
                .find(|letter| !is_part(letter))
                .unwrap_or(behind.len());
        let word = &self.text[start..end];
        prefix::parse(word).is_ok().then_some(start..end)
    }

    pub(super) fn problem(&mut self, span: Range<usize>, message: impl Into<String>) {
        let (line, column) = self.place(&span);
        self.problems
            .add(self.file, line, column, || message.into());
    }

    /// Problems of a list file that the config file names.
    pub(super) fn problems(&mut self) -> &mut Problems {
        &mut self.problems
    }

    pub(super) fn into_problems(mut self) -> Problems {
        self.problems.sort();
        self.problems
    }

    pub(super) fn finish(self, policy: Policy) -> Result<Policy, Problems> {
        if self.problems.is_empty() {
            Ok(policy)
        } else {
            Err(self.into_problems())
        }
    }

    /// The values of the known keys, in their order; other keys are problems.
    pub(super) fn fields<'a, 'i, const N: usize>(
        &mut self,
        table: &'a DeTable<'i>,
        place: &str,
        known: [&'static str; N],
    ) -> [Option<&'a Value<'i>>; N] {
        let mut fields = [None; N];
        for (key, value) in table {
            if let Some(index) = known.iter().position(|&known| known == key.get_ref()) {
                fields[index] = Some(value);
            } else {
                let hint = hint(key.get_ref(), known)
                    .unwrap_or_else(|| format!("the keys here are {}", known.join(", ")));
                let key_text = Excerpt::of(key.get_ref());
                self.problem(key.span(), format!("{place} has no key {key_text}; {hint}"));
            }
        }
        fields
    }

    pub(super) fn table<'a, 'i>(
        &mut self,
        value: &'a Value<'i>,
        what: &str,
        example: &str,
    ) -> Option<&'a DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(value, what, "a table", example);
        }
        table
    }

    pub(super) fn array<'a, 'i>(
        &mut self,
        value: &'a Value<'i>,
        what: &str,
        example: &str,
    ) -> &'a [Value<'i>] {
        if let Some(array) = value.get_ref().as_array() {
            array
        } else {
            self.wrong_type(value, what, "an array", example);
            &[]
        }
    }

    pub(super) fn string<'a>(
        &mut self,
        value: &'a Value<'_>,
        what: &str,
        example: &str,
    ) -> Option<&'a str> {
        let string = value.get_ref().as_str();
        if string.is_none() {
            self.wrong_type(value, what, "a string", example);
        }
        string
    }

    pub(super) fn boolean(&mut self, value: &Value<'_>, what: &str) -> bool {
        let is_true = value.get_ref().as_bool();
        if is_true.is_none() {
            self.wrong_type(value, what, "a boolean", "true or false");
        }
        is_true.unwrap_or_default()
    }

    /// The path of a file that another program is to read, from the root.
    pub(super) fn path(&mut self, value: &Value<'_>, what: &str) -> Option<PathBuf> {
        let text = self.string(value, what, &format!("{what} = \"/etc/sipguard/…\""))?;
        let path = self.resolve(text);
        Some(std::path::absolute(&path).unwrap_or(path))
    }

    /// A string that is one of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        value: &Value<'_>,
        what: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let words: Vec<_> = choices
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        let words = words.join(" or ");
        let word = self.string(value, what, &words)?;
        let choice = choices.iter().find(|(known, _)| *known == word);
        if choice.is_none() {
            let word = Excerpt::of(word);
            self.problem(
                value.span(),
                format!("{what} can't be {word}; write {words}"),
            );
        }
        choice.map(|&(_, choice)| choice)
    }

    pub(super) fn wrong_type(
        &mut self,
        value: &Value<'_>,
        what: &str,
        wanted: &str,
        example: &str,
    ) {
        let found = match value.get_ref().type_str() {
            "integer" => "an integer",
            "array" => "an array",
            "boolean" => "a boolean",
            "string" => "a string",
            "float" => "a float",
            "table" => "a table",
            _ => "a date or time",
        };
        self.problem(
            value.span(),
            format!("{what} must be {wanted}, not {found}; write {example}"),
        );
    }
}

/// Which known name was probably meant.
pub(super) fn hint<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    // One slip in a short name, two in a longer one.
    let slips = if name.chars().count() < 5 { 1 } else { 2 };
    known
        .into_iter()
        .map(|known| (strsim::osa_distance(name, known), known))
        .filter(|&(distance, _)| distance <= slips)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| format!("did you mean \"{known}\"?"))
}
