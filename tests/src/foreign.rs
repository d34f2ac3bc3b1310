//! An XDP program that is not sipguard's: two instructions that let everything pass.

use std::{
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
    _link: OwnedFd,
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

/// enum `bpf_prog_type` and enum `bpf_attach_type`, the same.
const TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;

impl Foreign {
    /// The program's descriptor.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.program.as_raw_fd()
    }

    /// Attaches one to a host's interface.
    #[must_use]
    pub fn attach(host: &Host, interface: &str) -> Self {
        // r0 = XDP_PASS; exit
        let instructions: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
        let mut name = [0; 16];
        name[..NAME.len()].copy_from_slice(NAME.as_bytes());
        let load = Load {
            kind: TYPE_XDP,
            instructions: 2,
            first: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            log: [0; 4],
            kernel: 0,
            flags: 0,
            name,
            interface: 0,
            attach: ATTACH_XDP,
        };
        // Kernels before 5.11 count a program's memory as locked, and sipguard may have locked more than this process may.
        // Newer ones do without, and where they run, root may be forbidden to raise it.
        let unlimited = Rlimit {
            current: None,
            maximum: None,
        };
        let _ = setrlimit(Resource::Memlock, unlimited);
        let program = bpf(5, &load);
        let link = host.enter(|| {
            let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).expect("a socket");
            let index = name_to_index(&any, interface).expect("the interface is there");
            bpf(
                28,
                &Link {
                    program: program.as_raw_fd().cast_unsigned(),
                    interface: index,
                    attach: ATTACH_XDP,
                    flags: 0,
                },
            )
        });
        let info = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
        let info = fs::read_to_string(info).expect("a descriptor's description");
        let id = info.lines().find_map(|line| line.strip_prefix("prog_id:"));
        Self {
            id: id.expect("a program").trim().parse().expect("a number"),
            program,
            _link: link,
        }
    }
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> OwnedFd {
    // SAFETY: the kernel reads as much of the attributes as is said, and what they point to is longer than they say.
    let made = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const *attributes,
            size_of::<T>(),
        )
    };
    assert!(made >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel has just made it, for nobody else.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(made).expect("a descriptor")) }
}
