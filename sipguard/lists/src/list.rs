//! Lists as people and feeds write them: one prefix a line, comments behind `#` or, as feeds have them, behind `;`.

use ipnet::IpNet;

use crate::prefix::{self, Excerpt};

/// The prefix of one line, or the column (in characters, counted from 1) and the kind of what is wrong with it. The first line may begin with a
/// byte order mark.
pub fn line(bytes: &[u8], first: bool) -> Result<Option<IpNet>, (usize, String)> {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            return Err((
                valid.chars().count() + 1,
                "this is not UTF-8; save the file as UTF-8".to_owned(),
            ));
        }
    };
    let text = match text.strip_prefix('\u{feff}') {
        Some(text) if first => text,
        _ => text,
    };
    let entry = text.split_once(['#', ';']).map_or(text, |(entry, _)| entry);
    let trimmed = entry.trim();
    if trimmed.is_empty() {
        return Ok(None);
    }
    prefix::parse(trimmed).map(Some).map_err(|error| {
        let column = entry.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let message = if trimmed.contains(char::is_whitespace) {
            format!(
                "{} is more than one prefix; write one a line, and comments behind # or ;",
                Excerpt::of(trimmed)
            )
        } else {
            error.to_string()
        };
        (column, message)
    })
}
