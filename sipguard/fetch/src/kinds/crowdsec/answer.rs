//! What the LAPI answers: `{"deleted": [...], "new": [...]}`, where an empty list is `null`. Nothing of it is kept but what is handed on.

use std::{
    fmt,
    io::{BufReader, Read},
    marker::PhantomData,
};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use sipguard_lists::said::Said;

/// A decision, as it is told.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    pub(super) id: u64,
    /// What is to be done: `ban`, or another word.
    #[serde(rename = "type")]
    pub(super) what: String,
    /// `Ip`, `Range` or `Country`.
    #[serde(default)]
    pub(super) scope: String,
    /// A country's code, or an address or a prefix, whichever the scope says.
    pub(super) value: String,
    /// How long it is in force from now on, as Go writes it: `3h59m58.886s`.
    pub(super) duration: String,
    /// Why.
    #[serde(default)]
    pub(super) scenario: String,
    /// Who says so.
    #[serde(default)]
    pub(super) origin: String,
}

/// One that is not in force any more.
#[derive(Deserialize)]
struct Ended {
    id: u64,
}

/// Hands on each new decision, and the numbers of those that ended where they are wanted.
pub(super) fn read(
    body: impl Read,
    take: impl FnMut(Told) -> Result<(), String>,
    ended: Option<&mut Vec<u64>>,
) -> Result<(), String> {
    let body = BufReader::with_capacity(1 << 16, body);
    let mut json = serde_json::Deserializer::from_reader(body);
    let read = Both { take, ended }.deserialize(&mut json);
    let read = read.and_then(|()| json.end());
    read.map_err(|error| {
        let text = error.to_string();
        // All of it is one line.
        let text = text.split(" at line ").next().unwrap_or_default();
        Said(text).to_string()
    })
}

/// The object.
struct Both<'a, F> {
    take: F,
    ended: Option<&'a mut Vec<u64>>,
}

impl<'de, F: FnMut(Told) -> Result<(), String>> DeserializeSeed<'de> for Both<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Told) -> Result<(), String>> Visitor<'de> for Both<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with new and deleted decisions")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        let mut there = [false; 2];
        while let Some(name) = fields.next_key::<String>()? {
            match (&*name, &mut self.ended) {
                ("new", _) => {
                    there[0] = true;
                    fields.next_value_seed(Each::of(&mut self.take))?;
                }
                ("deleted", Some(ended)) => {
                    there[1] = true;
                    let take = |Ended { id }| {
                        ended.push(id);
                        Ok(())
                    };
                    fields.next_value_seed(Each::of(take))?;
                }
                (name, _) => {
                    there[1] |= name == "deleted";
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        // Something else that is JSON must not look as if there were no decisions.
        match there {
            [true, true] => Ok(()),
            _ => Err(A::Error::custom("it is no answer of a LAPI")),
        }
    }
}

/// The elements of an array, or none of `null`.
struct Each<T, F> {
    take: F,
    of: PhantomData<fn(T)>,
}

impl<T, F: FnMut(T) -> Result<(), String>> Each<T, F> {
    fn of(take: F) -> Self {
        let of = PhantomData;
        Self { take, of }
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), String>> DeserializeSeed<'de>
    for Each<T, F>
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), String>> Visitor<'de> for Each<T, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array or null")
    }

    fn visit_none<N: Error>(self) -> Result<(), N> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            (self.take)(element).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
