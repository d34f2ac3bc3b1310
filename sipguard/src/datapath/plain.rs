//! What may be copied into maps and out of them.

use super::text::CHUNK;
use sipguard_ebpf::{
    abi::{Answer, Counter, Key, Lengths, Value},
    prefix::{V4, V6},
};

/// A type without padding that any bytes are a value of.
///
/// # Safety
/// It must be just that.
pub(super) unsafe trait Plain: Copy {
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
