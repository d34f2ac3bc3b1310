//! A packet as the kernel hands it over at TC ingress.
//!
//! By then it knows what the packet is: the number of its protocol was read from the link-layer header, or said by the tunnel that it came
//! through, and where it begins is where the network header is. Both are asked for, instead of reading again what stands in front: not all
//! that comes in has an Ethernet header there (own multicast that is looped back), or one that is fourteen bytes long (a VLAN that leaves
//! tags where they are), and what stands in front of a tunnel's packets is the outer header.

use core::{
    ffi::c_void,
    mem::{MaybeUninit, size_of},
    ops::Deref,
};

use aya_ebpf::{
    EbpfContext as _,
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_hdr_start_off::BPF_HDR_START_NET},
    helpers::{bpf_skb_load_bytes_relative, bpf_skb_pull_data},
    macros::map,
    maps::ProgramArray,
    programs::TcContext,
};
use network_types::vlan::VlanHdr;
use sipguard_ebpf::frame::{Frame, Header, Said};

use super::received::{Contents, Received, Size, UNKNOWN};

/// Holds [`super::tc::tell_tc`].
#[map]
static TELLERS_TC: ProgramArray = ProgramArray::with_max_entries(1, 0);

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

    /// How many bytes stand in front of the network header. The kernel does not say it, but both ways of reading end where the first piece ends,
    /// and what can be read from there is shorter by them.
    #[inline(always)]
    fn front(&self) -> Option<u32> {
        let first = (self.ctx.data_end() - self.ctx.data()) as u32;
        // SAFETY: the address of a variable. Read anew, so that nothing else is calculated with addresses, which the verifier takes no part in.
        let first = unsafe { (&raw const first).read_volatile() };
        let mut byte = MaybeUninit::<[u8; 1]>::uninit();
        let mut front = 0;
        while front < FRONT {
            let offset = first.wrapping_sub(front + 1);
            if self.load(offset as usize, &mut byte) {
                return Some(front);
            }
            // Whatever stands there is an even number of bytes.
            front += 2;
        }
        None
    }
}

/// A header that was read.
struct Loaded<T>(MaybeUninit<T>);

impl<T> Deref for Loaded<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the helper has filled it, and any bytes are a `T`.
        unsafe { self.0.assume_init_ref() }
    }
}

impl Frame for Skb {
    #[inline(always)]
    fn first<T: Header>(&self) -> Option<impl Deref<Target = T>> {
        let mut header = MaybeUninit::<T>::uninit();
        self.load(0, &mut header).then(|| Loaded(header))
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
    /// Whoever is next is asked.
    const PASS: u32 = TC_ACT_UNSPEC.cast_unsigned();
    const DROP: u32 = TC_ACT_SHOT.cast_unsigned();

    #[inline(always)]
    fn of(context: *mut c_void) -> Self {
        Self::new(TcContext::new(context.cast()))
    }

    /// The kernel says it.
    #[inline(always)]
    fn known(&self, _: usize) -> usize {
        UNKNOWN
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

    #[inline(always)]
    fn tellers() -> &'static ProgramArray {
        &TELLERS_TC
    }

    #[inline(always)]
    fn contents(&self) -> Contents {
        // SAFETY: as above.
        let (protocol, tagged, tag) = unsafe {
            let skb = self.ctx.skb.skb;
            let tag = [
                u16::from_be((*skb).vlan_proto as u16),
                (*skb).vlan_tci as u16,
            ];
            ((*skb).protocol, (*skb).vlan_present, tag)
        };
        let (front, bytes) = match self.front() {
            Some(front) => (front, self.ctx.len()),
            None => (0, 0),
        };
        Contents {
            kind: u16::from_be(protocol as u16),
            front,
            tag: if tagged == 0 { [0; 2] } else { tag },
            bytes,
        }
    }
}
