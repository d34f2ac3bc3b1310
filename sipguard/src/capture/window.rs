//! The part of a file that is being looked at.

use std::io::{self, ErrorKind, Read};

/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// Grows to what is asked for and no further.
pub(super) struct Window<R> {
    input: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the file in front of `start`.
    offset: u64,
}

impl<R: Read> Window<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            offset: 0,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Where in the file [`Window::bytes`] begin.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads on until there are `length` bytes; false where the file ends before.
    pub(super) fn have(&mut self, length: usize) -> io::Result<bool> {
        while self.end - self.start < length {
            if self.buffer.len() - self.start < length {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
                if self.buffer.len() < length {
                    self.buffer.resize(length + CHUNK, 0);
                }
            }
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Goes on behind bytes that are there.
    pub(super) fn consume(&mut self, length: usize) {
        self.start += length;
        self.offset += length as u64;
    }

    /// Goes on behind bytes, whether they are there or not; false where the file ends before.
    pub(super) fn skip(&mut self, mut length: u64) -> io::Result<bool> {
        while length > 0 {
            if !self.have(1)? {
                return Ok(false);
            }
            let here = self.bytes().len();
            let step = usize::try_from(length).map_or(here, |length| length.min(here));
            self.consume(step);
            length -= step as u64;
        }
        Ok(true)
    }
}
