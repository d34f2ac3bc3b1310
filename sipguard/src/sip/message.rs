//! A message: its first line, and those of its header fields that say who wants what.

use super::{
    MOST, Start, Summary, Uri,
    header::{Header, Headers},
    number::Number,
};

/// What a message says, in the bytes that it was sent in. A field that stands there twice counts the first time.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// Request or answer.
    pub start: Start<'a>,
    /// Who sends requests of this call or registration.
    pub from: Uri<'a>,
    /// For whom they are; at a registrar, who registers.
    pub to: Uri<'a>,
    /// The Call-ID.
    pub call_id: Option<&'a [u8]>,
    /// The method that CSeq names: of an answer, what it answers.
    pub method: Option<&'a [u8]>,
    /// Which software this is, as it says.
    pub user_agent: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> Message<'a> {
    /// Reads the message that the payload of a packet begins with, from at most its first [`MOST`] bytes.
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let text = &payload[..payload.len().min(MOST)];
        // Line breaks in front of a message are allowed (RFC 3261, section 7.5), and alone they are a keepalive.
        let begin = text.iter().position(|byte| !b"\r\n".contains(byte))?;
        let text = &text[begin..];
        let end = memchr::memchr(b'\n', text);
        let line = &text[..end.unwrap_or(text.len())];
        let start = Start::read(line, end.is_some())?;
        let headers = Headers(end.map_or(&[][..], |end| &text[end + 1..]));
        let mut message = Self {
            start,
            from: Uri::default(),
            to: Uri::default(),
            call_id: None,
            method: match start {
                Start::Request { method, .. } => Some(method),
                Start::Response { .. } => None,
            },
            user_agent: None,
            headers,
        };
        message.note_headers();
        Some(message)
    }

    fn note_headers(&mut self) {
        let is_answer = matches!(self.start, Start::Response { .. });
        let (mut from, mut to) = (None, None);
        for header in self.headers() {
            let whole = header.whole.then_some(header.value);
            if header.is("From", Some(b'f')) {
                from = from.or(Some(header));
            } else if header.is("To", Some(b't')) {
                to = to.or(Some(header));
            } else if header.is("Call-ID", Some(b'i')) {
                self.call_id = self.call_id.or(whole);
            } else if header.is("User-Agent", None) || is_answer && header.is("Server", None) {
                self.user_agent = self.user_agent.or(whole);
            } else if header.is("CSeq", None) {
                let method = whole.and_then(|value| value.rsplit(u8::is_ascii_whitespace).next());
                self.method = self.method.or(method);
            }
        }
        let uri = |header: Header<'a>| Uri::of_header(header.value, header.whole);
        self.from = from.map(uri).unwrap_or_default();
        self.to = to.map(uri).unwrap_or_default();
    }

    /// All header fields, up to where the bytes end.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        self.headers.clone()
    }

    /// The same as texts. What is not UTF-8 has the sign for that in it.
    pub fn summary(&self) -> Summary {
        // Nearly all are UTF-8, which is seen sooner than what is not.
        let text = |bytes: &[u8]| match str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => String::from_utf8_lossy(bytes).into_owned(),
        };
        let mut summary = Summary {
            from: self.from.user.map(text),
            user_agent: self.user_agent.map(text),
            call_id: self.call_id.map(text),
            ..Summary::default()
        };
        match self.start {
            Start::Response { status } => summary.status = Some(status),
            Start::Request { method, uri } => {
                summary.method = Some(text(method));
                summary.user = uri.user.map(text);
                let dials = method.eq_ignore_ascii_case(b"INVITE");
                let number = uri.user.filter(|_| dials).and_then(Number::dialled);
                if let Some(number) = number {
                    summary.country = number.country().map(str::to_owned);
                    summary.high_risk = number.is_high_risk();
                    summary.number = Some(number.to_string());
                }
            }
        }
        summary
    }
}
