//! A naive model of the verdict, written from the verdict table alone: etherparse reads the headers, ipnet and a linear scan are the
//! policy. Slow and obvious; property tests hold the product against it.
//!
//! etherparse reads one header at a time here. Where its view of a whole packet differs from the verdict table by design, this
//! model goes by the table:
//! - Its packet slicers end a packet where the lengths inside the headers say so. Here it is where the frame ends that counts, save in a
//!   first fragment: there four bytes behind the header chain must be part of the packet, too.
//! - They follow at most three tags, take 0x9100 for one, take hop-by-hop options only in the first place, and each extension header
//!   once. Linux takes more, and so do the chains here, up to the table's limits.
//! - They know no PPPoE. Six bytes of session header and the PPP protocol field are read by hand.
//! - [`IpAuthHeaderSlice`] refuses a length field of zero and headers cut before their twelfth byte. Linux refuses such headers, too, but
//!   only when it verifies them, so the table has no rule for it: lengths are read by hand.
//! - Its UDP and TCP headers need to be whole. The table asks for no more than the four bytes of the ports.
//!
//! [`IpAuthHeaderSlice`]: etherparse::IpAuthHeaderSlice

use std::{collections::HashMap, net::IpAddr};

use etherparse::{
    EtherType, Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice,
    Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, SingleVlanHeaderSlice,
};
use ipnet::IpNet;
use sipguard::policy::{self, Policy};
use sipguard_ebpf::abi::{Action, Layer, LinkKind, Protocol, Reason};

/// What the model says of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is done.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// Index of the service whose port the frame goes to.
    pub service: Option<usize>,
    /// Length of the prefix whose entry decided.
    pub length: Option<u8>,
    /// The layer of that entry.
    pub layer: Option<Layer>,
}

impl Verdict {
    const fn without_service(action: Action, reason: Reason) -> Self {
        Self {
            action,
            reason,
            service: None,
            length: None,
            layer: None,
        }
    }
}

/// An entry of the command line.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// Its host bits are zero.
    pub prefix: IpNet,
    /// Index into the policy's services.
    pub service: usize,
    /// What is done with frames from there.
    pub action: policy::Action,
    /// When it ends, by the same clock as [`Model::now`].
    pub until: Option<u64>,
}

/// A ban, which is for all services.
#[derive(Clone, Copy, Debug)]
pub struct Banned {
    /// Its host bits are zero.
    pub prefix: IpNet,
    /// When it ends, by the same clock as [`Model::now`].
    pub until: Option<u64>,
}

/// What frames are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// What the config says.
    pub policy: &'a Policy,
    /// What the command line says.
    pub own: &'a [Own],
    /// What other programs ban.
    pub bans: &'a [Banned],
    /// The time.
    pub now: u64,
}

const NOT_OURS: Verdict = Verdict::without_service(Action::Pass, Reason::None);
const FRAGMENT: Verdict = Verdict::without_service(Action::Pass, Reason::Fragment);
const TOO_DEEP: Verdict = Verdict::without_service(Action::Drop, Reason::TooDeep);
const MALFORMED: Verdict = Verdict::without_service(Action::Drop, Reason::Malformed);

/// The verdict on `frame`.
#[must_use]
pub fn expected(frame: &[u8], link: LinkKind, model: &Model<'_>) -> Verdict {
    match parse(frame, link, model.policy) {
        Ok((source, protocol, port)) => decide(source, protocol, port, model),
        Err(verdict) => verdict,
    }
}

/// What has become of first fragments: row 4's first half. It forgets nothing.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// With the service whose port they went to.
    dropped: HashMap<Datagram, usize>,
}

/// Source, destination, identification, and of IPv4 the protocol.
type Datagram = (IpAddr, IpAddr, u32, Option<u8>);

impl Memory {
    /// The verdict on the next frame.
    pub fn expected(&mut self, frame: &[u8], link: LinkKind, model: &Model<'_>) -> Verdict {
        let verdict = expected(frame, link, model);
        let Some((datagram, is_first)) = datagram(frame, link) else {
            return verdict;
        };
        match (verdict.reason, self.dropped.get(&datagram)) {
            (Reason::Fragment, Some(service)) => Verdict {
                service: Some(*service),
                ..Verdict::without_service(Action::Drop, Reason::Orphan)
            },
            (Reason::Unlisted | Reason::Denied, _) if is_first => {
                let service = verdict.service.expect("a service's verdict");
                self.dropped.insert(datagram, service);
                verdict
            }
            _ => verdict,
        }
    }
}

