//! Raw frames, put together layer by layer: `eth().vlan(7).ip("198.51.100.7").options(8).udp(5060)`.
//!
//! Written without the product's code, so that a misreading of a header there is not repeated here. Lengths, next-protocol fields and
//! checksums are right unless they are overridden, because the frames also go to a real network stack.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where frames go to unless [`Frame::to`] says otherwise.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Where frames go to unless [`Frame::to`] says otherwise.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The source port of every UDP, TCP, SCTP and UDP-Lite header unless [`Frame::from_port`] says otherwise. No test policy guards it.
pub const SOURCE_PORT: u16 = 40_000;

/// The identification of every fragment unless [`Frame::identified`] says otherwise.
const IDENTIFICATION: u16 = 0x1234;

/// EtherType of an 802.1Q tag.
pub const DOT1Q: u16 = 0x8100;
/// EtherType of an 802.1ad tag.
pub const DOT1AD: u16 = 0x88a8;
/// EtherType of tags that were never standardised; Linux does not follow it.
pub const TAG_9100: u16 = 0x9100;

/// A frame under construction.
#[derive(Clone, Debug)]
pub struct Frame {
    link: Link,
    layers: Vec<Layer>,
    patches: Vec<(usize, Vec<u8>)>,
    length: Option<usize>,
}

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header.
    Ethernet,
    /// An IP header.
    Bare,
}

#[derive(Clone, Debug)]
enum Layer {
    Ethernet {
        destination: [u8; 6],
        source: [u8; 6],
        kind: Option<u16>,
    },
    Tag {
        kind: u16,
        id: u16,
    },
    Pppoe {
        compressed: bool,
        protocol: Option<u16>,
    },
    V4(V4),
    V6(V6),
    /// Hop-by-hop options, routing, destination options: the whole header is `bytes` long.
    Extension {
        number: u8,
        bytes: usize,
    },
    Fragment {
        offset: u16,
        more: bool,
        id: u16,
    },
    Authentication {
        bytes: usize,
    },
    Gre,
    Ports {
        number: u8,
        source: u16,
        destination: u16,
    },
    Icmp {
        number: u8,
    },
    /// Anything else, with the numbers that announce it.
    Raw {
        kind: u16,
        number: u8,
        bytes: Vec<u8>,
    },
    Payload(Vec<u8>),
}

#[derive(Clone, Debug)]
struct V4 {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    options: usize,
    id: u16,
    offset: u16,
    more: bool,
    version: u8,
    ihl: Option<u8>,
    number: Option<u8>,
}

#[derive(Clone, Debug)]
struct V6 {
    source: Ipv6Addr,
    destination: Ipv6Addr,
    version: u8,
    number: Option<u8>,
}

const UDP: u8 = 17;
const TCP: u8 = 6;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
const IPV4: u8 = 4;
const IPV6: u8 = 41;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const GRE: u8 = 47;
const ESP: u8 = 50;
const AUTHENTICATION: u8 = 51;
const NO_NEXT: u8 = 59;
const DESTINATION: u8 = 60;

/// Begins a frame with an Ethernet header.
#[must_use]
pub fn eth() -> Frame {
    Frame {
        link: Link::Ethernet,
        layers: vec![Layer::Ethernet {
            destination: [0x02, 0, 0, 0, 0, 0x01],
            source: [0x02, 0, 0, 0, 0, 0x02],
            kind: None,
        }],
        patches: Vec::new(),
        length: None,
    }
}

/// Begins a frame of an interface without an Ethernet header.
#[must_use]
pub fn bare() -> Frame {
    Frame {
        link: Link::Bare,
        layers: Vec::new(),
        patches: Vec::new(),
        length: None,
    }
}

impl Frame {
    /// A frame as it came off a wire: its bytes in hexadecimal digits. What the differential test prints of a packet that it found.
    #[must_use]
    pub fn wire(link: Link, digits: &str) -> Self {
        let bytes = (0..digits.len()).step_by(2).map(|at| {
            let byte = digits.get(at..at + 2);
            let byte = byte.and_then(|byte| u8::from_str_radix(byte, 16).ok());
            byte.unwrap_or_else(|| panic!("no two hexadecimal digits at {at} of {digits}"))
        });
        Self {
            link,
            layers: vec![Layer::Payload(bytes.collect())],
            patches: Vec::new(),
            length: None,
        }
    }

