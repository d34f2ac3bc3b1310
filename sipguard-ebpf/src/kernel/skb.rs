//! A packet as the kernel hands it over at TC ingress.
//!
//! By then it knows what the packet is: the number of its protocol was read from the link-layer header, or said by the tunnel that it came
//! through, and where it begins is where the network header is. Both are asked for, instead of reading again what stands in front: not all
//! that comes in has an Ethernet header there (own multicast that is looped back), or one that is fourteen bytes long (a VLAN that leaves
//! tags where they are), and what stands in front of a tunnel's packets is the outer header.

use core::{
    ffi::c_void,
    mem::{MaybeUninit, size_of},
};

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_hdr_start_off::BPF_HDR_START_NET,
    helpers::{bpf_skb_load_bytes_relative, bpf_skb_pull_data},
    programs::TcContext,
};
use network_types::vlan::VlanHdr;
use sipguard_ebpf::frame::{Frame, Header, Said};

use super::received::{Received, Size};

/// More than what can stand in front of the network header: link-layer headers, and a tunnel's outer ones.
const FRONT: u32 = 256;

/// A packet, from its network header on.
pub(super) struct Skb {
    ctx: TcContext,
}

impl Skb {
    #[inline(always)]
    pub(super) fn new(ctx: TcContext) -> Self {
        Self { ctx }
    }

    /// Whether a header could be read from the packet's first piece.
    #[inline(always)]
    fn load<T: Header>(&self, offset: usize, header: &mut MaybeUninit<T>) -> bool {
        // SAFETY: the helper takes the context it was made for, and writes all bytes of `header`.
        let result = unsafe {
            bpf_skb_load_bytes_relative(
                self.ctx.as_ptr(),
                offset as u32,
                header.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                BPF_HDR_START_NET,
            )
        };
        result == 0
    }
}

impl Frame for Skb {
    #[inline(always)]
    fn first<T: Header>(&self) -> Option<T> {
        let mut header = MaybeUninit::<T>::uninit();
        let loaded = self.load(0, &mut header);
        // SAFETY: the helper has filled it, and any bytes are a `T`.
        loaded.then(|| unsafe { header.assume_init() })
    }

    #[inline(always)]
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let mut header = MaybeUninit::<T>::uninit();
        if !self.load(offset, &mut header) {
            // It ends there, or goes on in another piece. Of a packet that passes, the stack pulls its headers into the first piece, too.
            let end = offset as u32 + size_of::<T>() as u32 + FRONT;
            // SAFETY: the helper takes the context it was made for.
            let pulled = unsafe { bpf_skb_pull_data(self.ctx.skb.skb, end.min(self.ctx.len())) };
            if pulled != 0 || !self.load(offset, &mut header) {
                return None;
            }
        }
        // SAFETY: the helper has filled it, and any bytes are a `T`.
        Some(unsafe { header.assume_init() })
    }

    #[inline(always)]
    fn said(&self) -> Option<Said> {
        // SAFETY: the kernel rewrites these reads of the context to reads of what it stands for.
        let (protocol, tagged) = unsafe {
            let skb = self.ctx.skb.skb;
            ((*skb).protocol, (*skb).vlan_present)
        };
        Some(Said {
            kind: protocol as u16,
            tags: tagged as usize,
        })
    }
}

impl Received for Skb {
    type Context = TcContext;

    #[inline(always)]
    fn of(context: *mut c_void) -> Self {
        Self::new(TcContext::new(context.cast()))
    }

    /// Of what the kernel has put together (GRO), the number of frames that it was made of, and the bytes that are left of them. A tag that
    /// was taken off is still one of the frame's.
    #[inline(always)]
    fn size(&self, _: usize) -> Size {
        // SAFETY: as above.
        let (segments, bytes, tagged) = unsafe {
            let skb = self.ctx.skb.skb;
            ((*skb).gso_segs, (*skb).len, (*skb).vlan_present)
        };
        Size {
            packets: u64::from(segments.max(1)),
            bytes: u64::from(bytes) + u64::from(tagged) * size_of::<VlanHdr>() as u64,
        }
    }

    #[inline(always)]
    fn context(&self) -> &TcContext {
        &self.ctx
    }
}
