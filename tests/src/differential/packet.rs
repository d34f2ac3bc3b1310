//! A packet before it is cut into fragments.

use std::{
    iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use sipguard_ebpf::abi::LinkKind;

use super::{
    GUARDED, Mutation, OTHERS, Recipe, Transport,
    change::set,
    pieces::{Piece, cut, rearrange},
};
use crate::{
    frame::{DOT1AD, DOT1Q, Frame, bare, eth},
    random::Random,
};

const NO_NEXT_HEADER: u8 = 59;

#[derive(Clone, Copy, Debug)]
enum Extension {
    HopByHop(usize),
    Routing(usize),
    Destination(usize),
    Authentication(usize),
    Atomic,
    Jumbo,
}

impl Extension {
    const fn number(self) -> u8 {
        match self {
            Self::HopByHop(_) | Self::Jumbo => 0,
            Self::Routing(_) => 43,
            Self::Destination(_) => 60,
            Self::Authentication(_) => 51,
            Self::Atomic => 44,
        }
    }

    fn any(random: &mut Random) -> Self {
        let bytes = 8 * (1 + random.below(3));
        match random.below(8) {
            0 | 1 => Self::HopByHop(bytes),
            2 | 3 => Self::Routing(bytes),
            4..=6 => Self::Destination(bytes),
            _ => Self::Atomic,
        }
    }
}

/// A packet before it is cut into fragments.
#[derive(Clone, Debug)]
pub(super) struct Packet<'r> {
    recipe: &'r Recipe,
    tags: Vec<(u16, u16)>,
    pub(super) source: IpAddr,
    destination: Option<&'static str>,
    pub(super) options: usize,
    /// In front of the fragment header, and behind it.
    extensions: [Vec<Extension>; 2],
    pub(super) transport: Transport,
    port: u16,
    from: u16,
    payload: Vec<u8>,
}

impl<'r> Packet<'r> {
    pub(super) fn new(recipe: &'r Recipe, identity: u64) -> Self {
        let mut random = recipe.plain();
        let v4 = random.below(2) == 0;
        let listed = random.below(4) == 0;
        let ports = if random.below(3) == 0 {
            &OTHERS[..]
        } else {
            &GUARDED
        };
        let port = *random.choose(ports);
        let transport = match random.below(12) {
            0..4 => Transport::Tcp,
            4 => Transport::Sctp,
            5 => Transport::UdpLite,
            _ => Transport::Udp,
        };
        let mut payload = identity.to_be_bytes().to_vec();
        payload.extend(random.bytes(120));
        if recipe.short {
            payload.truncate(8);
        }
        // Linux takes an INIT only where nothing follows it (RFC 9260 section 5.1).
        if transport == Transport::Sctp {
            payload.clear();
        }
        let [.., high, middle, low] = identity.to_be_bytes();
        let [.., a, b, c, d] = identity.to_be_bytes().map(u16::from);
        let source: IpAddr = match (v4, listed) {
            (true, false) => Ipv4Addr::new(10, high, middle, low).into(),
            // The blocks below are the marks'.
            (true, true) => Ipv4Addr::new(100, 80 + high % 48, middle, low).into(),
            (false, listed) => {
                let block = if listed { 0x100 } else { 0xbad };
                Ipv6Addr::new(0x2001, 0xdb8, block, 0, 0, 0, a << 8 | b, c << 8 | d).into()
            }
        };
        let destination = recipe.chosen(Mutation::Destination).map(|mut dice| {
            *dice.choose(if v4 {
                &["192.0.2.255", "255.255.255.255", "224.0.0.1", "192.0.2.9"]
            } else {
                &["ff02::1", "ff01::1", "ff05::2", "2001:db8::9"]
            })
        });
        let from = recipe.chosen(Mutation::Flags).map_or(40_000, |mut dice| {
            *dice.choose(&[5060, 6000, 80, 0, 0xffff])
        });
        let options = [Mutation::Options, Mutation::MeaningfulOptions];
        let options = options.into_iter().find_map(|it| recipe.chosen(it));
        let options = options.filter(|_| v4);
        Self {
            tags: tags(recipe),
            source,
            destination,
            options: options.map_or(0, |mut dice| 4 * (1 + dice.below(10))),
            extensions: extensions(recipe, v4),
            transport,
            port,
            from,
            payload,
            recipe,
        }
    }

