//! Captures, as tcpdump and Wireshark write them: pcap (micro- and nanoseconds) and pcapng, of either byte order. They are read from the
//! first packet to the last with no more than one of them in memory, so that a pipe will do and size does not matter.

mod link;
mod window;

use std::io::{self, Read};

use nom::{Err::Incomplete, IResult, Needed};
use pcap_parser::{
    Block, LegacyPcapBlock, PcapError, PcapHeader, parse_block_be, parse_block_le,
    parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
    traits::PcapNGPacketBlock as _,
};
use sipguard_ebpf::abi::LinkKind;

use self::{link::Framing, window::Window};

/// Why a capture can't be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The system can't read it.
    #[error("it can't be read: {0}")]
    Read(#[from] io::Error),
    /// There is nothing in it, not even a header.
    #[error("it is empty")]
    Empty,
    /// It is something else.
    #[error("it is neither a pcap nor a pcapng capture")]
    Unknown,
    /// It is compressed.
    #[error("it is compressed: unpack it on the way, as in `zcat FILE | sipguard check --pcap -`")]
    Compressed,
    /// It ends too early.
    #[error("it ends in the middle of {what}, which begins at byte {offset}")]
    Cut {
        /// Of what.
        what: String,
        /// Bytes from the beginning of the file.
        offset: u64,
    },
    /// What is there makes no sense.
    #[error("{what} at byte {offset} is damaged: {why}")]
    Damaged {
        /// What makes no sense.
        what: String,
        /// Bytes from the beginning of the file.
        offset: u64,
        /// Why it makes no sense.
        why: &'static str,
    },
    /// Frames that begin with something that is not read.
    #[error(
        "packet {number} is of link type {link} (see https://www.tcpdump.org/linktypes.html); sipguard reads Ethernet, raw IP, Linux cooked and loopback captures"
    )]
    Link {
        /// Which packet, counted from 1.
        number: u64,
        /// The link type's number.
        link: i32,
    },
}

/// One packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Counted from 1.
    pub number: u64,
    /// As much of it as was captured, from the header that `link` says.
    pub bytes: &'a [u8],
    /// What it begins with.
    pub link: LinkKind,
    /// Whether it was longer than what was captured of it.
    pub truncated: bool,
    /// How many bytes of the file have been read when this packet is.
    pub position: u64,
}

/// Hands every packet to `each`, in the order of the file, until that fails or the capture ends.
///
/// # Errors
/// [`CaptureError`], after all packets in front of the place that is wrong; and what `each` says.
pub fn read<E: From<CaptureError>>(
    input: impl Read,
    mut each: impl FnMut(Packet<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = Reader {
        window: Window::new(input),
        packets: 0,
        scratch: Vec::new(),
    };
    // The longer of the two magic numbers; a file that is shorter is neither.
    reader.window.have(4).map_err(CaptureError::from)?;
    match *reader.window.bytes() {
        [] => Err(CaptureError::Empty.into()),
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => reader.pcapng(&mut each),
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xfd, b'7', b'z', b'X', ..] => {
            Err(CaptureError::Compressed.into())
        }
        _ => reader.pcap(&mut each),
    }
}

struct Reader<R> {
    window: Window<R>,
    /// How many were handed over.
    packets: u64,
    /// For frames that have to be put together.
    scratch: Vec<u8>,
}

/// An interface of a pcapng section.
struct Interface {
    framing: Result<Framing, i32>,
    /// In bytes; 0 where there is no limit.
    snap_length: u32,
}

type FrameParser = fn(&[u8]) -> IResult<&[u8], LegacyPcapBlock<'_>, PcapError<&[u8]>>;

