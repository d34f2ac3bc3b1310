//! pcapng: blocks of many kinds, in sections that have a byte order and interfaces of their own (draft-ietf-opsawg-pcapng).

use super::{
    CaptureError, Captured, Direction, LONGEST, Order, Packet, Reader,
    link::Link,
    time::{Clock, Time},
};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Type and length at the beginning, length again at the end.
const SHORTEST: usize = 12;

/// So many interfaces are noted of one section. A machine that has more captures on one of them.
const INTERFACES: usize = 1 << 16;

/// What the blocks that follow have in common.
#[derive(Default)]
struct Section {
    order: Order,
    interfaces: Vec<Interface>,
}

struct Interface {
    link: Link,
    /// In bytes; 0 where there is no limit.
    snap_length: u32,
    /// None where it counts in parts that no number is for.
    clock: Option<Clock>,
}

impl Reader<'_> {
    pub(super) fn pcapng<E: From<CaptureError>>(
        &mut self,
        each: &mut impl FnMut(Packet<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut section = Section::default();
        while self.window.have(1)? {
            let (kind, length) = self.block(&mut section)?;
            let what = match kind {
                OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET => "packet",
                SECTION_HEADER | INTERFACE_DESCRIPTION => "block",
                // Names, statistics, secrets, notes.
                _ => {
                    self.skip(length as u64, "block")?;
                    continue;
                }
            };
            let here = self.need(length, what)?;
            let block = &self.window.bytes()[..here];
            let found = section.read(kind, block, length);
            let found = found.map_err(|why| self.damaged(what, why))?;
            if let Some(packet) = &found {
                self.hand_over(packet, each)?;
            }
            if here == length {
                self.window.consume(length);
            } else {
                self.skip(length as u64, "block")?;
            }
        }
        Ok(())
    }

    /// The type and the length of the block that begins here; one that begins a section says how both are to be read.
    fn block(&mut self, section: &mut Section) -> Result<(u32, usize), CaptureError> {
        self.need(SHORTEST, "block")?;
        let bytes = self.window.bytes();
        // Its type reads the same in both orders; the byte order stands behind it.
        if Order::Little.u32(bytes, 0) == SECTION_HEADER {
            section.order = match bytes[8..12] {
                [0x1a, 0x2b, 0x3c, 0x4d] => Order::Big,
                [0x4d, 0x3c, 0x2b, 0x1a] => Order::Little,
                _ if self.window.offset() == 0 => return Err(CaptureError::Unknown),
                _ => return Err(self.damaged("block", "it has no byte order")),
            };
            section.interfaces.clear();
        }
        let kind = section.order.u32(bytes, 0);
        let length = section.order.u32(bytes, 4) as usize;
        if length < SHORTEST {
            return Err(self.damaged("block", "it is shorter than any block"));
        }
        Ok((kind, length))
    }
}

/// What a block says that is as it should be.
const DONT_FIT: &str = "its lengths don't fit";

