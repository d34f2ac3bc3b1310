//! What a person should know of an import, in the order of harm.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use ipnet::IpNet;
use serde::Serialize;

use super::{
    addresses::Family,
    intervals::Intervals,
    prefixes::{Segment, fewest},
};
use crate::prefix;

/// How much harm may be in it. The order of the values is the order in which notes are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Addresses that may lose what they had.
    Lost,
    /// Something the rules did that the config does not do.
    NotKept,
    /// Something that was taken for granted.
    Assumed,
    /// Something of the input that was not understood, and made no difference to the guarded ports.
    Harmless,
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// How much harm may be in it.
    pub kind: Kind,
    /// Of the input, counted from 1; 0 where it is about no line.
    pub line: usize,
    /// The guarded ports that it is about, such as `udp 5060`; empty where it is about all of them.
    pub ports: Vec<String>,
    /// Whom it is about.
    pub addresses: Vec<IpNet>,
    /// Who among them is not meant.
    pub except: Vec<IpNet>,
    /// What, and why; one line without control characters.
    pub text: String,
}

impl Note {
    pub(super) fn new(kind: Kind, line: usize, text: impl fmt::Display) -> Self {
        Self {
            kind,
            line,
            ports: Vec::new(),
            addresses: Vec::new(),
            except: Vec::new(),
            text: printable(&text.to_string()),
        }
    }

    pub(super) fn about(mut self, ports: Vec<String>, (addresses, except): Named) -> Self {
        self.ports = ports;
        self.addresses = addresses;
        self.except = except;
        self
    }

    /// The note as one line, with no more than so many addresses written out.
    pub fn line_with(&self, most: usize) -> String {
        let mut line = String::new();
        if self.line > 0 {
            line = format!("line {}: ", self.line);
        }
        if !self.ports.is_empty() {
            // Writing to a string can't fail.
            let _ = write!(line, "{}: ", joined(&self.ports, 12));
        }
        if !self.addresses.is_empty() {
            line += &listed(&self.addresses, most);
            if !self.except.is_empty() {
                let _ = write!(line, " without {}", listed(&self.except, most));
            }
            line += ": ";
        }
        line + &self.text
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line_with(10))
    }
}

/// Prefixes, and prefixes inside them that are not meant.
pub(super) type Named = (Vec<IpNet>, Vec<IpNet>);

/// A set of addresses in the fewest words.
pub(super) fn named(set: &Intervals, family: Family) -> Named {
    let mut segments = Vec::new();
    let mut next = Some(0);
    for (first, last) in set.iter() {
        if let Some(begin) = next
            && begin < first
        {
            segments.push(Segment {
                first: begin,
                last: first - 1,
                class: 0,
            });
        }
        segments.push(Segment {
            first,
            last,
            class: 1,
        });
        next = last.checked_add(1).filter(|next| *next <= family.last());
    }
    if let Some(first) = next {
        segments.push(Segment {
            first,
            last: family.last(),
            class: 0,
        });
    }
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for said in fewest(&segments, family.bits()) {
        let list = if said.class == 1 {
            &mut inside
        } else {
            &mut outside
        };
        list.push(family.prefix(said.first, said.length));
    }
    (inside, outside)
}

fn listed(prefixes: &[IpNet], most: usize) -> String {
    let all: Vec<String> = prefixes.iter().copied().map(prefix::format).collect();
    joined(&all, most)
}

fn joined(words: &[String], most: usize) -> String {
    let shown = words[..words.len().min(most)].join(", ");
    match words.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Without control characters, and not endless.
pub(super) fn printable(text: &str) -> String {
    const LONGEST: usize = 600;
    let mut shown: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect();
    if text.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}

/// A piece of the input inside a note.
pub(super) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 120;
    let text = text.trim();
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    printable(&shown)
}

/// Things of one kind that were met while the input was read, told together.
#[derive(Debug, Default)]
pub(super) struct Unread {
    found: BTreeMap<String, Vec<(usize, String)>>,
    /// The first piece of rules that could not be read at all. It may have been one that drops.
    refused: Option<(usize, String)>,
}

impl Unread {
    pub(super) fn add(&mut self, line: usize, what: &str, why: impl Into<String>) {
        let found = self.found.entry(why.into()).or_default();
        if found.len() < 10_000 {
            found.push((line, excerpt(what)));
        }
    }

    /// For what rules can't be trusted without.
    pub(super) fn refuse(&mut self, line: usize, what: &str) {
        self.refused.get_or_insert_with(|| (line, excerpt(what)));
    }

    /// What was refused first: its line, and what stands there.
    pub(super) fn refused(&self) -> Option<(usize, &str)> {
        self.refused
            .as_ref()
            .map(|(line, what)| (*line, what.as_str()))
    }

    /// A note for each, or one for all where they are many.
    pub(super) fn into_notes(self, kind: Kind) -> Vec<Note> {
        const TOLD: usize = 10;
        let mut notes = Vec::new();
        for (why, found) in self.found {
            for (line, what) in found.iter().take(TOLD) {
                notes.push(Note::new(kind, *line, format!("{what} ({why})")));
            }
            if found.len() > TOLD {
                let more = found.len() - TOLD;
                let (line, _) = found[TOLD];
                notes.push(Note::new(
                    kind,
                    line,
                    format!("{more} more like these ({why})"),
                ));
            }
        }
        notes
    }
}
