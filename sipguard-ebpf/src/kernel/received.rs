//! A frame that came in, as all that judges it sees it.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use sipguard_ebpf::frame::Frame;

/// A frame that came in.
pub(super) trait Received: Frame {
    /// What the kernel handed over.
    type Context: EbpfContext;

    /// The frame of this context, which must be of that kind.
    fn of(context: *mut c_void) -> Self;

    /// What is to be counted, if the packet's last byte is where `last` says.
    fn size(&self, last: usize) -> Size;

    fn context(&self) -> &Self::Context;
}

/// What a verdict is counted for.
pub(super) struct Size {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}
