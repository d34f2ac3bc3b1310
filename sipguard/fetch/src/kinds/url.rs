//! A list at a URL. It is asked for with what was said of the copy that is here, so that one that did not change is not sent again.

mod body;

use std::{fs, sync::Arc, time::Duration};

use ipnet::IpNet;
use jiff::Timestamp;
use sipguard_lists::{said::Said, task::Url};
use ureq::{
    Agent, Error,
    http::{HeaderMap, HeaderName, Response, StatusCode, header},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::{Answer, Before, Entries, Kind};

/// How long it may all take.
const PATIENCE: Duration = Duration::from_mins(1);
const MAX_REDIRECTS: u32 = 5;
/// The most characters of what the other side calls a copy.
const MAX_TAG: usize = 500;

/// A list, and how it is asked for.
pub(super) struct OverHttp(Url);

impl OverHttp {
    pub(super) fn new(list: &Url) -> Self {
        Self(list.clone())
    }

    fn get(&self, before: &Before) -> Result<Got, String> {
        let mut request = self.agent()?.get(&self.0.url);
        // What was said of another list says nothing of this one.
        let head = before.head();
        let head = head.filter(|head| head.url.as_ref() == Some(&self.0.url));
        if let Some(head) = head {
            let said = [
                (header::IF_NONE_MATCH, &head.etag),
                (header::IF_MODIFIED_SINCE, &head.last_modified),
            ];
            for (name, said) in said {
                if let Some(said) = said {
                    request = request.header(name, said);
                }
            }
        }
        let response = request.call().map_err(|error| told(&error))?;
        match response.status() {
            StatusCode::OK => self.read(response),
            // Only of what was asked for can it be so.
            StatusCode::NOT_MODIFIED if head.is_some() => Ok(Got {
                etag: head.and_then(|head| head.etag.clone()),
                last_modified: head.and_then(|head| head.last_modified.clone()),
                said: head.and_then(|head| head.said.clone()),
                list: None,
            }),
            status => Err(format!("the server answers {}", status.as_u16())),
        }
    }

    fn agent(&self) -> Result<Agent, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(self.roots()?)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            // Each way that a redirect leads is looked at, too.
            .https_only(!self.0.may_be_plain())
            .timeout_global(Some(PATIENCE))
            .max_redirects(if self.is_local_only() {
                0
            } else {
                MAX_REDIRECTS
            })
            .http_status_as_error(false)
            .user_agent(concat!("sipguard-fetch/", env!("CARGO_PKG_VERSION")))
            // Tags of compressed copies do not match again with every server.
            .accept_encoding("identity");
        Ok(config.build().new_agent())
    }

    /// Whether it may be plain because it comes from this host, which no redirect may change.
    fn is_local_only(&self) -> bool {
        !self.0.insecure && self.0.may_be_plain()
    }

    fn roots(&self) -> Result<RootCerts, String> {
        let Some(file) = &self.0.ca_file else {
            let found = rustls_native_certs::load_native_certs();
            let certificates = found.certs.iter();
            let certificates: Vec<_> = certificates
                .map(|der| Certificate::from_der(der).to_owned())
                .collect();
            if certificates.is_empty() && !self.0.may_be_plain() {
                return Err("this system trusts no authority; install ca-certificates".to_owned());
            }
            return Ok(RootCerts::new_with_certs(&certificates));
        };
        let pem = fs::read(file);
        let pem = pem.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let items: Result<Vec<_>, _> = parse_pem(&pem).collect();
        let items = items.map_err(|error| format!("{}: {error}", file.display()))?;
        let certificates = items.into_iter().filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        });
        let certificates: Vec<_> = certificates.collect();
        if certificates.is_empty() {
            return Err(format!("{} has no certificate in PEM", file.display()));
        }
        Ok(RootCerts::new_with_certs(&certificates))
    }

    fn read(&self, response: Response<ureq::Body>) -> Result<Got, String> {
        let tag = |name: HeaderName| tag(response.headers(), &name);
        let (etag, last_modified) = (tag(header::ETAG), tag(header::LAST_MODIFIED));
        // What is too much of it is counted there.
        let (list, said) = body::read(response.into_body().into_reader(), &self.0)?;
        Ok(Got {
            etag,
            last_modified,
            said,
            list: Some(list),
        })
    }
}

impl Kind for OverHttp {
    fn ask(&mut self, before: &Before, _now: Timestamp) -> Answer {
        let every = Duration::from_secs(self.0.every.into());
        match self.get(before) {
            Ok(got) => Answer {
                answered: true,
                url: Some(self.0.url.clone()),
                etag: got.etag,
                last_modified: got.last_modified,
                said: got.said,
                entries: got.list.map_or(Entries::AsBefore, Entries::List),
                ..Answer::good_for(every)
            },
            // What was said of the last good copy is still so.
            Err(error) => {
                let head = before.head();
                let head = head.filter(|head| head.url.as_ref() == Some(&self.0.url));
                Answer {
                    url: Some(self.0.url.clone()),
                    etag: head.and_then(|head| head.etag.clone()),
                    last_modified: head.and_then(|head| head.last_modified.clone()),
                    said: head.and_then(|head| head.said.clone()),
                    error: Some(error),
                    entries: match head {
                        Some(_) => Entries::AsBefore,
                        None => Entries::All(Vec::new()),
                    },
                    ..Answer::good_for(every)
                }
            }
        }
    }
}

/// What the server sent.
struct Got {
    etag: Option<String>,
    last_modified: Option<String>,
    said: Option<String>,
    /// `None` where it is what it was.
    list: Option<Vec<IpNet>>,
}

/// A header's text, where it can be sent back.
fn tag(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    (text.len() <= MAX_TAG).then(|| text.to_owned())
}

/// What went wrong, which may quote the other side.
fn told(error: &Error) -> String {
    match error {
        Error::RequireHttpsOnly(_) => {
            "it leads to http, where everybody on the way may change it; `insecure = true` allows that".to_owned()
        }
        Error::TooManyRedirects => "it leads elsewhere too often".to_owned(),
        Error::Timeout(_) => format!("not done within {} s", PATIENCE.as_secs()),
        error => Said(&error.to_string()).to_string(),
    }
}
