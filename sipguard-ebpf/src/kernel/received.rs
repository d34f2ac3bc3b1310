//! A frame that came in, as all that judges it sees it.

#[cfg(feature = "log")]
use aya_ebpf::EbpfContext;
use sipguard_ebpf::frame::Frame;

/// A frame that came in.
pub(super) trait Received: Frame {
    /// What the kernel handed over.
    #[cfg(feature = "log")]
    type Context: EbpfContext;

    /// What is to be counted, if the packet's last byte is where `last` says.
    fn size(&self, last: usize) -> Size;

    #[cfg(feature = "log")]
    fn context(&self) -> &Self::Context;
}

/// What a verdict is counted for.
pub(super) struct Size {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}
