//! What a packet says in SIP (RFC 3261), as far as it goes: who calls whom, with what, and which number in which country.
//!
//! It is evidence and never a verdict: the filter asks for none of it. Whatever is there is read, however wrong the rest is, because a scanner's
//! messages often are; [`read`] never fails, it only finds less.
//!
//! - Frames are kept by their first bytes, so that messages end anywhere. A text counts where its end is there: half a number is another number.
//! - Texts are the sender's, escapes and line breaks of folded headers included. They are printed by [`sipguard_lists::said::Said`] alone.
//! - Keepalives (line breaks, STUN, nothing at all) and what goes on in the middle of a TCP stream are no messages.

mod country;
mod header;
mod message;
pub mod number;
mod risk;
mod start;
mod uri;

use serde::{Deserialize, Serialize};

pub use self::{header::Header, message::Message, start::Start, uri::Uri};

/// How much of a payload is looked at, in bytes.
pub const MOST: usize = 1_500;

/// What a message says. Texts are as they were sent, not escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// `INVITE`, `REGISTER` and others; of requests.
    pub method: Option<String>,
    /// 100 to 699; of answers.
    pub status: Option<u16>,
    /// The user part of the request's URI, without a password; the number of a `tel:` URI.
    pub user: Option<String>,
    /// The same of the From header.
    pub from: Option<String>,
    /// Which software this is, as it says: User-Agent, or an answer's Server.
    pub user_agent: Option<String>,
    /// The Call-ID header.
    pub call_id: Option<String>,
    /// The number that an INVITE dials, digits only: from its country's code on, with `+`, where it is certain which digits these are, else as it was dialled.
    pub number: Option<String>,
    /// The country of that number by the code of two letters of ISO 3166-1, where it is certain.
    pub country: Option<String>,
    /// Whether calls to that number are what fraudsters earn with.
    pub high_risk: bool,
}

/// Reads the message that a UDP datagram or a TCP segment begins with. None where it begins with none.
pub fn read(payload: &[u8]) -> Option<Summary> {
    Message::read(payload).map(|message| message.summary())
}

#[cfg(test)]
mod tests;
