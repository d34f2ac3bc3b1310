//! URLs, of what is asked for or told elsewhere.

/// What keeps a URL from being used; `allowed` is how to write that it may be plain.
pub(super) fn wrong(url: &str, may_be_plain: bool, example: &str, allowed: &str) -> Option<String> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    if host.is_none_or(str::is_empty) || url.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        Some(format!("is no URL; write for example \"{example}\""))
    } else if url.starts_with("http://") && !may_be_plain {
        Some(format!(
            "can be changed by everybody on the way; write https://, or allow that with {allowed}"
        ))
    } else {
        None
    }
}
