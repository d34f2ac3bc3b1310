//! Events as a capture (draft-ietf-opsawg-pcapng): a section, one interface, and a packet an event. A second interface would end tcpdump's reading,
//! so that the interface stands in the packet's comment, with the reason and the service.

use std::io::{self, Write};

use sipguard_lists::said::Said;

use super::Event;

/// Types of blocks.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
/// In which order a section's numbers have their bytes: this one's.
const ORDER: u32 = 0x1a2b_3c4d;
/// Links with an Ethernet header.
const ETHERNET: u16 = 1;
/// Options: what ends them, a comment, in which fractions of a second times are (a power of ten).
const END: u16 = 0;
const COMMENT: u16 = 1;
const RESOLUTION: u16 = 9;
const NANOSECONDS: u8 = 9;

/// Writes events as they come.
pub struct Pcapng<W> {
    out: W,
}

impl<W: Write> Pcapng<W> {
    /// Writes what stands in front of all packets.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn begin(out: W) -> io::Result<Self> {
        let mut capture = Self { out };
        let mut section = ORDER.to_ne_bytes().to_vec();
        // Version 1.0, and a length that is not known.
        section.extend([1_u16, 0].iter().flat_map(|half| half.to_ne_bytes()));
        section.extend(u64::MAX.to_ne_bytes());
        capture.block(SECTION, &section)?;
        let mut interface = ETHERNET.to_ne_bytes().to_vec();
        // Reserved; and packets of any length.
        interface.extend([0; 2 + 4]);
        option(&mut interface, RESOLUTION, &[NANOSECONDS]);
        option(&mut interface, END, &[]);
        capture.block(INTERFACE, &interface)?;
        Ok(capture)
    }

    /// Writes an event.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes();
        let captured = event.bytes.len();
        // What had no Ethernet header got one.
        let length = captured.max(event.length as usize);
        let time = u64::try_from(event.time.as_nanosecond()).unwrap_or_default();
        // The interface, and the time's upper half before its lower one.
        let mut packet = [0; 4].to_vec();
        for half in [time >> 32, time & u64::from(u32::MAX)] {
            packet.extend(u32::try_from(half).unwrap_or_default().to_ne_bytes());
        }
        packet.extend(number(captured));
        packet.extend(number(length));
        packet.extend(&event.bytes);
        pad(&mut packet);
        option(&mut packet, COMMENT, comment(event).as_bytes());
        option(&mut packet, END, &[]);
        self.block(PACKET, &packet)
    }

    /// # Errors
    /// Where it can't be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn block(&mut self, kind: u32, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(12 + content.len()).map_err(io::Error::other)?;
        self.out.write_all(&kind.to_ne_bytes())?;
        self.out.write_all(&length.to_ne_bytes())?;
        self.out.write_all(content)?;
        self.out.write_all(&length.to_ne_bytes())
    }
}

fn option(block: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or_default();
    block.extend(kind.to_ne_bytes());
    block.extend(length.to_ne_bytes());
    block.extend(&value[..usize::from(length)]);
    pad(block);
}

/// All that has a length of its own ends at a multiple of four.
fn pad(block: &mut Vec<u8>) {
    block.resize(block.len().next_multiple_of(4), 0);
}

fn comment(event: &Event) -> String {
    format!(
        "interface {} reason {} service {}",
        Said(&event.interface),
        event.reason.name(),
        Said(event.service.as_deref().unwrap_or("-")),
    )
}
