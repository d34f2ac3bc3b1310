//! `[notify]`: who wants notices.

use sipguard_lists::{
    notify::{Address, Mail, Notify, Smtp, Webhook},
    task::User,
};
use toml::de::DeTable;

use super::{
    document::{Document, Value},
    url,
};
use crate::prefix::Excerpt;

const HOOK: &str = "https://hooks.example/sipguard";
const MAIL: &str = "mail = { to = \"noc@example.com\", from = \"sipguard@gw1.example.com\", smtp = \"smtps://mail.example.com\" }";
/// Ports of mail servers: for those who send, with TLS or before it, and on this host.
const SMTPS: u16 = 465;
const SUBMISSION: u16 = 587;
const LOCAL: u16 = 25;
/// RFC 5321, section 4.5.3.1, less the brackets.
const MAX_ADDRESS: usize = 254;
const MAX_RECIPIENTS: usize = 20;

pub(super) fn read(document: &mut Document<'_>, value: &Value<'_>) -> Option<Notify> {
    let table = document.table(value, "notify", "[notify]")?;
    let [hook, mail] = document.fields(table, "[notify]", ["webhook", "mail"]);
    if hook.is_none() && mail.is_none() {
        document.problem(
            value.span(),
            format!("[notify] names nobody; write webhook = \"{HOOK}\", or {MAIL}"),
        );
    }
    Some(Notify {
        webhook: hook.and_then(|hook| webhook(document, hook)),
        mail: mail.and_then(|value| {
            let table = document.table(value, "mail", MAIL)?;
            read_mail(document, value, table)
        }),
    })
}

/// `"https://hooks.example/sipguard"`, or `{ url_file = "/etc/sipguard/webhook", ca_file = "…" }`
fn webhook(document: &mut Document<'_>, value: &Value<'_>) -> Option<Webhook> {
    if value.get_ref().as_str().is_some() {
        return Some(Webhook {
            address: address(document, value, false)?,
            insecure: false,
            ca_file: None,
        });
    }
    let example = format!("webhook = \"{HOOK}\"");
    let table = document.table(value, "webhook", &example)?;
    let [url, url_file, insecure, ca_file] =
        document.fields(table, "webhook", ["url", "url_file", "insecure", "ca_file"]);
    let insecure = insecure.is_some_and(|insecure| document.boolean(insecure, "insecure"));
    let address = match (url, url_file) {
        (Some(url), None) => address(document, url, insecure)?,
        (None, Some(file)) => Address::UrlFile(document.path(file, "url_file")?),
        _ => {
            document.problem(
                value.span(),
                format!("a webhook has a url or a url_file; write url = \"{HOOK}\""),
            );
            return None;
        }
    };
    Some(Webhook {
        address,
        insecure,
        ca_file: ca_file.and_then(|file| document.path(file, "ca_file")),
    })
}

/// Whoever knows it can write there, so that it is not repeated in what is said of it.
fn address(document: &mut Document<'_>, value: &Value<'_>, insecure: bool) -> Option<Address> {
    let text = document.string(value, "url", &format!("\"{HOOK}\""))?;
    let address = Address::Url(text.to_owned());
    let hook = Webhook {
        address: address.clone(),
        insecure,
        ca_file: None,
    };
    let allowed = "webhook = { url = \"…\", insecure = true }";
    if let Some(wrong) = url::wrong(text, hook.may_be_plain(text), HOOK, allowed) {
        document.problem(value.span(), format!("what is written here {wrong}"));
        return None;
    }
    Some(address)
}

