//! One event, made from the kernel's record of it.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sipguard_ebpf::{
    abi::{Action, LinkKind, NO_SERVICE, Protocol, Reason},
    event::Record,
    flow::Flow,
    header::Header,
};

use crate::{clock::Now, sip};

/// What became of one packet. Which fields there are in JSON, and what they mean, stands at the head of `commands/events.rs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// Where it came in.
    pub interface: String,
    /// The service that judged it; `None` where none did.
    pub service: Option<String>,
    /// Why it passed or was dropped.
    #[serde(with = "by_name::reason")]
    pub reason: Reason,
    /// What the policy says.
    #[serde(with = "by_name::action")]
    pub action: Action,
    /// Whether that was done; monitor mode drops nothing.
    pub enforced: bool,
    /// Source address; `None` where the frame has no IP header.
    pub source: Option<IpAddr>,
    /// Source port; `None` where it is not in the frame.
    pub source_port: Option<u16>,
    /// Destination address.
    pub destination: Option<IpAddr>,
    /// Destination port.
    pub port: Option<u16>,
    /// The protocol, if it is one that has ports.
    #[serde(with = "by_name::protocol")]
    pub protocol: Option<Protocol>,
    /// The frame's length in bytes, as it arrived.
    pub length: u32,
    /// How many packets were to be told of since the event before, from the same processor, and were not.
    pub left_out: u64,
    /// What it says, where it is SIP.
    pub sip: Option<sip::Summary>,
    /// The frame's first bytes, with an Ethernet header and the VLAN tag in front of them: zeros stand for addresses that it did not have.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// What the numbers of one record are called.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'n> {
    /// The interface.
    pub interface: &'n str,
    /// The service; `None` where none judged the frame.
    pub service: Option<&'n str>,
}

impl Event {
    /// The event of this record, with the frame's first bytes that follow it.
    pub fn new(record: &Record, first: &[u8], names: Names<'_>, now: Now) -> Self {
        let bytes = framed(record, first);
        Self {
            bytes: bytes.to_vec(),
            ..Self::without_bytes(record, &bytes, names, now)
        }
    }

    /// The same of a frame as it was on the wire, without its bytes.
    fn without_bytes(record: &Record, bytes: &[u8], names: Names<'_>, now: Now) -> Self {
        let reason = Reason::COUNTED
            .into_iter()
            .find(|reason| *reason as u8 == record.reason)
            .unwrap_or(Reason::None);
        let known = |port: u16| (record.source_port != 0 || record.port != 0).then_some(port);
        Self {
            time: time(record.boot_ns, now),
            interface: names.interface.to_owned(),
            service: names.service.map(str::to_owned),
            reason,
            action: reason.action(),
            enforced: record.enforced == 1,
            source: address(record.family, record.source),
            source_port: known(record.source_port),
            destination: address(record.family, record.destination),
            port: known(record.port),
            protocol: Header::numbered(record.protocol)
                .protocol()
                .filter(|_| record.family != 0),
            length: record.length,
            left_out: record.left_out,
            sip: payload(bytes).and_then(sip::read),
            bytes: Vec::new(),
        }
    }

    /// The same as of [`Self::new`], without the frame's bytes: for whoever wants to know what they say alone.
    pub fn said(record: &Record, first: &[u8], names: Names<'_>, now: Now) -> Self {
        Self::without_bytes(record, &framed(record, first), names, now)
    }

    /// What the packet carries behind its ports, as far as it is there.
    pub fn payload(&self) -> &[u8] {
        payload(&self.bytes).unwrap_or_default()
    }
}

/// Whether a record's verdict was given by a service.
pub(super) fn service(record: &Record) -> Option<u8> {
    (record.service != NO_SERVICE).then_some(record.service)
}

/// The wall clock's time of a moment of the boot clock.
fn time(boot_ns: u64, now: Now) -> Timestamp {
    let ago = i128::from(now.boot_ns) - i128::from(boot_ns);
    let ago = SignedDuration::from_nanos_i128(ago);
    now.wall.checked_sub(ago).unwrap_or(now.wall)
}

