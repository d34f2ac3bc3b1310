//! Names that are looked up: host names, SRV names, and domains of SIP providers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::prefix::Excerpt;

/// One name, without the last dot and in small letters: it is absolute, whatever a resolver's search list says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// A host: its A and AAAA records.
    Host(String),
    /// A service, `_sip._udp.provider.example`: the hosts of its SRV records.
    Service(String),
    /// A domain of SIP, written `sip:provider.example`: what RFC 3263, section 4, finds by NAPTR, SRV, A and AAAA records.
    Sip(String),
}

/// Why a text is no name that could be looked up.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// One word alone: likely a mistyped address or the name of something else.
    #[error("{0} is no whole name; write one with its domain, such as sip.provider.example")]
    OneLabel(Excerpt),
    /// The last part is a number, as in an address.
    #[error("{0} is neither an address nor a name: the last part of a name is no number")]
    Number(Excerpt),
    /// More than 253 characters.
    #[error("{0} is longer than the 253 characters that a name may have")]
    TooLong(Excerpt),
    /// A part is empty, longer than 63 characters, or has other characters (RFC 1035, section 2.3.1, and the underscore of RFC 2782).
    #[error(
        "{0} is no name: its parts have 1 to 63 letters, digits, - and _, with one dot between them"
    )]
    Label(Excerpt),
}

const SIP: &str = "sip:";
/// RFC 1035, section 3.1: 255 octets with the lengths of the first part and of the root.
const MAX_LENGTH: usize = 253;
const MAX_LABEL: usize = 63;

impl Name {
    /// The domain name that it begins with.
    pub fn domain(&self) -> &str {
        match self {
            Self::Host(domain) | Self::Service(domain) | Self::Sip(domain) => domain,
        }
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(domain) = text.strip_prefix(SIP) {
            return domain_name(domain).map(Self::Sip);
        }
        let name = domain_name(text)?;
        // RFC 2782: _Service._Proto.Name
        let mut labels = name.split('.');
        let is_service = [labels.next(), labels.next()]
            .iter()
            .all(|label| label.is_some_and(|label| label.starts_with('_')));
        Ok(if is_service {
            Self::Service(name)
        } else {
            Self::Host(name)
        })
    }
}

fn domain_name(text: &str) -> Result<String, NameError> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label =
        |label: &str| (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(is_part);
    if name.len() > MAX_LENGTH {
        return Err(NameError::TooLong(Excerpt::of(text)));
    }
    if !name.split('.').all(is_label) {
        return Err(NameError::Label(Excerpt::of(text)));
    }
    match name.rsplit_once('.') {
        None => Err(NameError::OneLabel(Excerpt::of(text))),
        Some((_, last)) if last.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(NameError::Number(Excerpt::of(text)))
        }
        Some(_) => Ok(name.to_ascii_lowercase()),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Host(_) | Self::Service(_) => "",
            Self::Sip(_) => SIP,
        };
        write!(f, "{kind}{}", self.domain())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_taken() {
        let host = |name: &str| Name::Host(name.to_owned());
        for (text, wanted) in [
            ("sip.provider.example", host("sip.provider.example")),
            ("SIP.Provider.Example.", host("sip.provider.example")),
            ("3cx.example", host("3cx.example")),
            ("_dmarc.provider.example", host("_dmarc.provider.example")),
            (
                "_sip._udp.provider.example",
                Name::Service("_sip._udp.provider.example".to_owned()),
            ),
            (
                "sip:provider.example",
                Name::Sip("provider.example".to_owned()),
            ),
        ] {
            let name: Name = text.parse().unwrap();
            assert_eq!(name, wanted, "{text}");
            assert_eq!(name.to_string().parse(), Ok(name), "{text}");
        }
    }

    #[test]
    fn names_that_are_refused() {
        let long = [
            &"a".repeat(63),
            &"b".repeat(63),
            &"c".repeat(63),
            "d".repeat(62).as_str(),
        ]
        .join(".");
        for (text, wanted) in [
            (
                "sip",
                "\"sip\" is no whole name; write one with its domain, such as sip.provider.example",
            ),
            (
                "203.0.113.300",
                "\"203.0.113.300\" is neither an address nor a name: the last part of a name is no number",
            ),
            (
                "10.0.0.0/33",
                "\"10.0.0.0/33\" is no name: its parts have 1 to 63 letters, digits, - and _, with one dot between them",
            ),
            (
                "",
                "\"\" is no name: its parts have 1 to 63 letters, digits, - and _, with one dot between them",
            ),
            (
                "a..example",
                "\"a..example\" is no name: its parts have 1 to 63 letters, digits, - and _, with one dot between them",
            ),
            (
                "*.example",
                "\"*.example\" is no name: its parts have 1 to 63 letters, digits, - and _, with one dot between them",
            ),
            (
                "größe.example",
                "\"größe.example\" is no name: its parts have 1 to 63 letters, digits, - and _, with one dot between them",
            ),
            (
                &long,
                &format!(
                    "\"{}…\" is longer than the 253 characters that a name may have",
                    "a".repeat(40)
                ),
            ),
        ] {
            assert_eq!(
                text.parse::<Name>().unwrap_err().to_string(),
                wanted,
                "{text}"
            );
        }
    }
}
