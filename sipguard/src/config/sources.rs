//! `[sources]`: named sets of prefixes: in the config file, in list files, or to be found by asking others.

mod live;

use std::collections::BTreeSet;

use ipnet::IpNet;
use sipguard_lists::{
    name::Name,
    task::{self, Kind, Names},
};

use super::{
    document::{Document, Key, Value},
    list,
};
use crate::{
    policy::{MAX_SOURCES, Origin},
    prefix::{self, Excerpt, PrefixError},
};

pub(super) struct Source {
    /// Its file is there only where the source is a list file.
    pub(super) origin: Origin,
    /// Where no service names the source there is none.
    pub(super) number: Option<u16>,
    pub(super) used: bool,
    pub(super) prefixes: Vec<IpNet>,
    /// Where others are asked for it, or for some of it.
    pub(super) live: Option<Live>,
}

/// What others are asked for.
pub(super) struct Live {
    pub(super) kind: Kind,
    /// In seconds.
    pub(super) stale_after: Option<u32>,
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
    if !task::is_source_name(text) {
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
        live: None,
    };
    if let Some(values) = value.get_ref().as_array() {
        let mut names = BTreeSet::new();
        for value in values {
            match inline(document, value) {
                Some(Inline::Prefix(prefix)) => source.prefixes.push(prefix),
                Some(Inline::Name(name)) => {
                    names.insert(name);
                }
                None => {}
            }
        }
        if !names.is_empty() {
            source.live = Some(Live {
                kind: Kind::Names(Names {
                    names,
                    hold: Names::HOLD,
                    private: false,
                }),
                stale_after: None,
            });
        }
    } else if let Some(fields) = value.get_ref().as_table() {
        if let Some(kind) = live::kind(fields) {
            source.live = live::read(document, kind, value, fields);
        } else {
            // Of the others there is none, or this would be another kind of source.
            let kinds = [
                "file",
                "names",
                "sip",
                "url",
                "countries",
                "crowdsec",
                "etcd",
            ];
            let [file, ..] = document.fields(fields, "a source", kinds);
            match file {
                Some(file) => from_file(document, file, &mut source),
                None => document.problem(
                    value.span(),
                    "this source has no file; write { file = \"list.txt\" }",
                ),
            }
        }
    } else {
        document.wrong_type(value, "a source", "an array or a table", EXAMPLE);
    }
    source
}

/// What stands in an array.
enum Inline {
    Prefix(IpNet),
    Name(Name),
}

fn inline(document: &mut Document<'_>, value: &Value<'_>) -> Option<Inline> {
    let text = document.string(value, "a prefix", "\"203.0.113.0/24\"")?;
    let problem = match prefix::parse(text) {
        Ok(prefix) => return Some(Inline::Prefix(prefix)),
        // What has a colon in it was to be an address.
        Err(PrefixError::Address(_)) if !text.contains(':') || text.starts_with("sip:") => {
            match text.parse::<Name>() {
                Ok(name) => return Some(Inline::Name(name)),
                Err(error) => error.to_string(),
            }
        }
        Err(error) => error.to_string(),
    };
    document.problem(value.span(), problem);
    None
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

/// Numbers the sources that some service names and returns their origins.
pub(super) fn origins(sources: &mut [Source]) -> Vec<Origin> {
    sources
        .iter_mut()
        .filter(|source| source.used)
        .zip(0..=u16::MAX)
        .map(|(source, number)| {
            source.number = Some(number);
            Origin {
                // Of what is found by asking others nobody knows yet how much it is.
                prefixes: match (&source.live, source.prefixes.len()) {
                    (Some(_), 0) => None,
                    (_, count) => Some(count),
                },
                ..source.origin.clone()
            }
        })
        .collect()
}
