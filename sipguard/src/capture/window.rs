//! The part of a file that is being looked at.

use std::io::{ErrorKind, Read};

use super::CaptureError;

/// How much is read at once: what a processor has near.
const CHUNK: usize = 256 << 10;

/// Grows to what is asked for and no further.
pub(super) struct Window<'i> {
    input: Box<dyn Read + 'i>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the file in front of `start`.
    offset: u64,
}

impl<'i> Window<'i> {
    pub(super) fn new(input: Box<dyn Read + 'i>) -> Self {
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
    #[inline]
    pub(super) fn have(&mut self, length: usize) -> Result<bool, CaptureError> {
        if self.end - self.start >= length {
            return Ok(true);
        }
        self.fill(length)
    }

    #[cold]
    fn fill(&mut self, length: usize) -> Result<bool, CaptureError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < length {
            self.buffer.resize(length.next_multiple_of(CHUNK), 0);
        }
        while self.end < length {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    let offset = self.offset + self.end as u64;
                    return Err(CaptureError::Read { offset, error });
                }
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
    pub(super) fn skip(&mut self, mut length: u64) -> Result<bool, CaptureError> {
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
