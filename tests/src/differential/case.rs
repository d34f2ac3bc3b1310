//! One case: a few frames that belong together, made from a seed.
//!
//! A case says who it is by its source address and by its payload, so that what arrives can be told apart, and nothing of one
//! case is ever put together with fragments of another.

use std::{
    iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    GUARDED, Mutation, OTHERS,
    change::{change, internet, options, repair, set},
    mutation::{self, Mutations},
};
use crate::{
    frame::{DOT1AD, DOT1Q, Frame, eth},
    random::Random,
};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A few frames that belong together.
#[derive(Clone, Debug)]
pub struct Case {
    /// Makes the same frames again, but for the identity.
    pub seed: u64,
    /// In what ways it differs from a plain packet.
    pub mutations: Vec<Mutation>,
    /// In the order in which they are sent.
    pub frames: Vec<Vec<u8>>,
    /// Where they come from.
    pub source: IpAddr,
    /// The payload begins with this.
    pub identity: u64,
}

impl Case {
    /// The case of this seed.
    #[must_use]
    pub fn new(seed: u64, identity: u64) -> Self {
        let mut random = Random::new(seed);
        let mutations = Mutations::choose(&mut random);
        let packet = Packet::new(&mut random, &mutations, identity);
        let mut frames = if mutations.fragments() {
            packet.fragments(&mut random, &mutations)
        } else {
            vec![packet.whole(&mutations, &mut random)]
        };
        if mutations.has(Mutation::DuplicatedFrame) {
            let again = random.choose(&frames).clone();
            frames.push(again);
        }
        if mutations.has(Mutation::MeaningfulOptions) && packet.options > 0 {
            let options = options(&mut random, packet.options);
            for frame in &mut frames {
                let at = internet(frame);
                frame[at + 20..at + 20 + options.len()].copy_from_slice(&options);
                repair(frame);
            }
        }
        for mutation in mutations.all() {
            let frame = random.below(frames.len());
            change(*mutation, &mut frames[frame], &mut random);
        }
        // Nothing longer fits the cable.
        frames.retain(|frame| (14..=1514).contains(&frame.len()));
        Self {
            seed,
            mutations: mutations.all().to_vec(),
            frames,
            source: packet.source,
            identity,
        }
    }

    /// Whether the packet came in fragments.
    #[must_use]
    pub fn in_fragments(&self) -> bool {
        mutation::fragment(&self.mutations)
    }
}

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
struct Packet {
    tags: Vec<(u16, u16)>,
    source: IpAddr,
    destination: Option<&'static str>,
    options: usize,
    /// In front of the fragment header, and behind it.
    extensions: [Vec<Extension>; 2],
    transport: u8,
    port: u16,
    from: u16,
    payload: Vec<u8>,
}

impl Packet {
    fn new(random: &mut Random, mutations: &Mutations, identity: u64) -> Self {
        let v4 = random.below(2) == 0;
        let listed = random.below(4) == 0;
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
        let destination = mutations.has(Mutation::Destination).then(|| {
            *random.choose(if v4 {
                &["192.0.2.255", "255.255.255.255", "224.0.0.1", "192.0.2.9"]
            } else {
                &["ff02::1", "ff01::1", "ff05::2", "2001:db8::9"]
            })
        });
        let ports = if random.below(3) == 0 {
            &OTHERS[..]
        } else {
            &GUARDED
        };
        let mut payload = identity.to_be_bytes().to_vec();
        payload.extend(random.bytes(120));
        let from = if mutations.has(Mutation::Flags) {
            *random.choose(&[5060, 6000, 80, 0, 0xffff])
        } else {
            40_000
        };
        let options = [Mutation::Options, Mutation::MeaningfulOptions];
        let options = v4 && options.iter().any(|it| mutations.has(*it));
        Self {
            tags: tags(random, mutations),
            source,
            destination,
            options: if options {
                4 * (1 + random.below(10))
            } else {
                0
            },
            extensions: extensions(random, mutations, v4),
            transport: if random.below(3) == 0 { TCP } else { UDP },
            port: *random.choose(ports),
            from,
            payload,
        }
    }