/// The datagram that a frame is a fragment of, and whether the frame is its first.
fn datagram(frame: &[u8], link: LinkKind) -> Option<(Datagram, bool)> {
    let packet = match link {
        LinkKind::Ethernet => behind_tags(frame).ok()?.1,
        LinkKind::Ip => frame,
    };
    if let Ok(header) = Ipv4HeaderSlice::from_slice(packet) {
        let datagram = (
            header.source_addr().into(),
            header.destination_addr().into(),
            header.identification().into(),
            Some(header.protocol().0),
        );
        let is_first = header.fragments_offset().value() == 0;
        return header
            .is_fragmenting_payload()
            .then_some((datagram, is_first));
    }
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let (mut number, mut rest) = (header.next_header(), &packet[40..]);
    loop {
        let length = match number {
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let fragment = Ipv6FragmentHeaderSlice::from_slice(rest).ok()?;
                if fragment.is_fragmenting_payload() {
                    let datagram = (
                        header.source_addr().into(),
                        header.destination_addr().into(),
                        fragment.identification(),
                        None,
                    );
                    return Some((datagram, fragment.fragment_offset().value() == 0));
                }
                8
            }
            IpNumber::AUTHENTICATION_HEADER => 4 * (usize::from(*rest.get(1)?) + 2),
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_ROUTE_HEADER
            | IpNumber::IPV6_DESTINATION_OPTIONS => 8 * (usize::from(*rest.get(1)?) + 1),
            _ => return None,
        };
        number = IpNumber(*rest.first()?);
        rest = rest.get(length..)?;
    }
}

/// Rows 1 to 6: source, protocol and destination port, or the verdict where one of those rows fits.
fn parse(
    frame: &[u8],
    link: LinkKind,
    policy: &Policy,
) -> Result<(IpAddr, Protocol, u16), Verdict> {
    let (kind, packet) = match link {
        LinkKind::Ethernet => behind_tags(frame)?,
        LinkKind::Ip => match frame {
            // One byte alone is not taken for a header.
            [first, _, ..] if first >> 4 == 4 => (EtherType::IPV4, frame),
            [first, _, ..] if first >> 4 == 6 => (EtherType::IPV6, frame),
            _ => return Err(NOT_OURS),
        },
    };
    let (source, number, begin, end, more) = match kind {
        EtherType::IPV4 => {
            let header = Ipv4HeaderSlice::from_slice(packet).map_err(|_| MALFORMED)?;
            if header.fragments_offset().value() != 0 {
                return Err(FRAGMENT);
            }
            let (source, begin) = (header.source_addr(), header.slice().len());
            let (end, more) = (header.total_len(), header.more_fragments());
            (source.into(), header.protocol(), begin, end.into(), more)
        }
        EtherType::IPV6 => {
            let header = Ipv6HeaderSlice::from_slice(packet).map_err(|_| MALFORMED)?;
            let (source, begin) = (header.source_addr(), header.slice().len());
            let length = header.payload_length();
            let end = if length == 0 {
                0
            } else {
                begin + usize::from(length)
            };
            (source.into(), header.next_header(), begin, end, false)
        }
        _ => return Err(NOT_OURS),
    };
    // A length of zero says nothing.
    let end = if end == 0 { usize::MAX } else { end };
    let (number, rest) = behind_extensions(source, number, packet, begin, end, more)?;
    let protocol = match number {
        IpNumber::UDP => Protocol::Udp,
        IpNumber::TCP => Protocol::Tcp,
        IpNumber::SCTP => Protocol::Sctp,
        IpNumber(136) => Protocol::UdpLite,
        _ => return Err(NOT_OURS),
    };
    let guarded = |service: &policy::Service| service.ports.contains_key(&protocol);
    if !policy.services.iter().any(guarded) {
        return Err(NOT_OURS);
    }
    match rest {
        [_, _, high, low, ..] => {
            let port = u16::from_be_bytes([*high, *low]);
            Ok((source, protocol, port))
        }
        _ => Err(MALFORMED),
    }
}

/// What is announced behind the Ethernet header, tags and a PPPoE session, and its bytes.
fn behind_tags(frame: &[u8]) -> Result<(EtherType, &[u8]), Verdict> {
    let header = Ethernet2HeaderSlice::from_slice(frame).map_err(|_| NOT_OURS)?;
    let (mut kind, mut rest) = (header.ether_type(), &frame[14..]);
    for followed in 0.. {
        if kind != EtherType::VLAN_TAGGED_FRAME && kind != EtherType::PROVIDER_BRIDGING {
            break;
        }
        if followed == 4 {
            return Err(TOO_DEEP);
        }
        let tag = SingleVlanHeaderSlice::from_slice(rest).map_err(|_| NOT_OURS)?;
        (kind, rest) = (tag.ether_type(), &rest[4..]);
    }
    if kind != EtherType(0x8864) {
        return Ok((kind, rest));
    }
    match rest.get(6..) {
        Some([0x21, packet @ ..] | [0x00, 0x21, packet @ ..]) => Ok((EtherType::IPV4, packet)),
        Some([0x57, packet @ ..] | [0x00, 0x57, packet @ ..]) => Ok((EtherType::IPV6, packet)),
        _ => Err(NOT_OURS),
    }
}