    /// What the frame begins with.
    #[must_use]
    pub fn link(&self) -> Link {
        self.link
    }

    /// Sets the Ethernet addresses.
    #[must_use]
    pub fn macs(mut self, to: [u8; 6], from: [u8; 6]) -> Self {
        match self.layers.first_mut() {
            Some(Layer::Ethernet {
                destination,
                source,
                ..
            }) => (*destination, *source) = (to, from),
            _ => panic!("only a frame with an Ethernet header has Ethernet addresses"),
        }
        self
    }

    /// Sets the EtherType, or the length in an 802.3 frame, whatever follows.
    #[must_use]
    pub fn ether_type(mut self, number: u16) -> Self {
        match self.layers.first_mut() {
            Some(Layer::Ethernet { kind, .. }) => *kind = Some(number),
            _ => panic!("only a frame with an Ethernet header has an EtherType"),
        }
        self
    }

    /// Adds an 802.1Q tag.
    #[must_use]
    pub fn vlan(self, id: u16) -> Self {
        self.tag(DOT1Q, id)
    }

    /// Adds an 802.1ad tag.
    #[must_use]
    pub fn service_tag(self, id: u16) -> Self {
        self.tag(DOT1AD, id)
    }

    /// Adds a tag with any EtherType.
    #[must_use]
    pub fn tag(self, kind: u16, id: u16) -> Self {
        self.with(Layer::Tag { kind, id })
    }

    /// Adds a PPPoE session header and a PPP protocol field of two bytes.
    #[must_use]
    pub fn pppoe(self) -> Self {
        self.with(Layer::Pppoe {
            compressed: false,
            protocol: None,
        })
    }

    /// Adds a PPPoE session header and a PPP protocol field compressed to one byte.
    #[must_use]
    pub fn pppoe_compressed(self) -> Self {
        self.with(Layer::Pppoe {
            compressed: true,
            protocol: None,
        })
    }

    /// Adds a PPPoE session header and a PPP protocol field that names `protocol`, whatever follows.
    #[must_use]
    pub fn ppp(self, protocol: u16) -> Self {
        self.with(Layer::Pppoe {
            compressed: false,
            protocol: Some(protocol),
        })
    }

    /// Adds an IP header of the address's family.
    #[must_use]
    pub fn ip(self, source: &str) -> Self {
        match source.parse() {
            Ok(IpAddr::V4(source)) => self.with(Layer::V4(V4 {
                source,
                destination: GATEWAY_V4,
                options: 0,
                id: IDENTIFICATION,
                offset: 0,
                more: false,
                version: 4,
                ihl: None,
                number: None,
            })),
            Ok(IpAddr::V6(source)) => self.with(Layer::V6(V6 {
                source,
                destination: GATEWAY_V6,
                version: 6,
                number: None,
            })),
            Err(error) => panic!("{source}: {error}"),
        }
    }

    /// Sets the destination address of the last IP header.
    #[must_use]
    pub fn to(mut self, address: &str) -> Self {
        match (self.last_ip(), address.parse()) {
            (Layer::V4(header), Ok(IpAddr::V4(address))) => header.destination = address,
            (Layer::V6(header), Ok(IpAddr::V6(address))) => header.destination = address,
            _ => panic!("{address} is no address of the IP header's family"),
        }
        self
    }

    /// Gives the last IPv4 header `bytes` bytes of options, all of them "no operation".
    #[must_use]
    pub fn options(mut self, bytes: usize) -> Self {
        self.last_v4().options = bytes;
        self
    }

    /// Sets the last IPv4 header's length field, whatever its length is.
    #[must_use]
    pub fn ihl(mut self, words: u8) -> Self {
        self.last_v4().ihl = Some(words);
        self
    }

    /// Sets the last IP header's version field.
    #[must_use]
    pub fn version(mut self, number: u8) -> Self {
        match self.last_ip() {
            Layer::V4(V4 { version, .. }) | Layer::V6(V6 { version, .. }) => *version = number,
            _ => unreachable!("last_ip finds IP headers"),
        }
        self
    }

