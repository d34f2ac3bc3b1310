//! What the parser reads of a frame, noted while it reads: so it is what counts, and not what another one makes of it.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, Ipv6Addr},
    ops::Deref,
};

use serde::Serialize;
use sipguard::{capture::Frame, policy::protocol_name};
use sipguard_ebpf::{
    frame::{self, Header, Said},
    header,
    parse::general,
};

/// Something that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Layer {
    /// Where it begins in the frame, in bytes.
    pub(super) at: usize,
    pub(super) name: String,
    pub(super) says: String,
}

/// A frame that notes where what was read of it, and how many bytes.
struct Watched<'a> {
    frame: &'a Frame<'a>,
    read: RefCell<Vec<(usize, usize)>>,
}

impl frame::Frame for Watched<'_> {
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        self.read.borrow_mut().push((offset, size_of::<T>()));
        self.frame.read(offset)
    }

    fn first<T: Header>(&self) -> Option<impl Deref<Target = T>> {
        self.read.borrow_mut().push((0, size_of::<T>()));
        self.frame.first::<T>()
    }

    fn said(&self) -> Option<Said> {
        self.frame.said()
    }
}

/// The layers of a frame as they are read where these protocols are guarded.
pub(super) fn of(frame: &Frame<'_>, protocols: u32) -> Vec<Layer> {
    let watched = Watched {
        frame,
        read: RefCell::default(),
    };
    // What comes of it is told by whoever judges.
    let _ = general(&watched, frame.link(), protocols);
    let mut named = Named {
        bytes: frame.bytes,
        next: None,
        end: 0,
        layers: Vec::new(),
    };
    for (at, length) in watched.read.into_inner() {
        named.add(at, length);
    }
    named.rest();
    named.layers
}

/// What was read so far.
struct Named<'a> {
    bytes: &'a [u8],
    /// What the last header said that comes next, once there was an IP header; none behind the ports or a later fragment's header.
    next: Option<u8>,
    /// Where that begins.
    end: usize,
    layers: Vec<Layer>,
}

impl Named<'_> {
    /// The lengths are those of what the parser reads (`sipguard_ebpf::parse`): each kind of header has its own.
    fn add(&mut self, at: usize, length: usize) {
        // That a header's end is in the frame, and which version begins it, is no layer.
        if length < 4 {
            if self.bytes.len() < at + length {
                self.push(
                    at,
                    "end",
                    "the frame ends before the header does".to_owned(),
                );
                self.next = None;
            }
            return;
        }
        let Some(header) = self.bytes.get(at..at + length) else {
            let here = self.bytes.len().saturating_sub(at);
            let what = self.name(length);
            self.push(
                at,
                what,
                format!("cut short: {here} bytes of {length} are there"),
            );
            self.next = None;
            return;
        };
        let short = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        match (length, self.next) {
            (14, _) => self.push(at, "Ethernet", format!("EtherType {:#06x}", short(12))),
            (4, None) => {
                let says = format!("VLAN {}, EtherType {:#06x}", short(0) & 0xfff, short(2));
                self.push(at, "tag", says);
            }
            // Read again with one byte more where the protocol field has two.
            (7, _) => {
                let says = format!("session {:#06x}", short(2));
                self.push(at, "PPPoE", says);
            }
            (20, _) => {
                let [source, destination] = [12, 16].map(|at| {
                    Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3])
                });
                let offset = usize::from(short(6) & 0x1fff) * 8;
                let fragment = fragment(offset, short(6) & 0x2000 != 0);
                let next = header[9];
                let says = format!("{source} → {destination}, {}{fragment}", number(next));
                self.push(at, "IPv4", says);
                self.next = (offset == 0).then_some(next);
                self.end = at + usize::from(header[0] & 0xf) * 4;
            }
            (40, _) => {
                let address = |at: usize| {
                    let bytes: [u8; 16] = header[at..at + 16].try_into().unwrap_or_default();
                    Ipv6Addr::from(bytes)
                };
                let says = format!("{} → {}, {}", address(8), address(24), number(header[6]));
                self.push(at, "IPv6", says);
                self.next = Some(header[6]);
                self.end = at + 40;
            }
            (8, Some(kind)) => {
                let mut says = number(header[0]);
                self.next = Some(header[0]);
                if header::Header::numbered(kind).is_fragment() {
                    let offset = usize::from(short(2) & 0xfff8);
                    says += &fragment(offset, short(2) & 1 != 0);
                    if offset > 0 {
                        self.next = None;
                    }
                }
                self.end = at + header::Header::numbered(kind).bytes(header[1]);
                let name = number(kind);
                self.push(at, &name, format!("then {says}"));
            }
            (4, Some(kind)) => {
                let name = number(kind);
                self.push(at, &name, format!("port {} → {}", short(0), short(2)));
                self.next = None;
            }
            _ => {}
        }
    }

    /// What comes behind the last header that was read, which nobody guards.
    fn rest(&mut self) {
        if let Some(next) = self.next
            && !header::Header::numbered(next).extends(header::Family::V6)
        {
            let name = number(next);
            self.push(self.end, &name, "not looked at".to_owned());
        }
    }

    fn name(&self, length: usize) -> &'static str {
        match (length, self.next) {
            (14, _) => "Ethernet",
            (4, None) => "tag",
            (7, _) | (8, None) => "PPPoE",
            (20, _) => "IPv4",
            (40, _) => "IPv6",
            (8, Some(_)) => "extension header",
            _ => "ports",
        }
    }

    fn push(&mut self, at: usize, name: &str, says: String) {
        self.layers.push(Layer {
            at,
            name: name.to_owned(),
            says,
        });
    }
}

fn fragment(offset: usize, more: bool) -> String {
    match (offset, more) {
        (0, false) => String::new(),
        (0, true) => ", first fragment of several".to_owned(),
        (offset, _) => format!(", fragment from byte {offset} on"),
    }
}

/// IANA, protocol numbers.
fn number(number: u8) -> String {
    if let Some(protocol) = header::Header::numbered(number).protocol() {
        return protocol_name(protocol).to_ascii_uppercase();
    }
    let name = match number {
        0 => "hop-by-hop",
        1 => "ICMP",
        2 => "IGMP",
        4 => "IPv4 inside",
        41 => "IPv6 inside",
        43 => "routing",
        44 => "fragment",
        47 => "GRE",
        50 => "ESP",
        51 => "AH",
        58 => "ICMPv6",
        59 => "nothing",
        60 => "destination",
        _ => return format!("protocol {number}"),
    };
    name.to_owned()
}
