//! What Linux would do with a packet that sipguard did not stop: the checks of its own that it makes in front of a socket (`ip_rcv_core` in
//! `net/ipv4/ip_input.c`, `ip_route_input_slow`, `ip6_rcv_core`, `__udp4_lib_rcv`, `tcp_v4_rcv`), and what it depends on beside the packet.
//! A test has a stack do it (`tests/tests/explain.rs`).

use std::{
    fmt::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use sipguard::capture::{Begins, Frame};
use sipguard_ebpf::frame::Frame as _;

/// In words.
pub(super) fn would(frame: &Frame<'_>, is_truncated: bool) -> String {
    let mut packet = Way {
        frame,
        is_truncated,
        conditions: Vec::new(),
    };
    match packet.end() {
        Ok(end) => packet.told(&end),
        Err(Lost::Because(why)) => format!("thrown away, because {why}"),
        Err(Lost::Cut) => "nobody knows: the capture holds too little of it".to_owned(),
    }
}

/// Where it ends up.
enum End {
    /// It is none of IP.
    Other,
    /// In a queue, for so many seconds.
    Kept(u8),
    /// With whoever has this port open.
    Port {
        protocol: &'static str,
        port: u16,
        destination: IpAddr,
    },
    /// With this protocol.
    Protocol { number: u8, destination: IpAddr },
}

/// Why it does not get there.
enum Lost {
    Because(&'static str),
    /// What would tell is not in the capture.
    Cut,
}

/// How far it is known, and what it depends on.
struct Way<'a> {
    frame: &'a Frame<'a>,
    is_truncated: bool,
    conditions: Vec<String>,
}

/// What an IP header says.
struct Ip {
    source: IpAddr,
    destination: IpAddr,
    /// What comes next, and where in the frame that begins.
    next: u8,
    begin: usize,
    /// Where the packet ends in the frame.
    end: usize,
    /// The kernel has put it together from several, whose checksums nobody made anew.
    is_merged: bool,
    /// By its own header, as IPv4 has it.
    is_fragment: bool,
}

/// No header says more; what is longer the kernel has put together.
const LONGEST: usize = 65_535;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

const CUT: &str = "its headers are cut short";
const LOOPBACK: &str = "such addresses are those of a host that talks to itself";

impl Way<'_> {
    fn end(&mut self) -> Result<End, Lost> {
        let Some((kind, at)) = self.network() else {
            return Ok(End::Other);
        };
        let ip = match kind {
            IPV4 => self.ipv4(at)?,
            IPV6 => self.ipv6(at)?,
            _ => return Ok(End::Other),
        };
        self.behind(&ip)
    }

    /// What is lacking in the frame is lacking in the packet, unless it was cut by the capture.
    fn read<const N: usize>(&self, at: usize) -> Result<[u8; N], Lost> {
        self.frame.read(at).ok_or_else(|| self.lost(CUT))
    }

    const fn lost(&self, why: &'static str) -> Lost {
        if self.is_truncated {
            Lost::Cut
        } else {
            Lost::Because(why)
        }
    }

    /// The EtherType behind all tags, and where what it announces begins; none where the frame ends before.
    fn network(&mut self) -> Option<(u16, usize)> {
        let frame = self.frame;
        let short = |at| frame.read::<[u8; 2]>(at).map(u16::from_be_bytes);
        let (mut kind, mut at) = match frame.begins {
            Begins::Ethernet => (short(12)?, 14),
            Begins::Network(kind) => (kind, 0),
            Begins::Ip => match frame.read::<[u8; 1]>(0)?[0] >> 4 {
                4 => (IPV4, 0),
                6 => (IPV6, 0),
                _ => return None,
            },
        };
        let mut inside = false;
        while matches!(kind, 0x8100 | 0x88a8) {
            let id = short(at)? & 0xfff;
            // Without a number a tag is a priority, and no device is asked for.
            if id > 0 {
                let standard = if kind == 0x88a8 { " (802.1ad)" } else { "" };
                let place = if inside { "inside that " } else { "" };
                self.conditions
                    .push(format!("{place}there is a device for VLAN {id}{standard}"));
                inside = true;
            }
            (kind, at) = (short(at + 2)?, at + 4);
        }
        // RFC 2516, and PPP's numbers of RFC 1661, whose first byte may be left out.
        if kind == 0x8864 {
            let [version, code, high, low, _, _, first] = frame.read(at)?;
            if (version, code) != (0x11, 0) {
                return None;
            }
            let session = u16::from_be_bytes([high, low]);
            self.conditions
                .push(format!("PPPoE session {session:#06x} is up there"));
            let (protocol, length) = if first & 1 == 1 {
                (u16::from(first), 7)
            } else {
                (short(at + 6)?, 8)
            };
            at += length;
            kind = match protocol {
                0x21 => IPV4,
                0x57 => IPV6,
                _ => return None,
            };
        }
        Some((kind, at))
    }

    fn ipv4(&mut self, at: usize) -> Result<Ip, Lost> {
        let header: [u8; 20] = self.read(at)?;
        let begin = at + usize::from(header[0] & 0xf) * 4;
        if header[0] >> 4 != 4 || begin < at + 20 {
            return Err(Lost::Because("its IPv4 header is broken"));
        }
        let whole = self.frame.bytes.get(at..begin);
        let whole = whole.ok_or_else(|| self.lost(CUT))?;
        if sum(whole.iter().copied(), 0) != 0xffff {
            return Err(Lost::Because("the checksum of its IPv4 header is wrong"));
        }
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let here = self.frame.bytes.len() - at;
        let is_merged = length == 0 && here > LONGEST;
        let length = if is_merged { here } else { length };
        if at + length < begin {
            return Err(Lost::Because("it says that it is shorter than its header"));
        }
        self.is_here(here, length)?;
        let address = |at: usize| Ipv4Addr::from([0, 1, 2, 3].map(|byte| header[at + byte]));
        let (source, destination) = (address(12), address(16));
        if source.is_loopback() || destination.is_loopback() || source == destination {
            return Err(Lost::Because(LOOPBACK));
        }
        if source.is_multicast() || source.is_broadcast() {
            return Err(Lost::Because("nobody has its source address"));
        }
        // Whoever has none yet asks everybody for one.
        if source.is_unspecified() && !destination.is_broadcast() || destination.is_unspecified() {
            return Err(Lost::Because("its address is none"));
        }
        let options = whole[20..].iter();
        if options
            .take_while(|kind| **kind != 0)
            .any(|kind| *kind != 1)
        {
            self.conditions
                .push("it takes such IPv4 options".to_owned());
        }
        Ok(Ip {
            source: source.into(),
            destination: destination.into(),
            next: header[9],
            begin,
            end: at + length,
            is_merged,
            is_fragment: header[6] & 0x3f != 0 || header[7] != 0,
        })
    }

    fn ipv6(&mut self, at: usize) -> Result<Ip, Lost> {
        let header: [u8; 40] = self.read(at)?;
        if header[0] >> 4 != 6 {
            return Err(Lost::Because("its IPv6 header is broken"));
        }
        let here = self.frame.bytes.len() - at;
        let length = match usize::from(u16::from_be_bytes([header[4], header[5]])) {
            // In hop-by-hop options there may be another length.
            0 if here > 40 + LONGEST || header[6] == 0 => here,
            length => 40 + length,
        };
        self.is_here(here, length)?;
        let address = |at: usize| {
            let bytes: [u8; 16] = header[at..at + 16].try_into().unwrap_or_default();
            Ipv6Addr::from(bytes)
        };
        let (source, destination) = (address(8), address(24));
        if source.is_loopback() || destination.is_loopback() {
            return Err(Lost::Because(LOOPBACK));
        }
        if source.is_multicast() {
            return Err(Lost::Because("nobody has its source address"));
        }
        // RFC 4291 section 2.7: no scope, and none but the host itself.
        if destination.is_multicast() && header[25] & 0xf < 2 {
            return Err(Lost::Because("nobody is told of such a group on a network"));
        }
        if destination.is_unspecified() {
            return Err(Lost::Because("its address is none"));
        }
        Ok(Ip {
            source: source.into(),
            destination: destination.into(),
            next: header[6],
            begin: at + 40,
            end: at + length,
            is_merged: here > 40 + LONGEST,
            is_fragment: false,
        })
    }

    fn is_here(&self, here: usize, length: usize) -> Result<(), Lost> {
        if length > here && !self.is_truncated {
            return Err(Lost::Because(
                "it says that it is longer than what has come",
            ));
        }
        Ok(())
    }

    /// Behind all headers that extend the one of IP.
    fn behind(&mut self, ip: &Ip) -> Result<End, Lost> {
        let is_v4 = ip.source.is_ipv4();
        if ip.is_fragment {
            return Ok(End::Kept(30));
        }
        let (mut next, mut at) = (ip.next, ip.begin);
        let (mut is_asked, mut is_atomic) = (false, false);
        while next == 51 || !is_v4 && matches!(next, 0 | 43 | 44 | 60) {
            let [following, units, high, low] = self.read(at)?;
            let length = match next {
                44 => 8,
                51 => (usize::from(units) + 2) * 4,
                _ => (usize::from(units) + 1) * 8,
            };
            if at + length > ip.end {
                return Err(Lost::Because(CUT));
            }
            match next {
                44 if is_atomic => return Err(Lost::Because("it is a fragment in a fragment")),
                // Offset, and whether more follow.
                44 if u16::from_be_bytes([high, low]) & 0xfff9 != 0 => return Ok(End::Kept(60)),
                44 => is_atomic = true,
                51 => self
                    .conditions
                    .push("it has the key of its authentication header".to_owned()),
                _ if is_asked => {}
                _ => {
                    is_asked = true;
                    self.conditions
                        .push("it takes such extension headers".to_owned());
                }
            }
            (next, at) = (following, at + length);
        }
        self.transport(ip, next, at)
    }

    fn transport(&mut self, ip: &Ip, next: u8, at: usize) -> Result<End, Lost> {
        let destination = ip.destination;
        let (protocol, shortest, short) = match next {
            6 => ("TCP", 20, "it is shorter than a TCP header"),
            17 => ("UDP", 8, "it is shorter than a UDP header"),
            132 => ("SCTP", 12, "it is shorter than an SCTP header"),
            136 => ("UDP-Lite", 8, "it is shorter than a UDP-Lite header"),
            number => {
                return Ok(End::Protocol {
                    number,
                    destination,
                });
            }
        };
        if ip.end < at + shortest {
            return Err(Lost::Because(short));
        }
        let [_, _, high, low] = self.read(at)?;
        let end = Ok(End::Port {
            protocol,
            port: u16::from_be_bytes([high, low]),
            destination,
        });
        // Nothing more can be said.
        let Some(bytes) = self.frame.bytes.get(at..ip.end) else {
            return end;
        };
        let bytes = match next {
            17 => {
                let length = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
                // As long as the packet, where nothing else could be said (RFC 2675).
                let length = match length {
                    0 if destination.is_ipv6() => bytes.len(),
                    length => length,
                };
                if length < 8 || length > bytes.len() {
                    return Err(Lost::Because("its UDP length is wrong"));
                }
                if bytes[6..8] == [0, 0] {
                    // Nobody has made one, which IPv6 does not allow.
                    return if destination.is_ipv6() {
                        Err(Lost::Because("it has no UDP checksum"))
                    } else {
                        end
                    };
                }
                &bytes[..length]
            }
            6 => {
                let header = usize::from(bytes[12] >> 4) * 4;
                if header < 20 || header > bytes.len() {
                    return Err(Lost::Because("its TCP header is broken"));
                }
                if is_for_several(destination) {
                    return Err(Lost::Because("no connection is one with several"));
                }
                if let IpAddr::V6(source) = ip.source
                    && source.to_ipv4_mapped().is_some()
                {
                    return Err(Lost::Because("nobody has its source address"));
                }
                bytes
            }
            _ => {
                self.conditions.push("its checksum is right".to_owned());
                return end;
            }
        };
        // RFC 768, RFC 9293 section 3.1, RFC 8200 section 8.1.
        let pseudo = u64::from(next) + bytes.len() as u64;
        let (mut four, mut six) = ([0; 8], [0; 32]);
        let addresses: &[u8] = match (ip.source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                four[..4].copy_from_slice(&source.octets());
                four[4..].copy_from_slice(&destination.octets());
                &four
            }
            (source, destination) => {
                for (to, address) in six.chunks_exact_mut(16).zip([source, destination]) {
                    if let IpAddr::V6(address) = address {
                        to.copy_from_slice(&address.octets());
                    }
                }
                &six
            }
        };
        let all = addresses.iter().chain(bytes).copied();
        if !ip.is_merged && sum(all, pseudo) != 0xffff {
            return Err(Lost::Because(
                "its checksum is wrong (unless it was captured on the machine that sent it, whose network card makes the checksum, or was put together from several there)",
            ));
        }
        end
    }

    fn told(mut self, end: &End) -> String {
        let (mut told, destination) = match end {
            End::Other => {
                return "handed to whoever takes such frames; it is none of IP".to_owned();
            }
            End::Kept(seconds) => {
                let told = format!(
                    "kept until all of its datagram's fragments have come, {seconds} s at most, and put together with them"
                );
                (told, None)
            }
            End::Port {
                protocol,
                port,
                destination,
            } => {
                let told =
                    format!("handed to whoever has {protocol} port {port} of {destination} open");
                (told, Some(*destination))
            }
            End::Protocol {
                number,
                destination,
            } => {
                let told = format!("taken in for {destination}, as IP protocol {number}");
                (told, Some(*destination))
            }
        };
        let mut routed = "";
        if let Some(destination) = destination {
            let whose = if destination.is_multicast() {
                Some("this host has joined that group")
            } else if is_for_several(destination) {
                None
            } else {
                routed = ", and routed on if it routes";
                Some("that is an address of this host")
            };
            self.conditions
                .splice(0..0, whose.into_iter().map(str::to_owned));
        }
        for (turn, condition) in self.conditions.iter().enumerate() {
            let word = if turn == 0 { ", if" } else { " and" };
            // Writing to a text can't fail.
            let _: fmt::Result = write!(told, "{word} {condition}");
        }
        told + routed
    }
}

/// Whether it is the address of more than one host.
const fn is_for_several(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// The ones' complement sum of 16-bit words (RFC 1071).
fn sum(bytes: impl Iterator<Item = u8>, begin: u64) -> u64 {
    let mut sum = begin;
    for (place, byte) in bytes.enumerate() {
        sum += u64::from(byte) << (if place % 2 == 0 { 8 } else { 0 });
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
