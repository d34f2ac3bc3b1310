//! A frame as a driver hands it over.

use core::{
    ffi::c_void,
    marker::PhantomData,
    mem::{MaybeUninit, size_of},
    ops::Deref,
};

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    helpers::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    macros::map,
    maps::ProgramArray,
    programs::XdpContext,
};
use network_types::eth::EtherType;
use sipguard_ebpf::{
    abi::LinkKind,
    frame::{Frame, Header},
};

use super::{
    constants,
    received::{Contents, Received, Size, UNKNOWN},
};

/// Holds [`super::xdp::tell`], or [`super::xdp::tell_frags`].
#[map]
static TELLERS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// A frame; with `FRAGS` it may go on behind the piece that can be read directly.
pub(super) struct Packet<const FRAGS: bool> {
    ctx: XdpContext,
}

impl<const FRAGS: bool> Packet<FRAGS> {
    #[inline(always)]
    pub(super) fn new(ctx: XdpContext) -> Self {
        Self { ctx }
    }

    /// A header in the piece that can be read directly.
    #[inline(always)]
    fn direct<T: Header>(&self, offset: usize) -> Option<There<'_, T>> {
        let address = self.ctx.data() + offset;
        (address + size_of::<T>() <= self.ctx.data_end()).then_some(There {
            address,
            frame: PhantomData,
        })
    }
}

/// A header that lies inside a frame. Where it is is a number: of a pointer the program would ask whether it is null.
struct There<'f, T> {
    address: usize,
    frame: PhantomData<&'f T>,
}

impl<T: Header> There<'_, T> {
    /// The header itself.
    #[inline(always)]
    fn read(&self) -> T {
        // SAFETY: the bytes lie inside the frame, any bytes are a `T`, and the read does not ask for alignment.
        unsafe { (self.address as *const T).read_unaligned() }
    }
}

impl<T> Deref for There<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        const { assert!(align_of::<T>() == 1) };
        // SAFETY: its bytes lie inside the frame while the program runs, any bytes are a `T`, and it need not be aligned.
        unsafe { &*(self.address as *const T) }
    }
}

impl<const FRAGS: bool> Frame for Packet<FRAGS> {
    #[inline(always)]
    fn first<T: Header>(&self) -> Option<impl Deref<Target = T>> {
        self.direct(0)
    }

    #[inline(always)]
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        let direct = self.direct::<T>(offset).map(|there| there.read());
        if !FRAGS || direct.is_some() {
            return direct;
        }
        let mut header = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes all bytes of `header` or fails.
        let result = unsafe {
            bpf_xdp_load_bytes(
                self.ctx.as_ptr().cast(),
                offset as u32,
                header.as_mut_ptr().cast(),
                size_of::<T>() as u32,
            )
        };
        // SAFETY: the helper has filled it, and any bytes are a `T`.
        (result == 0).then(|| unsafe { header.assume_init() })
    }
}

impl<const FRAGS: bool> Received for Packet<FRAGS> {
    type Context = XdpContext;
    const PASS: u32 = XDP_PASS;
    const DROP: u32 = XDP_DROP;

    #[inline(always)]
    fn of(context: *mut c_void) -> Self {
        Self::new(XdpContext::new(context.cast()))
    }

    /// Asking for the whole frame's length costs more than all of a packet's parsing: a packet that ends in the first piece is taken to be
    /// the whole frame.
    #[inline(always)]
    fn known(&self, last: usize) -> usize {
        let first_piece = self.ctx.data_end() - self.ctx.data();
        if FRAGS && last >= first_piece {
            UNKNOWN
        } else {
            first_piece
        }
    }

    #[inline(always)]
    fn size(&self, known: usize) -> Size {
        let bytes = if FRAGS && known == UNKNOWN {
            // SAFETY: the helper takes the context it was made for.
            unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) }
        } else {
            known as u64
        };
        Size { packets: 1, bytes }
    }

    #[inline(always)]
    fn context(&self) -> &XdpContext {
        &self.ctx
    }

    #[inline(always)]
    fn tellers() -> &'static ProgramArray {
        &TELLERS
    }

    #[inline(always)]
    fn contents(&self) -> Contents {
        let kind = match constants::link() {
            LinkKind::Ethernet => 0,
            LinkKind::Ip => match self.read::<[u8; 2]>(0) {
                Some([first, _]) if first >> 4 == 6 => EtherType::Ipv6 as u16,
                _ => EtherType::Ipv4 as u16,
            },
        };
        Contents {
            kind: u16::from_be(kind),
            front: 0,
            tag: [0; 2],
            bytes: self.size(self.known(usize::MAX)).bytes as u32,
        }
    }
}
