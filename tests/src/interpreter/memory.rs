//! What a program can reach: pieces of memory at addresses of their own.

use std::collections::BTreeMap;

/// Pieces without an address of their own follow from here on,
const FROM: u64 = 1 << 32;
/// this far apart at least: an access just behind one hits nothing.
const APART: u64 = 0x1000;

/// Pieces of memory with nothing between them.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pieces: BTreeMap<u64, Piece>,
}

/// Bytes that belong together.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How many of them make one element; no access goes beyond an element's end.
    pub element: usize,
    /// Whether programs may change them.
    pub writable: bool,
}

impl Piece {
    /// One element, which programs only read.
    #[must_use]
    pub fn constant(bytes: Vec<u8>) -> Self {
        Self {
            element: bytes.len(),
            bytes,
            writable: false,
        }
    }
}

impl Memory {
    /// Adds a piece; returns its address.
    pub fn place(&mut self, piece: Piece) -> u64 {
        let last = self.pieces.last_key_value();
        let behind = last.map_or(0, |(start, last)| start + last.bytes.len() as u64);
        let address = (behind + APART).next_multiple_of(APART).max(FROM);
        self.pieces.insert(address, piece);
        address
    }

    /// Adds a piece, or puts it into the place of the one that is at this address.
    pub fn place_at(&mut self, address: u64, piece: Piece) {
        self.pieces.insert(address, piece);
    }

    /// The whole piece that begins at this address.
    pub fn piece_mut(&mut self, address: u64) -> Option<&mut Piece> {
        self.pieces.get_mut(&address)
    }

    /// `count` bytes, if they lie in one element.
    #[must_use]
    pub fn bytes(&self, address: u64, count: usize) -> Option<&[u8]> {
        let (start, piece) = self.pieces.range(..=address).next_back()?;
        let offset = usize::try_from(address - start).ok()?;
        within(offset, count, piece.element)?;
        piece.bytes.get(offset..offset + count)
    }

    /// The same to be changed, if programs may.
    pub fn bytes_mut(&mut self, address: u64, count: usize) -> Option<&mut [u8]> {
        let (start, piece) = self.pieces.range_mut(..=address).next_back()?;
        let offset = usize::try_from(address - start).ok()?;
        within(offset, count, piece.element)?;
        let bytes = piece.bytes.get_mut(offset..offset + count)?;
        piece.writable.then_some(bytes)
    }
}

/// Whether so many bytes from there on are of one element.
fn within(offset: usize, count: usize, element: usize) -> Option<()> {
    (offset.checked_rem(element)? + count <= element).then_some(())
}
