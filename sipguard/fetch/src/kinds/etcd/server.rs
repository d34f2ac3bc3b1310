//! One server of a cluster, and what it is asked (etcd's `rpc.proto`, as its gateway has it in JSON).

use std::{fs, io::Read as _};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use sipguard_lists::{
    said::Said,
    task::{Etcd, User},
};
use ureq::{
    Agent, Body, BodyReader,
    http::{Response, StatusCode, header},
};

use super::answer::At;
use crate::{clock, http, schedule::Moment};

/// How many keys are read at a time; the value of each may have 1.5 MiB, unless the server was told otherwise.
const PAGE: u16 = 32;
/// The most bytes that are read of what is no list.
const MAX_WORDS: u64 = 1 << 16;

/// See the module.
pub(super) struct Server<'a> {
    pub(super) fleet: &'a Etcd,
    pub(super) agent: &'a Agent,
    pub(super) endpoint: &'a str,
    /// When it must all be done.
    pub(super) until: Moment,
    /// Proves that somebody logged in.
    pub(super) token: Option<String>,
}

/// Which keys are asked for.
#[derive(Serialize)]
pub(super) struct Keys {
    key: String,
    /// The first key behind them; one alone where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    range_end: Option<String>,
    /// At what time of the cluster; the latest one where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    limit: u16,
}

impl Keys {
    pub(super) fn of(fleet: &Etcd) -> Self {
        let key = fleet.key.as_bytes();
        let range_end = fleet.is_prefix().then(|| {
            // What follows `/` in ASCII.
            let mut end = key.to_vec();
            end.pop();
            end.push(b'/' + 1);
            BASE64_STANDARD.encode(end)
        });
        Self {
            key: BASE64_STANDARD.encode(key),
            range_end,
            revision: None,
            limit: PAGE,
        }
    }

    /// Those behind the last one that was read, as they were when it was.
    pub(super) fn go_on(&mut self, last: &[u8], at: At) {
        self.key = BASE64_STANDARD.encode([last, b"\0"].concat());
        self.revision = Some(at.revision);
    }
}

impl Server<'_> {
    /// Some keys with their values, and whether there are more.
    pub(super) fn range(&mut self, keys: &Keys) -> Result<BodyReader<'static>, String> {
        self.call("/v3/kv/range", keys)
    }

    /// Changes of these keys behind a time, each when it comes.
    pub(super) fn watch(&mut self, keys: &Keys, since: At) -> Result<BodyReader<'static>, String> {
        #[derive(Serialize)]
        struct Watch<'a> {
            create_request: Create<'a>,
        }
        #[derive(Serialize)]
        struct Create<'a> {
            key: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            range_end: Option<&'a str>,
            start_revision: i64,
        }

        let create_request = Create {
            key: &keys.key,
            range_end: keys.range_end.as_deref(),
            start_revision: since.revision.saturating_add(1),
        };
        self.call("/v3/watch", &Watch { create_request })
    }

    /// Asks as whoever is to log in.
    fn call(&mut self, path: &str, words: &impl Serialize) -> Result<BodyReader<'static>, String> {
        let was_logged_in = self.token.is_some();
        if let Some(user) = &self.fleet.user
            && !was_logged_in
        {
            self.token = Some(self.log_in(user)?);
        }
        let response = self.post(path, words)?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body().into_reader()),
            // A token ends after a while, with the server that gave it, and when users change.
            StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST if was_logged_in => {
                self.token = None;
                self.call(path, words)
            }
            _ => Err(refusal(response)),
        }
    }

    fn log_in(&self, user: &User) -> Result<String, String> {
        #[derive(Serialize)]
        struct Words<'a> {
            name: &'a str,
            password: &'a str,
        }
        #[derive(Deserialize)]
        struct Answer {
            token: String,
        }

        let file = &user.password_file;
        let text = fs::read_to_string(file);
        let text = text.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let password = text.lines().next().unwrap_or_default();
        let name = &user.name;
        let response = self.post("/v3/auth/authenticate", &Words { name, password })?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response));
        }
        let body = response.into_body().into_reader().take(MAX_WORDS);
        let answer: Answer = serde_json::from_reader(body)
            .map_err(|error| format!("the server gives no token: {}", Said(&error.to_string())))?;
        Ok(answer.token)
    }

    fn post(&self, path: &str, words: &impl Serialize) -> Result<Response<Body>, String> {
        let words = serde_json::to_vec(words).map_err(|error| error.to_string())?;
        let url = format!("{}{path}", self.endpoint.trim_end_matches('/'));
        let mut request = self.agent.post(url);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let left = self.until.saturating_sub(clock::boot());
        let request = request
            .config()
            .https_only(!self.fleet.may_be_plain(self.endpoint))
            .timeout_global(Some(left))
            .build();
        request.send(&words).map_err(|error| http::told(&error))
    }
}

/// What a server says instead of an answer.
fn refusal(response: Response<Body>) -> String {
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }

    let status = response.status().as_u16();
    let body = response.into_body().into_reader().take(MAX_WORDS);
    match serde_json::from_reader(body) {
        Ok(Words { message }) => format!("the server answers {status}: {}", Said(&message)),
        Err(_) => format!("the server answers {status}"),
    }
}
