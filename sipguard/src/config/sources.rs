//! `[sources]`: named sets of prefixes, in the config file or in list files.

use ipnet::IpNet;

use super::{
    document::{Document, Key, Value},
    list,
};
use crate::{
    policy::{MAX_SOURCES, Origin},
    prefix::{self, Excerpt},
};

pub(super) struct Source {
    /// Its file is there only where the source is a list file.
    pub(super) origin: Origin,
    /// Where no service names the source there is none.
    pub(super) number: Option<u16>,
    pub(super) used: bool,
    pub(super) prefixes: Vec<IpNet>,
}

const EXAMPLE: &str = "[\"203.0.113.0/24\"] or { file = \"list.txt\" }";

/// All sources, those with problems too, so that naming one of these is not another problem.
pub(super) fn read(document: &mut Document<'_>, value: &Value<'_>) -> Vec<Source> {
    let Some(table) = document.table(value, "sources", "[sources]") else {
        return Vec::new();
    };
    if table.len() > MAX_SOURCES {
        document.problem(
            value.span(),
            format!(
                "there are {} sources; at most {MAX_SOURCES} are possible",
                table.len()
            ),
        );
        return Vec::new();
    }
    table
        .iter()
        .map(|(name, value)| source(document, name, value))
        .collect()
}

fn source(document: &mut Document<'_>, name: &Key<'_>, value: &Value<'_>) -> Source {
    let text = name.get_ref();
    if !is_source_name(text) {
        document.problem(
            name.span(),
            format!(
                "{} is no name for a source; write 1 to 63 letters, digits, _ and -",
                Excerpt::of(text)
            ),
        );
    }
    let mut source = Source {
        origin: Origin {
            source: text.to_string(),
            file: None,
            prefixes: None,
        },
        number: None,
        used: false,
        prefixes: Vec::new(),
    };
    if let Some(values) = value.get_ref().as_array() {
        for value in values {
            source.prefixes.extend(inline(document, value));
        }
    } else if let Some(fields) = value.get_ref().as_table() {
        let [file] = document.fields(fields, "a source", ["file"]);
        match file {
            Some(file) => from_file(document, file, &mut source),
            None => document.problem(
                value.span(),
                "this source has no file; write { file = \"list.txt\" }",
            ),
        }
    } else {
        document.wrong_type(value, "a source", "an array or a table", EXAMPLE);
    }
    source
}

fn inline(document: &mut Document<'_>, value: &Value<'_>) -> Option<IpNet> {
    let text = document.string(value, "a prefix", "\"203.0.113.0/24\"")?;
    match prefix::parse(text) {
        Ok(prefix) => Some(prefix),
        Err(error) => {
            document.problem(value.span(), error.to_string());
            None
        }
    }
}

fn from_file(document: &mut Document<'_>, value: &Value<'_>, source: &mut Source) {
    let Some(path) = document.string(value, "file", "\"list.txt\"") else {
        return;
    };
    let path = document.resolve(path);
    match list::read(&path, document.problems()) {
        Ok(prefixes) => source.prefixes = prefixes,
        Err(error) => document.problem(
            value.span(),
            format!(
                "cannot read {}: {error}; put one prefix a line there",
                path.display()
            ),
        ),
    }
    source.origin.file = Some(path);
}

fn is_source_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(allowed)
}

/// Numbers the sources that some service names and returns their origins.
pub(super) fn origins(sources: &mut [Source]) -> Vec<Origin> {
    sources
        .iter_mut()
        .filter(|source| source.used)
        .zip(0..=u16::MAX)
        .map(|(source, number)| {
            source.number = Some(number);
            Origin {
                prefixes: Some(source.prefixes.len()),
                ..source.origin.clone()
            }
        })
        .collect()
}
