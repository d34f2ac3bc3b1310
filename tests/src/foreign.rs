//! A program that is not sipguard's: a few instructions, which let everything pass or nothing, or hand it on.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use rustix::{
    net::{AddressFamily, SocketType, netdevice::name_to_index, socket},
    process::{Resource, Rlimit, setrlimit},
};

use crate::netns::Host;

/// Its name.
pub const NAME: &str = "somebody_elses";

/// A program on an interface, there until this is dropped.
#[derive(Debug)]
pub struct Foreign {
    /// Its number.
    pub id: u32,
    program: OwnedFd,
    link: OwnedFd,
}

/// For `BPF_PROG_LOAD`, include/uapi/linux/bpf.h, union `bpf_attr`.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    first: u64,
    license: u64,
    log: [u32; 4],
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach: u32,
}

/// For `BPF_LINK_CREATE`, the same.
#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    attach: u32,
    flags: u32,
}

/// For `BPF_OBJ_PIN`, the same.
#[repr(C)]
struct Pin {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// For `BPF_LINK_DETACH`, the same.
#[repr(C)]
struct Detach {
    link: u32,
}

/// enum `bpf_cmd`, enum `bpf_prog_type` and enum `bpf_attach_type`, the same.
const PROG_LOAD: i64 = 5;
const OBJ_PIN: i64 = 6;
const LINK_CREATE: i64 = 28;
const LINK_DETACH: i64 = 34;
const TYPE_TC: u32 = 3;
const TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const ATTACH_TCX: u32 = 46;
/// `BPF_F_BEFORE` of TCX, without anybody that is meant: before all.
const FIRST: u32 = 1 << 3;
/// `XDP_FLAGS_SKB_MODE`, include/uapi/linux/if_link.h.
const GENERIC: u32 = 1 << 1;

impl Foreign {
    /// The program's descriptor.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.program.as_raw_fd()
    }

    /// Attaches an XDP program to a host's interface, which lets everything pass.
    #[must_use]
    pub fn attach(host: &Host, interface: &str) -> Self {
        const XDP_PASS: u32 = 2;
        Self::new(
            host,
            interface,
            TYPE_XDP,
            &returns(XDP_PASS),
            [ATTACH_XDP, 0],
        )
    }

    /// Attaches a program at TC ingress (Linux 6.6) before all that are there. It ends the chain with this verdict (`TC_ACT_OK` is 0,
    /// `TC_ACT_SHOT` 2).
    #[must_use]
    pub fn before_all(host: &Host, interface: &str, verdict: u32) -> Self {
        Self::new(
            host,
            interface,
            TYPE_TC,
            &returns(verdict),
            [ATTACH_TCX, FIRST],
        )
    }

    /// Attaches a program at TC ingress (Linux 6.6) that hands everything to the other end of a veth pair of this host's, as if it came in there.
    #[must_use]
    pub fn to_the_other_end_of(host: &Host, interface: &str, veth: &str) -> Self {
        /// enum `bpf_func_id`, the same.
        const REDIRECT_PEER: u32 = 155;
        let other = host.enter(|| index(veth));
        // r1 = other; r2 = 0; r0 = bpf_redirect_peer(r1, r2); exit
        let instructions = [
            u64::from(other) << 32 | 0x01b7,
            0x02b7,
            u64::from(REDIRECT_PEER) << 32 | 0x85,
            0x95,
        ];
        Self::new(host, interface, TYPE_TC, &instructions, [ATTACH_TCX, FIRST])
    }

    fn new(
        host: &Host,
        interface: &str,
        kind: u32,
        instructions: &[u64],
        [attach, flags]: [u32; 2],
    ) -> Self {
        let mut name = [0; 16];
        name[..NAME.len()].copy_from_slice(NAME.as_bytes());
        let load = Load {
            kind,
            instructions: u32::try_from(instructions.len()).expect("a few"),
            first: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            log: [0; 4],
            kernel: 0,
            flags: 0,
            name,
            interface: 0,
            attach: if kind == TYPE_XDP { attach } else { 0 },
        };
        // Kernels before 5.11 count a program's memory as locked, and sipguard may have locked more than this process may.
        // Newer ones do without, and where they run, root may be forbidden to raise it.
        let unlimited = Rlimit {
            current: None,
            maximum: None,
        };
        let _ = setrlimit(Resource::Memlock, unlimited);
        let program = made(PROG_LOAD, &load);
        let link = link(host, interface, &program, [attach, flags]);
        let id = described(&program, "prog_id:").parse().expect("a number");
        Self { id, program, link }
    }

    /// Takes it off, at once.
    pub fn detach(self) {
        detach(&self.link);
    }

    /// Whether it is on its interface.
    #[must_use]
    pub fn is_there(&self) -> bool {
        described(&self.link, "ifindex:") != "0"
    }
}

/// Attaches somebody's XDP program in generic mode, and pins its link.
pub fn pin_generic(host: &Host, interface: &str, program: &OwnedFd, path: &str) {
    let link = link(host, interface, program, [ATTACH_XDP, GENERIC]);
    let path = CString::new(path).expect("no zeros");
    let pin = Pin {
        path: path.as_ptr() as u64,
        descriptor: link.as_raw_fd().cast_unsigned(),
        flags: 0,
    };
    bpf(OBJ_PIN, &pin);
}

/// Detaches somebody's link.
pub fn detach(link: &OwnedFd) {
    let link = link.as_raw_fd().cast_unsigned();
    bpf(LINK_DETACH, &Detach { link });
}

/// r0 = verdict; exit
fn returns(verdict: u32) -> [u64; 2] {
    [u64::from(verdict) << 32 | 0xb7, 0x95]
}

/// The number of an interface of this thread's network namespace.
fn index(interface: &str) -> u32 {
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).expect("a socket");
    name_to_index(&any, interface).expect("the interface is there")
}

fn link(host: &Host, interface: &str, program: &OwnedFd, [attach, flags]: [u32; 2]) -> OwnedFd {
    host.enter(|| {
        let index = index(interface);
        made(
            LINK_CREATE,
            &Link {
                program: program.as_raw_fd().cast_unsigned(),
                interface: index,
                attach,
                flags,
            },
        )
    })
}

/// What the kernel says of a descriptor.
fn described(descriptor: &OwnedFd, what: &str) -> String {
    let info = format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd());
    let info = fs::read_to_string(info).expect("a descriptor's description");
    let found = info.lines().find_map(|line| line.strip_prefix(what));
    found.expect("it is said").trim().to_owned()
}

fn made<T>(command: i64, attributes: &T) -> OwnedFd {
    let made = bpf(command, attributes);
    // SAFETY: the kernel has just made it, for nobody else.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(made).expect("a descriptor")) }
}

fn bpf<T>(command: i64, attributes: &T) -> i64 {
    // SAFETY: the kernel reads as much of the attributes as is said, and what they point to is longer than they say.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const *attributes,
            size_of::<T>(),
        )
    };
    assert!(returned >= 0, "{}", io::Error::last_os_error());
    returned
}
