//! What a message begins with: the request line or the status line (RFC 3261, section 7).

use super::uri::Uri;

/// A request or an answer to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// Somebody wants something.
    Request {
        /// What.
        method: &'a [u8],
        /// Of whom.
        uri: Uri<'a>,
    },
    /// What came of it.
    Response {
        /// 100 to 699.
        status: u16,
    },
}

impl<'a> Start<'a> {
    /// Reads a line without its end. `whole` says whether that end was there.
    pub(super) fn read(line: &'a [u8], whole: bool) -> Option<Self> {
        let line = line.trim_ascii_end();
        if let Some(rest) = after_version(line) {
            return status(rest);
        }
        let length = line.iter().position(|&byte| byte == b' ')?;
        let (method, rest) = line.split_at(length);
        if !is_token(method) {
            return None;
        }
        let rest = rest.trim_ascii_start();
        // The version is the last word; some senders have blanks in their URI.
        let last = rest.iter().rposition(u8::is_ascii_whitespace);
        let last = last.map(|at| (rest[..at].trim_ascii_end(), &rest[at + 1..]));
        match last {
            // Of a line that is cut off the last word may be another one.
            Some((uri, version)) if whole && is_version(version) => Some(Self::Request {
                method,
                uri: Uri::read(uri, true),
            }),
            // Where the line is cut off, nothing but the URI can tell SIP from HTTP and others; and behind a blank nobody knows whether it goes on.
            _ if !whole => {
                let blank = rest.iter().position(u8::is_ascii_whitespace);
                let uri = Uri::read(blank.map_or(rest, |at| &rest[..=at]), false);
                uri.is_known.then_some(Self::Request { method, uri })
            }
            _ => None,
        }
    }
}

fn status(rest: &[u8]) -> Option<Start<'_>> {
    let &[hundreds @ b'1'..=b'6', tens, ones, ref reason @ ..] = rest else {
        return None;
    };
    let is_over = reason.first().is_none_or(u8::is_ascii_whitespace);
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let status = digit(hundreds)? * 100 + digit(tens)? * 10 + digit(ones)?;
    is_over.then_some(Start::Response { status })
}

/// What follows the version that a status line begins with.
fn after_version(line: &[u8]) -> Option<&[u8]> {
    let length = line.iter().position(|&byte| byte == b' ')?;
    let (version, rest) = line.split_at(length);
    is_version(version).then(|| rest.trim_ascii_start())
}

/// Whichever version: a wrong one is worth seeing, too.
fn is_version(word: &[u8]) -> bool {
    let name = word.get(..4);
    name.is_some_and(|name| name.eq_ignore_ascii_case(b"SIP/"))
}

/// RFC 3261, section 25.1.
pub(super) fn is_token(word: &[u8]) -> bool {
    let is_in_tokens = |byte: &u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(byte);
    !word.is_empty() && word.iter().all(is_in_tokens)
}
