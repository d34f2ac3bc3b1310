//! A packet socket (packet(7)): what an interface gets and what is sent from it, whatever the filter does in monitor mode. What XDP drops never comes here.
//!
//! The kernel hands over only what may begin a message: UDP and TCP whose first byte is a printable letter or a line break. RTP begins with 0x80 or
//! more, TLS and STUN below 0x20.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use libc::{sock_filter, sock_fprog, sockaddr_ll};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, socket_with,
        sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force},
    },
};
use sipguard_ebpf::abi::LinkKind;

use super::packet::Packet;
use crate::capture::Direction;
use crate::device;

/// For a moment in which nobody reads.
const BUFFER: usize = 4 << 20;
/// More of a packet than is ever read.
const LONGEST: usize = 2_048;
/// All protocols, <linux/if_ether.h>.
const ETH_P_ALL: u16 = 3;

/// Why an interface can't be listened to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// There is none of that name.
    #[error("there is no interface {0}; `ip -brief link` shows them")]
    NoInterface(String),
    /// Without the capability `CAP_NET_RAW`.
    #[error(
        "listening to an interface needs root (or CAP_NET_RAW); a capture of it can be read without: --pcap FILE"
    )]
    NotPermitted,
    /// What the system says.
    #[error("{interface} can't be listened to: {error}")]
    System {
        /// Which one.
        interface: String,
        /// What it says.
        error: io::Error,
    },
}

