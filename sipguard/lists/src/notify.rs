//! Who wants notices, and how they get them.

use std::{borrow::Cow, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::task::{User, is_local};

/// Everybody who wants notices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// A web server that takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// People who get mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<Mail>,
}

impl Notify {
    /// What [`Self::webhook`] is called where it is told how far it is.
    pub const WEBHOOK: &str = "webhook";
    /// What [`Self::mail`] is called there.
    pub const MAIL: &str = "mail";

    /// The names of those that there are.
    pub fn receivers(&self) -> impl Iterator<Item = &'static str> {
        let webhook = self.webhook.as_ref().map(|_| Self::WEBHOOK);
        let mail = self.mail.as_ref().map(|_| Self::MAIL);
        webhook.into_iter().chain(mail)
    }
}

/// A web server that takes notices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where they are posted.
    pub address: Address,
    /// Whether everybody on the way may read and change them.
    pub insecure: bool,
    /// Certificates of authorities that are trusted instead of the system's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// Where a web server takes notices. Whoever knows it can write there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// `https://`, or `http://` on this host or where that is `insecure`.
    Url(String),
    /// The file with such a one in its first line.
    UrlFile(PathBuf),
}

impl Webhook {
    /// Whether it may be written to over a way on which everybody can read that: on this host, or where a person said so.
    pub fn may_be_plain(&self, url: &str) -> bool {
        self.insecure || is_local(url)
    }
}

/// People who get mail, and the server that takes it for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// Their addresses. At least one.
    pub to: Vec<String>,
    /// Whose mail it is.
    pub from: String,
    /// The server.
    pub smtp: Smtp,
    /// As whom to log in, where it wants that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Whether everybody on the way may read and change what is said.
    pub insecure: bool,
    /// Certificates of authorities that are trusted instead of the system's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// A name or an address.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// Whether TLS begins before anything is said (`smtps`), and not by STARTTLS.
    pub implicit_tls: bool,
}

impl Mail {
    /// Whether it may go in the plain where the server has no TLS: on this host, or where a person said so.
    pub fn may_be_plain(&self) -> bool {
        let host = &self.smtp.host;
        self.insecure || is_local(&format!("http://{}", in_a_url(host)))
    }
}

/// An IPv6 address stands in brackets there.
fn in_a_url(host: &str) -> Cow<'_, str> {
    if host.contains(':') {
        format!("[{host}]").into()
    } else {
        host.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_on_this_host_may_be_plain() {
        let mut mail = Mail {
            to: vec!["noc@example.com".to_owned()],
            from: "sipguard@gw1.example".to_owned(),
            smtp: Smtp {
                host: String::new(),
                port: 25,
                implicit_tls: false,
            },
            user: None,
            insecure: false,
            ca_file: None,
        };
        for (host, plain) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("localhost", true),
            ("localhost.example", false),
            ("192.0.2.25", false),
            ("2001:db8::25", false),
        ] {
            mail.smtp.host = host.to_owned();
            assert_eq!(mail.may_be_plain(), plain, "{host}");
        }
        mail.insecure = true;
        assert!(mail.may_be_plain());
        let notify = Notify {
            webhook: None,
            mail: Some(mail),
        };
        assert_eq!(notify.receivers().collect::<Vec<_>>(), ["mail"]);
    }
}