    /// In one piece, whatever fits the cable.
    pub(super) fn whole(&self) -> Vec<u8> {
        let (tail, number) = self.tail();
        self.head(&self.tags, number).raw(0, number, &tail).bytes()
    }

    /// In fragments, in the order in which they are sent.
    pub(super) fn fragments(&self) -> Vec<Vec<u8>> {
        let recipe = self.recipe;
        let (tail, number) = self.tail();
        let mut pieces = cut(&tail, recipe);
        if let Some(mut dice) = recipe.chosen(Mutation::SecondFirstFragment) {
            let mut other = self.clone();
            other.port = *dice.choose(&[5060, 80, 6000]);
            let mut other = other.tail().0;
            let length = if dice.below(2) == 0 {
                pieces[0].bytes.len()
            } else {
                8 * (1 + dice.below(4))
            };
            other.truncate(length);
            let piece = Piece {
                offset: 0,
                more: true,
                bytes: other,
            };
            pieces.insert(dice.below(pieces.len() + 1), piece);
        }
        rearrange(&mut pieces, recipe);
        let mut mixed = recipe.chosen(Mutation::MixedTags);
        let mut named = recipe.chosen(Mutation::FragmentProtocol);
        let mut misread = recipe
            .chosen(Mutation::Misread)
            .filter(|_| self.source.is_ipv6());
        let mut nested = recipe
            .chosen(Mutation::NestedFragment)
            .filter(|_| self.source.is_ipv6());
        let frames = pieces.iter().map(|piece| {
            let tags = match &mut mixed {
                Some(dice) => vec![(*dice.choose(&[DOT1Q, DOT1AD]), 0); dice.below(6)],
                None => self.tags.clone(),
            };
            let number = match (&mut named, &mut misread) {
                (Some(dice), _) if piece.offset > 0 => {
                    *dice.choose(&[17, 6, 0, 43, 44, 51, 58, 59, 60, 1, 50, 132, 136])
                }
                (_, Some(dice)) if piece.offset == 0 => {
                    *dice.choose(&[58, 59, 58, 59, 17, 6, 43, 44, 60])
                }
                _ => number,
            };
            let v6 = self.source.is_ipv6();
            let head = self.head(&tags, if v6 { 44 } else { number });
            let head = match &mut nested {
                Some(dice) => {
                    let offset = u16::try_from(dice.below(2)).expect("0 or 1");
                    head.fragment(offset, dice.below(2) == 0)
                }
                None => head,
            };
            let head = head.fragment(piece.offset, piece.more);
            let mut frame = head.raw(0, number, &piece.bytes).bytes();
            if let Some(mut dice) = recipe.chosen(Mutation::FalseTail)
                && piece.offset == 0
            {
                frame.extend(false_tail(&mut dice));
            }
            frame
        });
        frames.collect()
    }

    /// Link and IP header and the extension headers in front of a fragment header.
    fn head(&self, tags: &[(u16, u16)], next: u8) -> Frame {
        let frame = match self.recipe.carrier.link() {
            LinkKind::Ethernet => eth(),
            LinkKind::Ip => bare(),
        };
        let frame = tags
            .iter()
            .fold(frame, |frame, (kind, id)| frame.tag(*kind, *id));
        let session = self.recipe.chosen(Mutation::Session);
        let frame = match session.map(|mut dice| dice.below(2)) {
            Some(0) => frame.pppoe(),
            Some(_) => frame.pppoe_compressed(),
            None => frame,
        };
        let frame = frame.ip(&self.source.to_string());
        let frame = match self.destination {
            Some(address) => frame.to(address),
            None => frame,
        };
        let frame = match self.source {
            IpAddr::V4(_) => frame.options(self.options),
            IpAddr::V6(_) => frame,
        };
        extend(frame, &self.extensions[0], next)
    }