fn address(family: u8, [high, low]: [u64; 2]) -> Option<IpAddr> {
    match family {
        // An IPv4 address stands in the lower half of the second word.
        4 => u32::try_from(low)
            .ok()
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        6 => Some(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).into()),
        _ => None,
    }
}

/// The frame that these bytes are of, as it was on the wire.
fn framed<'f>(record: &Record, first: &'f [u8]) -> Cow<'f, [u8]> {
    /// Both addresses, and behind them and whatever tags there are an EtherType.
    const ADDRESSES: usize = 12;
    const ETHER_TYPE: usize = 2;
    if record.kind == 0 {
        return first.into();
    }
    let (front, packet) = first
        .split_at_checked(usize::from(record.front))
        .unwrap_or((first, &[]));
    // What a tunnel has left there is no header of this frame's.
    let header = match front.len().checked_sub(ETHER_TYPE) {
        Some(length) if length >= ADDRESSES && record.link == LinkKind::Ethernet as u8 => {
            &front[..length]
        }
        _ => &[0; ADDRESSES],
    };
    let (addresses, tags) = header.split_at(ADDRESSES);
    let mut bytes = addresses.to_vec();
    if record.tag != [0; 2] {
        bytes.extend(record.tag.iter().flat_map(|half| half.to_be_bytes()));
    }
    bytes.extend(tags);
    bytes.extend(record.kind.to_be_bytes());
    bytes.extend(packet);
    bytes.into()
}

/// What is behind the ports.
fn payload(frame: &[u8]) -> Option<&[u8]> {
    let flow = Flow::of(frame, LinkKind::Ethernet)?;
    if flow.offset == 0 {
        return None;
    }
    let header = frame.get(flow.offset..)?;
    let length = match Header::numbered(flow.protocol).protocol()? {
        // RFC 768, RFC 3828.
        Protocol::Udp | Protocol::UdpLite => 8,
        // RFC 9293 section 3.1: in units of four bytes.
        Protocol::Tcp => usize::from(header.get(12)? >> 4) * 4,
        // RFC 9260 sections 3 and 3.3.1: where the first chunk is data.
        Protocol::Sctp if header.get(12) == Some(&0) => 12 + 16,
        Protocol::Sctp => return None,
    };
    header.get(length..).filter(|payload| !payload.is_empty())
}

/// Words in JSON for what is a number in the kernel.
mod by_name {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) mod reason {
        use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
        use sipguard_ebpf::abi::Reason;

        pub(in super::super) fn serialize<S: Serializer>(
            reason: &Reason,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(reason.name())
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Reason, D::Error> {
            let name = String::deserialize(deserializer)?;
            Reason::COUNTED
                .into_iter()
                .find(|reason| reason.name() == name)
                .ok_or_else(|| D::Error::custom(format!("no reason is called {name:?}")))
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) mod action {
        use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
        use sipguard_ebpf::abi::Action;

        pub(in super::super) fn serialize<S: Serializer>(
            action: &Action,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(match action {
                Action::Pass => "pass",
                Action::Drop => "drop",
            })
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Action, D::Error> {
            match String::deserialize(deserializer)?.as_str() {
                "pass" => Ok(Action::Pass),
                "drop" => Ok(Action::Drop),
                name => Err(D::Error::custom(format!("no action is called {name:?}"))),
            }
        }
    }

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        clippy::ref_option,
        reason = "serde's signature"
    )]
    pub(super) mod protocol {
        use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};
        use sipguard_ebpf::abi::Protocol;

        use crate::policy::{protocol_name, protocol_named};

        pub(in super::super) fn serialize<S: Serializer>(
            protocol: &Option<Protocol>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            protocol.map(protocol_name).serialize(serializer)
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Protocol>, D::Error> {
            let name = Option::<String>::deserialize(deserializer)?;
            name.map(|name| {
                protocol_named(&name)
                    .ok_or_else(|| D::Error::custom(format!("no protocol is called {name:?}")))
            })
            .transpose()
        }
    }
}

#[cfg(test)]
mod tests;
