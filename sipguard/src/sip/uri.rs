//! Whom a message is from or for: `sip:` and `tel:` URIs (RFC 3261, section 19.1; RFC 3966).

/// The parts of a URI. Each is as it was sent, escapes (`%2B`) included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uri<'a> {
    /// In front of the `@`, without a password; of a `tel:` URI the number.
    pub user: Option<&'a [u8]>,
    /// Name or address, without the port. IPv6 has no brackets.
    pub host: Option<&'a [u8]>,
    /// Whether a port follows the host.
    pub has_port: bool,
    /// Whether it is one of `sip:`, `sips:` and `tel:`.
    pub(super) is_known: bool,
}

impl<'a> Uri<'a> {
    /// Reads a URI. `whole` says whether its end is there: of one that is cut off, a part counts where the next one has begun.
    pub fn read(text: &'a [u8], whole: bool) -> Self {
        // A wrong habit of some senders, in request lines.
        let text = text.strip_prefix(b"<").unwrap_or(text);
        let text = text.strip_suffix(b">").unwrap_or(text);
        let Some(colon) = text.iter().position(|&byte| byte == b':') else {
            return Self::default();
        };
        let (scheme, rest) = (&text[..colon], &text[colon + 1..]);
        if scheme.eq_ignore_ascii_case(b"tel") {
            let number = upto(rest, b";", whole);
            return Self {
                user: number.filter(|number| !number.is_empty()),
                is_known: true,
                ..Self::default()
            };
        }
        if !scheme.eq_ignore_ascii_case(b"sip") && !scheme.eq_ignore_ascii_case(b"sips") {
            return Self::default();
        }
        // Parameters and `?` may stand in front of the `@`, and belong to the user there.
        let (user, host) = match rest.iter().position(|&byte| byte == b'@') {
            Some(at) => (upto(&rest[..at], b":", true), &rest[at + 1..]),
            None => (None, rest),
        };
        let bare = host.strip_prefix(b"[");
        let found = match bare {
            Some(host) => upto(host, b"]", false),
            None => upto(host, b":;? \t>", whole),
        };
        let brackets = bare.map_or(0, |_| 2);
        let behind = found.and_then(|found| host.get(found.len() + brackets));
        Self {
            user: user.filter(|user| !user.is_empty()),
            host: found.filter(|host| !host.is_empty()),
            has_port: behind == Some(&b':'),
            is_known: true,
        }
    }

    /// Reads the value of a From, To or Contact header: a URI in angle brackets behind a name, or one without either (RFC 3261, section 20).
    pub fn of_header(value: &'a [u8], whole: bool) -> Self {
        let Some(rest) = behind_name(value) else {
            return Self::default();
        };
        // A name without quotes has no colon (RFC 3261, section 25.1): what has one in front of a bracket is a URI, whatever comes behind it. Else it
        // would not be known of a URI that ends with the bytes at hand whether it is one.
        let begin = rest.iter().position(|byte| b"<:".contains(byte));
        if let Some(begin) = begin
            && rest[begin] == b'<'
        {
            let rest = &rest[begin + 1..];
            let end = rest.iter().position(|&byte| byte == b'>');
            return Self::read(
                rest[..end.unwrap_or(rest.len())].trim_ascii(),
                end.is_some(),
            );
        }
        // Without brackets what follows `;` are the header's parameters.
        let end = rest
            .iter()
            .position(|byte| b";,".contains(byte) || byte.is_ascii_whitespace());
        Self::read(&rest[..end.unwrap_or(rest.len())], whole || end.is_some())
    }
}

/// What is in front of the first of `ends`; of what is not whole nothing, if there is none of them.
fn upto<'a>(text: &'a [u8], ends: &[u8], whole: bool) -> Option<&'a [u8]> {
    match text.iter().position(|byte| ends.contains(byte)) {
        Some(end) => Some(&text[..end]),
        None => whole.then_some(text),
    }
}

/// Leaves out a name in quotes, in which brackets mean nothing. None where its end is missing.
fn behind_name(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii_start();
    let Some(quoted) = value.strip_prefix(b"\"") else {
        return Some(value);
    };
    let mut is_escaped = false;
    let end = quoted.iter().position(|&byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })?;
    Some(&quoted[end + 1..])
}