fn read_mail(document: &mut Document<'_>, value: &Value<'_>, table: &DeTable<'_>) -> Option<Mail> {
    let [to, from, smtp, user, password_file, insecure, ca_file] = document.fields(
        table,
        "mail",
        [
            "to",
            "from",
            "smtp",
            "user",
            "password_file",
            "insecure",
            "ca_file",
        ],
    );
    let (Some(to), Some(from), Some(server)) = (to, from, smtp) else {
        document.problem(
            value.span(),
            format!("mail needs to, from and smtp; write {MAIL}"),
        );
        return None;
    };
    let user = match (user, password_file) {
        (None, None) => None,
        (Some(user), Some(file)) => Some(User {
            name: document.string(user, "user", "user = \"gw1\"")?.to_owned(),
            password_file: document.path(file, "password_file")?,
        }),
        (Some(one), None) | (None, Some(one)) => {
            document.problem(one.span(), "user and password_file go together; write both");
            return None;
        }
    };
    let mut mail = Mail {
        to: recipients(document, to),
        from: mailbox(document, from)?,
        smtp: smtp_server(document, server)?,
        user,
        insecure: insecure.is_some_and(|insecure| document.boolean(insecure, "insecure")),
        ca_file: ca_file.and_then(|file| document.path(file, "ca_file")),
    };
    if mail.smtp.port == 0 {
        mail.smtp.port = match mail.smtp.implicit_tls {
            true => SMTPS,
            // There it is for all who are on the host.
            false if mail.may_be_plain() && !mail.insecure => LOCAL,
            false => SUBMISSION,
        };
    }
    Some(mail)
}

fn recipients(document: &mut Document<'_>, value: &Value<'_>) -> Vec<String> {
    if value.get_ref().as_str().is_some() {
        return mailbox(document, value).into_iter().collect();
    }
    let values = document.array(value, "to", "to = \"noc@example.com\"");
    if values.is_empty() || values.len() > MAX_RECIPIENTS {
        document.problem(
            value.span(),
            format!(
                "mail goes to 1 to {MAX_RECIPIENTS} addresses; write for example to = \"noc@example.com\""
            ),
        );
    }
    let mailboxes = values.iter().filter_map(|value| mailbox(document, value));
    mailboxes.collect()
}

/// A mail address, of the kind that people have.
fn mailbox(document: &mut Document<'_>, value: &Value<'_>) -> Option<String> {
    let text = document.string(value, "a mail address", "\"noc@example.com\"")?;
    let is_part = |part: &str| {
        let is_odd = |byte: u8| !byte.is_ascii_graphic() || b"\"(),:;<>@[]\\".contains(&byte);
        !part.is_empty() && !part.bytes().any(is_odd)
    };
    let halves = text.split_once('@');
    if text.len() > MAX_ADDRESS || halves.is_none_or(|(who, host)| !is_part(who) || !is_part(host))
    {
        document.problem(
            value.span(),
            format!(
                "{} is no mail address; write for example \"noc@example.com\"",
                Excerpt::of(text)
            ),
        );
        return None;
    }
    Some(text.to_owned())
}

/// `smtps://mail.example.com`, `smtp://mail.example.com:587`; where no port is written, it is 0.
fn smtp_server(document: &mut Document<'_>, value: &Value<'_>) -> Option<Smtp> {
    let text = document.string(value, "smtp", "smtp = \"smtps://mail.example.com\"")?;
    let server = server(text);
    if server.is_none() {
        document.problem(
            value.span(),
            format!(
                "{} is no mail server; write \"smtps://mail.example.com\" (TLS from the beginning), or \"smtp://…\" (STARTTLS; on this host \
                 without)",
                Excerpt::of(text)
            ),
        );
    }
    server
}

fn server(text: &str) -> Option<Smtp> {
    let (implicit_tls, rest) = match text.strip_prefix("smtps://") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("smtp://")?),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None if port.is_empty() => 0,
        None => return None,
    };
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    (!host.is_empty() && host.bytes().all(is_part)).then(|| Smtp {
        host: host.to_owned(),
        port,
        implicit_tls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        let found = |text: &str| server(text).map(|it| (it.host, it.port, it.implicit_tls));
        for (text, host, port, implicit_tls) in [
            ("smtps://mail.example.com", "mail.example.com", 0, true),
            (
                "smtp://mail.example.com:2525",
                "mail.example.com",
                2525,
                false,
            ),
            ("smtp://192.0.2.25", "192.0.2.25", 0, false),
            ("smtps://[2001:db8::25]:465", "2001:db8::25", 465, true),
        ] {
            assert_eq!(found(text), Some((host.to_owned(), port, implicit_tls)));
        }
        for text in [
            "mail.example.com",
            "smtp://",
            "smtp://mail.example.com/",
            "smtp://user@mail.example.com",
            "smtp://mail.example.com:0",
            "smtp://mail.example.com:65536",
            "smtp://[2001:db8::25",
            "smtp://[mail]",
            "smtp://2001:db8::25",
            "https://mail.example.com",
            "smtp://mail example",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
