//! The BPF object: entry points, maps, counting once at the end.
//!
//! Each entry point is there twice: `…_frags` for kernels that hand on frames in several pieces (5.18 and later), where what lies behind
//! the first piece is asked for, and a plain one for older kernels, which always have the whole frame in one piece.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod kernel;

/// On the host there is nothing to run: the tests of the library are what counts there.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier would refuse the endless loop.
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
