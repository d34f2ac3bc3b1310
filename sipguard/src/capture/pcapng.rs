//! pcapng: blocks of many kinds, in sections that have a byte order and interfaces of their own (draft-ietf-opsawg-pcapng).

use std::io::Read;

use pcap_parser::{Block, parse_block_be, parse_block_le};

use super::{CaptureError, Captured, Packet, Reader, link::Framing};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Type and length at the beginning, length again at the end.
const SHORTEST: u32 = 12;

/// What the blocks that follow have in common.
#[derive(Default)]
struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

struct Interface {
    framing: Result<Framing, i32>,
    /// In bytes; 0 where there is no limit.
    snap_length: u32,
}

/// A packet, as its block has it.
struct Found<'a> {
    framing: Result<Framing, i32>,
    bytes: &'a [u8],
    /// How long it was on the wire, in bytes.
    original: u32,
}

impl<R: Read> Reader<R> {
    pub(super) fn pcapng<E: From<CaptureError>>(
        &mut self,
        each: &mut impl FnMut(Packet<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut section = Section::default();
        while self.window.have(1).map_err(CaptureError::from)? {
            let (kind, length) = self.block(&mut section)?;
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
            let found = section.read(block);
            if let Some(found) = found.map_err(|why| self.damaged(what, why))? {
                self.packets += 1;
                let packet = Captured {
                    number: self.packets,
                    bytes: found.bytes,
                    truncated: found.original as usize > found.bytes.len(),
                    position,
                };
                packet.hand_over(found.framing, &mut self.scratch, each)?;
            }
            self.window.consume(length as usize);
        }
        Ok(())
    }

    /// The type and the length of the block that begins here; one that begins a section says how both are to be read.
    fn block(&mut self, section: &mut Section) -> Result<(u32, u32), CaptureError> {
        self.need(SHORTEST as usize, || "block".to_owned())?;
        let bytes = self.window.bytes();
        let word = |at: usize, big_endian: bool| {
            let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            if big_endian {
                u32::from_be_bytes(bytes)
            } else {
                u32::from_le_bytes(bytes)
            }
        };
        // Its type reads the same in both orders; the byte order stands behind it.
        if word(0, false) == SECTION_HEADER {
            section.big_endian = match bytes[8..12] {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ if self.window.offset() == 0 => return Err(CaptureError::Unknown),
                _ => return Err(self.damaged("block", "it has no byte order")),
            };
            section.interfaces.clear();
        }
        let (kind, length) = (word(0, section.big_endian), word(4, section.big_endian));
        if length < SHORTEST {
            return Err(self.damaged("block", "it is shorter than any block"));
        }
        Ok((kind, length))
    }
}

impl Section {
    /// Takes note of a whole block; returns the packet that is in it, or why it can't be read.
    fn read<'a>(&mut self, block: &'a [u8]) -> Result<Option<Found<'a>>, &'static str> {
        let parsed = if self.big_endian {
            parse_block_be(block)
        } else {
            parse_block_le(block)
        };
        let (interface, data, most, original) = match parsed {
            Ok((_, Block::SectionHeader(_))) => return Ok(None),
            Ok((_, Block::InterfaceDescription(block))) => {
                self.interfaces.push(Interface {
                    framing: Framing::of(block.linktype.0),
                    snap_length: block.snaplen,
                });
                return Ok(None);
            }
            Ok((_, Block::EnhancedPacket(block))) => {
                let interface = self.interfaces.get(block.if_id as usize);
                (interface, block.data, block.caplen, block.origlen)
            }
            // It does not say how much of the packet was captured.
            Ok((_, Block::SimplePacket(block))) => {
                let interface = self.interfaces.first();
                let limit = interface.map(|interface| interface.snap_length);
                let limit = limit.filter(|&limit| limit > 0).unwrap_or(u32::MAX);
                let most = block.origlen.min(limit);
                (interface, block.data, most, block.origlen)
            }
            Ok(_) | Err(_) => return Err("its lengths don't fit"),
        };
        let interface = interface.ok_or("it is of an interface that is not described")?;
        Ok(Some(Found {
            framing: interface.framing,
            // Behind them there may be padding.
            bytes: &data[..data.len().min(most as usize)],
            original,
        }))
    }
}
