//! Reading a header at an offset, bounds-checked.

use core::mem::size_of;

use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    vlan::VlanHdr,
};

/// A received frame, from its first byte to its last.
pub trait Frame {
    /// The header that begins `offset` bytes into the frame, or `None` where the frame ends before the header does.
    fn read<T: Header>(&self, offset: usize) -> Option<T>;

    /// The headers that the frame begins with, where they can be had without more ado; `None` says nothing of the frame.
    fn first<T: Header>(&self) -> Option<T>;
}

/// A header's fixed part.
///
/// # Safety
/// Every bit pattern of the type's size must be a value of it.
pub unsafe trait Header: Copy {}

// SAFETY: the structures consist of integers and arrays of bytes.
unsafe impl Header for EthHdr {}
// SAFETY: as above.
unsafe impl Header for VlanHdr {}
// SAFETY: as above.
unsafe impl Header for Ipv4Hdr {}
// SAFETY: as above.
unsafe impl Header for Ipv6Hdr {}
// SAFETY: bytes.
unsafe impl<const N: usize> Header for [u8; N] {}

/// A frame in memory, as tests and fuzzers have it.
impl Frame for [u8] {
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let bytes = self.get(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: `bytes` is as long as `T`, any bytes are a `T`, and the read does not ask for alignment.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    fn first<T: Header>(&self) -> Option<T> {
        self.read(0)
    }
}
