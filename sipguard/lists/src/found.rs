//! `NAME.json`: what was found for a source. It is JSON as a whole, and it is lines: the first one says how it came about, then comes one
//! entry a line, sorted, and the last one ends it. So a million entries are written and read in the memory of one, a line changes only when
//! its entry does, and a file that was cut off is known as such.
//!
//! ```json
//! {"version":1,"source":"trunk","asked":1764365253,"answered":1764365253,"changed":1764300000,"next":1764365553,"entries":[
//! {"prefix":"203.0.113.7","first":1764300000,"comment":"sip.provider.example"},
//! {"prefix":"203.0.113.8","first":1764200000,"last":1764299700,"comment":"sip.provider.example"}
//! ]}
//! ```
//!
//! Times are seconds since 1970, UTC.

mod find;
mod read;
mod write;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::{
    find::Finder,
    read::{ReadError, Reader, parse_line},
    write::{Writer, first_line},
};
use crate::name::Name;

/// The form in which it is written; changes when older programs would misread it.
pub const VERSION: u32 = 1;
/// The most bytes that a file may have.
pub const MAX_BYTES: u64 = 64 << 20;
/// The most entries that a file may have.
pub const MAX_ENTRIES: usize = 1_000_000;
/// The most bytes that the first line may have.
const MAX_HEAD: usize = 1 << 20;
/// The most bytes that an entry's line may have.
pub const MAX_LINE: usize = 1_024;
/// The most characters of a comment.
pub const MAX_COMMENT: usize = 255;

/// The name of a source's file.
pub fn file_name(source: &str) -> String {
    format!("{source}.json")
}

/// How what was found came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// [`VERSION`]
    pub version: u32,
    /// The source.
    pub source: String,
    /// When the other side was asked last, with or without success.
    #[serde(with = "jiff::fmt::serde::timestamp::second::required")]
    pub asked: Timestamp,
    /// When it answered last; of the entries, this is when they were last seen unless they say otherwise.
    #[serde(
        with = "jiff::fmt::serde::timestamp::second::optional",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub answered: Option<Timestamp>,
    /// Since when the entries have been these.
    #[serde(
        with = "jiff::fmt::serde::timestamp::second::optional",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub changed: Option<Timestamp>,
    /// When it will have been asked again at the latest.
    #[serde(with = "jiff::fmt::serde::timestamp::second::required")]
    pub next: Timestamp,
    /// The one place that was asked, where there is one; see [`Kind::url`](crate::task::Kind::url).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the other side calls this copy, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// When the other side says that it changed this copy last, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// What there is to say of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// Why the last try failed, or failed in part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What became of each look-up of a name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<Lookup>,
}

/// What became of one look-up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// What was looked up.
    pub name: Name,
    /// Which addresses.
    pub family: Family,
    /// When there was an answer last, even if it was that there are none.
    #[serde(
        with = "jiff::fmt::serde::timestamp::second::optional",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub answered: Option<Timestamp>,
    /// What the last answer was beside addresses, or why there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

/// Addresses of one kind; they are asked for apart, and one kind may fail alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// A records.
    Ipv4,
    /// AAAA records.
    Ipv6,
}

impl Head {
    /// Of a source that was asked for, with nothing to say of it yet.
    pub fn new(source: &str, asked: Timestamp, next: Timestamp) -> Self {
        Self {
            version: VERSION,
            source: source.to_owned(),
            asked,
            answered: None,
            changed: None,
            next,
            url: None,
            etag: None,
            last_modified: None,
            said: None,
            error: None,
            lookups: Vec::new(),
        }
    }
}

impl Family {
    /// That of a prefix.
    pub const fn of(prefix: IpNet) -> Self {
        match prefix {
            IpNet::V4(_) => Self::Ipv4,
            IpNet::V6(_) => Self::Ipv6,
        }
    }
}

/// One prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Without host bits.
    pub prefix: IpNet,
    /// When it was seen first.
    pub first: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
    /// When it ends by itself.
    pub end: Option<Timestamp>,
    /// Where it comes from: for a name that was looked up, the name. At most [`MAX_COMMENT`] characters, which may be anybody's words.
    pub comment: Option<String>,
}

#[cfg(test)]
mod tests;
