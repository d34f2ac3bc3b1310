//! What a scanner says to whoever reads it, and how to see that none of that comes through.

use serde_json::Value;

/// Folded, with what a terminal, a spreadsheet, a page, a chat and a metric would make something of, in each field that is shown.
pub const INVITE: &[u8] = b"INVITE sip:00881\x1b]0;x\x07@192.0.2.1 SIP/2.0\r\nFrom: \"</a><!--\" <sip:=cmd|'/c calc'!A1@x>\r\n\
User-Agent: \xe2\x80\xaeevil\r\n [[x]](<http://x.invalid>) {a=\"b\"}\\ \x00\r\nCall-ID: *_~`\r\n\r\n";

/// A method may be any token (RFC 3261 section 25.1), and this is one.
pub const METHOD: &[u8] =
    b"*_~`%!'x sip:</a><!--@192.0.2.1 SIP/2.0\r\nFrom: <sip:[[x]](<y>)@x>\r\n\
User-Agent: =cmd|x\r\nCall-ID: 1\r\n\r\n";

/// What of it means something to one of these.
const MARKS: [&str; 8] = ["</a>", "<!--", "=cmd|", "[[x]]", "](<", "{a=", "*_~", "~`"];

/// Wants a text to be plain letters, without any of the marks.
///
/// # Panics
/// Where it is not.
pub fn harmless(text: &str) {
    let known = |letter: char| letter.is_ascii_graphic() || letter == ' ' || letter == '\n';
    assert!(text.chars().all(known), "{text:?}");
    for mark in MARKS {
        assert!(!text.contains(mark), "{mark}: {text:?}");
    }
}

/// The same of JSON, one value a line, and of all texts that are in it.
///
/// # Panics
/// Where it is not, and where it is no JSON.
pub fn harmless_json(text: &str) {
    harmless(text);
    for line in text.lines() {
        let value = serde_json::from_str(line);
        strings(&value.unwrap_or_else(|error| panic!("{error}: {line}")));
    }
}

fn strings(value: &Value) {
    match value {
        Value::String(text) => harmless(text),
        Value::Array(values) => values.iter().for_each(strings),
        Value::Object(fields) => fields.values().for_each(strings),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
