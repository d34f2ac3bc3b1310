//! What may be copied into maps and out of them.

use std::slice;

use sipguard_ebpf::{
    abi::{Answer, Counter, Key, Lengths, Value},
    event::{Grant, Record, Teller},
    prefix::{V4, V6},
};

use super::text::CHUNK;

/// A type without padding that any bytes are a value of.
///
/// # Safety
/// It must be just that.
pub(super) unsafe trait Plain: Copy {
    /// What it consists of.
    fn bytes(&self) -> &[u8] {
        // SAFETY: without padding all of it is bytes that may be read.
        unsafe { slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// The value that these bytes begin with, and what follows it.
    fn split_from(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (value, rest) = bytes.split_at_checked(size_of::<Self>())?;
        // SAFETY: so many bytes, of which any are a value; they need not be aligned.
        let value = unsafe { value.as_ptr().cast::<Self>().read_unaligned() };
        Some((value, rest))
    }

    /// The value that consists of zeros.
    fn zero() -> Self {
        // SAFETY: any bytes are a value.
        unsafe { std::mem::zeroed() }
    }
}

// SAFETY: an integer.
unsafe impl Plain for u8 {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: bytes.
unsafe impl Plain for [u8; CHUNK] {}
// SAFETY: `repr(C)`, padding spelled out as fields, integers only; so are the ones below.
unsafe impl Plain for Key<V4> {}
// SAFETY: as above.
unsafe impl Plain for Key<V6> {}
// SAFETY: as above.
unsafe impl Plain for Value {}
// SAFETY: as above.
unsafe impl Plain for Lengths {}
// SAFETY: as above.
unsafe impl Plain for Counter {}
// SAFETY: as above.
unsafe impl Plain for Answer {}
// SAFETY: as above.
unsafe impl Plain for Grant {}
// SAFETY: as above.
unsafe impl Plain for Record {}
// SAFETY: as above.
unsafe impl Plain for Teller {}
