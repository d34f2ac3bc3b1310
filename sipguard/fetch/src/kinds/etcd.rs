//! Lists that are kept in etcd, the values of one key or of several. It is asked by its gateway for HTTP and JSON (`/v3/`), and only read.
//!
//! All is read each time it is asked, whatever its revisions say: a cluster that was put back to a copy of before counts them anew. In between
//! a watch waits for the next change.

mod answer;
mod server;

use std::{io, time::Duration};

use ipnet::IpNet;
use jiff::Timestamp;
use sipguard_lists::{
    said::Said,
    task::{Etcd, Tasks},
};
use ureq::Agent;

use self::{
    answer::{At, Lists},
    server::{Keys, Server},
};
use super::{Answer, Before, Entries, Kind, Wait, prefixes::Limited};
use crate::{
    clock,
    http::{self, PATIENCE, Resolver},
};

/// As often it is looked whether a change was missed.
const GOOD: Duration = Duration::from_mins(1);
/// How long a server may take until there is a connection.
const PATIENCE_CONNECT: Duration = Duration::from_secs(5);

/// Lists, and what was learnt of those who have them.
pub(super) struct InEtcd {
    resolver: Resolver,
    fleet: Etcd,
    /// The place of the server that answered last.
    first: usize,
    /// Proves that somebody logged in.
    token: Option<String>,
}

/// What a server said.
struct Read {
    /// What is to be listed, or why that is no list; another server would say the same.
    list: Result<Vec<IpNet>, String>,
    /// At what time of the cluster.
    at: At,
}

/// Waits for the next change at the server that answered.
#[derive(Debug)]
struct Watch {
    fleet: Etcd,
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    since: At,
}

impl InEtcd {
    pub(super) fn new(fleet: &Etcd, tasks: &Tasks) -> Self {
        Self {
            resolver: Resolver::new(tasks),
            fleet: fleet.clone(),
            first: 0,
            token: None,
        }
    }

    /// Asks one server after the other until one answers.
    fn read(&mut self) -> Result<(Read, Watch), String> {
        let agent = self.agent()?;
        let count = self.fleet.endpoints.len();
        let share = PATIENCE / u32::try_from(count).unwrap_or(u32::MAX).max(1);
        let mut last = "there is no server to ask".to_owned();
        for turn in 0..count {
            let place = (self.first + turn) % count;
            let endpoint = &self.fleet.endpoints[place];
            let mut server = Server {
                fleet: &self.fleet,
                agent: &agent,
                endpoint,
                until: clock::boot() + share,
                token: self.token.take(),
            };
            let read = lists(&mut server);
            self.token = server.token;
            match read {
                Ok(read) => {
                    self.first = place;
                    let watch = Watch {
                        fleet: self.fleet.clone(),
                        agent,
                        endpoint: endpoint.clone(),
                        token: self.token.clone(),
                        since: read.at,
                    };
                    return Ok((read, watch));
                }
                Err(why) => last = format!("{endpoint}: {why}"),
            }
        }
        Err(last)
    }

    /// With files that are read anew: they may have been replaced.
    fn agent(&self) -> Result<Agent, String> {
        let mut endpoints = self.fleet.endpoints.iter();
        let may_be_plain = endpoints.all(|endpoint| self.fleet.may_be_plain(endpoint));
        let config = http::config(self.fleet.ca_file.as_deref(), may_be_plain)?
            .timeout_connect(Some(PATIENCE_CONNECT))
            .max_redirects(0);
        Ok(http::agent(config, &self.resolver))
    }
}

/// All lists that a server has, as they were at one time.
fn lists(server: &mut Server<'_>) -> Result<Read, String> {
    let mut lists = Lists::new(server.fleet.widest);
    let mut keys = Keys::of(server.fleet);
    let mut read = Limited::new(io::empty());
    let mut at = None;
    loop {
        let mut body = read.then(server.range(&keys)?);
        let page = answer::page(&mut body, &mut lists);
        body.all()?;
        let page = page?;
        let at = *at.get_or_insert(page.at);
        match lists.last_key() {
            Some(last) if page.more && !lists.are_wrong() => keys.go_on(last, at),
            Some(_) => {
                let list = lists.done();
                return Ok(Read { list, at });
            }
            None => {
                let list = Err(format!("it has no key {}", Said(&server.fleet.key)));
                return Ok(Read { list, at });
            }
        }
        read = body.then(io::empty());
    }
}

impl Kind for InEtcd {
    fn ask(&mut self, before: &Before, _now: Timestamp) -> Answer {
        let url = Some(self.fleet.url());
        let (list, watch) = match self.read() {
            Ok((read, watch)) => (read.list, Some(watch)),
            Err(error) => (Err(error), None),
        };
        let wait = watch.map(|watch| Box::new(watch) as Box<dyn Wait>);
        let answer = Answer {
            url,
            wait,
            ..Answer::good_for(GOOD)
        };
        match list {
            Ok(list) => Answer {
                answered: true,
                entries: Entries::List(list),
                ..answer
            },
            Err(error) => Answer {
                error: Some(error),
                entries: match before.head().filter(|head| head.url == answer.url) {
                    Some(_) => Entries::AsBefore,
                    None => Entries::All(Vec::new()),
                },
                ..answer
            },
        }
    }
}

impl Wait for Watch {
    fn wait(self: Box<Self>, longest: Duration) -> bool {
        let until = clock::boot() + longest;
        let mut server = Server {
            fleet: &self.fleet,
            agent: &self.agent,
            endpoint: &self.endpoint,
            until,
            token: self.token,
        };
        // Whatever is wrong is told when it is asked again.
        let Ok(body) = server.watch(&Keys::of(&self.fleet), self.since) else {
            return false;
        };
        answer::is_changed(Limited::new(body), self.since) && clock::boot() < until
    }
}
