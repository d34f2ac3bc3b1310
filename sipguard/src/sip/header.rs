//! The header fields of a message (RFC 3261, section 7.3), which go on in the next line where that begins with a blank.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    name: &'a [u8],
    /// Without the blanks around it; line breaks where it goes on are in it.
    pub value: &'a [u8],
    /// Whether its end was there.
    pub whole: bool,
}

impl Header<'_> {
    /// Whether this is its name, in any case, or the letter that stands for it in compact messages.
    pub fn is(&self, name: &str, compact: Option<u8>) -> bool {
        match (self.name, compact) {
            ([letter], Some(compact)) => letter.eq_ignore_ascii_case(&compact),
            _ => self.name.eq_ignore_ascii_case(name.as_bytes()),
        }
    }
}

/// Those of a message, without its first line; up to the empty line in front of its body.
#[derive(Clone, Debug)]
pub(super) struct Headers<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        loop {
            let (line, whole, rest) = unfolded(self.0)?;
            self.0 = rest;
            // A line that is none is passed over: the next one may be good.
            if let Some(colon) = memchr::memchr(b':', line) {
                return Some(Header {
                    name: line[..colon].trim_ascii(),
                    value: line[colon + 1..].trim_ascii(),
                    whole,
                });
            }
        }
    }
}

/// The line that comes first, with those in which it goes on; whether its end is there; and what follows. None at an empty line, and at the end.
fn unfolded(text: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    if let [] | [b'\n', ..] | [b'\r', b'\n', ..] = text {
        return None;
    }
    for end in memchr::memchr_iter(b'\n', text) {
        match text.get(end + 1) {
            Some(b' ' | b'\t') => {}
            Some(_) => return Some((&text[..end], true, &text[end + 1..])),
            // Whether it goes on is not known.
            None => break,
        }
    }
    Some((text, false, &[]))
}