impl Section {
    /// Takes note of a block, or of the beginning of a long one; returns the packet that is in it, or why it can't be read.
    fn read(
        &mut self,
        kind: u32,
        block: &[u8],
        length: usize,
    ) -> Result<Option<Captured>, &'static str> {
        let order = self.order;
        let is_whole = block.len() == length;
        // Where what all kinds of blocks have at their end begins.
        let end = length - 4;
        if is_whole && order.u32(block, end) as usize != length {
            return Err("its two lengths differ");
        }
        let fixed = match kind {
            SECTION_HEADER => 24,
            INTERFACE_DESCRIPTION => 16,
            SIMPLE_PACKET => 12,
            _ => 28,
        };
        if fixed > end {
            return Err(DONT_FIT);
        }
        match kind {
            SECTION_HEADER => {
                // Of 1.x what is newer can be skipped.
                if order.u16(block, 12) != 1 {
                    return Err("it is of a version that is not known");
                }
                Ok(None)
            }
            INTERFACE_DESCRIPTION => {
                if !is_whole {
                    return Err("it is longer than 1 MiB");
                }
                let interface = interface(order, block, end)?;
                if self.interfaces.len() == INTERFACES {
                    return Err("there are more than 65,536 interfaces");
                }
                self.interfaces.push(interface);
                Ok(None)
            }
            _ => self.packet(kind, block, end, is_whole).map(Some),
        }
    }

    fn packet(
        &self,
        kind: u32,
        block: &[u8],
        end: usize,
        is_whole: bool,
    ) -> Result<Captured, &'static str> {
        let order = self.order;
        let word = |at| order.u32(block, at);
        let number = match kind {
            SIMPLE_PACKET => 0,
            // How many were lost stands in the other half.
            OBSOLETE_PACKET => usize::from(order.u16(block, 8)),
            _ => word(8) as usize,
        };
        let Some(interface) = self.interfaces.get(number) else {
            return Err("it is of an interface that is not described");
        };
        let (begin, kept, length, ticks) = if kind == SIMPLE_PACKET {
            // It does not say how much of the packet was captured.
            let limit = Some(interface.snap_length).filter(|&limit| limit > 0);
            let kept = word(8).min(limit.unwrap_or(u32::MAX));
            (12, kept, word(8), None)
        } else {
            let ticks = u64::from(word(12)) << 32 | u64::from(word(16));
            (28, word(20), word(24), Some(ticks))
        };
        let packet_end = begin + kept as usize;
        if packet_end > end {
            return Err(DONT_FIT);
        }
        let mut direction = None;
        if is_whole && kind != SIMPLE_PACKET {
            // Behind the packet there may be padding, and options behind that.
            let options = block[..end].get(packet_end.next_multiple_of(4)..);
            for option in options
                .map(|options| Options { order, options })
                .into_iter()
                .flatten()
            {
                // The same in both kinds: `epb_flags`, `pack_flags`.
                if let (2, &[_, _, _, _]) = option? {
                    let (_, flags) = option?;
                    direction = match order.u32(flags, 0) & 3 {
                        1 => Some(Direction::In),
                        2 => Some(Direction::Out),
                        _ => None,
                    };
                }
            }
        }
        let clock = interface.clock;
        Ok(Captured {
            link: interface.link,
            order,
            time: clock.and_then(|clock| ticks.map(|ticks| Time { ticks, clock })),
            direction,
            length,
            kept,
            begin,
            end: packet_end.min(begin + LONGEST).min(block.len()),
        })
    }
}

fn interface(order: Order, block: &[u8], end: usize) -> Result<Interface, &'static str> {
    let mut clock = Some(Clock::of(1_000_000));
    let mut offset = 0;
    let options = &block[16..end];
    for option in (Options { order, options }) {
        match option? {
            // `if_tsresol`: a power of two where the highest bit is set, or of ten.
            (9, &[power]) => {
                let base: u64 = if power & 0x80 == 0 { 10 } else { 2 };
                clock = base.checked_pow(u32::from(power & 0x7f)).map(Clock::of);
            }
            // `if_tsoffset`
            (14, value) => {
                if let Ok(bytes) = <[u8; 8]>::try_from(value) {
                    offset = match order {
                        Order::Little => i64::from_le_bytes(bytes),
                        Order::Big => i64::from_be_bytes(bytes),
                    };
                }
            }
            _ => {}
        }
    }
    Ok(Interface {
        link: Link(order.u16(block, 8)),
        snap_length: order.u32(block, 12),
        clock: clock.map(|clock| Clock { offset, ..clock }),
    })
}

/// The options of a block: number and value, up to the one that ends them or to the block's end.
struct Options<'b> {
    order: Order,
    options: &'b [u8],
}

impl<'b> Iterator for Options<'b> {
    type Item = Result<(u16, &'b [u8]), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.options;
        self.options = &[];
        if bytes.len() < 4 {
            return None;
        }
        let (number, length) = (self.order.u16(bytes, 0), self.order.u16(bytes, 2));
        if number == 0 {
            return None;
        }
        let end = 4 + usize::from(length);
        let Some(value) = bytes.get(4..end) else {
            return Some(Err("its options are longer than it is"));
        };
        self.options = bytes.get(end.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok((number, value)))
    }
}
