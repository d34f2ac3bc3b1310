//! Captures that are kept compressed.

use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use super::CaptureError;

/// What is in it, whether it is compressed or not.
pub(super) fn unpacked<'i>(
    mut input: Box<dyn Read + 'i>,
) -> Result<Box<dyn Read + 'i>, CaptureError> {
    let mut magic = [0; 6];
    let mut read = 0;
    while read < magic.len() {
        match input.read(&mut magic[read..]) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(CaptureError::Read { offset: 0, error }),
        }
    }
    let magic = &magic[..read];
    let whole = Cursor::new(magic.to_vec()).chain(input);
    match magic {
        // RFC 1952; several may stand behind each other.
        [0x1f, 0x8b, ..] => Ok(Box::new(MultiGzDecoder::new(whole))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Box::new(Zstandard::new(BufReader::new(whole)))),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(CaptureError::Compressed("xz")),
        [b'B', b'Z', b'h', ..] => Err(CaptureError::Compressed("bz")),
        [0x04, 0x22, 0x4d, 0x18, ..] => Err(CaptureError::Compressed("lz4")),
        _ => Ok(Box::new(whole)),
    }
}

/// Zstandard, RFC 8878: frames, of which several may stand behind each other.
struct Zstandard<R> {
    input: R,
    decoder: FrameDecoder,
    is_inside: bool,
}

impl<R: BufRead> Zstandard<R> {
    fn new(input: R) -> Self {
        Self {
            input,
            // What needs more than 128 MiB to be unpacked is refused, as zstd itself does.
            decoder: FrameDecoder::new(),
            is_inside: false,
        }
    }

    /// Unpacked bytes of a frame that has begun; none where it has ended.
    fn inside(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let decoder = &mut self.decoder;
        while decoder.can_collect() == 0 && !decoder.is_finished() {
            decoder
                .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                .map_err(io::Error::other)?;
        }
        let read = decoder.read(bytes)?;
        if read == 0
            && let Some(wanted) = decoder.get_checksum_from_data()
            && decoder.get_calculated_checksum() != Some(wanted)
        {
            return Err(io::Error::other("its checksum is wrong"));
        }
        Ok(read)
    }
}

impl<R: BufRead> Read for Zstandard<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.is_inside {
                let read = self.inside(bytes)?;
                if read > 0 || bytes.is_empty() {
                    return Ok(read);
                }
                self.is_inside = false;
            }
            if self.input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match self.decoder.reset(&mut self.input) {
                Ok(()) => self.is_inside = true,
                // Section 3.1.2: something that is not for us.
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = (&mut self.input).take(length.into());
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}
