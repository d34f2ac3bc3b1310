//! Reading a header at an offset, bounds-checked.

use core::{mem::size_of, ops::Deref};

use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    vlan::VlanHdr,
};

/// A received frame, from its first byte to its last.
pub trait Frame {
    /// The header that begins `offset` bytes into the frame, or `None` where the frame ends before the header does.
    fn read<T: Header>(&self, offset: usize) -> Option<T>;

    /// The headers that the frame begins with, where they can be had without more ado; `None` says nothing of the frame. Where they lie, and not
    /// a copy: what is not asked for is not read. They must not need to be aligned.
    fn first<T: Header>(&self) -> Option<impl Deref<Target = T>>;

    /// What the kernel says of the frame; `None` where it has not looked at it yet, so that only the frame itself can tell.
    #[inline(always)]
    fn said(&self) -> Option<Said> {
        None
    }
}

/// What the kernel says of a frame that it has begun to take apart. Such a frame begins behind what was taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// What it begins with: an EtherType in network byte order, as it would stand in front of it.
    pub kind: u16,
    /// How many VLAN tags were taken off and are still to be heeded.
    pub tags: usize,
}

/// A header's fixed part.
///
/// # Safety
/// Every bit pattern of the type's size must be a value of it.
pub unsafe trait Header: Copy + 'static {}

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
// SAFETY: as above.
unsafe impl<const N: usize> Header for [u16; N] {}

/// A frame in memory, as tests and fuzzers have it.
impl Frame for [u8] {
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let bytes = self.get(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: `bytes` is as long as `T`, any bytes are a `T`, and the read does not ask for alignment.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    fn first<T: Header>(&self) -> Option<impl Deref<Target = T>> {
        const { assert!(align_of::<T>() == 1) };
        let bytes = self.get(..size_of::<T>())?;
        // SAFETY: `bytes` is as long as `T`, any bytes are a `T`, and it need not be aligned.
        Some(unsafe { &*bytes.as_ptr().cast::<T>() })
    }
}