/// The protocol behind the extension headers, and its bytes. The packet's end is asked for where more fragments follow.
fn behind_extensions(
    source: IpAddr,
    mut number: IpNumber,
    packet: &[u8],
    begin: usize,
    end: usize,
    mut more: bool,
) -> Result<(IpNumber, &[u8]), Verdict> {
    let v6 = source.is_ipv6();
    let mut rest = &packet[begin..];
    let mut in_front = Vec::new();
    let mut misread = false;
    for followed in 0.. {
        let is_extension = match number {
            IpNumber::AUTHENTICATION_HEADER => true,
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_ROUTE_HEADER
            | IpNumber::IPV6_FRAGMENTATION_HEADER
            | IpNumber::IPV6_DESTINATION_OPTIONS => v6,
            _ => false,
        };
        if !is_extension {
            break;
        }
        if followed == 8 {
            return Err(TOO_DEEP);
        }
        let length;
        let this = number;
        (number, length) = match number {
            IpNumber::AUTHENTICATION_HEADER => match rest {
                [next, words, ..] => (IpNumber(*next), 4 * (usize::from(*words) + 2)),
                _ => return Err(MALFORMED),
            },
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let header = Ipv6FragmentHeaderSlice::from_slice(rest).map_err(|_| MALFORMED)?;
                if header.fragment_offset().value() != 0 {
                    let beyond = more && packet.len() - rest.len() + 8 > end;
                    return Err(if beyond || misread {
                        MALFORMED
                    } else {
                        FRAGMENT
                    });
                }
                more |= header.more_fragments();
                misread |= !matches!(in_front[..], [] | [IpNumber::IPV6_HEADER_HOP_BY_HOP]);
                (header.next_header(), 8)
            }
            _ => {
                let header = Ipv6RawExtHeaderSlice::from_slice(rest).map_err(|_| MALFORMED)?;
                (header.next_header(), header.slice().len())
            }
        };
        rest = rest.get(length..).ok_or(MALFORMED)?;
        if this != IpNumber::IPV6_FRAGMENTATION_HEADER {
            in_front.push(this);
        }
    }
    if misread || more && packet.len() - rest.len() + 4 > end {
        return Err(MALFORMED);
    }
    Ok((number, rest))
}

/// Rows 7 to 11.
fn decide(source: IpAddr, protocol: Protocol, port: u16, model: &Model<'_>) -> Verdict {
    let services = &model.policy.services;
    let Some((number, service)) = services.iter().enumerate().find(|(_, service)| {
        let ports = service.ports.get(&protocol);
        ports.is_some_and(|ports| ports.contains(&port))
    }) else {
        return NOT_OURS;
    };
    // On the same prefix: what ends, then what has none, then the config file, where deny comes first.
    let config = model.policy.entries.iter();
    let config = config.filter(|entry| usize::from(entry.service) == number);
    let config = config.map(|entry| (entry.prefix, 0, entry.action));
    let own = model.own.iter().filter(|entry| {
        entry.service == number && entry.until.is_none_or(|until| until > model.now)
    });
    let own = own.map(|entry| {
        (
            entry.prefix,
            1 + u8::from(entry.until.is_some()),
            entry.action,
        )
    });
    let by_hand = |any: bool| {
        config
            .clone()
            .chain(own.clone())
            .filter(|(prefix, _, _)| prefix.contains(&source) && (prefix.prefix_len() == 0) == any)
            .max_by_key(|(prefix, rank, action)| {
                (prefix.prefix_len(), *rank, *action == policy::Action::Deny)
            })
            .map(|(prefix, _, action)| (prefix.prefix_len(), action, Layer::Hand))
    };
    // Ranks: a person's word on a part of all, then bans, then a person's word on all.
    let bans = model.bans.iter().filter(|ban| {
        ban.prefix.contains(&source) && ban.until.is_none_or(|until| until > model.now)
    });
    let banned = bans.map(|ban| ban.prefix.prefix_len()).max();
    let banned = banned.map(|length| (length, policy::Action::Deny, Layer::Live));
    let found = by_hand(false).or(banned).or_else(|| by_hand(true));
    let (action, reason) = match (found, service.default) {
        (Some((_, policy::Action::Deny, _)), _) => (Action::Drop, Reason::Denied),
        (Some((_, policy::Action::Allow, _)), _) => (Action::Pass, Reason::Allowed),
        (None, policy::Action::Deny) => (Action::Drop, Reason::Unlisted),
        (None, policy::Action::Allow) => (Action::Pass, Reason::Open),
    };
    Verdict {
        action,
        reason,
        service: Some(number),
        length: found.map(|(length, _, _)| length),
        layer: found.map(|(_, _, layer)| layer),
    }
}
