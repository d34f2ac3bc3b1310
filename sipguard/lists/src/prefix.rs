//! Prefixes as people write them. Strict: what could mean two things is refused, with the form that says one of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

/// What `any` stands for on the command line.
pub const ANY: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

/// What is wrong with a prefix, and how to write it instead.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// Nothing was written.
    #[error(
        "the address is missing; write one such as 203.0.113.0/24, 198.51.100.10 or 2001:db8::/32"
    )]
    Empty,
    /// Something else was written.
    #[error(
        "{0} is no IP address; write one such as 203.0.113.0/24, 198.51.100.10 or 2001:db8::/32 (names are not looked up)"
    )]
    Address(Excerpt),
    /// `any`, where only addresses are taken.
    #[error("\"any\" is no IP address; write 0.0.0.0/0 and ::/0")]
    Any,
    /// An address with a zone, such as `fe80::1%eth0`.
    #[error("{0} has a zone, which a filter can't see; write {1}")]
    Zone(Excerpt, Ipv6Addr),
    /// Behind the slash is no number.
    #[error("{0} is no prefix length; write a number from 0 to {1}")]
    Length(Excerpt, u8),
    /// Behind the slash is a netmask.
    #[error("{0} is a netmask; write {1}")]
    Netmask(Excerpt, IpNet),
    /// The number behind the slash is too large.
    #[error("the prefix length /{0} is too long; write a number from 0 to {1}")]
    TooLong(Excerpt, u8),
    /// The address is not the prefix's first.
    #[error("{given} has host bits set; write {network} (or {host} for the one host)", network = given.trunc(), host = given.addr())]
    HostBits {
        /// What was written.
        given: IpNet,
    },
    /// An IPv4 address written as IPv6.
    #[error("{given} is IPv4 in IPv6 form; write {}", bare(*v4))]
    Mapped {
        /// What was written.
        given: Ipv6Net,
        /// What it means.
        v4: Ipv4Net,
    },
}

/// Reads a prefix, or an address as the prefix of one host.
pub fn parse(text: &str) -> Result<IpNet, PrefixError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse() else {
        return Err(not_an_address(text, address));
    };
    let length = match length {
        Some(length) => prefix_length(length, address)?,
        None => max_length(address),
    };
    let given = IpNet::new_assert(address, length);
    if let IpNet::V6(given) = given
        && let Some(v4) = given.addr().to_ipv4_mapped()
        && length >= 96
    {
        let v4 = Ipv4Net::new_assert(v4, length - 96).trunc();
        return Err(PrefixError::Mapped { given, v4 });
    }
    if given.trunc() != given {
        return Err(PrefixError::HostBits { given });
    }
    Ok(given)
}

/// Reads a prefix, an address or `any`, which is everything of both families.
pub fn parse_or_any(text: &str) -> Result<Vec<IpNet>, PrefixError> {
    if text == "any" {
        return Ok(ANY.to_vec());
    }
    parse(text).map(|prefix| vec![prefix])
}

/// Writes a prefix as people do: the prefix of one host is its address.
pub fn format(prefix: IpNet) -> String {
    match prefix {
        IpNet::V4(prefix) => bare(prefix),
        IpNet::V6(prefix) if prefix.prefix_len() == 128 => prefix.addr().to_string(),
        IpNet::V6(prefix) => prefix.to_string(),
    }
}

/// The same, at the end of a line. Of IPv4 there are many, and the system's own way takes as long as all the rest of a line.
pub fn push(prefix: IpNet, line: &mut Vec<u8>) {
    let IpNet::V4(prefix) = prefix else {
        line.extend_from_slice(format(prefix).as_bytes());
        return;
    };
    // As long as the longest, so that the line grows once.
    let (mut text, mut end) = ([0; "255.255.255.255/32".len()], 0);
    let mut push = |byte| {
        text[end] = byte;
        end += 1;
    };
    for (place, octet) in prefix.addr().octets().into_iter().enumerate() {
        if place > 0 {
            push(b'.');
        }
        push_decimal(octet, &mut push);
    }
    if prefix.prefix_len() < 32 {
        push(b'/');
        push_decimal(prefix.prefix_len(), &mut push);
    }
    line.extend_from_slice(&text[..end]);
}

fn push_decimal(number: u8, push: &mut impl FnMut(u8)) {
    for (power, is_first) in [(100, false), (10, false), (1, true)] {
        if number >= power || is_first {
            push(b'0' + number / power % 10);
        }
    }
}

fn bare(prefix: Ipv4Net) -> String {
    if prefix.prefix_len() == 32 {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}

const fn max_length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn prefix_length(text: &str, address: IpAddr) -> Result<u8, PrefixError> {
    let max = max_length(address);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(match text.parse() {
            Ok(mask) => netmask(text, address, mask),
            Err(_) => PrefixError::Length(Excerpt::of(text), max),
        });
    }
    match text.parse() {
        Ok(length) if length <= max => Ok(length),
        _ => Err(PrefixError::TooLong(Excerpt::bare(text), max)),
    }
}

fn netmask(text: &str, address: IpAddr, mask: IpAddr) -> PrefixError {
    match IpNet::with_netmask(address, mask) {
        Ok(prefix) => PrefixError::Netmask(Excerpt::of(text), prefix.trunc()),
        Err(_) => PrefixError::Length(Excerpt::of(text), max_length(address)),
    }
}