    /// Sets the last IP header's protocol field, whatever follows.
    #[must_use]
    pub fn protocol(mut self, protocol: u8) -> Self {
        match self.last_ip() {
            Layer::V4(V4 { number, .. }) | Layer::V6(V6 { number, .. }) => *number = Some(protocol),
            _ => unreachable!("last_ip finds IP headers"),
        }
        self
    }

    /// Makes the packet a fragment: in the last IPv4 header, or by a fragment header behind an IPv6 header. `offset` counts units of
    /// eight bytes.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        if let Layer::V4(header) = self.last_ip() {
            header.offset = offset;
            header.more = more;
            return self;
        }
        self.with(Layer::Fragment {
            offset,
            more,
            id: IDENTIFICATION,
        })
    }

    /// Sets the identification in all IPv4 and fragment headers.
    #[must_use]
    pub fn identified(mut self, number: u16) -> Self {
        for layer in &mut self.layers {
            match layer {
                Layer::V4(V4 { id, .. }) | Layer::Fragment { id, .. } => *id = number,
                _ => {}
            }
        }
        self
    }

    /// Adds a hop-by-hop options header, `bytes` long as a whole.
    #[must_use]
    pub fn hop_by_hop(self, bytes: usize) -> Self {
        self.extension(HOP_BY_HOP, bytes)
    }

    /// Adds a routing header with no segments left, `bytes` long as a whole.
    #[must_use]
    pub fn routing(self, bytes: usize) -> Self {
        self.extension(ROUTING, bytes)
    }

    /// Adds a destination options header, `bytes` long as a whole.
    #[must_use]
    pub fn destination(self, bytes: usize) -> Self {
        self.extension(DESTINATION, bytes)
    }

    /// Adds an authentication header, `bytes` long as a whole.
    #[must_use]
    pub fn ah(self, bytes: usize) -> Self {
        assert!(bytes.is_multiple_of(4) && (8..=1028).contains(&bytes));
        self.with(Layer::Authentication { bytes })
    }

    /// Adds a UDP header.
    #[must_use]
    pub fn udp(self, port: u16) -> Self {
        self.ports(UDP, port)
    }

    /// Adds a TCP header: a SYN.
    #[must_use]
    pub fn tcp(self, port: u16) -> Self {
        self.ports(TCP, port)
    }

    /// Adds an SCTP header and an INIT chunk.
    #[must_use]
    pub fn sctp(self, port: u16) -> Self {
        self.ports(SCTP, port)
    }

    /// Adds a UDP-Lite header.
    #[must_use]
    pub fn udp_lite(self, port: u16) -> Self {
        self.ports(UDP_LITE, port)
    }

    /// Sets the source port of the last header that has ports.
    #[must_use]
    pub fn from_port(mut self, port: u16) -> Self {
        match self.layers.last_mut() {
            Some(Layer::Ports { source, .. }) => *source = port,
            _ => panic!("the last header has no ports"),
        }
        self
    }

    /// Adds an echo request of ICMP.
    #[must_use]
    pub fn icmp(self) -> Self {
        self.with(Layer::Icmp { number: ICMP })
    }

    /// Adds an echo request of ICMPv6.
    #[must_use]
    pub fn icmp_v6(self) -> Self {
        self.with(Layer::Icmp { number: ICMP_V6 })
    }

    /// Adds an ESP header; what is behind it looks like UDP to 5060.
    #[must_use]
    pub fn esp(self) -> Self {
        self.raw(0, ESP, &LOOKS_LIKE_SIP)
    }

    /// Adds a GRE header that announces what the next layer is.
    #[must_use]
    pub fn gre(self) -> Self {
        self.with(Layer::Gre)
    }

    /// Ends the header chain with "no next header"; bytes that look like UDP to 5060 follow.
    #[must_use]
    pub fn no_next_header(self) -> Self {
        self.raw(0, NO_NEXT, &LOOKS_LIKE_SIP)
    }

    /// Adds an ARP request.
    #[must_use]
    pub fn arp(self) -> Self {
        let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1, 0x02, 0, 0, 0, 0, 0x02];
        request.extend([192, 0, 2, 2, 0, 0, 0, 0, 0, 0]);
        request.extend(GATEWAY_V4.octets());
        self.raw(0x0806, 0, &request)
    }

    /// Adds an LLDP unit with nothing but its end.
    #[must_use]
    pub fn lldp(self) -> Self {
        self.raw(0x88cc, 0, &[0, 0])
    }

    /// Adds an IPv4 packet to 5060 behind an 802.3 length and a SNAP header. Linux does not deliver such.
    #[must_use]
    pub fn snap(self, source: &str) -> Self {
        let mut inside = vec![0xaa, 0xaa, 0x03, 0, 0, 0, 0x08, 0x00];
        inside.extend(bare().ip(source).udp(5060).bytes());
        let length = u16::try_from(inside.len()).expect("a short packet");
        self.raw(length, 0, &inside)
    }

    /// Adds any bytes that the header before announces with `kind` (an EtherType) or `number` (an IP protocol).
    #[must_use]
    pub fn raw(self, kind: u16, number: u8, bytes: &[u8]) -> Self {
        self.with(Layer::Raw {
            kind,
            number,
            bytes: bytes.to_vec(),
        })
    }

    /// Adds bytes that no header announces.
    #[must_use]
    pub fn payload(self, bytes: &[u8]) -> Self {
        self.with(Layer::Payload(bytes.to_vec()))
    }

    /// Overwrites bytes of the finished frame; checksums stay as they were.
    #[must_use]
    pub fn patch(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.patches.push((offset, bytes.to_vec()));
        self
    }

    /// Cuts the finished frame to its first `length` bytes.
    #[must_use]
    pub fn cut(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    /// The finished frame.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (place, layer) in self.layers.iter().enumerate().rev() {
            let mut header = layer.header(self.layers.get(place + 1), &bytes);
            header.append(&mut bytes);
            bytes = header;
            if let Some((at, sum)) = layer.checksum(&self.layers[..place], &bytes) {
                bytes[at..at + sum.len()].copy_from_slice(&sum);
            }
        }
        for (offset, patch) in &self.patches {
            bytes[*offset..offset + patch.len()].copy_from_slice(patch);
        }
        if let Some(length) = self.length {
            assert!(length <= bytes.len(), "a cut makes no frame longer");
            bytes.truncate(length);
        }
        bytes
    }

    /// How long the headers are, without what [`Self::payload`] added.
    #[must_use]
    pub fn header_length(&self) -> usize {
        let headers = self
            .layers
            .iter()
            .filter(|layer| !matches!(layer, Layer::Payload(_)));
        headers.map(|layer| layer.header(None, &[]).len()).sum()
    }

    fn with(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    fn extension(self, number: u8, bytes: usize) -> Self {
        assert!(bytes.is_multiple_of(8) && (8..=2048).contains(&bytes));
        self.with(Layer::Extension { number, bytes })
    }

    fn ports(self, number: u8, destination: u16) -> Self {
        self.with(Layer::Ports {
            number,
            source: SOURCE_PORT,
            destination,
        })
    }

    fn last_ip(&mut self) -> &mut Layer {
        self.layers
            .iter_mut()
            .rev()
            .find(|layer| matches!(layer, Layer::V4(_) | Layer::V6(_)))
            .expect("there is an IP header")
    }

    fn last_v4(&mut self) -> &mut V4 {
        match self.last_ip() {
            Layer::V4(header) => header,
            _ => panic!("the last IP header is one of IPv6"),
        }
    }
}

