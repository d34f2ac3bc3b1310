//! What a server says: keys with their values, and changes.

use std::{
    fmt,
    io::{BufReader, Read},
    str::FromStr,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ipnet::IpNet;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use sipguard_lists::{said::Said, task::Widest};

use crate::kinds::prefixes::{Prefixes, lines};

/// A time of a cluster: its revision grows with each change of any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct At {
    #[serde(rename = "cluster_id", deserialize_with = "number")]
    pub(super) cluster: u64,
    // What is 0 is left out.
    #[serde(default, deserialize_with = "number")]
    pub(super) revision: i64,
}

/// Some of the keys.
pub(super) struct Page {
    pub(super) at: At,
    /// Whether there are others behind them.
    pub(super) more: bool,
}

/// The lists that are the values of keys, as they come.
pub(super) struct Lists {
    prefixes: Prefixes,
    last_key: Option<Vec<u8>>,
    /// Why they are none.
    wrong: Option<String>,
}

impl Lists {
    pub(super) fn new(widest: Widest) -> Self {
        Self {
            prefixes: Prefixes::new(widest),
            last_key: None,
            wrong: None,
        }
    }

    /// The last key that was read.
    pub(super) fn last_key(&self) -> Option<&[u8]> {
        self.last_key.as_deref()
    }

    /// Whether nothing more has to be read.
    pub(super) fn are_wrong(&self) -> bool {
        self.wrong.is_some()
    }

    /// What is to be listed.
    pub(super) fn done(self) -> Result<Vec<IpNet>, String> {
        match self.wrong {
            Some(wrong) => Err(wrong),
            None => self.prefixes.done(0).map(|(list, _)| list),
        }
    }

    /// Adds a list; keys are read in their order.
    fn add(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), &'static str> {
        if self.last_key.as_ref().is_some_and(|last| *last >= key) {
            return Err("keys come in no order");
        }
        if self.wrong.is_none() {
            let name = String::from_utf8_lossy(&key);
            let place = format_args!("{}, ", Said(&name)).to_string();
            self.wrong = lines(value, &mut self.prefixes, place).err();
        }
        self.last_key = Some(key);
        Ok(())
    }
}

/// Reads some of the keys. Of the values, one at a time is kept.
pub(super) fn page(body: impl Read, lists: &mut Lists) -> Result<Page, String> {
    let body = BufReader::with_capacity(1 << 16, body);
    let mut json = serde_json::Deserializer::from_reader(body);
    let page = json.deserialize_map(InPage(lists));
    let page = page.and_then(|page| json.end().map(|()| page));
    page.map_err(|error| Said(&error.to_string()).to_string())
}

struct InPage<'a>(&'a mut Lists);

impl<'de> Visitor<'de> for InPage<'_> {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer of etcd")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Page, A::Error> {
        let (mut at, mut more) = (None, false);
        while let Some(name) = fields.next_key::<String>()? {
            match &*name {
                "header" => at = Some(fields.next_value()?),
                "more" => more = fields.next_value()?,
                "kvs" => fields.next_value_seed(InKeys(self.0))?,
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        let at = at.ok_or_else(|| A::Error::missing_field("header"))?;
        Ok(Page { at, more })
    }
}

struct InKeys<'a>(&'a mut Lists);

impl<'de> DeserializeSeed<'de> for InKeys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for InKeys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("keys with values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut keys: A) -> Result<(), A::Error> {
        #[derive(Deserialize)]
        struct KeyValue {
            key: Bytes,
            // What is empty is left out.
            #[serde(default)]
            value: Bytes,
        }

        while let Some(KeyValue { key, value }) = keys.next_element()? {
            self.0.add(key.0, &value.0).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// What stands in base64.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct InText;

        impl Visitor<'_> for InText {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                BASE64_STANDARD.decode(text).map(Bytes).map_err(E::custom)
            }
        }

        json.deserialize_str(InText)
    }
}

/// Numbers that may be greater than JavaScript's stand in texts.
fn number<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    json: D,
) -> Result<T, D::Error> {
    let text = String::deserialize(json)?;
    text.parse().map_err(D::Error::custom)
}

/// Waits until changes are told of. A watch that began and was cut off may have missed one.
pub(super) fn is_changed(body: impl Read, since: At) -> bool {
    #[derive(Deserialize)]
    struct Message {
        result: Told,
    }
    #[derive(Deserialize)]
    struct Told {
        header: At,
        #[serde(default)]
        canceled: bool,
        compact_revision: Option<IgnoredAny>,
        #[serde(default)]
        events: Vec<IgnoredAny>,
    }

    let mut is_begun = false;
    let json = serde_json::Deserializer::from_reader(BufReader::new(body));
    for message in json.into_iter::<Message>() {
        let Ok(Message { result: told }) = message else {
            return is_begun;
        };
        if told.canceled {
            // What is between is forgotten; or it may not be watched.
            return told.compact_revision.is_some();
        }
        // Where it was put back, it would tell of nothing until it is as far as it was.
        let is_put_back =
            told.header.cluster != since.cluster || told.header.revision < since.revision;
        if is_put_back || !told.events.is_empty() {
            return true;
        }
        is_begun = true;
    }
    is_begun
}

#[cfg(test)]
mod tests;