    /// What follows the head, in one piece, and the number that announces it.
    fn tail(&self) -> (Vec<u8>, u8) {
        let no_next = self.recipe.has(Mutation::NoNextHeader);
        let number = if no_next {
            NO_NEXT_HEADER
        } else {
            self.transport.number()
        };
        let first = self.extensions[1]
            .first()
            .map_or(number, |extension| extension.number());
        let head = self.head(&[], first);
        let frame = extend(head.clone(), &self.extensions[1], number);
        let headers = frame.header_length();
        let frame = match self.transport {
            _ if no_next => frame.no_next_header(),
            Transport::Udp => frame.udp(self.port).from_port(self.from),
            Transport::UdpLite => frame.udp_lite(self.port).from_port(self.from),
            Transport::Tcp => frame.tcp(self.port).from_port(self.from),
            Transport::Sctp => frame.sctp(self.port).from_port(self.from),
        };
        let mut bytes = frame.payload(&self.payload).bytes();
        if !no_next {
            self.change_transport(&mut bytes[headers..]);
        }
        (bytes.split_off(head.header_length()), first)
    }

    /// Changes the transport header and keeps its checksum right where that is not what is to be changed.
    fn change_transport(&self, bytes: &mut [u8]) {
        use Transport::{Sctp, Tcp, Udp, UdpLite};
        let sum = match self.transport {
            Udp | UdpLite => 6,
            Tcp => 16,
            Sctp => 8,
        };
        if let Some(mut dice) = self.recipe.chosen(Mutation::Flags)
            && self.transport == Tcp
        {
            let flags = *dice.choose(&[0x10, 0x04, 0x01, 0x12, 0x00, 0x29, 0xc2, 0xff, 0x18]);
            set(bytes, 12, [bytes[12], flags], sum);
        }
        if let Some(mut dice) = self.recipe.chosen(Mutation::TransportLength) {
            match self.transport {
                Tcp => {
                    let field = dice.byte() & 0xf0;
                    set(bytes, 12, [field, bytes[13]], sum);
                }
                // UDP's length and UDP-Lite's coverage; only UDP may be without a checksum then.
                Udp | UdpLite => {
                    let length = dice.below(bytes.len() + 16);
                    let length = u16::try_from(length).expect("a short packet");
                    bytes[4..6].copy_from_slice(&length.to_be_bytes());
                    bytes[6..8].fill(0);
                }
                // The chunk's length.
                Sctp => bytes[15] = dice.byte(),
            }
        }
        if self.recipe.has(Mutation::NoChecksum) && self.transport != Tcp {
            bytes[sum..sum + 2].fill(0);
        }
        if let Some(mut dice) = self.recipe.chosen(Mutation::WrongChecksum) {
            bytes[sum] ^= 1 << dice.below(8);
        }
    }
}

/// Options and a header with ports, neither of them part of the packet whose headers they go on with.
fn false_tail(dice: &mut Random) -> Vec<u8> {
    let next = *dice.choose(&[58, 17, 6, 59, 132]);
    let port = *dice.choose(&[6000, 5060]);
    let mut tail = vec![next, 0, 0x1e, 4, 0, 0, 0, 0];
    tail.extend([40_000_u16, port, 8, 0].map(u16::to_be_bytes).concat());
    tail
}

