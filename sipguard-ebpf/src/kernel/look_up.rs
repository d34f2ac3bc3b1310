//! The look-up of an IPv6 address among the entries, as a function that the verifier goes through by itself.
//!
//! With a turn of a loop for each of 129 lengths it is the dearest that the verifier meets. In line that is gone through again in each place
//! that asks. A global function (kernel/bpf/verifier.c, `do_check_subprogs`, since Linux 5.6) is gone through once, whatever it is called with.
//! So it takes and returns numbers only, and has a name of its own in the object. What has not passed the prefilter does not pay for the call.

use sipguard_ebpf::{abi::Reason, prefix::V6, verdict::most_specific};

use super::maps::Policy;

/// As [`most_specific`].
#[inline(always)]
pub(super) fn v6(service: u8, V6([high, low]): V6) -> Option<(Reason, u8)> {
    let found = look_up_v6(service.into(), high, low);
    let length = (found >> 8) as u8;
    // An entry allows or denies.
    match found as u8 {
        0 => None,
        reason if reason == Reason::Allowed as u8 => Some((Reason::Allowed, length)),
        _ => Some((Reason::Denied, length)),
    }
}

/// The reason's number in the lowest byte, 0 where nothing was found, and the prefix's length in the next one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look_up_v6(service: u32, high: u64, low: u64) -> u32 {
    match most_specific(&Policy, service as u8, V6([high, low])) {
        Some((reason, length)) => reason as u32 | u32::from(length) << 8,
        None => 0,
    }
}