    /// Link and IP header and the extension headers in front of a fragment header.
    fn head(&self, tags: &[(u16, u16)], next: u8) -> Frame {
        let frame = tags
            .iter()
            .fold(eth(), |frame, (kind, id)| frame.tag(*kind, *id));
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
    fn tail(&self, mutations: &Mutations, random: &mut Random) -> (Vec<u8>, u8) {
        let transport = if mutations.has(Mutation::NoNextHeader) {
            59
        } else {
            self.transport
        };
        let first = self.extensions[1]
            .first()
            .map_or(transport, |extension| extension.number());
        let head = self.head(&[], first);
        let frame = extend(head.clone(), &self.extensions[1], transport);
        let headers = frame.header_length();
        let frame = match transport {
            TCP => frame.tcp(self.port).from_port(self.from),
            UDP => frame.udp(self.port).from_port(self.from),
            _ => frame.no_next_header(),
        };
        let mut bytes = frame.payload(&self.payload).bytes();
        if transport != 59 {
            self.change_transport(&mut bytes[headers..], mutations, random);
        }
        (bytes.split_off(head.header_length()), first)
    }

    /// Changes the transport header and keeps its checksum right where that is not what is to be changed.
    fn change_transport(&self, bytes: &mut [u8], mutations: &Mutations, random: &mut Random) {
        let sum = if self.transport == TCP { 16 } else { 6 };
        if mutations.has(Mutation::Flags) && self.transport == TCP {
            let flags = *random.choose(&[0x10, 0x04, 0x01, 0x12, 0x00, 0x29, 0xc2, 0xff, 0x18]);
            set(bytes, 12, [bytes[12], flags], sum);
        }
        if mutations.has(Mutation::TransportLength) {
            if self.transport == TCP {
                let field = random.byte() & 0xf0;
                set(bytes, 12, [field, bytes[13]], sum);
            } else {
                let length = random.below(bytes.len() + 16);
                let length = u16::try_from(length).expect("a short packet");
                bytes[4..6].copy_from_slice(&length.to_be_bytes());
                bytes[6..8].fill(0);
            }
        }
        if mutations.has(Mutation::NoChecksum) && self.transport == UDP {
            bytes[6..8].fill(0);
        }
        if mutations.has(Mutation::WrongChecksum) {
            bytes[sum] ^= 1 << random.below(8);
        }
    }

    fn whole(&self, mutations: &Mutations, random: &mut Random) -> Vec<u8> {
        let (tail, number) = self.tail(mutations, random);
        self.head(&self.tags, number).raw(0, number, &tail).bytes()
    }

    fn fragments(&self, random: &mut Random, mutations: &Mutations) -> Vec<Vec<u8>> {
        let (tail, number) = self.tail(mutations, random);
        let mut pieces = cut(&tail, random, mutations);
        if mutations.has(Mutation::SecondFirstFragment) {
            let other = Self {
                port: *random.choose(&[5060, 80, 6000]),
                extensions: self.extensions.clone(),
                payload: self.payload.clone(),
                tags: Vec::new(),
                ..*self
            };
            let mut other = other.tail(mutations, random).0;
            let length = if random.below(2) == 0 {
                pieces[0].bytes.len()
            } else {
                8 * (1 + random.below(4))
            };
            other.truncate(length);
            let place = random.below(pieces.len() + 1);
            let piece = Piece {
                offset: 0,
                more: true,
                bytes: other,
            };
            pieces.insert(place, piece);
        }
        rearrange(&mut pieces, random, mutations);
        let frames = pieces.iter().map(|piece| {
            let tags = if mutations.has(Mutation::MixedTags) {
                let kind = *random.choose(&[DOT1Q, DOT1AD]);
                vec![(kind, 0); random.below(6)]
            } else {
                self.tags.clone()
            };
            let number = if mutations.has(Mutation::FragmentProtocol) && piece.offset > 0 {
                *random.choose(&[UDP, TCP, 0, 43, 44, 51, 58, 59, 60, 1, 50])
            } else {
                number
            };
            let v6 = self.source.is_ipv6();
            let head = self.head(&tags, if v6 { 44 } else { number });
            let head = if v6 && mutations.has(Mutation::NestedFragment) {
                let more = random.below(2) == 0;
                head.fragment(u16::try_from(random.below(2)).expect("0 or 1"), more)
            } else {
                head
            };
            head.fragment(piece.offset, piece.more)
                .raw(0, number, &piece.bytes)
                .bytes()
        });
        frames.collect()
    }
}

fn tags(random: &mut Random, mutations: &Mutations) -> Vec<(u16, u16)> {
    let mut tags = Vec::new();
    if mutations.has(Mutation::PriorityTags) {
        let kind = *random.choose(&[DOT1Q, DOT1AD]);
        let priority = u16::from(random.byte()) << 8 & 0xe000;
        tags = vec![(kind, priority); 1 + random.below(6)];
    }
    if mutations.has(Mutation::VlanTag) {
        let number = u16::try_from(1 + random.below(4094)).expect("12 bits");
        tags.insert(random.below(tags.len() + 1), (DOT1Q, number));
    }
    tags
}

fn extensions(random: &mut Random, mutations: &Mutations, v4: bool) -> [Vec<Extension>; 2] {
    let mut all = Vec::new();
    if mutations.has(Mutation::Jumbo) && !v4 {
        all.push(Extension::Jumbo);
    }
    if mutations.has(Mutation::Extensions) && !v4 {
        let more = 1 + random.below(4);
        all.extend(iter::repeat_with(|| Extension::any(random)).take(more));
    }
    if mutations.has(Mutation::ManyExtensions) && !v4 {
        let more = 5 + random.below(6);
        // Linux takes hop-by-hop options in the first place only.
        let many = [Extension::Destination(8), Extension::Routing(8)];
        all.extend(iter::repeat_with(|| *random.choose(&many)).take(more));
    }
    if mutations.has(Mutation::AtomicFragment) && !v4 {
        all.insert(random.below(all.len() + 1), Extension::Atomic);
    }
    if mutations.has(Mutation::Authentication) {
        let bytes = 12 + 4 * random.below(6);
        all.insert(
            random.below(all.len() + 1),
            Extension::Authentication(bytes),
        );
    }
    let behind = all.split_off(random.below(all.len() + 1));
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

/// A fragment before it has headers.
#[derive(Clone, Debug)]
struct Piece {
    /// In units of eight bytes.
    offset: u16,
    more: bool,
    bytes: Vec<u8>,
}

fn cut(tail: &[u8], random: &mut Random, mutations: &Mutations) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    while begin < tail.len() {
        let units = if mutations.has(Mutation::TinyFragments) {
            1
        } else {
            1 + random.below(8)
        };
        let mut end = (begin + 8 * units).min(tail.len());
        pieces.push(Piece {
            offset: u16::try_from(begin / 8).expect("a short packet"),
            more: end < tail.len(),
            bytes: {
                let own_end = end;
                if mutations.has(Mutation::Overlapping) && random.below(3) == 0 {
                    end = (end + 8 * (1 + random.below(3))).min(tail.len());
                    if end < tail.len() || own_end == tail.len() {
                        tail[begin..end].to_vec()
                    } else {
                        tail[begin..own_end].to_vec()
                    }
                } else {
                    tail[begin..end].to_vec()
                }
            },
        });
        begin += 8 * units;
    }
    pieces
}

fn rearrange(pieces: &mut Vec<Piece>, random: &mut Random, mutations: &Mutations) {
    if mutations.has(Mutation::DuplicatedFragment) {
        let again = random.choose(pieces).clone();
        pieces.insert(random.below(pieces.len() + 1), again);
    }
    if mutations.has(Mutation::MissingFragment) && pieces.len() > 1 {
        pieces.remove(random.below(pieces.len()));
    }
    if mutations.has(Mutation::FragmentField) {
        let place = random.below(pieces.len());
        let piece = &mut pieces[place];
        match random.below(3) {
            0 => piece.more = !piece.more,
            1 => piece.offset ^= 1 << random.below(5),
            _ => piece.offset = u16::from(random.byte()) << 5,
        }
    }
    if mutations.has(Mutation::Reordered) {
        for last in (1..pieces.len()).rev() {
            pieces.swap(last, random.below(last + 1));
        }
    }
}