/// See the module.
pub struct Socket {
    descriptor: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// Begins to listen to an interface.
    ///
    /// # Errors
    /// That there is none, or what the system says.
    pub fn open(interface: &str) -> Result<Self, ListenError> {
        let system = |error: io::Error| match error.raw_os_error() {
            Some(libc::EPERM) => ListenError::NotPermitted,
            _ => ListenError::System {
                interface: interface.to_owned(),
                error,
            },
        };
        let device = device::named(interface)
            .map_err(system)?
            .ok_or_else(|| ListenError::NoInterface(interface.to_owned()))?;
        let open = || -> io::Result<Self> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            // Protocol 0: nothing comes before it is bound.
            let descriptor = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
            // The larger one takes CAP_NET_ADMIN.
            if set_socket_recv_buffer_size_force(&descriptor, BUFFER).is_err() {
                set_socket_recv_buffer_size(&descriptor, BUFFER)?;
            }
            let socket = Self {
                descriptor,
                buffer: vec![0; LONGEST],
            };
            socket.filter()?;
            socket.bind(device.index)?;
            Ok(socket)
        };
        open().map_err(system)
    }

    fn filter(&self) -> io::Result<()> {
        let mut program = FILTER;
        let program = sock_fprog {
            len: FILTER.len().try_into().map_err(io::Error::other)?,
            filter: program.as_mut_ptr(),
        };
        let size = size_of_val(&program).try_into().map_err(io::Error::other)?;
        // SAFETY: the pointer is to a program description of the size that is said, which outlives the call; the kernel copies it and what it points to.
        let result = unsafe {
            libc::setsockopt(
                self.descriptor.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size,
            )
        };
        succeeded(result)
    }

    fn bind(&self, index: u32) -> io::Result<()> {
        let address = sockaddr_ll {
            sll_family: 17, // AF_PACKET, which libc has as a wider type
            sll_protocol: ETH_P_ALL.to_be(),
            sll_ifindex: index.try_into().map_err(io::Error::other)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let size = size_of_val(&address).try_into().map_err(io::Error::other)?;
        // SAFETY: the pointer is to an address of the size that is said, and the kernel only reads it.
        let result = unsafe {
            libc::bind(
                self.descriptor.as_raw_fd(),
                (&raw const address).cast(),
                size,
            )
        };
        succeeded(result)
    }

    /// Hands over the packets that have come by now.
    ///
    /// # Errors
    /// What the system says; the interface may have gone down.
    pub fn read(&mut self, mut each: impl FnMut(&Packet<'_>, Direction)) -> io::Result<()> {
        loop {
            let (length, address) = match self.receive() {
                Ok(received) => received,
                Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => {
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let direction = match address.sll_pkttype {
                libc::PACKET_OUTGOING => Direction::Out,
                libc::PACKET_HOST => Direction::In,
                // For others on the same cable, or for everybody.
                _ => continue,
            };
            let bytes = &self.buffer[..length.min(self.buffer.len())];
            if let Some(packet) = Packet::read(bytes, LinkKind::Ip) {
                each(&packet, direction);
            }
        }
    }

    /// How long the packet in the buffer is, and where it came from.
    fn receive(&mut self) -> io::Result<(usize, sockaddr_ll)> {
        // SAFETY: all bytes zero are an address.
        let mut address: sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut size = size_of_val(&address).try_into().map_err(io::Error::other)?;
        // SAFETY: the pointers are to the buffer and the address, each of the size that is said; the kernel writes no further.
        let received = unsafe {
            libc::recvfrom(
                self.descriptor.as_raw_fd(),
                self.buffer.as_mut_ptr().cast(),
                self.buffer.len(),
                0,
                (&raw mut address).cast(),
                &raw mut size,
            )
        };
        match usize::try_from(received) {
            Ok(length) => Ok((length, address)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

const fn step(code: u32, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "codes have less than 16 bits"
)]
const fn jump(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

use libc::{
    BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IMM, BPF_IND, BPF_JA, BPF_JEQ, BPF_JGE,
    BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MISC, BPF_MSH, BPF_RET, BPF_RSH,
    BPF_TAX, BPF_W, BPF_X,
};

/// Classic BPF (Documentation/networking/filter.rst), from the IP header on. Jumps count from the next step; what lies behind a packet's end drops it.
#[rustfmt::skip]
const FILTER: [sock_filter; 32] = [
    // 0: which family?
    step(BPF_LD | BPF_B | BPF_ABS, 0),
    step(BPF_ALU | BPF_AND | BPF_K, 0xf0),
    jump(BPF_JMP | BPF_JEQ | BPF_K, 0x40, 1, 0),
    jump(BPF_JMP | BPF_JEQ | BPF_K, 0x60, 11, 27),
    // 4: IPv4; a fragment behind the first one has no ports.
    step(BPF_LD | BPF_H | BPF_ABS, 6),
    jump(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 25, 0),
    step(BPF_LD | BPF_B | BPF_ABS, 9),
    jump(BPF_JMP | BPF_JEQ | BPF_K, 17, 1, 0),
    jump(BPF_JMP | BPF_JEQ | BPF_K, 6, 3, 22),
    // 9: UDP
    step(BPF_LDX | BPF_B | BPF_MSH, 0),
    step(BPF_LD | BPF_B | BPF_IND, 8),
    step(BPF_JMP | BPF_JA, 15),
    // 12: TCP
    step(BPF_LDX | BPF_B | BPF_MSH, 0),
    step(BPF_LD | BPF_B | BPF_IND, 12),
    step(BPF_JMP | BPF_JA, 7),
    // 15: IPv6; where there are extension headers they are followed later.
    step(BPF_LD | BPF_B | BPF_ABS, 6),
    jump(BPF_JMP | BPF_JEQ | BPF_K, 17, 1, 0),
    jump(BPF_JMP | BPF_JEQ | BPF_K, 6, 2, 12),
    // 18: UDP
    step(BPF_LD | BPF_B | BPF_ABS, 48),
    step(BPF_JMP | BPF_JA, 7),
    // 20: TCP
    step(BPF_LDX | BPF_W | BPF_IMM, 40),
    step(BPF_LD | BPF_B | BPF_ABS, 52),
    // 22: the length of TCP's header is in the upper half of the byte, in words; then what follows it.
    step(BPF_ALU | BPF_RSH | BPF_K, 2),
    step(BPF_ALU | BPF_AND | BPF_K, 0x3c),
    step(BPF_ALU | BPF_ADD | BPF_X, 0),
    step(BPF_MISC | BPF_TAX, 0),
    step(BPF_LD | BPF_B | BPF_IND, 0),
    // 27: the first byte.
    jump(BPF_JMP | BPF_JGE | BPF_K, 0x21, 0, 1),
    jump(BPF_JMP | BPF_JGT | BPF_K, 0x7e, 2, 1),
    jump(BPF_JMP | BPF_JEQ | BPF_K, 0x0d, 0, 1),
    // 30, 31: taken, and not.
    step(BPF_RET | BPF_K, 0xffff),
    step(BPF_RET | BPF_K, 0),
];
