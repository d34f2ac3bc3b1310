//! A list at a URL. It is asked for with what was said of the copy that is here, so that one that did not change is not sent again.

mod body;

use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use sipguard_lists::task::{Tasks, Url};
use ureq::{
    Agent,
    http::{HeaderMap, HeaderName, Response, StatusCode, header},
};

use super::{Answer, Before, Entries, Kind};
use crate::http::{self, PATIENCE, Resolver};

const MAX_REDIRECTS: u32 = 5;
/// The most characters of what the other side calls a copy.
const MAX_TAG: usize = 500;

/// A list, and how it is asked for.
pub(super) struct OverHttp {
    list: Url,
    resolver: Resolver,
}

impl OverHttp {
    pub(super) fn new(list: &Url, tasks: &Tasks) -> Self {
        Self {
            list: list.clone(),
            resolver: Resolver::new(tasks),
        }
    }

    fn get(&self, before: &Before) -> Result<Got, String> {
        let mut request = self.agent()?.get(&self.list.url);
        // What was said of another list says nothing of this one.
        let head = before.head();
        let head = head.filter(|head| head.url.as_ref() == Some(&self.list.url));
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
        let response = request.call().map_err(|error| http::told(&error))?;
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
        let may_be_plain = self.list.may_be_plain();
        let config = http::config(self.list.ca_file.as_deref(), may_be_plain)?
            // Each way that a redirect leads is looked at, too.
            .https_only(!may_be_plain)
            .timeout_global(Some(PATIENCE))
            .max_redirects(if self.is_local_only() {
                0
            } else {
                MAX_REDIRECTS
            });
        Ok(http::agent(config, &self.resolver))
    }

    /// Whether it may be plain because it comes from this host, which no redirect may change.
    fn is_local_only(&self) -> bool {
        !self.list.insecure && self.list.may_be_plain()
    }

    fn read(&self, response: Response<ureq::Body>) -> Result<Got, String> {
        let tag = |name: HeaderName| tag(response.headers(), &name);
        let (etag, last_modified) = (tag(header::ETAG), tag(header::LAST_MODIFIED));
        // What is too much of it is counted there.
        let (list, said) = body::read(response.into_body().into_reader(), &self.list)?;
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
        let every = Duration::from_secs(self.list.every.into());
        match self.get(before) {
            Ok(got) => Answer {
                answered: true,
                url: Some(self.list.url.clone()),
                etag: got.etag,
                last_modified: got.last_modified,
                said: got.said,
                entries: got.list.map_or(Entries::AsBefore, Entries::List),
                ..Answer::good_for(every)
            },
            // What was said of the last good copy is still so.
            Err(error) => {
                let head = before.head();
                let head = head.filter(|head| head.url.as_ref() == Some(&self.list.url));
                Answer {
                    url: Some(self.list.url.clone()),
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
