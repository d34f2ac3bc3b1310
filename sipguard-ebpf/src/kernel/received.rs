//! A frame that came in, as all that judges it sees it.

use core::ffi::c_void;

use aya_ebpf::{EbpfContext, maps::ProgramArray};
use sipguard_ebpf::frame::Frame;

/// A frame that came in.
pub(super) trait Received: Frame {
    /// What the kernel handed over.
    type Context: EbpfContext;

    /// What a program returns that lets it pass.
    const PASS: u32;

    /// What one returns that drops it.
    const DROP: u32;

    /// The frame of this context, which must be of that kind.
    fn of(context: *mut c_void) -> Self;

    /// How many bytes it has if the packet's last byte is where `last` says, or [`UNKNOWN`].
    fn known(&self, last: usize) -> usize;

    /// What is to be counted.
    fn size(&self, known: usize) -> Size;

    fn context(&self) -> &Self::Context;

    /// Where the program is that tells of frames of this kind: the kernel has programs lead to their like alone.
    fn tellers() -> &'static ProgramArray;

    /// What the bytes are that the kernel hands to a listener.
    fn contents(&self) -> Contents;
}

/// Stands where a frame's length would that is to be asked for.
pub(super) const UNKNOWN: usize = 0;

/// What a verdict is counted for.
pub(super) struct Size {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

/// As [`sipguard_ebpf::event::Record`] has them.
pub(super) struct Contents {
    pub(super) kind: u16,
    pub(super) front: u32,
    pub(super) tag: [u16; 2],
    /// How many there are.
    pub(super) bytes: u32,
}
