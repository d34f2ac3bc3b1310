//! Captures, as tcpdump and Wireshark write them: pcap (micro- and nanoseconds) and pcapng, of either byte order. They are read from the
//! first packet to the last with no more than one of them in memory, so that a pipe will do and size does not matter.

mod link;
mod pcap;
mod pcapng;
mod window;

use std::io::{self, Read};

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

impl<R: Read> Reader<R> {
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
