//! Captures, as tcpdump and Wireshark write them: pcap (micro- and nanoseconds) and pcapng, of either byte order, as they are or compressed
//! with gzip or Zstandard. They are read once from the first packet to the last, with no more than one of them in memory, so that a pipe will do
//! and size does not matter. No packet is copied but those that have to be put together.

mod frame;
mod link;
mod pcap;
mod pcapng;
mod time;
mod unpack;
mod window;
mod writer;

use std::io::{self, Read};

pub use self::{
    frame::{Begins, Frame},
    link::Unread,
    time::Time,
    writer::Writer,
};
use self::{link::Link, window::Window};

/// Why a capture can't be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The system can't read it, or what is compressed is damaged.
    #[error("it can't be read behind byte {offset}: {error}")]
    Read {
        /// How much of it could be, in bytes; of what is compressed, unpacked.
        offset: u64,
        /// Why no more.
        error: io::Error,
    },
    /// There is nothing in it, not even a header.
    #[error("it is empty")]
    Empty,
    /// It is something else.
    #[error("it is neither a pcap nor a pcapng capture")]
    Unknown,
    /// It is compressed, by something that is not read.
    #[error(
        "it is compressed with {0}: unpack it on the way, as in `{0}cat FILE | sipguard check --pcap -`"
    )]
    Compressed(&'static str),
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
}

/// Which way a packet went, as seen from where it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It came in.
    In,
    /// It was sent.
    Out,
}

/// One packet of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Counted from 1.
    pub number: u64,
    /// What an interface would have delivered, or why nobody can tell.
    pub frame: Result<Frame<'a>, Unread>,
    /// Where the capture says it.
    pub direction: Option<Direction>,
    /// When it was captured, where the capture says it.
    pub time: Option<Time>,
    /// Its length in bytes before it was cut, with the header that the capture's link type says.
    pub length: u32,
    /// How many of these bytes are in the capture.
    pub captured: u32,
}

impl Packet<'_> {
    /// Whether it was longer than what was captured of it.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.length > self.captured
    }
}

/// Of packets that are longer than this only so much is handed over, in bytes: twice what the kernel puts together (BIG TCP).
pub const LONGEST: usize = 1 << 20;

/// Hands every packet to `each`, in the order of the file, until that fails or the capture ends.
///
/// # Errors
/// [`CaptureError`], after all packets in front of the place that is wrong; and what `each` says.
pub fn read<E: From<CaptureError>>(
    input: impl Read,
    mut each: impl FnMut(Packet<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = Reader {
        window: Window::new(unpack::unpacked(Box::new(input))?),
        packets: 0,
        scratch: Vec::new(),
    };
    // The longer of the two magic numbers; a file that is shorter is neither.
    reader.window.have(4)?;
    match *reader.window.bytes() {
        [] => Err(CaptureError::Empty.into()),
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => reader.pcapng(&mut each),
        _ => reader.pcap(&mut each),
    }
}

/// The order in which a file, or a part of it, has the bytes of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Little,
    Big,
}

impl Order {
    /// The number that begins at an offset, which must be inside.
    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let bytes = [bytes[at], bytes[at + 1]];
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    /// As [`Order::u16`].
    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

struct Reader<'i> {
    window: Window<'i>,
    /// How many were handed over.
    packets: u64,
    /// For frames that have to be put together.
    scratch: Vec<u8>,
}

/// A packet as the file has it.
struct Captured {
    link: Link,
    order: Order,
    time: Option<Time>,
    /// Where the file says it beside the packet.
    direction: Option<Direction>,
    /// Before and after it was cut, in bytes.
    length: u32,
    kept: u32,
    /// Where it is in the window; shorter than `kept` where that is more than [`LONGEST`].
    begin: usize,
    end: usize,
}

impl Reader<'_> {
    /// Reads on until so many bytes are there, or of more than [`LONGEST`] the first; returns how many are.
    fn need(&mut self, length: usize, what: &str) -> Result<usize, CaptureError> {
        /// A hundred times what a packet can be. A length beyond is a damaged one.
        const MOST: usize = 16 << 20;
        if length > MOST {
            return Err(self.damaged(what, "it would be longer than 16 MiB"));
        }
        // The beginning of a block that holds such a packet is there, too.
        let here = length.min(LONGEST + 64);
        if self.window.have(here)? {
            Ok(here)
        } else {
            Err(self.cut(what))
        }
    }

    /// Goes on behind bytes, whether they are there or not.
    fn skip(&mut self, length: u64, what: &str) -> Result<(), CaptureError> {
        let offset = self.window.offset();
        if self.window.skip(length)? {
            Ok(())
        } else {
            Err(CaptureError::Cut {
                what: self.named(what),
                offset,
            })
        }
    }

    fn hand_over<E>(
        &mut self,
        captured: &Captured,
        each: &mut impl FnMut(Packet<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.packets += 1;
        let bytes = &self.window.bytes()[captured.begin..captured.end];
        let link::Found { frame, direction } =
            captured
                .link
                .frame(bytes, captured.order, &mut self.scratch);
        each(Packet {
            number: self.packets,
            frame,
            direction: direction.or(captured.direction),
            time: captured.time,
            length: captured.length,
            captured: captured.kept,
        })
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

#[cfg(test)]
mod tests;
