//! A list as a web server sends it: one prefix a line, or at a place in JSON. Nothing is kept but the prefixes.

use std::{
    fmt,
    io::{BufReader, Read},
};

use ipnet::IpNet;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sipguard_lists::{path::Step, prefix, said::Said, task::Url};

use crate::kinds::prefixes::{Limited, Prefixes, lines};

/// Reads a list, in order and each prefix once, and what there is to say of it.
pub(super) fn read(body: impl Read, of: &Url) -> Result<(Vec<IpNet>, Option<String>), String> {
    let mut body = Limited::new(body);
    let mut prefixes = Prefixes::new(of.widest);
    let read = match &of.path {
        None => lines(&mut body, &mut prefixes, ""),
        Some(path) => json(&mut body, path.steps(), &mut prefixes),
    };
    body.all()?;
    read?;
    if let Some(path) = &of.path
        && prefixes.all() == 0
    {
        return Err(format!("nothing is at {}", Said(&path.to_string())));
    }
    prefixes.done(of.tolerate)
}

/// All texts at a place in JSON, whatever else is in it.
fn json(body: impl Read, path: &[Step], prefixes: &mut Prefixes) -> Result<(), String> {
    let body = BufReader::with_capacity(1 << 16, body);
    let mut json = serde_json::Deserializer::from_reader(body);
    let at = At { path, prefixes };
    let read = at.deserialize(&mut json).and_then(|()| json.end());
    read.map_err(|error| Said(&error.to_string()).to_string())
}

/// A place in JSON: what is left of the way there.
struct At<'a> {
    path: &'a [Step],
    prefixes: &'a mut Prefixes,
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.path.first() {
            None => json.deserialize_str(self),
            Some(Step::Each) => json.deserialize_seq(self),
            Some(Step::Field(_)) => json.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.first() {
            None => f.write_str("a text with a prefix"),
            Some(Step::Each) => f.write_str("an array"),
            Some(Step::Field(field)) => write!(f, "an object with {field}"),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let place = format_args!("entry {}", self.prefixes.all() + 1).to_string();
        let read = prefix::parse(text.trim()).map_err(|_| text.trim());
        self.prefixes.add(read, place).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let rest = self.path.get(1..).unwrap_or_default();
        loop {
            let at = At {
                path: rest,
                prefixes: self.prefixes,
            };
            if elements.next_element_seed(at)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let rest = self.path.get(1..).unwrap_or_default();
        while let Some(name) = fields.next_key::<String>()? {
            // Some elements of an array may not have it: they may be of another family.
            if self.path.first() == Some(&Step::Field(name)) {
                fields.next_value_seed(At {
                    path: rest,
                    prefixes: self.prefixes,
                })?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
