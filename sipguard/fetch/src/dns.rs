//! Questions to name servers: one name and one type of record at a time, absolute, with aliases followed.
//!
//! Servers are asked in turn, as they are written. One that refuses, fails or only refers to others has not answered, and the next one is asked;
//! "there is no such name" is an answer. Whoever was silent once is not waited for again by the same [`Resolver`].

mod answer;
mod connect;
mod proof;
mod servers;

use std::{
    cell::Cell,
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use domain::{
    base::{Message, MessageBuilder, Name, Rtype},
    net::client::{
        dgram, dgram_stream, multi_stream,
        request::{ComposeRequest as _, Error as RequestError, RequestMessage, SendRequest as _},
        stream,
    },
};
use thiserror::Error;

pub(crate) use self::{
    answer::{Data, Pointer},
    proof::Anchors,
    servers::of_the_system,
};
use self::{
    connect::{Tcp, Udp},
    proof::Validator,
};

/// A domain name as a question has it.
pub(crate) type DomainName = Name<Vec<u8>>;

const PORT: u16 = 53;
/// How long a server may take, the first time and when it is asked once more: a datagram may get lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take for an answer that comes over TCP, all told.
const PATIENCE_TCP: Duration = Duration::from_secs(5);
/// How many aliases are followed.
const MAX_ALIASES: usize = 8;

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum NoAnswer {
    /// There is nobody to ask.
    #[error("there is no name server; write [dns] servers, or one in /etc/resolv.conf")]
    NoServer,
    /// The last server that was asked.
    #[error("{server}: {why}")]
    Server {
        /// The server.
        server: IpAddr,
        /// What it did.
        why: Why,
    },
    /// Aliases that lead nowhere.
    #[error("more than {MAX_ALIASES} aliases lead from one to the next")]
    Aliases,
}

/// What a server did instead of answering.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Why {
    #[error("no answer within {} s", (PATIENCE * 2).as_secs())]
    Silent,
    #[error("{0}")]
    Code(String),
    #[error("refers to other servers; it is not one that answers for all names")]
    Referral,
    #[error("can't be understood")]
    Garbage,
    #[error("the answer is not proven: {0}")]
    Unproven(String),
    #[error("{0}")]
    Network(String),
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Records of the type that was asked for.
    pub(crate) records: Vec<Data>,
    /// How long it is good, in seconds.
    pub(crate) ttl: u32,
    /// Whether there is such a name at all.
    pub(crate) exists: bool,
}

type Connection = dgram_stream::Connection<Udp, RequestMessage<Vec<u8>>>;

/// The servers, for one round of questions.
pub(crate) struct Resolver {
    servers: Vec<Server>,
}

struct Server {
    address: IpAddr,
    connection: Connection,
    /// Where only what is proven counts.
    validator: Option<Validator>,
    is_silent: Cell<bool>,
}

impl Resolver {
    /// Asks these servers, from no port that is guarded; where there are anchors, only what they prove is an answer. In a runtime of tokio.
    pub(crate) fn new(
        servers: &[IpAddr],
        guarded: &Arc<BTreeSet<u16>>,
        anchors: Option<&Anchors>,
    ) -> Self {
        let server = |&address| {
            let connection = connection(address, guarded);
            Server {
                address,
                validator: anchors.map(|anchors| Validator::new(anchors, connection.clone())),
                connection,
                is_silent: Cell::new(false),
            }
        };
        Self {
            servers: servers.iter().map(server).collect(),
        }
    }

    /// Asks for the records of one type that a name has.
    pub(crate) async fn ask(&self, name: &DomainName, of: Rtype) -> Result<Answer, NoAnswer> {
        let mut name = name.clone();
        let mut ttl = u32::MAX;
        let mut aliases = 0;
        while aliases <= MAX_ALIASES {
            let part = self.ask_each(&name, of).await?;
            ttl = ttl.min(part.ttl);
            aliases += part.aliases;
            match part.alias {
                // An answer may end with an alias whose target another question is for.
                Some(alias) => name = alias,
                None if aliases <= MAX_ALIASES => {
                    return Ok(Answer {
                        records: part.records,
                        ttl,
                        exists: part.exists,
                    });
                }
                None => break,
            }
        }
        Err(NoAnswer::Aliases)
    }

    async fn ask_each(&self, name: &DomainName, of: Rtype) -> Result<answer::Part, NoAnswer> {
        let mut last = NoAnswer::NoServer;
        for server in &self.servers {
            let asked = if server.is_silent.get() {
                Err(Why::Silent)
            } else {
                server.ask(name, of).await
            };
            match asked {
                Ok(part) => return Ok(part),
                Err(why) => {
                    server.is_silent.set(why == Why::Silent);
                    last = NoAnswer::Server {
                        server: server.address,
                        why,
                    };
                }
            }
        }
        Err(last)
    }
}

impl Server {
    async fn ask(&self, name: &DomainName, of: Rtype) -> Result<answer::Part, Why> {
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_rd(true);
        let mut question = message.question();
        // A vector takes any name.
        question.push((name, of)).map_err(|_| Why::Garbage)?;
        let message: Message<Vec<u8>> = question.into_message();
        let mut request = RequestMessage::new(message).map_err(|error| network(&error))?;
        if self.validator.is_some() {
            request.set_dnssec_ok(true);
            // What the server itself thinks of it proves nothing.
            request.header_mut().set_cd(true);
        }
        let mut request = self.connection.send_request(request);
        let response = tokio::time::timeout(PATIENCE * 2 + PATIENCE_TCP, request.get_response());
        match response.await {
            Ok(Ok(mut response)) => {
                let part = answer::read(&response, name, of)?;
                let Some(validator) = &self.validator else {
                    return Ok(part);
                };
                // It may be good for a shorter time than it says.
                validator.check(&mut response).await?;
                answer::read(&response, name, of)
            }
            Ok(Err(error)) => Err(network(&error)),
            Err(_) => Err(Why::Silent),
        }
    }
}

fn network(error: &RequestError) -> Why {
    match error {
        RequestError::StreamReadTimeout => Why::Silent,
        RequestError::Dgram(error) if matches!(error.kind(), dgram::QueryErrorKind::Timeout) => {
            Why::Silent
        }
        RequestError::Dgram(error) => Why::Network(error.to_string()),
        error => Why::Network(error.to_string()),
    }
}

fn connection(server: IpAddr, guarded: &Arc<BTreeSet<u16>>) -> Connection {
    let address = SocketAddr::new(server, PORT);
    let mut datagram = dgram::Config::new();
    datagram.set_max_retries(1);
    datagram.set_read_timeout(PATIENCE);
    let mut stream = stream::Config::new();
    stream.set_response_timeout(PATIENCE_TCP);
    let config = dgram_stream::Config::from_parts(datagram, multi_stream::Config::from(stream));
    let udp = Udp::new(address, Arc::clone(guarded));
    let tcp = Tcp::new(address, Arc::clone(guarded));
    let (connection, transport) = dgram_stream::Connection::with_config(udp, tcp, config);
    // It ends with the connection.
    tokio::spawn(transport.run());
    connection
}