fn tags(recipe: &Recipe) -> Vec<(u16, u16)> {
    let mut tags = Vec::new();
    if let Some(mut dice) = recipe.chosen(Mutation::PriorityTags) {
        let kind = *dice.choose(&[DOT1Q, DOT1AD]);
        let priority = u16::from(dice.byte()) << 8 & 0xe000;
        tags = vec![(kind, priority); 1 + dice.below(6)];
    }
    if let Some(mut dice) = recipe.chosen(Mutation::VlanTag) {
        let other = u16::try_from(1 + dice.below(4094)).expect("12 bits");
        let number = *dice.choose(&[super::OUTER_VLAN, other]);
        tags.insert(dice.below(tags.len() + 1), (DOT1Q, number));
    }
    if let Some(mut dice) = recipe.chosen(Mutation::QinQ) {
        let kind = *dice.choose(&[DOT1Q, DOT1AD]);
        let place = dice.below(tags.len() + 1);
        tags.insert(place, (DOT1Q, super::INNER_VLAN));
        tags.insert(place, (kind, super::OUTER_VLAN));
    }
    tags
}

fn extensions(recipe: &Recipe, v4: bool) -> [Vec<Extension>; 2] {
    let mut all = Vec::new();
    // Each mutation says of its own headers where the fragment header comes.
    let mut behind = 0;
    if recipe.has(Mutation::Jumbo) && !v4 {
        all.push(Extension::Jumbo);
    }
    if let Some(mut dice) = recipe.chosen(Mutation::Extensions)
        && !v4
    {
        let more = 1 + dice.below(4);
        all.extend(iter::repeat_with(|| Extension::any(&mut dice)).take(more));
        behind += dice.below(more + 1);
    }
    if let Some(mut dice) = recipe.chosen(Mutation::ManyExtensions)
        && !v4
    {
        let more = 5 + dice.below(6);
        // Linux takes hop-by-hop options in the first place only.
        let many = [Extension::Destination(8), Extension::Routing(8)];
        all.extend(iter::repeat_with(|| *dice.choose(&many)).take(more));
        behind += dice.below(more + 1);
    }
    if let Some(mut dice) = recipe.chosen(Mutation::AtomicFragment)
        && !v4
    {
        all.insert(dice.below(all.len() + 1), Extension::Atomic);
        behind += dice.below(2);
    }
    if let Some(mut dice) = recipe.chosen(Mutation::Authentication) {
        // Sixteen bytes are what Linux takes where the key is none.
        let bytes = *dice.choose(&[16, 16, 12, 20, 24, 32]);
        all.insert(dice.below(all.len() + 1), Extension::Authentication(bytes));
        behind += dice.below(2);
    }
    let mut behind = all.split_off(all.len() - behind.min(all.len()));
    if let Some(mut dice) = recipe.chosen(Mutation::Misread)
        && !v4
    {
        let kind = match dice.below(3) {
            0 => Extension::Routing(8),
            _ => Extension::Destination(8),
        };
        // Some are so long that the kernel's note of where they are has no room for it.
        if dice.below(4) == 0 {
            all.push(Extension::Destination(256));
        }
        all.push(kind);
        behind.insert(0, kind);
    }
    if recipe.has(Mutation::FalseTail) && !v4 {
        behind.splice(..0, [Extension::Destination(8); 2]);
    }
    [all, behind]
}

/// Adds extension headers; `next` is the number of what follows them.
fn extend(frame: Frame, extensions: &[Extension], next: u8) -> Frame {
    let numbers = extensions.iter().map(|extension| extension.number());
    let nexts = numbers.skip(1).chain([next]);
    let pairs = extensions.iter().zip(nexts);
    pairs.fold(frame, |frame, (extension, next)| match *extension {
        Extension::HopByHop(bytes) => frame.hop_by_hop(bytes),
        Extension::Routing(bytes) => frame.routing(bytes),
        Extension::Destination(bytes) => frame.destination(bytes),
        Extension::Authentication(bytes) => frame.ah(bytes),
        Extension::Atomic => frame.fragment(0, false),
        // 65,536 bytes, the smallest number that this option is for.
        Extension::Jumbo => frame.raw(0, 0, &[next, 0, 0xc2, 4, 0, 1, 0, 0]),
    })
}
