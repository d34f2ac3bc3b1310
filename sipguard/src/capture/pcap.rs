//! pcap: a header that says what all packets have in common, and then the packets (draft-ietf-opsawg-pcap).

use super::{
    CaptureError, Captured, Order, Packet, Reader,
    link::{Link, Seen},
    time::{Clock, Time},
};

/// Its header, in bytes.
const HEADER: usize = 24;

/// What all packets have in common.
struct Common {
    order: Order,
    clock: Clock,
    /// How long the header of a packet is, in bytes.
    header: usize,
    link: Link,
}

/// A packet's header of the form that an old libpcap wrote: at 22 it says which way the packet went.
const PATCHED: usize = 24;

impl Reader<'_> {
    pub(super) fn pcap<E: From<CaptureError>>(
        &mut self,
        each: &mut impl FnMut(Packet<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Common {
            order,
            clock,
            header,
            link,
        } = self.pcap_header()?;
        while self.window.have(1)? {
            self.need(header, "packet")?;
            let bytes = self.window.bytes();
            let [seconds, part, kept, length] = [0, 4, 8, 12].map(|at| order.u32(bytes, at));
            let direction = if header == PATCHED {
                Seen::from(u16::from(bytes[22])).direction()
            } else {
                None
            };
            let whole = header + kept as usize;
            let here = self.need(whole, "packet")?;
            let packet = Captured {
                link,
                order,
                time: Some(Time {
                    ticks: u64::from(seconds) * clock.rate + u64::from(part),
                    clock,
                }),
                direction,
                length,
                kept,
                begin: header,
                end: here.min(header + super::LONGEST),
            };
            self.hand_over(&packet, each)?;
            if here == whole {
                self.window.consume(whole);
            } else {
                // Told by its number, which is that of the next one by now.
                self.packets -= 1;
                self.skip(whole as u64, "packet")?;
                self.packets += 1;
            }
        }
        Ok(())
    }

    fn pcap_header(&mut self) -> Result<Common, CaptureError> {
        self.window.have(HEADER)?;
        let bytes = self.window.bytes();
        let Some(magic) = bytes.first_chunk() else {
            return Err(CaptureError::Unknown);
        };
        let order = if magic[0] == 0xa1 {
            Order::Big
        } else {
            Order::Little
        };
        let (rate, header) = match order.u32(magic, 0) {
            0xa1b2_c3d4 => (1_000_000, 16),
            0xa1b2_3c4d => (1_000_000_000, 16),
            0xa1b2_cd34 => (1_000_000, PATCHED),
            _ => return Err(CaptureError::Unknown),
        };
        let _: &[u8; 4] = magic;
        if bytes.len() < HEADER {
            return Err(CaptureError::Cut {
                what: "the header".to_owned(),
                offset: 0,
            });
        }
        // Above these bits stands how long a frame check sequence is; the bytes of one behind a frame change no verdict.
        let [low, high, ..] = order.u32(bytes, 20).to_le_bytes();
        let link = Link(u16::from_le_bytes([low, high]));
        self.window.consume(HEADER);
        Ok(Common {
            order,
            clock: Clock::of(rate),
            header,
            link,
        })
    }
}
