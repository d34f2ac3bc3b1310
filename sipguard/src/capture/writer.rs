//! Writing captures: pcapng with one interface. (A second interface block stops tcpdump.)

use std::io::{self, Write};

use jiff::Timestamp;

use super::frame::Frame;

/// A capture being written, of frames that begin with an Ethernet header.
pub struct Writer<W> {
    out: W,
    scratch: Vec<u8>,
    block: Vec<u8>,
}

/// `opt_comment`
const COMMENT: u16 = 1;

impl<W: Write> Writer<W> {
    /// Begins one.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(mut out: W) -> io::Result<Self> {
        let mut begin = Vec::new();
        let application = concat!("sipguard ", env!("CARGO_PKG_VERSION"));
        block(&mut begin, 0x0a0d_0d0a, |it| {
            it.extend(0x1a2b_3c4d_u32.to_le_bytes());
            it.extend([1, 0, 0, 0]);
            // Nobody knows yet how long it will be.
            it.extend([0xff; 8]);
            // `shb_userappl`
            option(it, 4, application.as_bytes());
            option(it, 0, &[]);
        });
        block(&mut begin, 1, |it| {
            // Ethernet, of any length.
            it.extend([1, 0, 0, 0, 0, 0, 0, 0]);
            // `if_tsresol`: nanoseconds.
            option(it, 9, &[9]);
            option(it, 0, &[]);
        });
        out.write_all(&begin)?;
        Ok(Self {
            out,
            scratch: Vec::new(),
            block: begin,
        })
    }

    /// Adds a packet that was `length` bytes long before it was cut to what the frame has, with a comment of at most 65,535 bytes. What has no
    /// Ethernet header gets one without addresses.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(
        &mut self,
        time: Option<Timestamp>,
        frame: &Frame<'_>,
        length: usize,
        comment: &str,
    ) -> io::Result<()> {
        let added = frame.ethernet_added();
        let bytes = frame.with_ethernet(&mut self.scratch);
        let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let time = time.map_or(0, Timestamp::as_nanosecond);
        let time = u64::try_from(time).unwrap_or(0);
        self.block.clear();
        block(&mut self.block, 6, |it| {
            it.extend([0; 4]);
            // The upper half first, in whatever order their bytes are.
            it.extend(time.rotate_left(32).to_le_bytes());
            it.extend(size(bytes.len()));
            it.extend(size(bytes.len().max(length + added)));
            it.extend(bytes);
            pad(it);
            option(it, COMMENT, comment.as_bytes());
            option(it, 0, &[]);
        });
        self.out.write_all(&self.block)
    }

    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Gives back what it was written to.
    pub fn into_inner(self) -> W {
        self.out
    }
}

fn block(out: &mut Vec<u8>, kind: u32, content: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    content(out);
    let length = u32::try_from(out.len() - begin + 4).unwrap_or(u32::MAX);
    out.extend(length.to_le_bytes());
    out[begin + 4..begin + 8].copy_from_slice(&length.to_le_bytes());
}

fn option(out: &mut Vec<u8>, number: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let value = &value[..usize::from(length)];
    out.extend(number.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(value);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}