impl<R: Read> Reader<R> {
    fn pcap<E: From<CaptureError>>(
        &mut self,
        each: &mut impl FnMut(Packet<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let header = self.pcap_header()?;
        // Above these bits stands how long a frame check sequence is; the bytes of one behind a frame change no verdict.
        let framing = Framing::of(header.network.0 & 0xffff);
        let parse: FrameParser = if header.is_modified_format() {
            parse_pcap_frame_modified
        } else if header.is_bigendian() {
            parse_pcap_frame_be
        } else {
            parse_pcap_frame
        };
        while self.window.have(1).map_err(CaptureError::from)? {
            while let Err(Incomplete(Needed::Size(more))) = parse(self.window.bytes()) {
                let have = self.window.bytes().len();
                self.need(have.saturating_add(more.get()), || "packet".to_owned())?;
            }
            let offset = self.window.offset();
            let Ok((rest, block)) = parse(self.window.bytes()) else {
                return Err(self.damaged("packet", "it can't be read").into());
            };
            let length = self.window.bytes().len() - rest.len();
            self.packets += 1;
            let packet = Captured {
                number: self.packets,
                bytes: block.data,
                truncated: block.origlen > block.caplen,
                position: offset + length as u64,
            };
            packet.hand_over(framing, &mut self.scratch, each)?;
            self.window.consume(length);
        }
        Ok(())
    }

    fn pcap_header(&mut self) -> Result<PcapHeader, CaptureError> {
        const LENGTH: usize = 24;
        let whole = self.window.have(LENGTH)?;
        match parse_pcap_header(self.window.bytes()) {
            Ok((_, header)) => {
                self.window.consume(LENGTH);
                Ok(header)
            }
            Err(Incomplete(_)) if !whole => Err(CaptureError::Cut {
                what: "the header".to_owned(),
                offset: 0,
            }),
            Err(_) => Err(CaptureError::Unknown),
        }
    }

    fn pcapng<E: From<CaptureError>>(
        &mut self,
        each: &mut impl FnMut(Packet<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        const SECTION_HEADER: u32 = 0x0a0d_0d0a;
        const INTERFACE_DESCRIPTION: u32 = 1;
        const OBSOLETE_PACKET: u32 = 2;
        const SIMPLE_PACKET: u32 = 3;
        const ENHANCED_PACKET: u32 = 6;
        /// Type and length at the beginning, length again at the end.
        const SHORTEST: u32 = 12;

        let mut big_endian = false;
        let mut interfaces = Vec::new();
        while self.window.have(1).map_err(CaptureError::from)? {
            self.need(SHORTEST as usize, || "block".to_owned())?;
            let word = |bytes: &[u8], at: usize, big_endian: bool| {
                let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
                if big_endian {
                    u32::from_be_bytes(bytes)
                } else {
                    u32::from_le_bytes(bytes)
                }
            };
            let bytes = self.window.bytes();
            // Its type reads the same in both orders; the byte order stands behind it.
            if word(bytes, 0, false) == SECTION_HEADER {
                big_endian = match bytes[8..12] {
                    [0x1a, 0x2b, 0x3c, 0x4d] => true,
                    [0x4d, 0x3c, 0x2b, 0x1a] => false,
                    _ if self.window.offset() == 0 => return Err(CaptureError::Unknown.into()),
                    _ => return Err(self.damaged("block", "it has no byte order").into()),
                };
                interfaces.clear();
            }
            let kind = word(bytes, 0, big_endian);
            let length = word(bytes, 4, big_endian);
            if length < SHORTEST {
                return Err(self.damaged("block", "it is shorter than any block").into());
            }
            let what = match kind {
                OBSOLETE_PACKET => {
                    let why = "packets of this obsolete form are not read; convert it with `editcap FILE NEW`";
                    return Err(self.damaged("packet", why).into());
                }
                SIMPLE_PACKET | ENHANCED_PACKET => "packet",
                SECTION_HEADER | INTERFACE_DESCRIPTION => "block",
                // Names, statistics, secrets, notes.
                _ => {
                    self.skip(u64::from(length))?;
                    continue;
                }
            };
            self.need(length as usize, || what.to_owned())?;
            let position = self.window.offset() + u64::from(length);
            let block = &self.window.bytes()[..length as usize];
            let parsed = if big_endian {
                parse_block_be(block)
            } else {
                parse_block_le(block)
            };
            let (interface, captured) = match &parsed {
                Ok((_, Block::SectionHeader(_))) => {
                    self.window.consume(length as usize);
                    continue;
                }
                Ok((_, Block::InterfaceDescription(block))) => {
                    interfaces.push(Interface {
                        framing: Framing::of(block.linktype.0),
                        snap_length: block.snaplen,
                    });
                    self.window.consume(length as usize);
                    continue;
                }
                Ok((_, Block::EnhancedPacket(block))) => (
                    interfaces.get(block.if_id as usize),
                    (block.packet_data(), block.origlen),
                ),
                Ok((_, Block::SimplePacket(block))) => {
                    let interface = interfaces.first();
                    let data = block.packet_data();
                    let most = match interface {
                        Some(Interface { snap_length, .. }) if *snap_length > 0 => *snap_length,
                        _ => u32::MAX,
                    };
                    let captured = data.len().min(most as usize);
                    (interface, (&data[..captured], block.origlen))
                }
                Ok(_) | Err(_) => return Err(self.damaged(what, "its lengths don't fit").into()),
            };
            let Some(interface) = interface else {
                return Err(self
                    .damaged(what, "it is of an interface that is not described")
                    .into());
            };
            self.packets += 1;
            let (bytes, original) = captured;
            let packet = Captured {
                number: self.packets,
                bytes,
                truncated: original as usize > bytes.len(),
                position,
            };
            packet.hand_over(interface.framing, &mut self.scratch, each)?;
            self.window.consume(length as usize);
        }
        Ok(())
    }

    /// Reads on until so many bytes are there.
    fn need(&mut self, length: usize, what: impl Fn() -> String) -> Result<(), CaptureError> {
        /// A hundred times what a packet can be. A length beyond is a damaged one, and no reason to ask for so much memory.
        const MOST: usize = 16 << 20;
        if length > MOST {
            return Err(self.damaged(&what(), "it would be longer than 16 MiB"));
        }
        if self.window.have(length)? {
            Ok(())
        } else {
            Err(self.cut(&what()))
        }
    }

    fn skip(&mut self, length: u64) -> Result<(), CaptureError> {
        let offset = self.window.offset();
        if self.window.skip(length)? {
            Ok(())
        } else {
            Err(CaptureError::Cut {
                what: self.named("block"),
                offset,
            })
        }
    }

    fn cut(&self, what: &str) -> CaptureError {
        CaptureError::Cut {
            what: self.named(what),
            offset: self.window.offset(),
        }
    }

    fn damaged(&self, what: &str, why: &'static str) -> CaptureError {
        CaptureError::Damaged {
            what: self.named(what),
            offset: self.window.offset(),
            why,
        }
    }

    fn named(&self, what: &str) -> String {
        if what == "packet" {
            format!("packet {}", self.packets + 1)
        } else {
            format!("the {what} behind packet {}", self.packets)
        }
    }
}

/// A packet as the file has it.
struct Captured<'a> {
    number: u64,
    bytes: &'a [u8],
    truncated: bool,
    position: u64,
}

impl Captured<'_> {
    fn hand_over<E: From<CaptureError>>(
        &self,
        framing: Result<Framing, i32>,
        scratch: &mut Vec<u8>,
        each: &mut impl FnMut(Packet<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let framing = framing.map_err(|link| CaptureError::Link {
            number: self.number,
            link,
        })?;
        let (link, bytes) = framing.frame(self.bytes, scratch);
        each(Packet {
            number: self.number,
            bytes,
            link,
            truncated: self.truncated,
            position: self.position,
        })
    }
}

#[cfg(test)]
mod tests;