/// Source and destination port, length and checksum as a UDP header to 5060 would have them.
pub const LOOKS_LIKE_SIP: [u8; 8] = [0x9c, 0x40, 0x13, 0xc4, 0x00, 0x08, 0x00, 0x00];

impl Layer {
    /// The EtherType that announces this layer.
    fn kind(&self) -> u16 {
        match self {
            Self::Tag { kind, .. } | Self::Raw { kind, .. } => *kind,
            Self::Pppoe { .. } => 0x8864,
            Self::V4(_) => 0x0800,
            Self::V6(_) => 0x86dd,
            _ => 0,
        }
    }

    /// The IP protocol that announces this layer.
    fn number(&self) -> u8 {
        match self {
            Self::V4(_) => IPV4,
            Self::V6(_) => IPV6,
            Self::Extension { number, .. }
            | Self::Ports { number, .. }
            | Self::Icmp { number }
            | Self::Raw { number, .. } => *number,
            Self::Fragment { .. } => FRAGMENT,
            Self::Authentication { .. } => AUTHENTICATION,
            Self::Gre => GRE,
            // 253 is for experiments (RFC 3692): nobody's.
            _ => 253,
        }
    }

    /// The header in front of `inside`, its checksum still zero.
    fn header(&self, next: Option<&Self>, inside: &[u8]) -> Vec<u8> {
        let kind = next.map_or(0, Self::kind);
        let number = next.map_or(253, Self::number);
        let total = |header: usize| u16::try_from(header + inside.len()).expect("fits a packet");
        match self {
            Self::Ethernet {
                destination,
                source,
                kind: fixed,
            } => {
                let kind = fixed.unwrap_or(kind).to_be_bytes();
                [&destination[..], &source[..], &kind[..]].concat()
            }
            Self::Tag { id, .. } => [id.to_be_bytes(), kind.to_be_bytes()].concat(),
            Self::Pppoe {
                compressed,
                protocol,
            } => {
                let protocol = protocol.unwrap_or(match next {
                    Some(Self::V4(_)) => 0x0021,
                    Some(Self::V6(_)) => 0x0057,
                    _ => 0xc021,
                });
                let mut field = protocol.to_be_bytes().to_vec();
                if *compressed {
                    field.remove(0);
                }
                let mut header = vec![0x11, 0x00, 0x00, 0x01];
                header.extend(total(field.len()).to_be_bytes());
                header.append(&mut field);
                header
            }
            Self::V4(header) => header.bytes(number, total(20 + header.options)),
            Self::V6(header) => header.bytes(number, total(0)),
            Self::Extension { number: own, bytes } => extension(*own, *bytes, number),
            Self::Fragment { offset, more, id } => {
                let field = (offset << 3 | u16::from(*more)).to_be_bytes();
                [&[number, 0][..], &field[..], &[0, 0], &id.to_be_bytes()].concat()
            }
            Self::Authentication { bytes } => {
                let mut header = vec![0; *bytes];
                header[0] = number;
                header[1] = u8::try_from(bytes / 4 - 2).expect("checked when it was added");
                // Anything but a key's number of zero, which RFC 4302 keeps for local use.
                header[4..8].copy_from_slice(&0x0000_1000_u32.to_be_bytes());
                header
            }
            // RFC 2784: no checksum, version 0.
            Self::Gre => [[0, 0], kind.to_be_bytes()].concat(),
            Self::Ports {
                number,
                source,
                destination,
            } => {
                let mut header = [source.to_be_bytes(), destination.to_be_bytes()].concat();
                match *number {
                    UDP => {
                        header.extend(total(8).to_be_bytes());
                        header.extend([0, 0]);
                    }
                    // A coverage of zero is all of it.
                    UDP_LITE => header.extend([0, 0, 0, 0]),
                    TCP => {
                        header.extend([0, 0, 0, 1, 0, 0, 0, 0]);
                        header.extend([0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
                    }
                    _ => {
                        header.extend([0; 8]);
                        header.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0]);
                        header.extend([0, 1, 0, 1, 0, 0, 0, 1]);
                    }
                }
                header
            }
            Self::Icmp { number } => {
                let request = if *number == ICMP { 8 } else { 128 };
                vec![request, 0, 0, 0, 0, 1, 0, 1]
            }
            Self::Raw { bytes, .. } | Self::Payload(bytes) => bytes.clone(),
        }
    }

