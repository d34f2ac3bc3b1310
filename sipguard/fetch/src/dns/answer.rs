//! What a server's message says of what was asked.

use std::net::IpAddr;

use bytes::Bytes;
use domain::{
    base::{Message, ParsedName, Record, Rtype, ToName as _, iana::Rcode},
    rdata::AllRecordData,
};

use super::{DomainName, Why};

/// How long an empty answer is good that does not say so.
const EMPTY_TTL: u32 = 60;

/// A record that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// SRV: the host; `None` where it says that there is no such service (RFC 2782).
    Service(Option<DomainName>),
    /// NAPTR.
    Pointer(Pointer),
}

/// What of a NAPTR record matters here (RFC 3403, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    /// `s`: the replacement has SRV records; `a`: it has addresses.
    pub(crate) flags: Vec<u8>,
    /// `SIP+D2U` and the like (RFC 3263, section 4.1).
    pub(crate) services: Vec<u8>,
    /// Whether there is a regular expression; such are for telephone numbers, and never followed.
    pub(crate) has_expression: bool,
    /// The name to ask for next.
    pub(crate) replacement: DomainName,
}

/// An answer, as far as one message goes.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) records: Vec<Data>,
    pub(super) ttl: u32,
    pub(super) exists: bool,
    /// How many aliases led to the name whose records these are.
    pub(super) aliases: usize,
    /// That name, if it has to be asked for by itself.
    pub(super) alias: Option<DomainName>,
}

type Any = Record<ParsedName<Bytes>, AllRecordData<Bytes, ParsedName<Bytes>>>;

/// Reads the answer to a question.
pub(super) fn read(message: &Message<Bytes>, name: &DomainName, of: Rtype) -> Result<Part, Why> {
    let exists = match message.header().rcode() {
        Rcode::NOERROR => true,
        Rcode::NXDOMAIN => false,
        code => return Err(Why::Code(code.to_string())),
    };
    let section = message.answer().map_err(|_| Why::Garbage)?;
    let answers: Vec<Any> = section
        .limit_to()
        .collect::<Result<_, _>>()
        .map_err(|_| Why::Garbage)?;

    let mut owner = name.clone();
    let mut ttl = u32::MAX;
    let mut aliases = 0;
    // They come in any order, and each name has one at most; there are no more of them than records.
    while aliases < answers.len() {
        let alias = answers.iter().find_map(|record| match record.data() {
            AllRecordData::Cname(alias) if *record.owner() == owner => {
                Some((record.ttl().as_secs(), alias.cname().to_name()))
            }
            _ => None,
        });
        let Some((good, alias)) = alias else { break };
        ttl = ttl.min(good);
        owner = alias;
        aliases += 1;
    }
    let mut records = Vec::new();
    for record in answers.iter().filter(|record| *record.owner() == owner) {
        if record.rtype() == of
            && let Some(data) = data(record)
        {
            ttl = ttl.min(record.ttl().as_secs());
            records.push(data);
        }
    }
    let mut alias = None;
    if records.is_empty() {
        let empty = nothing(message)?;
        match empty {
            // Whoever tells of the alias and of nothing behind it may know no more.
            Nothing::Unsaid if owner != *name && exists => alias = Some(owner),
            Nothing::Unsaid => ttl = ttl.min(EMPTY_TTL),
            Nothing::Good(good) => ttl = ttl.min(good),
        }
    }
    Ok(Part {
        records,
        ttl,
        exists,
        aliases,
        alias,
    })
}

fn data(record: &Any) -> Option<Data> {
    Some(match record.data() {
        AllRecordData::A(a) => Data::Address(a.addr().into()),
        AllRecordData::Aaaa(aaaa) => Data::Address(aaaa.addr().into()),
        AllRecordData::Srv(srv) => {
            let target: DomainName = srv.target().to_name();
            Data::Service((!target.is_root()).then_some(target))
        }
        AllRecordData::Naptr(naptr) => Data::Pointer(Pointer {
            flags: naptr.flags().as_slice().to_vec(),
            services: naptr.services().as_slice().to_vec(),
            has_expression: !naptr.regexp().is_empty(),
            replacement: naptr.replacement().to_name(),
        }),
        _ => return None,
    })
}

/// What a message without the wanted records says of that.
enum Nothing {
    /// That there are none, for so many seconds (RFC 2308, section 5).
    Good(u32),
    /// Not even that.
    Unsaid,
}

fn nothing(message: &Message<Bytes>) -> Result<Nothing, Why> {
    let section = message.authority().map_err(|_| Why::Garbage)?;
    let mut refers = false;
    for record in section.limit_to::<AllRecordData<_, ParsedName<_>>>() {
        let record = record.map_err(|_| Why::Garbage)?;
        match record.data() {
            AllRecordData::Soa(soa) => {
                let good = record.ttl().min(soa.minimum());
                return Ok(Nothing::Good(good.as_secs()));
            }
            AllRecordData::Ns(_) => refers = true,
            _ => {}
        }
    }
    if refers && !message.header().aa() {
        return Err(Why::Referral);
    }
    Ok(Nothing::Unsaid)
}
