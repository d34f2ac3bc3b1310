//! What single words stand for.

use std::{net::IpAddr, str::FromStr, time::Duration};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sipguard::{
    policy::{ALL, is_service_name, protocol_name, protocol_named},
    prefix::{self, PrefixError},
    state::{LONGEST_NAME, is_name},
    when::{self, WhenError},
    zone,
};
use sipguard_ebpf::abi::{Protocol, Reason};

/// What one word stands for: one prefix, or both families' all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefixes(Vec<IpNet>);

impl Prefixes {
    /// Whether one of them covers the prefix, or is inside it.
    pub(crate) fn touch(&self, prefix: IpNet) -> bool {
        let Self(some) = self;
        some.iter()
            .any(|one| one.contains(&prefix) || prefix.contains(one))
    }
}

impl FromStr for Prefixes {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        prefix::parse_or_any(text).map(Self)
    }
}

/// All prefixes that were named, each once.
pub(crate) fn flat(words: &[Prefixes]) -> Vec<IpNet> {
    let mut prefixes: Vec<IpNet> = words
        .iter()
        .flat_map(|Prefixes(some)| some)
        .copied()
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    // A single address is a prefix of full length; the same mistakes get the same advice.
    let prefix = prefix::parse(text).map_err(|error| error.to_string())?;
    if prefix.prefix_len() == prefix.max_prefix_len() {
        Ok(prefix.addr())
    } else {
        Err(format!(
            "{prefix} is a network; name one of its addresses, such as {}",
            prefix.addr()
        ))
    }
}

/// How long an entry lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// So long.
    For(SignedDuration),
    /// Until it is removed.
    Forever,
}

/// Programs that ban say -1 for what has no end.
pub(super) fn lasts(text: &str) -> Result<Lasts, WhenError> {
    match text {
        "never" | "-1" => Ok(Lasts::Forever),
        _ => when::duration(text).map(Lasts::For),
    }
}

/// As [`lasts`], and plain seconds, as programs that ban say them.
pub(super) fn ban_lasts(text: &str) -> Result<Lasts, WhenError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return lasts(&format!("{text}s"));
    }
    lasts(text)
}

/// A prefix that is not `any`.
pub(super) fn banned(text: &str) -> Result<Prefixes, PrefixError> {
    prefix::parse(text).map(|one| Prefixes(vec![one]))
}

/// Who bans.
pub(super) fn banning(text: &str) -> Result<String, String> {
    if is_name(text) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "a name has 1 to {LONGEST_NAME} letters, digits, blanks and . , : ; _ @ + / -"
        ))
    }
}

pub(super) fn service(text: &str) -> Result<String, String> {
    if is_service_name(text) {
        Ok(text.to_owned())
    } else {
        Err("no service has such a name: it has 1 to 15 of a-z, 0-9, _ and -".to_owned())
    }
}

pub(super) fn service_or_all(text: &str) -> Result<String, String> {
    if text == ALL {
        Ok(text.to_owned())
    } else {
        service(text)
    }
}

/// At most a day: whoever has not come back by then does not wait any more.
pub(super) fn time_to_confirm(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_hours(24);
    let duration = when::duration(text).map_err(|error| error.to_string())?;
    let duration = duration.unsigned_abs();
    if duration > LONGEST {
        return Err(format!(
            "{text} is too long to wait for a confirmation; write at most 24h, such as 60s or 5m"
        ));
    }
    Ok(duration)
}

/// By the clock and in the time zone of this host.
#[expect(
    clippy::disallowed_methods,
    reason = "words are read before there is a `Host`"
)]
pub(super) fn moment(text: &str) -> Result<Timestamp, WhenError> {
    when::moment(text, &Timestamp::now().to_zoned(zone::local()))
}

/// A comment is printed on terminals and into scripts.
pub(super) fn comment(text: &str) -> Result<String, String> {
    const LONGEST: usize = 200;
    if text.chars().any(char::is_control) {
        Err("a comment is one line without control characters".to_owned())
    } else if text.chars().count() > LONGEST {
        Err(format!("a comment has at most {LONGEST} characters"))
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn reason() -> impl TypedValueParser<Value = Reason> {
    PossibleValuesParser::new(Reason::COUNTED.map(Reason::name)).map(|name| {
        let mut reasons = Reason::COUNTED.into_iter();
        // The possible values are the reasons' names.
        reasons
            .find(|reason| reason.name() == name)
            .expect("a name that was offered")
    })
}

pub(super) fn protocol() -> impl TypedValueParser<Value = Protocol> {
    PossibleValuesParser::new(Protocol::ALL.map(protocol_name)).map(|name| {
        // The possible values are the protocols' names.
        protocol_named(&name).expect("a name that was offered")
    })
}