    /// The checksum over `bytes`, which begin with this layer's header, and its place.
    fn checksum(&self, before: &[Self], bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
        let pseudo = |number: u8| {
            let length = u32::try_from(bytes.len()).expect("fits a packet");
            let ip = before.iter().rev().find_map(|layer| match layer {
                Self::V4(V4 {
                    source,
                    destination,
                    ..
                }) => Some([source.octets(), destination.octets()].concat()),
                Self::V6(V6 {
                    source,
                    destination,
                    ..
                }) => Some([source.octets(), destination.octets()].concat()),
                _ => None,
            });
            let tail = [&length.to_be_bytes()[..], &[0, 0, 0, number]].concat();
            [ip.unwrap_or_default(), tail, bytes.to_vec()].concat()
        };
        match self {
            Self::V4(header) => Some((10, sum(&bytes[..20 + header.options]))),
            Self::Icmp { number: ICMP } => Some((2, sum(bytes))),
            Self::Icmp { number } => Some((2, sum(&pseudo(*number)))),
            Self::Ports { number, .. } => match *number {
                // Zero would say that there is no checksum (RFC 768).
                UDP | UDP_LITE => {
                    let sum = sum(&pseudo(*number));
                    let sum = if sum == [0, 0] { vec![0xff; 2] } else { sum };
                    Some((6, sum))
                }
                TCP => Some((16, sum(&pseudo(TCP)))),
                _ => Some((8, crc32c(bytes).to_le_bytes().to_vec())),
            },
            _ => None,
        }
    }
}

