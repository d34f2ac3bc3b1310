//! Asking the kernel's program what it would do.

use sipguard_ebpf::{
    abi::{Answer, LinkKind, NO_SERVICE, Protocol},
    header::Family,
    parse::{Packet, parse},
};

use super::{
    Description, Error, Generation, Place,
    load::{self, Plan, Whose},
    object::Object,
    pins,
    program::Loaded,
    table::Table,
};
use crate::tables::{Constants, Tables};

/// The kernel runs no XDP program on less (`ETH_HLEN`, `bpf_prog_test_run_xdp` in net/bpf/test_run.c),
const SHORTEST: usize = 14;
/// and none for TC, since Linux 6.18, on less than an IP header behind it (`bpf_prog_test_run_skb`, the same).
const SHORTEST_AT_TC: usize = 14 + 40;
/// Nor on more, where it knows no frames in pieces, and at TC ingress: a page, less what it needs at both ends (`bpf_test_init`, the same).
const ONE_PIECE: usize = 4096 - 256 - 320;

/// No header that is read ends behind this (`OFFSETS` of `sipguard_ebpf::parse`). The kernel takes frames of some 64 KiB; captures have longer
/// ones, which it has put together itself.
const LONGEST_READ: usize = 32 << 10;

/// The checking program over a generation's policy maps. It counts nothing.
pub struct Checker {
    program: Loaded,
    /// The policy that it judges by.
    pub generation: Generation,
    answer: Table<u32, Answer>,
    place: Place,
    link: LinkKind,
    protocols: u32,
}

impl Checker {
    /// Over the maps of a pinned generation, for frames that begin as `link` says.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn over(number: u64, link: LinkKind) -> Result<Self, Error> {
        let generation = Generation::open(number)?;
        let constants = generation.description.constants();
        let object = load::object(&Plan {
            constants: &constants,
            sizes: generation.sizes()?,
            whose: Whose::nobody(link),
            pins: load::policy_pins(&pins::generation(number)),
        })?;
        Self::start(object, generation, Place::Xdp, link, &constants)
    }

    /// Over maps of its own, which nothing is attached to.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn of(tables: &Tables, description: Description, link: LinkKind) -> Result<Self, Error> {
        let whose = Whose::nobody(link);
        let (generation, object) = Generation::load(tables, description, whose)?;
        Self::start(object, generation, Place::Xdp, link, &tables.constants)
    }

    /// The same for the program at TC ingress, and frames with an Ethernet header, which the kernel reads for it.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn at_tc(tables: &Tables, description: Description) -> Result<Self, Error> {
        let link = LinkKind::Ethernet;
        let whose = Whose::nobody(link);
        let (generation, object) = Generation::load(tables, description, whose)?;
        Self::start(object, generation, Place::Tc, link, &tables.constants)
    }

    fn start(
        mut object: Object,
        generation: Generation,
        place: Place,
        link: LinkKind,
        constants: &Constants,
    ) -> Result<Self, Error> {
        let answer = load::take(&mut object, "ANSWER")?;
        Ok(Self {
            program: load::program(&object, place, "check")?,
            generation,
            answer,
            place,
            link,
            protocols: constants.protocols,
        })
    }

    /// What the program would do with a frame, of which it is shown no more than it reads.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn judge(&mut self, frame: &[u8]) -> Result<Answer, Error> {
        let frame = &frame[..frame.len().min(LONGEST_READ)];
        let possible = match self.place {
            Place::Xdp if load::has_frags() => SHORTEST..=usize::MAX,
            Place::Xdp => SHORTEST..=ONE_PIECE,
            Place::Tc => SHORTEST_AT_TC..=ONE_PIECE,
        };
        if possible.contains(&frame.len()) {
            return self.run(frame, None);
        }
        // The same parser, here; and where it finds a port, the same decision there.
        match parse(frame, self.link, self.protocols) {
            Ok(packet) => self.run(&short(&packet, self.link), None),
            Err(reason) => Ok(Answer {
                reason: reason as u8,
                service: NO_SERVICE,
                ..Answer::default()
            }),
        }
    }

    /// The same for a frame of which only the first bytes can be read directly, as some drivers hand it over. At least 14 bytes can.
    ///
    /// # Errors
    /// What the kernel refused; older ones know no frames in pieces.
    pub fn judge_in_pieces(&mut self, frame: &[u8], first: u32) -> Result<Answer, Error> {
        // include/uapi/linux/bpf.h, struct xdp_md: data, data_end, data_meta and three numbers of interfaces and queues.
        let context = [0, first, 0, 0, 0, 0].map(u32::to_ne_bytes);
        self.run(frame, Some(context.as_flattened()))
    }

    fn run(&mut self, frame: &[u8], context: Option<&[u8]>) -> Result<Answer, Error> {
        self.program
            .test_run(frame, context)
            .map_err(|error| Error::io("the kernel does not run the program", &error))?;
        let answer = self
            .answer
            .get(&0)
            .map_err(|error| Error::io("can't read the answer", &error))?;
        Ok(answer.unwrap_or_default())
    }
}

/// The shortest frame that has this source, protocol and port.
fn short(packet: &Packet, link: LinkKind) -> Vec<u8> {
    // IANA, protocol numbers.
    let protocol = match packet.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
        Protocol::UdpLite => 136,
    };
    let [high, low] = packet.source.words;
    let (kind, header) = match packet.source.family {
        Family::V4 => {
            let mut header = vec![0x45, 0, 0, 24, 0, 0, 0, 0, 64, protocol, 0, 0];
            // An IPv4 address is the lower half of its word.
            header.extend(&low.to_be_bytes()[4..]);
            header.extend([0; 4]);
            (0x0800_u16, header)
        }
        Family::V6 => {
            let mut header = vec![0x60, 0, 0, 0, 0, 4, protocol, 64];
            header.extend(high.to_be_bytes());
            header.extend(low.to_be_bytes());
            header.extend([0; 16]);
            (0x86dd, header)
        }
    };
    let mut frame = Vec::new();
    if link == LinkKind::Ethernet {
        frame.extend([0; 12]);
        frame.extend(kind.to_be_bytes());
    }
    frame.extend(header);
    frame.extend([0; 2]);
    frame.extend(packet.port.to_ne_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use sipguard_ebpf::{
        abi::Protocol,
        parse::Source,
        prefix::{V4, V6},
    };

    use super::*;

    #[test]
    fn a_short_frame_says_the_same() {
        let sources: [Source; 2] = [V4(0xcb00_7107).into(), V6([0x2001_0db8 << 32, 7]).into()];
        for source in sources {
            for protocol in Protocol::ALL {
                for link in [LinkKind::Ethernet, LinkKind::Ip] {
                    let packet = Packet {
                        source,
                        protocol,
                        port: 5060_u16.to_be(),
                        last: 0,
                    };
                    let frame = short(&packet, link);
                    assert!((SHORTEST..=ONE_PIECE).contains(&frame.len()));
                    let found = parse(frame.as_slice(), link, u32::MAX).expect("a port");
                    // Where the packet ends is another place, of course.
                    assert_eq!(Packet { last: 0, ..found }, packet);
                }
            }
        }
    }
}
