//! Which lengths the prefixes of a service's entries have.

/// The prefix lengths that a service has entries of, longest first: bit `n` counted from the lowest of the first word stands
/// for the length `BITS - n`. A length may stay here after its last entry is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Lengths {
    /// Of IPv4 prefixes: 32 to 0.
    pub v4: [u64; 1],
    /// Of IPv6 prefixes: 128 to 0.
    pub v6: [u64; 3],
}

const _: () = assert!(size_of::<Lengths>() == 32);