fn not_an_address(text: &str, address: &str) -> PrefixError {
    if text.is_empty() {
        return PrefixError::Empty;
    }
    if text == "any" {
        return PrefixError::Any;
    }
    match address.split_once('%') {
        Some((address, _)) => match address.parse() {
            Ok(address) => PrefixError::Zone(Excerpt::of(text), address),
            Err(_) => PrefixError::Address(Excerpt::of(text)),
        },
        None => PrefixError::Address(Excerpt::of(text)),
    }
}

/// A piece of somebody's input, fit to be printed: not too long, and without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt(String);

impl Excerpt {
    /// How many characters are shown.
    const LENGTH: usize = 40;

    /// The input in quotes.
    pub fn of(text: &str) -> Self {
        Self(format!("{:?}", Self::cut(text)))
    }

    /// The input alone, where it is known to be harmless.
    pub fn bare(text: &str) -> Self {
        Self(Self::cut(text))
    }

    fn cut(text: &str) -> String {
        let mut cut: String = text.chars().take(Self::LENGTH).collect();
        if cut.len() < text.len() {
            cut.push('…');
        }
        cut
    }
}

impl std::fmt::Display for Excerpt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_what_is_formatted() {
        for text in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "203.0.113.9/32",
            "255.255.255.255/32",
            "2001:db8::/32",
            "::1/128",
        ] {
            let prefix: IpNet = text.parse().unwrap();
            let mut line = b"x".to_vec();
            push(prefix, &mut line);
            assert_eq!(line, format!("x{}", format(prefix)).into_bytes());
        }
    }

    #[test]
    fn prefixes_that_are_taken() {
        for (text, wanted) in [
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("198.51.100.10", "198.51.100.10/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:DB8::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
            ("::fffe:0:0/95", "::fffe:0:0/95"),
            ("::1", "::1/128"),
            ("64:ff9b::/96", "64:ff9b::/96"),
            ("10.0.0.0/08", "10.0.0.0/8"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), wanted, "{text}");
        }
    }

    #[test]
    fn prefixes_that_are_refused() {
        let hint = "write one such as 203.0.113.0/24, 198.51.100.10 or 2001:db8::/32";
        for (text, wanted) in [
            ("", format!("the address is missing; {hint}")),
            ("gw.example", format!("\"gw.example\" is no IP address; {hint} (names are not looked up)")),
            ("010.0.0.1", format!("\"010.0.0.1\" is no IP address; {hint} (names are not looked up)")),
            ("10.0.0.1-10.0.0.9", format!("\"10.0.0.1-10.0.0.9\" is no IP address; {hint} (names are not looked up)")),
            ("/24", format!("\"/24\" is no IP address; {hint} (names are not looked up)")),
            ("\u{1b}[31m", format!("\"\\u{{1b}}[31m\" is no IP address; {hint} (names are not looked up)")),
            (&"x".repeat(99), format!("\"{}…\" is no IP address; {hint} (names are not looked up)", "x".repeat(40))),
            ("any", "\"any\" is no IP address; write 0.0.0.0/0 and ::/0".into()),
            ("fe80::1%eth0", "\"fe80::1%eth0\" has a zone, which a filter can't see; write fe80::1".into()),
            ("fe80::x%eth0", format!("\"fe80::x%eth0\" is no IP address; {hint} (names are not looked up)")),
            ("10.0.0.0/", "\"\" is no prefix length; write a number from 0 to 32".into()),
            ("10.0.0.0/+8", "\"+8\" is no prefix length; write a number from 0 to 32".into()),
            ("2001:db8::/x", "\"x\" is no prefix length; write a number from 0 to 128".into()),
            ("10.0.0.0/8/8", "\"8/8\" is no prefix length; write a number from 0 to 32".into()),
            ("10.0.0.0/33", "the prefix length /33 is too long; write a number from 0 to 32".into()),
            ("2001:db8::/129", "the prefix length /129 is too long; write a number from 0 to 128".into()),
            ("10.0.0.0/4294967304", "the prefix length /4294967304 is too long; write a number from 0 to 32".into()),
            ("10.0.0.7/255.255.255.0", "\"255.255.255.0\" is a netmask; write 10.0.0.0/24".into()),
            ("10.0.0.7/255.0.255.0", "\"255.0.255.0\" is no prefix length; write a number from 0 to 32".into()),
            ("203.0.113.5/24", "203.0.113.5/24 has host bits set; write 203.0.113.0/24 (or 203.0.113.5 for the one host)".into()),
            ("2001:db8::1/64", "2001:db8::1/64 has host bits set; write 2001:db8::/64 (or 2001:db8::1 for the one host)".into()),
            ("::ffff:0:0/96", "::ffff:0.0.0.0/96 is IPv4 in IPv6 form; write 0.0.0.0/0".into()),
            ("::ffff:203.0.113.5", "::ffff:203.0.113.5/128 is IPv4 in IPv6 form; write 203.0.113.5".into()),
            ("::ffff:203.0.113.5/120", "::ffff:203.0.113.5/120 is IPv4 in IPv6 form; write 203.0.113.0/24".into()),
            ("::ffff:0:0/95", "::ffff:0.0.0.0/95 has host bits set; write ::fffe:0:0/95 (or ::ffff:0.0.0.0 for the one host)".into()),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), wanted, "{text}");
        }
    }

    #[test]
    fn any_is_both_families() {
        assert_eq!(parse_or_any("any").unwrap(), ANY);
        assert_eq!(parse_or_any("::1").unwrap(), [parse("::1").unwrap()]);
        assert!(parse_or_any("all").is_err());
    }

    #[test]
    fn hosts_are_written_without_a_length() {
        for text in [
            "203.0.113.5",
            "203.0.113.0/24",
            "2001:db8::1",
            "2001:db8::/32",
        ] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }
}