impl V4 {
    fn bytes(&self, number: u8, total: u16) -> Vec<u8> {
        assert!(self.options.is_multiple_of(4) && self.options <= 40);
        let words = u8::try_from(5 + self.options / 4).expect("at most 15");
        let mut header = vec![self.version << 4 | self.ihl.unwrap_or(words), 0];
        header.extend(total.to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend((u16::from(self.more) << 13 | self.offset).to_be_bytes());
        header.extend([64, self.number.unwrap_or(number), 0, 0]);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        header.resize(20 + self.options, 1);
        header
    }
}

impl V6 {
    fn bytes(&self, number: u8, payload: u16) -> Vec<u8> {
        let mut header = vec![self.version << 4, 0, 0, 0];
        header.extend(payload.to_be_bytes());
        header.extend([self.number.unwrap_or(number), 64]);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        header
    }
}

/// A routing header, or an options header filled with options that every host skips (RFC 8200 section 4.2). No padding: Linux drops
/// more than seven bytes of it.
fn extension(own: u8, bytes: usize, next: u8) -> Vec<u8> {
    let units = u8::try_from(bytes / 8 - 1).expect("checked when it was added");
    let mut header = vec![next, units];
    while own != ROUTING && header.len() < bytes {
        match bytes - header.len() {
            1 => header.push(0),
            left => {
                let data = (left - 2).min(255);
                header.extend([0x1e, u8::try_from(data).expect("at most 255")]);
                header.resize(header.len() + data, 0);
            }
        }
    }
    header.resize(bytes, 0);
    header
}

/// The Internet checksum (RFC 1071).
pub(crate) fn sum(bytes: &[u8]) -> Vec<u8> {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    vec![high, low]
}

/// SCTP's checksum (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    /// Another implementation reads what was written: lengths and checksums too.
    #[test]
    fn etherparse_reads_the_frames() {
        for source in ["198.51.100.7", "2001:db8:ffff::7"] {
            for tags in 0..=2 {
                let frame = (0..tags).fold(eth(), Frame::vlan).ip(source);
                let bytes = frame.clone().udp(5060).payload(b"REGISTER").bytes();
                let packet = SlicedPacket::from_ethernet(&bytes).expect("readable");
                let Some(TransportSlice::Udp(udp)) = &packet.transport else {
                    panic!("no UDP in {packet:?}")
                };
                assert_eq!(udp.destination_port(), 5060);
                assert_eq!(udp.payload(), b"REGISTER");
                let bytes = frame.tcp(5061).bytes();
                let packet = SlicedPacket::from_ethernet(&bytes).expect("readable");
                let Some(TransportSlice::Tcp(tcp)) = &packet.transport else {
                    panic!("no TCP in {packet:?}")
                };
                assert!(tcp.syn());
                let header = tcp.to_header();
                let sum = match packet.net.as_ref().expect("IP") {
                    NetSlice::Ipv4(ip) => {
                        let ip = ip.header().to_header();
                        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                        header.calc_checksum_ipv4(&ip, &[])
                    }
                    NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), &[]),
                    NetSlice::Arp(_) => panic!("ARP"),
                };
                assert_eq!(sum, Ok(tcp.checksum()));
            }
        }
    }

    #[test]
    fn etherparse_reads_extension_headers() {
        let frame = eth().ip("2001:db8:ffff::7").hop_by_hop(8).destination(24);
        let frame = frame.routing(24).fragment(0, false).ah(24).udp(5060);
        let bytes = frame.bytes();
        let packet = SlicedPacket::from_ethernet(&bytes).expect("readable");
        let Some(TransportSlice::Udp(udp)) = &packet.transport else {
            panic!("no UDP in {packet:?}")
        };
        assert_eq!(udp.destination_port(), 5060);
        assert_eq!(frame.header_length(), bytes.len());
    }

    #[test]
    fn the_checksum_of_sctp_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
